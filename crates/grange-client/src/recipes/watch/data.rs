//! The data of one znode.

use grange_proto::ZnodePath;
use zookeeper_client::{Client, Stat};

use super::one::OneZnode;
use crate::recipes::failure::RecipeError;

/// Tells what the data of a znode are, and that it is not there.
#[derive(Debug)]
pub struct DataWatch(OneZnode);

impl DataWatch {
    /// Returns a watch on the znode at `path`, which may come later.
    pub fn new(client: Client, path: ZnodePath) -> DataWatch {
        DataWatch(OneZnode::new(client, path, "cannot watch"))
    }

    /// Goes on with another session, after the first one has ended.
    pub fn with_client(self, client: Client) -> DataWatch {
        DataWatch(self.0.with_client(client))
    }

    /// Returns the data as they are the first time, and after that when they have changed; `None` without a znode.
    ///
    /// Errors: the session has ended, or the znode may not be read.
    pub async fn next(&mut self) -> Result<Option<(Vec<u8>, Stat)>, RecipeError> {
        let (client, path) = (self.0.client.clone(), self.0.path.clone());
        self.0.next(|| client.get_and_watch_data(path.as_str()), |stat| stat.mzxid).await
    }
}
