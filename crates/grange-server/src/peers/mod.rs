//! Links between members: connections, who is at their other end, messages, snapshots.
//!
//! Each member dials every other one, sends on the connections it dialled, and receives on those it accepted. The
//! replica hears of a server when both directions stand ([`Event::PeerUp`]) and when one is lost ([`Event::PeerDown`]);
//! `registry` is the one place that decides that. A snapshot has a connection of its own, so that it holds up nothing.
//!
//! ```text
//!   replica thread --- send ---> outgoing ---> socket          dialer threads help when a socket is full
//!   replica thread <-- inbox --- registry <--- socket          receiver threads, one for each connection
//! ```
//!
//! # Bounds
//!
//! | what | bound | beyond it |
//! |---|---|---|
//! | time until both sides have said who they are | [`HELLO_TIME_MAX`] | closed |
//! | connections in that state | [`STRANGERS_MAX`] | closed at accept |
//! | silence of a connection | [`PEER_SILENCE_MAX`] | closed: the link is lost |
//! | bytes that wait for a socket | [`QUEUE_BYTES_MAX`] | closed: the link is lost and made anew |
//! | bytes received before a link is up | [`EARLY_BYTES_MAX`] | closed |
//! | bytes that wait for the replica | [`INBOX_BYTES_MAX`] | no member is read from |
//! | bytes of a message | `FRAME_BYTES_MAX` | closed |

mod acceptor;
mod channel;
mod dialer;
mod frame;
mod hello;
mod outgoing;
mod quiet;
mod registry;
mod snapshot_in;
mod snapshot_out;
mod tls;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use grange_proto::{Role, ServerSpec};
use grange_replica::{Event, Member, MemberId};

pub(crate) use acceptor::bind;
pub(crate) use snapshot_in::SnapshotReceiver;
pub(crate) use tls::TlsContext;
pub use tls::TlsError;

use crate::failure::{Failures, ServerFailure};
use crate::mailbox::Mailbox;
use crate::stats::Counter;
use crate::storage::snapshot::SnapshotStore;
use dialer::{Address, Dialer};
use hello::Identity;
use registry::Registry;

/// How long a connection attempt may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// How long both sides may take to say who they are, TLS included.
const HELLO_TIME_MAX: Duration = Duration::from_secs(2);
/// Connections that have not said who they are.
const STRANGERS_MAX: usize = 64;
/// A server that has nothing to send says at least so often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_millis(200);
/// A server that is silent for so long is taken for dead.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(1);
/// Bytes that wait for the socket of one server.
const QUEUE_BYTES_MAX: usize = 128 << 20;
/// Bytes of messages that arrive before the link is up: the other side may be a moment ahead, not more.
const EARLY_BYTES_MAX: usize = 16 << 20;
/// Bytes of messages that the replica has not taken, of all members together.
const INBOX_BYTES_MAX: usize = 256 << 20;
/// How long the threads may take to end.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

const _: () = assert!(KEEP_ALIVE.as_millis() * 3 < PEER_SILENCE_MAX.as_millis(), "two lost words are no death");
const _: () = assert!(frame::FRAME_BYTES_MAX <= QUEUE_BYTES_MAX, "a message fits the queue");

/// Figures of the links.
#[derive(Debug, Default)]
pub(crate) struct PeerStats {
    /// Bytes of frames sent.
    pub(crate) bytes_sent: Counter,
    /// Bytes of frames received.
    pub(crate) bytes_received: Counter,
    /// Messages sent.
    pub(crate) messages_sent: Counter,
    /// Messages received.
    pub(crate) messages_received: Counter,
    /// Times that a link came up.
    pub(crate) links: Counter,
    /// Connections that were refused: no hello, no certificate, another ensemble.
    pub(crate) refused: Counter,
    /// Bytes of snapshots sent, those of broken attempts included.
    pub(crate) snapshot_bytes_sent: Counter,
    /// Snapshots sent.
    pub(crate) snapshots_sent: Counter,
    /// Snapshots received.
    pub(crate) snapshots_received: Counter,
}

/// What the links are made of.
pub(crate) struct PeersConfig {
    /// This server.
    pub(crate) member: Member,
    /// The number of this start.
    pub(crate) run: u64,
    /// The ensemble that the data belongs to, as far as that is known.
    pub(crate) cluster_id: Option<[u8; 16]>,
    /// Whether there is no data yet.
    pub(crate) is_blank: bool,
    /// The servers of the configuration.
    pub(crate) servers: Vec<(u8, ServerSpec)>,
    /// Where other members connect.
    pub(crate) listener: TcpListener,
    /// `None` for connections without TLS.
    pub(crate) tls: Option<TlsContext>,
    /// Where snapshots are taken from.
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// Where snapshots are put.
    pub(crate) receiver: SnapshotReceiver,
    /// Takes what arrives.
    pub(crate) inbox: Arc<Mailbox<Event>>,
    pub(crate) stats: Arc<PeerStats>,
    pub(crate) failures: Arc<Failures>,
}

