//! Several members in one test: messages arrive at once and in order, disks sync at once, unless a test says otherwise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use grange_proto::connect::ConnectResponse;
use grange_proto::frame::split_frame;
use grange_proto::response::ReplyHeader;
use grange_proto::{Reader, SessionId, Zxid};
use grange_replica::{
    Action, ConnId, ConnectAttempt, EnsembleConfig, Event, HardState, Inspect, LogEntry, Member, MemberId, Mode, Now,
    Recovered, RecoveredSnapshot, Replica, ReplicaConfig, Report, SnapshotImage, Summary, TICK_MS,
};
use grange_tree::TreeBuilder;

use crate::harness::{Seen, config};

/// What is left of a member when its process ends.
#[derive(Default)]
struct Disk {
    hard_state: HardState,
    entries: BTreeMap<u64, LogEntry>,
    snapshot: Option<Saved>,
}

impl Disk {
    fn recovered(&self) -> Recovered {
        Recovered {
            snapshot: self.snapshot.as_ref().map(Saved::load),
            hard_state: self.hard_state,
            entries: self.entries.values().cloned().collect(),
        }
    }
}

#[derive(Clone)]
struct Saved {
    index: u64,
    term: u64,
    meta: Vec<u8>,
    chunks: Vec<Vec<u8>>,
}

impl Saved {
    fn of(image: &SnapshotImage) -> Saved {
        let chunk = |at| {
            let mut bytes = Vec::new();
            image.tree.encode_chunk(at, &mut bytes);
            bytes
        };
        let chunks = (0..image.tree.chunk_count()).map(chunk).collect();
        Saved { index: image.index, term: image.term, meta: image.meta.clone(), chunks }
    }

    fn load(&self) -> RecoveredSnapshot {
        let mut builder = TreeBuilder::new();
        for chunk in &self.chunks {
            builder.add(TreeBuilder::decode_chunk(chunk).unwrap());
        }
        RecoveredSnapshot {
            index: self.index,
            term: self.term,
            meta: self.meta.clone(),
            tree: builder.finish().unwrap(),
        }
    }
}

struct Site {
    config: ReplicaConfig,
    disk: Disk,
    replica: Option<Replica>,
    inbox: VecDeque<Event>,
    output: BTreeMap<ConnId, Vec<u8>>,
    closed: BTreeSet<ConnId>,
    report: Option<Report>,
    members: Vec<Member>,
    has_resigned: bool,
}

/// An ensemble and its network.
pub(crate) struct Cluster {
    sites: BTreeMap<u8, Site>,
    now: Now,
    next_conn: u64,
    /// Pairs of servers between which nothing passes.
    cut: BTreeSet<(u8, u8)>,
}

impl Cluster {
    /// Starts servers 1 to `count`, blank, and waits until clients are served everywhere.
    pub(crate) fn new(count: u8) -> Cluster {
        let mut cluster = Cluster {
            sites: BTreeMap::new(),
            now: Now { monotonic_us: 1_000_000, wall_ms: 1_700_000_000_000 },
            next_conn: 0,
            cut: BTreeSet::new(),
        };
        let servers: Vec<u8> = (1..=count).collect();
        for &id in &servers {
            cluster.add(id, &servers, id == 1);
        }
        servers.iter().for_each(|&id| cluster.boot(id));
        assert!(cluster.pass_until(3000, |cluster| servers.iter().all(|&id| cluster.is_serving(id))));
        cluster
    }

    /// Adds a server that is not running yet; `servers` are in its configuration.
    pub(crate) fn add(&mut self, id: u8, servers: &[u8], founds: bool) {
        let spec = |id: u8| format!("host{id}:2888:3888;2181").parse().unwrap();
        let member = Member { id: MemberId(u64::from(id) * 1000), server_id: id, spec: spec(id) };
        let servers = servers.iter().map(|&id| (id, spec(id))).collect();
        let ensemble = EnsembleConfig { servers, founds, ..EnsembleConfig::alone(member.id, 0) };
        let ensemble = EnsembleConfig { member, ..ensemble };
        let site = Site {
            config: ReplicaConfig { ensemble, seed: u64::from(id), ..config() },
            disk: Disk::default(),
            replica: None,
            inbox: VecDeque::new(),
            output: BTreeMap::new(),
            closed: BTreeSet::new(),
            report: None,
            members: Vec::new(),
            has_resigned: false,
        };
        self.sites.insert(id, site);
    }

