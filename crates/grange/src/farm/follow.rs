//! A farm that is followed for as long as a command runs, whatever happens to sessions.

use grange_client::{Client, ConnectOptions};
use grange_farm::{FarmChange, FarmView};
use grange_proto::ZnodePath;

use crate::connection;
use crate::error::CommandError;
use crate::recipe_error::failed;

/// A view, and the session that it has now.
pub(super) struct Follower {
    options: ConnectOptions,
    client: Client,
    pub(super) view: FarmView,
}

impl Follower {
    pub(super) async fn open(options: ConnectOptions, farm: ZnodePath) -> Result<Follower, CommandError> {
        let client = connection::connect(&options).await?;
        let view = FarmView::open(client.clone(), farm).await.map_err(failed)?;
        Ok(Follower { options, client, view })
    }

    /// Returns the next change, of another session if the first one was lost. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<FarmChange, CommandError> {
        loop {
            match self.view.next().await {
                Ok(change) => return Ok(change),
                Err(error) if error.is_session_end() => {
                    tracing::warn!("the session was lost; opening another one");
                    self.client = connection::connect(&self.options).await?;
                    self.view.with_client(self.client.clone()).await.map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    pub(super) async fn close(self) {
        drop(self.view);
        grange_client::close(self.client).await;
    }
}