/// The links of this server; they end when it is dropped.
#[derive(Debug)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
    /// The servers of the configuration.
    configured: Vec<(u8, ServerSpec)>,
    wanted: Mutex<Wanted>,
    listener: TcpListener,
    local_addr: SocketAddr,
}

/// The servers that the replica wants links to.
#[derive(Debug, Default)]
struct Wanted {
    members: Vec<Member>,
    /// Those that are to become members.
    candidates: Vec<(u8, ServerSpec)>,
}

/// What the threads of the links share.
#[derive(Debug)]
struct Shared {
    registry: Registry,
    tls: Option<TlsContext>,
    inbox: Arc<Mailbox<Event>>,
    snapshots: Arc<SnapshotStore>,
    receiver: SnapshotReceiver,
    /// Snapshots on their way: the number of the newest one for each member.
    sending: Mutex<BTreeMap<MemberId, u64>>,
    send_count: AtomicU64,
    stats: Arc<PeerStats>,
    failures: Arc<Failures>,
    threads: ThreadCount,
}

/// The threads that run.
#[derive(Debug, Default)]
struct ThreadCount {
    count: Mutex<usize>,
    ended: Condvar,
}

/// Messages of one step, gathered so that each member gets them with one write.
#[derive(Debug, Default)]
pub(crate) struct PeerBatch {
    frames: Vec<(MemberId, Vec<u8>, u64)>,
}

impl PeerBatch {
    /// Adds a message, behind those to the same member before.
    pub(crate) fn push(&mut self, to: MemberId, message: &[u8]) {
        let place = match self.frames.iter().position(|(member, ..)| *member == to) {
            Some(place) => place,
            None => {
                self.frames.push((to, Vec::new(), 0));
                self.frames.len() - 1
            }
        };
        let (_, frames, count) = &mut self.frames[place];
        frame::put_frame(frames, message);
        *count += 1;
    }
}

