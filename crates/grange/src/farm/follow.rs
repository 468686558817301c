//! A farm that is followed for as long as a command runs, whatever happens to sessions.

use grange_client::{Client, ConnectOptions};
use grange_farm::{FarmChange, FarmView};
use grange_proto::ZnodePath;

use crate::connection;
use crate::error::CommandError;
use crate::recipe_error::failed;

/// What is said when a session has ended.
pub(super) const SESSION_LOST: &str = "the session was lost; opening another one";

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
                    tracing::warn!("{SESSION_LOST}");
                    self.reopen().await?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Goes on with another session.
    pub(super) async fn reopen(&mut self) -> Result<(), CommandError> {
        self.client = connection::connect(&self.options).await?;
        self.view.with_client(self.client.clone()).await.map_err(failed)
    }

    pub(super) async fn close(self) {
        drop(self.view);
        grange_client::close(self.client).await;
    }
}
