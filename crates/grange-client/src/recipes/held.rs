//! Holding, and how a holder learns in time that it holds no longer.
//!
//! A session ends at the server when the leader has not heard of it for its timeout. What the holder knows is when it
//! *sent* something that the leader then took part in answering, so it sends a `sync` every tenth of the timeout
//! ([`CONFIRMATIONS`]) and counts from the last one that was answered. A read would not do: a member that has lost its
//! leader answers those for a while.
//!
//! The lock counts as lost three fifths of the timeout after the last such moment. A leader may hear of a session one
//! tick late, and so end it up to one tick early; with a timeout of two and a half ticks or more that is still later. A
//! member that dies without a word is noticed by the client library after two fifths of the timeout, so there is time
//! to go to another member.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grange_proto::ZnodePath;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::debug;
use zookeeper_client::{Client, Error as ClientError, EventType};

use super::error::{LockError, is_session_end, request};
use super::own::Own;
use crate::retry::retry;

/// How often in a session's timeout a holder has its session confirmed.
const CONFIRMATIONS: u32 = 10;

/// How long the pause is after a confirmation that lost its connection; the next one waits for a connection by itself.
pub(super) const LOST_PAUSE: Duration = Duration::from_millis(50);

/// How long after the last confirmation the lock counts as lost.
fn safe_part(session_timeout: Duration) -> Duration {
    session_timeout * 3 / 5
}

/// A number that grows from holder to holder: the zxid that made the holder's znode.
///
/// Whoever keeps the data that a lock protects can refuse what comes with a smaller number than it has seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(i64);

impl FencingToken {
    /// Returns the number.
    pub fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a holder holds no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The session has ended.
    SessionEnded,
    /// The ensemble could not be reached for so long that it may end the session soon.
    Unconfirmed,
    /// Somebody deleted the znode.
    Deleted,
    /// The holder gave it back.
    Released,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::SessionEnded => "the session has ended",
            Loss::Unconfirmed => "the ensemble could not be reached for three fifths of the session timeout",
            Loss::Deleted => "somebody deleted its znode",
            Loss::Released => "it was given back",
        })
    }
}

/// A lock, a lease or the lead, for as long as the value lives, or until it is [lost](Held::lost).
///
/// Dropping it gives it back in the background; [`Held::release`] waits until that is done.
#[derive(Debug)]
#[must_use = "what is held is given back when the value is dropped"]
pub struct Held {
    /// `None` once given back.
    own: Option<Own>,
    token: FencingToken,
    loss: watch::Receiver<Option<Loss>>,
    is_releasing: Arc<AtomicBool>,
    monitor: JoinHandle<()>,
}

impl Held {
    /// Starts to watch over a znode that makes us the holder.
    pub(crate) fn new(own: Own, czxid: i64, confirmed_at: Instant) -> Held {
        let monitor = Monitor::new(&own, czxid);
        Held::until(own, czxid, async move { monitor.run(confirmed_at).await })
    }

    /// Starts to watch over one more znode of a session that has its confirmations already: `session` resolves when it
    /// may end. Costs a watch, and no requests from then on.
    pub(crate) fn beside(own: Own, czxid: i64, session: impl Future<Output = Loss> + Send + 'static) -> Held {
        let monitor = Monitor::new(&own, czxid);
        Held::until(own, czxid, async move {
            tokio::select! {
                loss = monitor.watch() => loss,
                loss = session => loss,
            }
        })
    }

    /// Starts to watch over an ephemeral znode that this session has made itself: `parent/name`, with this creation
    /// zxid, by a request that was sent at `sent_at`. It is deleted when the value is given back or dropped.
    pub fn over(client: &Client, parent: &ZnodePath, name: &str, czxid: i64, sent_at: Instant) -> Held {
        let mut own = Own::named(client, parent, name.to_owned());
        own.found(name.to_owned());
        Held::new(own, czxid, sent_at)
    }

