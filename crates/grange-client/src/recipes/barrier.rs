//! A barrier that stands while its znode exists: kazoo's `Barrier`.

use grange_proto::ZnodePath;
use tokio::time::{Instant, timeout_at};
use zookeeper_client::{Client, Error as ClientError};

use super::failure::{RecipeError, request};
use super::marker::{delete, ensure_path};
use crate::retry::retry;

/// A handle on a barrier.
#[derive(Debug, Clone)]
pub struct Barrier {
    client: Client,
    path: ZnodePath,
}

impl Barrier {
    /// Returns the barrier at `path`; nothing is made.
    pub fn new(client: Client, path: ZnodePath) -> Barrier {
        Barrier { client, path }
    }

    /// Puts it up, unless it stands.
    pub async fn create(&self) -> Result<(), RecipeError> {
        ensure_path(&self.client, self.path.as_str()).await.map_err(request("cannot put up the barrier", &self.path))
    }

    /// Takes it down; returns false if it did not stand.
    pub async fn remove(&self) -> Result<bool, RecipeError> {
        delete(&self.client, self.path.as_str()).await.map_err(request("cannot take down the barrier", &self.path))
    }

    /// Waits until it does not stand, until `deadline` if there is one; returns false if it still stands then.
    pub async fn wait_until(&self, deadline: Option<Instant>) -> Result<bool, RecipeError> {
        let down = self.wait();
        match deadline {
            None => down.await.map(|()| true),
            Some(deadline) => timeout_at(deadline, down).await.map_or(Ok(false), |down| down.map(|()| true)),
        }
    }

    async fn wait(&self) -> Result<(), RecipeError> {
        let failed = request("cannot wait at the barrier", &self.path);
        loop {
            let looked = retry(|| self.client.check_and_watch_stat(self.path.as_str())).await;
            let (stat, watcher) = looked.map_err(&failed)?;
            if stat.is_none() {
                return Ok(());
            }
            if watcher.changed().await.session_state.is_terminated() {
                return Err(failed(ClientError::SessionExpired));
            }
        }
    }
}
