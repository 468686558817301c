//! An edge without sockets and files.

use std::collections::BTreeMap;

use bytes::Bytes;
use grange_proto::connect::ConnectResponse;
use grange_proto::frame::split_frame;
use grange_proto::request::{Create, PathVersion, Request, SetData, Watchable, put_request};
use grange_proto::response::{ReplyHeader, Response};
use grange_proto::watch::WatcherEvent;
use grange_proto::wire::put_i32;
use grange_proto::{Acl, AclList, Op, Reader, SessionId, Xid, Zxid, acl};
use grange_replica::{
    Action, ConnId, ConnectAttempt, EnsembleConfig, Event, Genesis, HardState, Inspect, LogBatch, LogEntry, MemberId,
    Now, Reaping, Recovered, RecoveredSnapshot, Replica, ReplicaConfig, Report, SnapshotImage, SnapshotPolicy, Summary,
};
use grange_tree::{Policy, TreeBuilder};

/// A member and everything around it.
pub(crate) struct Edge {
    pub(crate) replica: Replica,
    pub(crate) config: ReplicaConfig,
    pub(crate) now: Now,
    /// Batches that were appended and not yet reported durable.
    pub(crate) unsynced: Vec<LogBatch>,
    /// What would be found after a power loss.
    pub(crate) durable: (HardState, BTreeMap<u64, LogEntry>),
    pub(crate) snapshot: Option<SnapshotImage>,
    pub(crate) closed: Vec<ConnId>,
    pub(crate) answered: u32,
    /// The answer to the last [`Event::Inspect`].
    pub(crate) report: Option<Report>,
    /// Whether the log syncs by itself.
    pub(crate) syncs: bool,
    output: BTreeMap<ConnId, Vec<u8>>,
    next_conn: u64,
}

/// What a client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A reply: xid, error code.
    Reply(i32, i32),
    /// A watch event: type and path.
    Event(i32, String),
}

impl Seen {
    /// Reads every frame of what a client was sent.
    pub(crate) fn all(mut output: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some((payload, behind)) = split_frame(output, usize::MAX).unwrap() {
            output = behind;
            let mut reader = Reader::new(payload);
            let header = ReplyHeader::decode(&mut reader).unwrap();
            seen.push(if header.xid == Xid::NOTIFICATION {
                let event = WatcherEvent::decode(&mut reader).unwrap();
                Seen::Event(event.event as i32, event.path.to_owned())
            } else {
                Seen::Reply(header.xid.0, header.err)
            });
        }
        seen
    }
}

pub(crate) fn config() -> ReplicaConfig {
    ReplicaConfig {
        ensemble: EnsembleConfig::alone(MemberId(1), 1),
        tick_ms: 1000,
        session_timeout_ms_min: 2000,
        session_timeout_ms_max: 20_000,
        policy: Policy { extended_types: true, ..Policy::default() },
        super_digest: None,
        reaping: Reaping { interval_ms: 60_000, per_minute_max: 10_000, never_used_ms: 0 },
        snapshots: SnapshotPolicy { requests: u64::MAX, log_bytes: u64::MAX },
        genesis: Genesis { cluster_id: [1; 16], session_key: [2; 32] },
        seed: 42,
    }
}

impl Edge {
    pub(crate) fn new() -> Edge {
        Edge::with(config())
    }

    pub(crate) fn with(config: ReplicaConfig) -> Edge {
        Edge::start(config, Recovered::default(), (HardState::default(), BTreeMap::new()), None)
    }

    fn start(
        config: ReplicaConfig,
        recovered: Recovered,
        durable: (HardState, BTreeMap<u64, LogEntry>),
        snapshot: Option<SnapshotImage>,
    ) -> Edge {
        let now = Now { monotonic_us: 1_000_000, wall_ms: 1_700_000_000_000 };
        let replica = Replica::start(config.clone(), recovered, now).unwrap();
        let mut edge = Edge {
            replica,
            config,
            now,
            unsynced: Vec::new(),
            durable,
            snapshot,
            closed: Vec::new(),
            answered: 0,
            report: None,
            syncs: true,
            output: BTreeMap::new(),
            next_conn: 0,
        };
        edge.step(Vec::new());
        assert!(edge.replica.is_serving());
        edge
    }