    fn until(own: Own, czxid: i64, end: impl Future<Output = Loss> + Send + 'static) -> Held {
        let (sender, loss) = watch::channel(None);
        let is_releasing = Arc::new(AtomicBool::new(false));
        let (released, path) = (Arc::clone(&is_releasing), own.path());
        let monitor = tokio::spawn(async move {
            let mut loss = end.await;
            if loss == Loss::Deleted && released.load(Ordering::Relaxed) {
                loss = Loss::Released;
            } else {
                debug!(%path, %loss, "no longer held");
            }
            sender.send_replace(Some(loss));
        });
        Held { own: Some(own), token: FencingToken(czxid), loss, is_releasing, monitor }
    }

    /// Returns the number to protect data with.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    /// Returns the path of the znode that makes this one the holder.
    pub fn path(&self) -> String {
        self.own.as_ref().map(Own::path).unwrap_or_default()
    }

    /// Resolves when this one may hold no longer: before the ensemble can have given it to somebody else, as far as
    /// this process runs. The future may outlive the value.
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + use<> {
        let mut loss = self.loss.clone();
        async move { loss.wait_for(Option::is_some).await.ok().and_then(|loss| *loss).unwrap_or(Loss::Released) }
    }

    /// Returns why this one holds no longer, or `None` while it does.
    pub fn loss(&self) -> Option<Loss> {
        *self.loss.borrow()
    }

    /// Gives it back and waits until the next one may have it.
    ///
    /// Errors: the session has ended, or the server could not be told. The znode then goes with the session.
    pub async fn release(mut self) -> Result<(), LockError> {
        self.is_releasing.store(true, Ordering::Relaxed);
        let Some(own) = self.own.take() else { return Ok(()) };
        let path = own.path();
        own.remove().await.map_err(request("cannot delete", path))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.is_releasing.store(true, Ordering::Relaxed);
        self.monitor.abort();
    }
}

/// Watches over the znode of a holder.
#[derive(Debug)]
struct Monitor {
    client: Client,
    path: String,
    czxid: i64,
}

impl Monitor {
    fn new(own: &Own, czxid: i64) -> Monitor {
        Monitor { client: own.client().clone(), path: own.path(), czxid }
    }

    /// Returns when the znode may have gone.
    async fn run(&self, confirmed_at: Instant) -> Loss {
        tokio::select! {
            loss = self.watch() => loss,
            loss = self.confirm(confirmed_at) => loss,
            () = self.session_end() => Loss::SessionEnded,
        }
    }

    async fn session_end(&self) {
        let mut states = self.client.state_watcher();
        while !states.state().is_terminated() {
            states.changed().await;
        }
    }

    /// Returns when the server says that the znode is not there.
    async fn watch(&self) -> Loss {
        loop {
            match retry(|| self.client.check_and_watch_stat(&self.path)).await {
                Ok((Some(stat), watcher)) if stat.czxid == self.czxid => {
                    if watcher.changed().await.event_type == EventType::NodeDeleted {
                        return Loss::Deleted;
                    }
                }
                Ok(_) => return Loss::Deleted,
                Err(error) if is_session_end(&error) => return Loss::SessionEnded,
                // The confirmations decide how long that may go on.
                Err(error) => {
                    debug!(path = %self.path, %error, "cannot watch what is held");
                    sleep(LOST_PAUSE).await;
                }
            }
        }
    }

    /// Has the session confirmed again and again; returns when that has failed for too long.
    async fn confirm(&self, mut confirmed_at: Instant) -> Loss {
        let timeout = self.client.session_timeout();
        loop {
            sleep_until(confirmed_at + timeout / CONFIRMATIONS).await;
            match timeout_at(confirmed_at + safe_part(timeout), self.confirmed()).await {
                Ok(Ok(sent_at)) => confirmed_at = sent_at,
                Ok(Err(loss)) => return loss,
                Err(_elapsed) => return Loss::Unconfirmed,
            }
        }
    }

    /// Returns when the request was sent that the leader took part in answering.
    async fn confirmed(&self) -> Result<Instant, Loss> {
        loop {
            let sent_at = Instant::now();
            match self.client.sync(&self.path).await {
                Ok(()) => return Ok(sent_at),
                Err(error) if is_session_end(&error) => return Err(Loss::SessionEnded),
                Err(ClientError::NoNode) => return Err(Loss::Deleted),
                Err(error) => {
                    debug!(path = %self.path, %error, "the session was not confirmed");
                    sleep(LOST_PAUSE).await;
                }
            }
        }
    }
}
