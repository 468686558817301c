//! A lock with two sides.

use grange_proto::ZnodePath;
use zookeeper_client::Client;

use super::lock::Lock;
use super::names::{Layout, Role};

/// A fair lock that one writer holds at a time, or any number of readers.
///
/// A reader waits for the writers that came before it, and for nobody else; a writer for everybody that came before.
/// The write side is the same as a [`Lock`] at the same path.
#[derive(Debug, Clone)]
pub struct ReadWriteLock {
    client: Client,
    path: ZnodePath,
    id: String,
    layout: Layout,
}

impl ReadWriteLock {
    /// Returns the lock at `path`; `id` is what others see of a contender.
    pub fn new(client: &Client, path: ZnodePath, id: &str) -> ReadWriteLock {
        ReadWriteLock { client: client.clone(), path, id: id.to_owned(), layout: Layout::default() }
    }

    /// Gives our znodes the names of another library: [`Layout::CuratorReadWrite`] for Curator's lock of this kind.
    pub fn with_layout(mut self, layout: Layout) -> ReadWriteLock {
        self.layout = layout;
        self
    }

    /// The side that is held together with other readers.
    pub fn read(&self) -> Lock {
        Lock::with_role(&self.client, self.path.clone(), &self.id, Role::Shared).with_layout(self.layout)
    }

    /// The side that is held alone.
    pub fn write(&self) -> Lock {
        Lock::with_role(&self.client, self.path.clone(), &self.id, Role::Exclusive).with_layout(self.layout)
    }
}
