//! The children of one znode.

use grange_proto::ZnodePath;
use zookeeper_client::{Client, Stat};

use super::one::OneZnode;
use crate::recipes::failure::RecipeError;

/// Tells which children a znode has, and that it is not there.
#[derive(Debug)]
pub struct ChildrenWatch(OneZnode);

impl ChildrenWatch {
    /// Returns a watch on the znode at `path`, which may come later.
    pub fn new(client: Client, path: ZnodePath) -> ChildrenWatch {
        ChildrenWatch(OneZnode::new(client, path, "cannot watch the children of"))
    }

    /// Goes on with another session, after the first one has ended.
    pub fn with_client(self, client: Client) -> ChildrenWatch {
        ChildrenWatch(self.0.with_client(client))
    }

    /// Returns the names of the children, sorted, as they are the first time, and after that when one has come or gone;
    /// `None` without a znode.
    ///
    /// Errors: the session has ended, or the znode may not be read.
    pub async fn next(&mut self) -> Result<Option<(Vec<String>, Stat)>, RecipeError> {
        let (client, path) = (self.0.client.clone(), self.0.path.clone());
        let mut state = self.0.next(|| client.get_and_watch_children(path.as_str()), |stat| stat.pzxid).await?;
        if let Some((names, _)) = &mut state {
            names.sort_unstable();
        }
        Ok(state)
    }
}
