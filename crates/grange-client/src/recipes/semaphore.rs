//! A number of leases.
//!
//! Leases are ephemeral children of the semaphore's znode, whose data says how many there may be. Who wants one first
//! takes a lock beside it, at `PATH-__lock__`; only the holder of that lock looks for a free lease, so that nobody is
//! overtaken and the end of a lease wakes one. The lease is made in one transaction with a look at the place in line: who
//! has lost that place gets no lease.

use std::num::NonZeroU32;
use std::time::Duration;

use grange_proto::ZnodePath;
use tokio::time::{Instant, timeout};
use uuid::Uuid;
use zookeeper_client::{
    Acls, Client, CreateMode, Error as ClientError, MultiWriteError, MultiWriteResult, OneshotWatcher,
};

use super::contender::{Contender, Place};
use super::error::{LockError, request};
use super::held::Held;
use super::line::{Line, look};
use super::names::Role;
use super::own::Own;
use super::parents::{child, make_parents};
use crate::retry::retry;

/// What is appended to the path for the line of those who want a lease.
const LINE_SUFFIX: &str = "-__lock__";

/// How often the agreement on the number of leases is looked at again when it changes meanwhile.
const AGREEMENT_ROUNDS_MAX: usize = 20;

/// A fair semaphore: leases go to who has waited longest.
///
/// Compatible with kazoo's `Semaphore`; Curator's `InterProcessSemaphoreV2` has another layout.
#[derive(Debug, Clone)]
pub struct Semaphore {
    path: ZnodePath,
    leases_max: NonZeroU32,
    /// Those who want a lease.
    line: Line,
}

/// What a look at a semaphore shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SemaphoreUse {
    /// How many leases there may be; `None` if nobody has said so yet.
    pub leases_max: Option<u32>,
    /// Who has one, the longest first.
    pub holders: Vec<Contender>,
    /// Who waits for one, in order.
    pub waiting: Vec<Contender>,
}

/// What came of asking for a lease.
enum Taken {
    Lease {
        czxid: i64,
        sent_at: Instant,
    },
    /// Our place in line has gone.
    PlaceGone,
    /// The semaphore's znode has gone.
    SemaphoreGone,
}

impl Semaphore {
    /// Returns the semaphore at `path` with at most `leases_max` leases; `id` is what others see of a holder.
    pub fn new(client: &Client, path: ZnodePath, id: &str, leases_max: NonZeroU32) -> Semaphore {
        let line_path = format!("{path}{LINE_SUFFIX}");
        let line_path = ZnodePath::parse(line_path).expect("a valid path stays valid with letters at its end");
        Semaphore { path, leases_max, line: Line::new(client, line_path, id) }
    }

    /// Waits, for as long as the session lives, until a lease is held.
    ///
    /// Dropping the future leaves the line. Errors: [`LockError::LeaseCount`] if others made the semaphore for another
    /// number of leases.
    pub async fn acquire(&self) -> Result<Held, LockError> {
        self.agree().await?;
        let mut place = Place::join(&self.line, Role::Exclusive).await?;
        place.wait(&self.line).await?;
        loop {
            let watcher = match self.free_lease().await? {
                Lease::Free => match self.take(&place).await? {
                    Some(held) => return Ok(left(place, held).await),
                    None => continue,
                },
                Lease::NoneFree(watcher) => watcher,
            };
            watcher.changed().await;
        }
    }

    /// Waits for so long at most; then [`LockError::Timeout`].
    pub async fn acquire_within(&self, wait: Duration) -> Result<Held, LockError> {
        timeout(wait, self.acquire()).await.unwrap_or_else(|_| Err(LockError::Timeout(self.path.clone())))
    }

    /// Takes a lease if there is a free one.
    ///
    /// While others are about to take free ones, this waits for its turn to see whether one is left.
    pub async fn try_acquire(&self) -> Result<Option<Held>, LockError> {
        self.agree().await?;
        let mut place = Place::join(&self.line, Role::Exclusive).await?;
        loop {
            match self.free_lease().await? {
                Lease::NoneFree(_) => {
                    let path = place.own.path();
                    place.own.remove().await.map_err(request("cannot delete", path))?;
                    return Ok(None);
                }
                Lease::Free if place.is_first()? => {
                    if let Some(held) = self.take(&place).await? {
                        return Ok(Some(left(place, held).await));
                    }
                }
                Lease::Free => place.step(&self.line).await?,
            }
        }
    }

    /// Returns who has a lease and who waits for one.
    pub async fn contenders(&self) -> Result<SemaphoreUse, LockError> {
        let (client, path) = (&self.line.client, self.path.as_str());
        let leases_max = look(client, path).await?.and_then(|(data, _)| parse_count(&data?));
        let names = match retry(|| client.list_children(path)).await {
            Err(ClientError::NoNode) => Vec::new(),
            listed => listed.map_err(request("cannot list", path))?,
        };
        let mut holders = Vec::with_capacity(names.len());
        for name in names {
            if let Some((id, stat)) = look(client, &child(path, &name)).await? {
                holders.push(Contender::new(name, Role::Shared, true, id, &stat));
            }
        }
        holders.sort_by_key(|holder| holder.token);
        let waiting = self.line.contenders().await?;
        let waiting = waiting.into_iter().map(|contender| Contender { holds: false, ..contender }).collect();
        Ok(SemaphoreUse { leases_max, holders, waiting })
    }

