//! What watches on one znode have in common: it is read again whenever it may have changed.

use std::future::Future;

use grange_proto::ZnodePath;
use zookeeper_client::{Client, Error as ClientError, OneshotWatcher, Stat};

use crate::recipes::failure::{RecipeError, request};
use crate::retry::retry;

/// A znode that may come later, and what was told of it last.
#[derive(Debug)]
pub(super) struct OneZnode {
    pub(super) client: Client,
    pub(super) path: ZnodePath,
    /// What failed requests were for, such as "cannot watch".
    doing: &'static str,
    watcher: Option<OneshotWatcher>,
    /// The creation and the change that were told last, or that there is no znode.
    told: Option<Option<(i64, i64)>>,
}

impl OneZnode {
    pub(super) fn new(client: Client, path: ZnodePath, doing: &'static str) -> OneZnode {
        OneZnode { client, path, doing, watcher: None, told: None }
    }

    /// Goes on with another session.
    pub(super) fn with_client(self, client: Client) -> OneZnode {
        OneZnode { client, watcher: None, ..self }
    }

    /// Returns what `read` finds the first time, and after that when `change` of it is another; `None` without a znode.
    ///
    /// `read` watches what it reads.
    pub(super) async fn next<T, F>(
        &mut self,
        read: impl Fn() -> F,
        change: impl Fn(&Stat) -> i64,
    ) -> Result<Option<(T, Stat)>, RecipeError>
    where
        F: Future<Output = Result<(T, Stat, OneshotWatcher), ClientError>>,
    {
        loop {
            if let Some(watcher) = self.watcher.take()
                && watcher.changed().await.session_state.is_terminated()
            {
                return Err(request(self.doing, &self.path)(ClientError::SessionExpired));
            }
            let state = self.read(&read).await.map_err(request(self.doing, &self.path))?;
            let key = state.as_ref().map(|(_, stat)| (stat.czxid, change(stat)));
            if self.told != Some(key) {
                self.told = Some(key);
                return Ok(state);
            }
        }
    }

    async fn read<T, F>(&mut self, read: impl Fn() -> F) -> Result<Option<(T, Stat)>, ClientError>
    where
        F: Future<Output = Result<(T, Stat, OneshotWatcher), ClientError>>,
    {
        loop {
            match retry(&read).await {
                Ok((found, stat, watcher)) => {
                    self.watcher = Some(watcher);
                    return Ok(Some((found, stat)));
                }
                Err(ClientError::NoNode) => {}
                Err(error) => return Err(error),
            }
            let (stat, watcher) = retry(|| self.client.check_and_watch_stat(self.path.as_str())).await?;
            if stat.is_none() {
                self.watcher = Some(watcher);
                return Ok(None);
            }
        }
    }
}