    /// Loses everything that is not durable and starts again.
    pub(crate) fn restart(mut self) -> Edge {
        self.config.ensemble.run += 1;
        let snapshot = self.snapshot.as_ref().map(|image| {
            let mut builder = TreeBuilder::new();
            for chunk in 0..image.tree.chunk_count() {
                let mut bytes = Vec::new();
                image.tree.encode_chunk(chunk, &mut bytes);
                builder.add(TreeBuilder::decode_chunk(&bytes).unwrap());
            }
            let (index, term, meta) = (image.index, image.term, image.meta.clone());
            RecoveredSnapshot { index, term, meta, tree: builder.finish().unwrap() }
        });
        let first = snapshot.as_ref().map_or(1, |snapshot| snapshot.index + 1);
        let entries = self.durable.1.range(first..).map(|(_, entry)| entry.clone()).collect();
        let recovered = Recovered { snapshot, hard_state: self.durable.0, entries };
        Edge::start(self.config, recovered, self.durable, self.snapshot)
    }

    pub(crate) fn step(&mut self, mut events: Vec<Event>) {
        loop {
            let mut actions = Vec::new();
            self.replica.step(self.now, &mut events, &mut actions);
            for action in actions {
                self.perform(action);
            }
            if self.syncs && !self.unsynced.is_empty() {
                events.push(self.sync());
            } else {
                return;
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Append(batch) => self.unsynced.push(batch),
            Action::Send { conn, bytes, answered } => {
                self.output.entry(conn).or_default().extend(bytes);
                self.answered += answered;
            }
            Action::Close(conn) => self.closed.push(conn),
            Action::SaveSnapshot(image) => {
                let index = image.index;
                let is_founding = self.snapshot.is_none();
                self.snapshot = Some(*image);
                if is_founding {
                    self.step(vec![Event::SnapshotSaved { index }]);
                }
            }
            Action::PurgeLog { .. } | Action::Members(_) | Action::Candidates(_) | Action::Resigned => {}
            Action::SendPeer { .. } | Action::SendSnapshot { .. } | Action::ReadLog { .. } => {
                panic!("a member that stands alone has no peers")
            }
            Action::Inspected { report, .. } => self.report = Some(*report),
        }
    }

    /// Makes everything appended durable and returns the event that says so.
    pub(crate) fn sync(&mut self) -> Event {
        let last = self.unsynced.last().expect("there is something to sync").number;
        for batch in self.unsynced.drain(..) {
            if batch.reset_to.is_some() {
                self.durable.1.clear();
            }
            if let Some(hard_state) = batch.hard_state {
                self.durable.0 = hard_state;
            }
            for entry in batch.entries {
                self.durable.1.split_off(&entry.index);
                self.durable.1.insert(entry.index, entry);
            }
        }
        Event::LogSynced(last)
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / grange_replica::TICK_MS {
            self.now.monotonic_us += grange_replica::TICK_MS * 1000;
            self.now.wall_ms += i64::try_from(grange_replica::TICK_MS).unwrap();
            self.step(vec![Event::Tick]);
        }
    }

    /// Lets the clocks go on without a step, as if the process had been stopped.
    pub(crate) fn stand_still(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1000;
        self.now.wall_ms += i64::try_from(ms).unwrap();
    }

    /// Opens a session with a timeout of 4 s.
    pub(crate) fn connect(&mut self) -> (ConnId, ConnectResponse) {
        self.attempt(SessionId::NONE, Vec::new(), Zxid::ZERO)
    }

    pub(crate) fn attempt(
        &mut self,
        session: SessionId,
        password: Vec<u8>,
        last_zxid_seen: Zxid,
    ) -> (ConnId, ConnectResponse) {
        let conn = self.dial(session, password, last_zxid_seen);
        let output = self.output.remove(&conn).expect("the handshake is answered");
        let (payload, rest) = split_frame(&output, usize::MAX).unwrap().unwrap();
        assert!(rest.is_empty());
        (conn, ConnectResponse::decode(payload).unwrap())
    }

    /// Sends a first frame and does not wait for the answer.
    pub(crate) fn dial(&mut self, session: SessionId, password: Vec<u8>, last_zxid_seen: Zxid) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let peer = "127.0.0.1:5000".parse().unwrap();
        let read_only = Some(false);
        let attempt = ConnectAttempt { conn, peer, last_zxid_seen, timeout_ms: 4000, session, password, read_only };
        self.step(vec![Event::Connect(attempt)]);
        conn
    }

