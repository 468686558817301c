//! A lock that one holds at a time, or several readers.

use std::time::Duration;

use grange_proto::ZnodePath;
use tokio::time::timeout;
use zookeeper_client::Client;

use super::contender::Contender;
use super::error::LockError;
use super::held::Held;
use super::line::Line;
use super::names::{Layout, Role};

/// A fair lock: it goes to who has waited longest.
///
/// The znode at the path is made where it is missing, as a container if the server knows those. The value holds
/// nothing: each call of [`Lock::acquire`] stands in line by itself, also several of one process at a time.
#[derive(Debug, Clone)]
pub struct Lock {
    line: Line,
    role: Role,
}

impl Lock {
    /// Returns the lock at `path`; `id` is what others see of a contender.
    pub fn new(client: &Client, path: ZnodePath, id: &str) -> Lock {
        Lock::with_role(client, path, id, Role::Exclusive)
    }

    /// Returns a lock that is held together with others of the same role, or alone.
    pub(crate) fn with_role(client: &Client, path: ZnodePath, id: &str, role: Role) -> Lock {
        Lock { line: Line::new(client, path, id), role }
    }

    /// Gives our znodes the names of another library.
    pub fn with_layout(mut self, layout: Layout) -> Lock {
        self.line.layout = layout;
        self
    }

    /// Returns the znode whose children stand in line.
    pub fn path(&self) -> &ZnodePath {
        &self.line.path
    }

    /// Waits, for as long as the session lives, until the lock is held.
    ///
    /// Dropping the future leaves the line.
    pub async fn acquire(&self) -> Result<Held, LockError> {
        self.line.acquire(self.role).await
    }

    /// Waits for so long at most; then [`LockError::Timeout`].
    pub async fn acquire_within(&self, wait: Duration) -> Result<Held, LockError> {
        timeout(wait, self.acquire()).await.unwrap_or_else(|_| Err(LockError::Timeout(self.line.path.clone())))
    }

    /// Takes the lock if nobody stands before us.
    pub async fn try_acquire(&self) -> Result<Option<Held>, LockError> {
        self.line.try_acquire(self.role).await
    }

    /// Returns who holds the lock and who waits, in their order, under any [`Layout`].
    pub async fn contenders(&self) -> Result<Vec<Contender>, LockError> {
        self.line.contenders().await
    }
}
