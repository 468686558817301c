//! One leader among many.

use std::future::Future;
use std::time::Duration;

use grange_proto::ZnodePath;
use zookeeper_client::Client;

use super::contender::Contender;
use super::error::LockError;
use super::held::{FencingToken, Held, Loss};
use super::lock::Lock;
use super::names::Layout;

/// How leading came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Led<T> {
    /// The work was done, and the lead given back.
    Finished(T),
    /// The lead was lost, and the work dropped where it was.
    Lost(Loss),
}

/// An election: who came first leads, until it resigns, ends, or loses its session. Then the next one leads.
///
/// It is a [`Lock`] whose holder is the leader.
#[derive(Debug, Clone)]
pub struct Election {
    lock: Lock,
}

impl Election {
    /// Returns the election at `path`; `id` is what others see of a candidate.
    pub fn new(client: &Client, path: ZnodePath, id: &str) -> Election {
        Election { lock: Lock::new(client, path, id) }
    }

    /// Gives our znodes the names of another library: [`Layout::Curator`] for Curator's `LeaderSelector`,
    /// [`Layout::CuratorLatch`] for its `LeaderLatch`.
    pub fn with_layout(self, layout: Layout) -> Election {
        Election { lock: self.lock.with_layout(layout) }
    }

    /// Waits until this one leads. Releasing or dropping what it gets resigns.
    pub async fn lead(&self) -> Result<Held, LockError> {
        self.lock.acquire().await
    }

    /// Waits for so long at most; then [`LockError::Timeout`].
    pub async fn lead_within(&self, wait: Duration) -> Result<Held, LockError> {
        self.lock.acquire_within(wait).await
    }

    /// Leads if nobody stands before us.
    pub async fn try_lead(&self) -> Result<Option<Held>, LockError> {
        self.lock.try_acquire().await
    }

    /// Waits until this one leads, then does `work`, until that is done or the lead is lost.
    pub async fn run<T, W>(&self, work: impl FnOnce(FencingToken) -> W) -> Result<Led<T>, LockError>
    where
        W: Future<Output = T>,
    {
        let held = self.lead().await?;
        tokio::select! {
            // Who holds no longer must not go on for even one step.
            biased;
            loss = held.lost() => Ok(Led::Lost(loss)),
            done = work(held.token()) => {
                held.release().await?;
                Ok(Led::Finished(done))
            }
        }
    }

    /// Returns the candidates in the order in which they will lead; the first one does.
    pub async fn contenders(&self) -> Result<Vec<Contender>, LockError> {
        self.lock.contenders().await
    }
}
