//! A farm as it is at a moment that matters.

use grange_client::recipes::RecipeError;
use grange_client::{Client, ClientError, ZnodePath, retry};

use crate::view::{FarmChange, FarmView};

/// Reads a farm as it is after everything that the servers had been asked for before; the copy can be kept up to date.
///
/// Whoever has just got a lock sees what the one before has done.
pub async fn view_now(client: Client, farm: &ZnodePath) -> Result<FarmView, RecipeError> {
    match retry(|| client.sync(farm.as_str())).await {
        Ok(()) | Err(ClientError::NoNode) => {}
        Err(source) => return Err(RecipeError::Request { doing: "cannot read", path: farm.to_string(), source }),
    }
    let mut view = FarmView::open(client, farm.clone()).await?;
    while view.next().await? != FarmChange::Ready {}
    Ok(view)
}