    /// Changes the configuration of a server before it starts again.
    pub(crate) fn configure(&mut self, id: u8, change: impl FnOnce(&mut ReplicaConfig)) {
        change(&mut self.site(id).config);
    }

    fn site(&mut self, id: u8) -> &mut Site {
        self.sites.get_mut(&id).unwrap()
    }

    /// Makes a server that is not running the beginning of an ensemble of its own.
    pub(crate) fn rescue(&mut self, id: u8) {
        let now = self.now;
        let site = self.site(id);
        site.config.genesis.cluster_id = [9; 16];
        site.config.ensemble.servers.retain(|(other, _)| *other == id);
        let image = grange_replica::rescue(site.config.clone(), site.disk.recovered(), now).unwrap();
        site.disk.snapshot = Some(Saved::of(&image));
    }

    /// Starts a server from its disk.
    pub(crate) fn boot(&mut self, id: u8) {
        let now = self.now;
        let site = self.site(id);
        site.config.ensemble.run += 1;
        let recovered = site.disk.recovered();
        site.replica = Some(Replica::start(site.config.clone(), recovered, now).unwrap());
        let others: Vec<u8> = self.sites.keys().copied().filter(|&other| other != id).collect();
        others.into_iter().for_each(|other| self.link(id, other));
        self.run();
    }

    fn link(&mut self, a: u8, b: u8) {
        if self.is_running(a) && self.is_running(b) && !self.is_cut(a, b) {
            for (here, there) in [(a, b), (b, a)] {
                let site = &self.sites[&there];
                let event = Event::PeerUp {
                    member: site.config.ensemble.member.clone(),
                    is_blank: site.disk.snapshot.is_none(),
                };
                self.site(here).inbox.push_back(event);
            }
        }
    }

    fn unlink(&mut self, a: u8, b: u8) {
        for (here, there) in [(a, b), (b, a)] {
            let id = self.sites[&there].config.ensemble.member.id;
            self.site(here).inbox.push_back(Event::PeerDown(id));
        }
    }

    /// Ends a server's process; what is not on its disk is gone. The others notice at once.
    pub(crate) fn kill(&mut self, id: u8) {
        let others: Vec<u8> =
            self.sites.keys().copied().filter(|&other| other != id && !self.is_cut(id, other)).collect();
        let site = self.site(id);
        site.replica = None;
        site.inbox.clear();
        site.output.clear();
        others.into_iter().for_each(|other| self.unlink(id, other));
        self.site(id).inbox.clear();
        self.run();
    }

    /// Ends a server and takes its disk away; it will come back as another member.
    pub(crate) fn wipe(&mut self, id: u8) {
        self.kill(id);
        let site = self.site(id);
        site.disk = Disk::default();
        site.config.ensemble.member.id.0 += 1;
        site.config.ensemble.founds = false;
    }

    /// Lets nothing pass between two servers, and tells them.
    pub(crate) fn cut(&mut self, a: u8, b: u8) {
        self.cut.insert((a.min(b), a.max(b)));
        self.unlink(a, b);
        self.run();
    }

    /// Cuts a server off from all others, which nobody notices yet.
    pub(crate) fn cut_silently(&mut self, id: u8) {
        let others: Vec<u8> = self.sites.keys().copied().filter(|&other| other != id).collect();
        self.cut.extend(others.into_iter().map(|other| (id.min(other), id.max(other))));
    }

    /// Lets time pass everywhere but at one server, which stands still.
    pub(crate) fn pass_for_others(&mut self, id: u8, ms: u64) {
        let Some(stopped) = self.site(id).replica.take() else { return };
        self.pass(ms);
        self.site(id).replica = Some(stopped);
    }

    /// Cuts a server off from all others.
    pub(crate) fn isolate(&mut self, id: u8) {
        let others: Vec<u8> = self.sites.keys().copied().filter(|&other| other != id).collect();
        others.into_iter().for_each(|other| self.cut(id, other));
    }

    /// Lets everything pass again.
    pub(crate) fn heal(&mut self) {
        let cut = std::mem::take(&mut self.cut);
        cut.into_iter().for_each(|(a, b)| self.link(a, b));
        self.run();
    }

    fn is_cut(&self, a: u8, b: u8) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn is_running(&self, id: u8) -> bool {
        self.sites[&id].replica.is_some()
    }

    pub(crate) fn is_serving(&self, id: u8) -> bool {
        self.sites[&id].replica.as_ref().is_some_and(Replica::is_serving)
    }