    /// Makes the semaphore, or checks that others mean the same.
    async fn agree(&self) -> Result<(), LockError> {
        let (client, path) = (&self.line.client, self.path.as_str());
        let count = self.leases_max.to_string();
        for _ in 0..AGREEMENT_ROUNDS_MAX {
            let (data, stat) = match retry(|| client.get_data(path)).await {
                Err(ClientError::NoNode) => {
                    make_parents(client, path).await.map_err(request("cannot make", path))?;
                    continue;
                }
                read => read.map_err(request("cannot read", path))?,
            };
            match parse_count(&data) {
                Some(stored) if stored == self.leases_max.get() => return Ok(()),
                Some(stored) => {
                    let asked = self.leases_max.get();
                    return Err(LockError::LeaseCount { path: self.path.clone(), stored, asked });
                }
                // Kazoo leaves data alone that is no number.
                None if !data.is_empty() => return Ok(()),
                None => {}
            }
            match retry(|| client.set_data(path, count.as_bytes(), Some(stat.version))).await {
                Ok(_) | Err(ClientError::BadVersion | ClientError::NoNode) => {}
                Err(error) => return Err(request("cannot write", path)(error)),
            }
        }
        Err(request("cannot agree on the leases of", path)(ClientError::BadVersion))
    }

    /// Looks for a free lease.
    async fn free_lease(&self) -> Result<Lease, LockError> {
        let (client, path) = (&self.line.client, self.path.as_str());
        loop {
            match retry(|| client.list_and_watch_children(path)).await {
                Ok((leases, watcher)) => {
                    let is_free = u32::try_from(leases.len()).is_ok_and(|count| count < self.leases_max.get());
                    return Ok(if is_free { Lease::Free } else { Lease::NoneFree(watcher) });
                }
                // An empty container was removed.
                Err(ClientError::NoNode) => self.agree().await?,
                Err(error) => return Err(request("cannot list", path)(error)),
            }
        }
    }

    /// Makes a lease, while our place in line is there; `None` if the semaphore has to be made again.
    async fn take(&self, place: &Place) -> Result<Option<Held>, LockError> {
        let client = &self.line.client;
        let name = Uuid::new_v4().simple().to_string();
        let mut own = Own::named(client, &self.path, name.clone());
        let (standing, lease) = (place.own.path(), own.path());
        let taken = retry(|| take_once(client, &standing, &lease, &self.line.data)).await;
        match taken.map_err(request("cannot take a lease of", &self.path))? {
            Taken::Lease { czxid, sent_at } => {
                own.found(name);
                Ok(Some(Held::new(own, czxid, sent_at)))
            }
            Taken::PlaceGone => {
                own.forget();
                Err(LockError::Removed(standing))
            }
            Taken::SemaphoreGone => {
                own.forget();
                Ok(None)
            }
        }
    }
}

enum Lease {
    Free,
    /// Resolves when the leases change.
    NoneFree(OneshotWatcher),
}

/// Leaves the line with a lease. Should that fail, it is tried again in the background.
async fn left(place: Place, held: Held) -> Held {
    let _ = place.own.remove().await;
    held
}

/// Asks for a lease, which there will only be while the znode `standing` is there.
async fn take_once(client: &Client, standing: &str, lease: &str, data: &[u8]) -> Result<Taken, ClientError> {
    let sent_at = Instant::now();
    let commit = {
        let mut transaction = client.new_multi_writer();
        transaction.add_check_version(standing, -1)?;
        transaction.add_create(lease, data, &CreateMode::Ephemeral.with_acls(Acls::anyone_all()))?;
        transaction.commit()
    };
    let stat = match commit.await {
        Ok(results) => results.into_iter().find_map(|result| match result {
            MultiWriteResult::Create { stat, .. } if !stat.is_invalid() => Some(stat),
            _ => None,
        }),
        // Made by an attempt whose reply was lost.
        Err(MultiWriteError::OperationFailed { index: 1, source: ClientError::NodeExists }) => None,
        Err(MultiWriteError::OperationFailed { index: 0, source: ClientError::NoNode }) => return Ok(Taken::PlaceGone),
        Err(MultiWriteError::OperationFailed { index: 1, source: ClientError::NoNode }) => {
            return Ok(Taken::SemaphoreGone);
        }
        Err(MultiWriteError::RequestFailed { source } | MultiWriteError::OperationFailed { source, .. }) => {
            return Err(source);
        }
    };
    let stat = match stat {
        Some(stat) => Some(stat),
        None => retry(|| client.check_stat(lease)).await?,
    };
    // Somebody has deleted it already: as if there had been no place.
    Ok(stat.map_or(Taken::PlaceGone, |stat| Taken::Lease { czxid: stat.czxid, sent_at }))
}

/// Understands the number of leases as kazoo writes it.
fn parse_count(data: &[u8]) -> Option<u32> {
    std::str::from_utf8(data).ok()?.trim().parse().ok()
}