impl Peers {
    /// Listens, and dials every server of the configuration.
    pub(crate) fn start(config: PeersConfig) -> io::Result<Peers> {
        let PeersConfig { member, run, cluster_id, is_blank, servers, listener, tls, .. } = config;
        let own = Identity { member, run, cluster_id, is_blank };
        let local_addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            registry: Registry::new(own, Arc::clone(&config.inbox), Arc::clone(&config.stats)),
            tls,
            inbox: config.inbox,
            snapshots: config.snapshots,
            receiver: config.receiver,
            sending: Mutex::default(),
            send_count: AtomicU64::new(0),
            stats: config.stats,
            failures: config.failures,
            threads: ThreadCount::default(),
        });
        let accepting = listener.try_clone()?;
        let peers =
            Peers { shared: Arc::clone(&shared), configured: servers, wanted: Mutex::default(), listener, local_addr };
        shared.spawn("peer-accept", move |shared| {
            acceptor::run(shared, &accepting);
            Ok(())
        })?;
        peers.dial_all()?;
        Ok(peers)
    }

    /// Returns where other members connect.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Sends what was gathered. What cannot be sent is dropped, and its link with it.
    pub(crate) fn send(&self, batch: &mut PeerBatch) {
        for (to, frames, count) in batch.frames.drain(..) {
            let Some((server_id, number, link)) = self.shared.registry.way_to(to) else { continue };
            match link.send(frames) {
                Ok(()) => self.shared.stats.messages_sent.add(count),
                Err(error) => self.shared.registry.lost(server_id, number, &error.to_string()),
            }
        }
    }

    /// Notes that the replica has taken messages of so many bytes out of its inbox.
    pub(crate) fn taken(&self, bytes: usize) {
        self.shared.registry.taken(bytes);
    }

    /// Keeps links to these members, and to the servers of the configuration; ends all others.
    ///
    /// Errors: the system has no thread to give.
    pub(crate) fn set_members(&self, members: Vec<Member>) -> io::Result<()> {
        *self.wanted.lock().expect(NEVER_POISONED) = Wanted { members, candidates: Vec::new() };
        self.dial_all()
    }

    /// Keeps links to these servers too, until the members are set again.
    ///
    /// Errors: the system has no thread to give.
    pub(crate) fn set_candidates(&self, candidates: Vec<(u8, ServerSpec)>) -> io::Result<()> {
        self.wanted.lock().expect(NEVER_POISONED).candidates = candidates;
        self.dial_all()
    }

    /// Returns the lines `server.N` of the members by their numbers, or of the configuration as long as there are none.
    pub(crate) fn membership(&self) -> Vec<(u8, ServerSpec)> {
        let wanted = self.wanted.lock().expect(NEVER_POISONED);
        if wanted.members.is_empty() {
            return self.configured.clone();
        }
        let mut lines: Vec<_> = wanted.members.iter().map(|member| (member.server_id, member.spec.clone())).collect();
        lines.sort_unstable_by_key(|(server_id, _)| *server_id);
        lines
    }

    /// Notes that this server has data now.
    pub(crate) fn has_data(&self) {
        self.shared.registry.has_data();
    }

    /// Notes which ensemble this server belongs to, and ends links to servers of others.
    pub(crate) fn set_cluster_id(&self, id: [u8; 16]) {
        self.shared.registry.set_cluster_id(id);
    }

    /// Sends the saved snapshot of this index and term, then tells the replica what came of it.
    ///
    /// Errors: the system has no thread to give.
    pub(crate) fn send_snapshot(&self, to: MemberId, index: u64, term: u64, message: Vec<u8>) -> io::Result<()> {
        snapshot_out::start(&self.shared, snapshot_out::Order { to, index, term, message })
    }

    /// Ends all links, so that others notice at once that this server is gone.
    pub(crate) fn close(&self) {
        self.shared.registry.stop();
        // On Linux this ends a wait for connections.
        let _ = socket2::SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
    }

    /// Ends all links and their threads.
    pub(crate) fn stop(&self) {
        self.close();
        self.shared.threads.wait_for_end(STOP_TIME_MAX);
    }

    fn dial_all(&self) -> io::Result<()> {
        let own = self.shared.registry.own().member.server_id;
        let mut targets: BTreeMap<u8, Vec<Address>> = BTreeMap::new();
        // What the ensemble has agreed on is newer than what a file says.
        let wanted = self.wanted.lock().expect(NEVER_POISONED);
        let members = wanted.members.iter().map(|member| (member.server_id, &member.spec));
        let others = wanted.candidates.iter().chain(&self.configured).map(|(id, spec)| (*id, spec));
        for (server_id, spec) in members.chain(others) {
            let known = targets.entry(server_id).or_default();
            for address in dialer::addresses(spec) {
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        targets.remove(&own);
        self.shared.registry.retain(|server_id| targets.contains_key(&server_id));
        targets.into_iter().try_for_each(|(server_id, addresses)| self.shared.dial(server_id, addresses, true))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Makes sure that a server is dialled, at these addresses.
    fn dial(self: &Arc<Self>, server_id: u8, addresses: Vec<Address>, is_named: bool) -> io::Result<()> {
        if let Some(dialer) = self.registry.dialer(server_id) {
            dialer.set_addresses(addresses);
            self.registry.add_dialer(server_id, &dialer, is_named);
            return Ok(());
        }
        let (dialer, poll) = Dialer::new(server_id, addresses)?;
        if !self.registry.add_dialer(server_id, &dialer, is_named) {
            return Ok(());
        }
        self.spawn(&format!("peer-{server_id}"), move |shared| {
            dialer::run(shared, &dialer, poll)
                .map_err(|source| ServerFailure::Poll { thread: format!("peer-{server_id}"), source })
        })
    }

    /// Starts a thread of the links.
    fn spawn(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce(&Arc<Shared>) -> Result<(), ServerFailure> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(self);
        self.threads.began();
        let spawned = self.failures.spawn(name, move || {
            let ending = Ending(&shared.threads);
            let result = body(&shared);
            drop(ending);
            result
        });
        match spawned {
            // Threads come and go with connections; their number is waited for at the end.
            Ok(handle) => drop(handle),
            Err(error) => {
                self.threads.ended();
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Counts the end of a thread, also of one that panics.
struct Ending<'a>(&'a ThreadCount);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl ThreadCount {
    fn began(&self) {
        *self.count.lock().expect(NEVER_POISONED) += 1;
    }

    fn ended(&self) {
        *self.count.lock().expect(NEVER_POISONED) -= 1;
        self.ended.notify_all();
    }

    /// A thread that looks up a name cannot be interrupted; it ends by itself later, and touches nothing until then.
    fn wait_for_end(&self, time_max: Duration) {
        let until = Instant::now() + time_max;
        let mut count = self.count.lock().expect(NEVER_POISONED);
        while *count > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::debug!(threads = *count, "connections to other servers still end");
                return;
            }
            count = self.ended.wait_timeout(count, left).expect(NEVER_POISONED).0;
        }
    }
}

/// Tells whether a server's line is short enough to be told to others.
pub(crate) fn fits_hello(spec: &ServerSpec) -> bool {
    hello::fits(spec)
}

/// Describes a server for a line in the log.
pub(crate) fn describe_server(server_id: u8, spec: &ServerSpec) -> String {
    let role = if spec.role == Role::Observer { ", an observer" } else { "" };
    format!("{server_id} ({}{role})", dialer::describe(&dialer::addresses(spec)))
}

const NEVER_POISONED: &str = "nothing panics while it holds this lock";