    /// Handles everything that is under way.
    pub(crate) fn run(&mut self) {
        let ids: Vec<u8> = self.sites.keys().copied().collect();
        while let Some(&id) = ids.iter().find(|id| !self.sites[id].inbox.is_empty()) {
            self.step(id);
        }
    }

    fn step(&mut self, id: u8) {
        let now = self.now;
        let site = self.site(id);
        let mut events: Vec<Event> = site.inbox.drain(..).collect();
        let Some(replica) = &mut site.replica else { return };
        let mut actions = Vec::new();
        replica.step(now, &mut events, &mut actions);
        for action in actions {
            self.perform(id, action);
        }
    }

    fn perform(&mut self, id: u8, action: Action) {
        let site = self.site(id);
        match action {
            Action::Append(batch) => {
                if batch.reset_to.is_some() {
                    site.disk.entries.clear();
                }
                for entry in batch.entries {
                    site.disk.entries.split_off(&entry.index);
                    site.disk.entries.insert(entry.index, entry);
                }
                site.disk.hard_state = batch.hard_state.unwrap_or(site.disk.hard_state);
                site.inbox.push_back(Event::LogSynced(batch.number));
            }
            Action::Send { conn, bytes, .. } => site.output.entry(conn).or_default().extend(bytes),
            Action::Close(conn) => {
                site.closed.insert(conn);
                site.inbox.push_back(Event::Disconnected(conn));
            }
            Action::SaveSnapshot(image) => {
                site.disk.snapshot = Some(Saved::of(&image));
                site.inbox.push_back(Event::SnapshotSaved { index: image.index });
            }
            Action::PurgeLog { first_kept } => site.disk.entries = site.disk.entries.split_off(&first_kept),
            Action::ReadLog { first, end, .. } => {
                let entries: Vec<LogEntry> = site.disk.entries.range(first..end).map(|(_, e)| e.clone()).collect();
                let entries = Some(entries).filter(|entries| entries.first().is_some_and(|e| e.index == first));
                site.inbox.push_back(Event::LogRead { first, entries });
            }
            Action::SendPeer { to, message } => self.deliver(id, to, message),
            Action::SendSnapshot { to, index, term, message } => self.deliver_snapshot(id, to, (index, term), message),
            Action::Members(members) => site.members = members,
            Action::Candidates(_) => {}
            Action::Resigned => site.has_resigned = true,
            Action::Inspected { report, .. } => site.report = Some(*report),
        }
    }

    fn server_of(&self, member: MemberId) -> Option<u8> {
        let mut sites = self.sites.iter();
        sites.find(|(_, site)| site.config.ensemble.member.id == member).map(|(&id, _)| id)
    }

    fn reachable(&self, from: u8, to: MemberId) -> Option<u8> {
        self.server_of(to).filter(|&to| self.is_running(to) && !self.is_cut(from, to))
    }

    fn deliver(&mut self, from: u8, to: MemberId, message: Vec<u8>) {
        let sender = self.sites[&from].config.ensemble.member.id;
        if let Some(to) = self.reachable(from, to) {
            self.site(to).inbox.push_back(Event::Peer { from: sender, message: Bytes::from(message) });
        }
    }

    fn deliver_snapshot(&mut self, from: u8, to: MemberId, mark: (u64, u64), message: Vec<u8>) {
        let sender = self.sites[&from].config.ensemble.member.id;
        let saved = self.sites[&from].disk.snapshot.clone().filter(|saved| (saved.index, saved.term) == mark);
        let receiver = self.reachable(from, to);
        if let (Some(receiver), Some(saved)) = (receiver, &saved) {
            let snapshot = Box::new(saved.load());
            let site = self.site(receiver);
            site.disk.snapshot = Some(saved.clone());
            let message = Bytes::from(message);
            site.inbox.push_back(Event::SnapshotReceived { from: sender, snapshot, message });
        }
        let is_received = receiver.is_some() && saved.is_some();
        self.site(from).inbox.push_back(Event::SnapshotSent { to, is_received });
    }

