//! Links over loopback, between members that are nothing but their links.

mod links;
mod proxy;
mod snapshots;
mod strangers;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use grange_proto::ServerSpec;
use grange_replica::{Event, Member, MemberId};
use tempfile::TempDir;

use super::*;
use crate::mailbox::Taken;
use crate::storage::disk::RealDisk;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A member without a replica.
struct Fake {
    server_id: u8,
    peers: Peers,
    inbox: Arc<Mailbox<Event>>,
    stats: Arc<PeerStats>,
    store: Arc<SnapshotStore>,
    dir: TempDir,
}

/// How a fake member is to be.
struct FakeConfig<'a> {
    server_id: u8,
    id: u64,
    run: u64,
    cluster_id: Option<[u8; 16]>,
    is_blank: bool,
    listener: &'a TcpListener,
    /// Where it looks for which server.
    servers: &'a [(u8, SocketAddr)],
    tls: Option<TlsContext>,
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn spec(address: SocketAddr) -> ServerSpec {
    format!("{}:{}:0", address.ip(), address.port()).parse().unwrap()
}

impl<'a> FakeConfig<'a> {
    fn new(server_id: u8, listener: &'a TcpListener, servers: &'a [(u8, SocketAddr)]) -> FakeConfig<'a> {
        let id = 0x100 + u64::from(server_id);
        FakeConfig { server_id, id, run: 1, cluster_id: None, is_blank: true, listener, servers, tls: None }
    }

    fn start(self) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SnapshotStore::open(dir.path(), Arc::new(RealDisk)).unwrap());
        let (inbox, stats) = (Arc::default(), Arc::default());
        let own = spec(self.listener.local_addr().unwrap());
        let config = PeersConfig {
            member: Member { id: MemberId(self.id), server_id: self.server_id, spec: own },
            run: self.run,
            cluster_id: self.cluster_id,
            is_blank: self.is_blank,
            servers: self.servers.iter().map(|(id, address)| (*id, spec(*address))).collect(),
            listener: self.listener.try_clone().unwrap(),
            tls: self.tls,
            receiver: SnapshotReceiver::new(Arc::clone(&store), dir.path(), 1),
            snapshots: Arc::clone(&store),
            inbox: Arc::clone(&inbox),
            stats: Arc::clone(&stats),
            failures: Failures::new(|| {}),
        };
        Fake { server_id: self.server_id, peers: Peers::start(config).unwrap(), inbox, stats, store, dir }
    }
}

impl Fake {
    fn send(&self, to: u64, message: &[u8]) {
        let mut batch = PeerBatch::default();
        batch.push(MemberId(to), message);
        self.peers.send(&mut batch);
    }

    /// Takes what has come, at least one event.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let taken = self.inbox.take(&mut events, Some(Instant::now() + PATIENCE));
        assert_eq!(taken, Taken::Items, "server {} hears nothing", self.server_id);
        for event in &events {
            if let Event::Peer { message, .. } = event {
                self.peers.taken(message.len());
            }
        }
        events
    }

    /// Takes events until one is `wanted`, and returns all as short texts.
    fn until(&self, wanted: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while !seen.iter().any(|event| event == wanted) {
            seen.extend(self.events().iter().map(describe));
        }
        seen
    }

    /// Waits until a counter of this member has grown to `count`.
    fn wait_for(&self, what: &str, counter: impl Fn(&PeerStats) -> u64, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while counter(&self.stats) < count {
            assert!(Instant::now() < deadline, "{what} stays at {}", counter(&self.stats));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::PeerUp { member, is_blank: true } => format!("up {:x} blank", member.id.0),
        Event::PeerUp { member, is_blank: false } => format!("up {:x}", member.id.0),
        Event::PeerDown(member) => format!("down {:x}", member.0),
        Event::Peer { from, message } if message.len() < 100 => {
            format!("{:x}: {}", from.0, String::from_utf8_lossy(message))
        }
        Event::Peer { from, message } => format!("{:x}: {} bytes", from.0, message.len()),
        Event::SnapshotSent { to, is_received } => format!("sent to {:x}: {is_received}", to.0),
        Event::SnapshotReceived { from, snapshot, message } => {
            let message = String::from_utf8_lossy(message);
            format!("snapshot of {:x} at {}-{}: {message}", from.0, snapshot.index, snapshot.term)
        }
        other => format!("{other:?}"),
    }
}