    /// Sends frames on a connection in one piece.
    pub(crate) fn send(&mut self, conn: ConnId, frames: Vec<u8>) {
        let received_us = self.now.monotonic_us;
        self.step(vec![Event::Frames { conn, frames: Bytes::from(frames), received_us }]);
    }

    /// Returns what the client has read since the last call.
    pub(crate) fn seen(&mut self, conn: ConnId) -> Vec<Seen> {
        Seen::all(&self.output.remove(&conn).unwrap_or_default())
    }

    /// Returns how many requests the member counts as under way.
    pub(crate) fn outstanding(&mut self) -> u64 {
        self.summary().outstanding
    }

    /// Returns the member's figures.
    pub(crate) fn summary(&mut self) -> Summary {
        self.step(vec![Event::Inspect { token: 1, what: Inspect::Summary }]);
        match self.report.take() {
            Some(Report::Summary(summary)) => summary,
            other => panic!("not a summary: {other:?}"),
        }
    }

    /// Returns what the client has read since the last call, byte by byte.
    pub(crate) fn bytes(&mut self, conn: ConnId) -> Vec<u8> {
        self.output.remove(&conn).unwrap_or_default()
    }

    /// Returns the data in the last reply to a getData.
    pub(crate) fn data(&mut self, conn: ConnId) -> Vec<u8> {
        let output = self.output.remove(&conn).unwrap_or_default();
        let (payload, _) = split_frame(&output, usize::MAX).unwrap().unwrap();
        let mut reader = Reader::new(payload);
        assert_eq!(ReplyHeader::decode(&mut reader).unwrap().err, 0);
        match Response::decode(Op::GetData, &mut reader).unwrap() {
            Response::Data(data, _) => data.unwrap_or_default().to_vec(),
            other => panic!("not the reply to a getData: {other:?}"),
        }
    }
}

pub(crate) fn create(xid: i32, path: &str, flags: i32) -> Vec<u8> {
    let mut list = Vec::new();
    acl::put_acls(&mut list, &Acl::open());
    let acl = AclList::decode(&mut Reader::new(&list)).unwrap();
    let op = Op::Create;
    frame(xid, &Request::Create(Create { op, path, data: Some(b"data"), acl, flags, ttl_ms: None }))
}

pub(crate) fn set(xid: i32, path: &str, data: &str) -> Vec<u8> {
    frame(xid, &Request::SetData(SetData { path, data: Some(data.as_bytes()), version: -1 }))
}

pub(crate) fn delete(xid: i32, path: &str) -> Vec<u8> {
    frame(xid, &Request::Delete(PathVersion { path, version: -1 }))
}

pub(crate) fn get(xid: i32, path: &str, watch: bool) -> Vec<u8> {
    frame(xid, &Request::GetData(Watchable { path, watch }))
}

pub(crate) fn exists(xid: i32, path: &str, watch: bool) -> Vec<u8> {
    frame(xid, &Request::Exists(Watchable { path, watch }))
}

pub(crate) fn children(xid: i32, path: &str, watch: bool) -> Vec<u8> {
    frame(xid, &Request::GetChildren(Watchable { path, watch }))
}

pub(crate) fn frame(xid: i32, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_request(&mut out, Xid(xid), request);
    out
}

/// A frame with an operation code that need not exist.
pub(crate) fn raw(xid: i32, op_code: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_i32(&mut out, i32::try_from(8 + body.len()).unwrap());
    put_i32(&mut out, xid);
    put_i32(&mut out, op_code);
    out.extend_from_slice(body);
    out
}