    /// Lets time pass everywhere.
    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.now.monotonic_us += TICK_MS * 1000;
            self.now.wall_ms += i64::try_from(TICK_MS).unwrap();
            for site in self.sites.values_mut().filter(|site| site.replica.is_some()) {
                site.inbox.push_back(Event::Tick);
            }
            self.run();
        }
    }

    /// Lets time pass until `is_so`, at most `ms`; returns whether it came to that.
    pub(crate) fn pass_until(&mut self, ms: u64, mut is_so: impl FnMut(&Cluster) -> bool) -> bool {
        for _ in 0..ms / TICK_MS {
            if is_so(self) {
                return true;
            }
            self.pass(TICK_MS);
        }
        is_so(self)
    }

    pub(crate) fn summary(&mut self, id: u8) -> Summary {
        self.site(id).inbox.push_back(Event::Inspect { token: 1, what: Inspect::Summary });
        self.run();
        match self.site(id).report.take() {
            Some(Report::Summary(summary)) => summary,
            other => panic!("not a summary: {other:?}"),
        }
    }

    /// Returns the servers that lead, usually one.
    pub(crate) fn leader(&mut self) -> u8 {
        let ids: Vec<u8> = self.sites.keys().copied().filter(|&id| self.is_running(id)).collect();
        let leaders: Vec<u8> = ids.into_iter().filter(|&id| self.summary(id).mode == Mode::Leader).collect();
        assert_eq!(leaders.len(), 1, "{leaders:?}");
        leaders[0]
    }

    /// Gives a server an event of its edge.
    pub(crate) fn tell(&mut self, id: u8, event: Event) {
        self.site(id).inbox.push_back(event);
        self.run();
    }

    pub(crate) fn resign(&mut self, id: u8) -> bool {
        self.site(id).inbox.push_back(Event::Resign);
        self.run();
        self.pass_until(2000, |cluster| cluster.sites[&id].has_resigned)
    }

    /// Members as the edge of a server knows them.
    pub(crate) fn members(&self, id: u8) -> Vec<(u8, MemberId)> {
        self.sites[&id].members.iter().map(|member| (member.server_id, member.id)).collect()
    }

    /// Opens a session with a timeout of 4 s, or comes back to one.
    pub(crate) fn connect(&mut self, id: u8, session: Option<&ConnectResponse>) -> (ConnId, ConnectResponse) {
        let conn = self.dial(id, session);
        self.welcome(id, conn)
    }

    /// Reads the answer to a first frame.
    pub(crate) fn welcome(&mut self, id: u8, conn: ConnId) -> (ConnId, ConnectResponse) {
        let output = self.site(id).output.remove(&conn).unwrap_or_else(|| panic!("server {id} has not answered"));
        let (payload, _) = split_frame(&output, usize::MAX).unwrap().unwrap();
        (conn, ConnectResponse::decode(payload).unwrap())
    }

    pub(crate) fn dial(&mut self, id: u8, session: Option<&ConnectResponse>) -> ConnId {
        self.dial_as(id, session, false)
    }

    /// Sends a first frame that says whether the client can do without writes.
    pub(crate) fn dial_as(&mut self, id: u8, session: Option<&ConnectResponse>, read_only: bool) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        self.site(id).inbox.push_back(Event::Connect(ConnectAttempt {
            conn,
            peer: "127.0.0.1:5000".parse().unwrap(),
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 4000,
            session: session.map_or(SessionId::NONE, |response| response.session),
            password: session.map_or(Vec::new(), |response| response.password.to_vec()),
            read_only: Some(read_only),
        }));
        self.run();
        conn
    }

    /// Sends frames and lets everything happen that needs no time.
    pub(crate) fn send(&mut self, id: u8, conn: ConnId, frames: Vec<u8>) {
        let received_us = self.now.monotonic_us;
        self.site(id).inbox.push_back(Event::Frames { conn, frames: Bytes::from(frames), received_us });
        self.run();
    }

    pub(crate) fn is_closed(&self, id: u8, conn: ConnId) -> bool {
        self.sites[&id].closed.contains(&conn)
    }

    /// Returns the data in the reply to a getData.
    pub(crate) fn data(&mut self, id: u8, conn: ConnId) -> Vec<u8> {
        let output = self.site(id).output.remove(&conn).unwrap_or_default();
        let (payload, _) = split_frame(&output, usize::MAX).unwrap().unwrap();
        let mut reader = Reader::new(payload);
        assert_eq!(ReplyHeader::decode(&mut reader).unwrap().err, 0);
        reader.buffer().unwrap().unwrap().to_vec()
    }

    /// Returns what a client has read since the last call.
    pub(crate) fn seen(&mut self, id: u8, conn: ConnId) -> Vec<Seen> {
        Seen::all(&self.site(id).output.remove(&conn).unwrap_or_default())
    }
}
