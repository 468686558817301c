//! The children of one znode.

use grange_proto::ZnodePath;
use zookeeper_client::{Client, Error as ClientError, OneshotWatcher, Stat};

use crate::recipes::failure::{RecipeError, request};
use crate::retry::retry;

/// What failed requests were for.
const DOING: &str = "cannot watch the children of";

/// Tells which children a znode has, and that it is not there.
#[derive(Debug)]
pub struct ChildrenWatch {
    client: Client,
    path: ZnodePath,
    watcher: Option<OneshotWatcher>,
    /// What was told last: the creation and the last change of the children, or that there is no znode.
    told: Option<Option<(i64, i64)>>,
}

impl ChildrenWatch {
    /// Returns a watch on the znode at `path`, which may come later.
    pub fn new(client: Client, path: ZnodePath) -> ChildrenWatch {
        ChildrenWatch { client, path, watcher: None, told: None }
    }

    /// Goes on with another session, after the first one has ended.
    pub fn with_client(self, client: Client) -> Self {
        Self { client, watcher: None, ..self }
    }

    /// Returns the names of the children, sorted, as they are the first time, and after that when one has come or gone;
    /// `None` without a znode.
    ///
    /// Errors: the session has ended, or the znode may not be read.
    pub async fn next(&mut self) -> Result<Option<(Vec<String>, Stat)>, RecipeError> {
        loop {
            if let Some(watcher) = self.watcher.take()
                && watcher.changed().await.session_state.is_terminated()
            {
                return Err(request(DOING, &self.path)(ClientError::SessionExpired));
            }
            let state = self.read().await.map_err(request(DOING, &self.path))?;
            let key = state.as_ref().map(|(_, stat)| (stat.czxid, stat.pzxid));
            if self.told != Some(key) {
                self.told = Some(key);
                return Ok(state);
            }
        }
    }

    async fn read(&mut self) -> Result<Option<(Vec<String>, Stat)>, ClientError> {
        let path = self.path.as_str();
        loop {
            match retry(|| self.client.get_and_watch_children(path)).await {
                Ok((mut names, stat, watcher)) => {
                    self.watcher = Some(watcher);
                    names.sort_unstable();
                    return Ok(Some((names, stat)));
                }
                Err(ClientError::NoNode) => {}
                Err(error) => return Err(error),
            }
            let (stat, watcher) = retry(|| self.client.check_and_watch_stat(path)).await?;
            if stat.is_none() {
                self.watcher = Some(watcher);
                return Ok(None);
            }
        }
    }
}
