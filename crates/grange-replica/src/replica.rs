//! The member itself: takes in events, gives out actions.

use std::sync::Arc;

use bytes::Bytes;
use grange_proto::connect::ConnectResponse;
use grange_proto::frame::{put_frame, split_frame};
use grange_proto::op::Class;
use grange_proto::request::{Auth, RequestHeader};
use grange_proto::response::Response;
use grange_proto::watch::EventType;
use grange_proto::wire::put_i32;
use grange_proto::{ErrorCode, Op, Reader, Request, SessionId, Xid, Zxid};
use grange_tree::{Changes, Identities, Tree};

use crate::auth;
use crate::config::{Genesis, RecoverError, Recovered, ReplicaConfig};
use crate::connections::{Asked, Connections, Pending, Phase, Refusal, Refused};
use crate::engine::{Engine, Output, Start};
use crate::entry::encode_genesis_entry;
use crate::event::{Action, ConnId, ConnectAttempt, Event, Now};
use crate::password::Passwords;
use crate::progress::Progress;
use crate::proposals::{Origin, Proposals};
use crate::reads::Reads;
use crate::reaper::Reaper;
use crate::report::WatchEventCounts;
use crate::sessions::Sessions;
use crate::snapshots::{Meta, Snapshots};
use crate::watches::{ConnSlot, Watches};

/// One member of an ensemble.
pub struct Replica {
    pub(crate) config: ReplicaConfig,
    pub(crate) engine: Engine,
    pub(crate) tree: Tree,
    pub(crate) progress: Progress,
    /// What the ensemble was founded with, once the entry that says so is applied.
    pub(crate) genesis: Option<Genesis>,
    pub(crate) passwords: Option<Passwords>,
    pub(crate) sessions: Sessions,
    pub(crate) connections: Connections,
    pub(crate) watches: Watches,
    pub(crate) proposals: Proposals,
    pub(crate) snapshots: Snapshots,
    pub(crate) reaper: Reaper,
    pub(crate) figures: Figures,
    /// True while the disk is full and writes are refused.
    pub(crate) log_full: bool,
    /// Reused from request to request.
    pub(crate) changes: Changes,
    pub(crate) heard: Vec<ConnSlot>,
    output: Output,
    nobody: Arc<Identities>,
    serving: bool,
    founding: bool,
    next_session: i64,
    last_tick_ms: u64,
}

/// Counters for operators.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Requests received, by the place of their operation in [`Op::ALL`].
    pub(crate) by_op: [u64; Op::ALL.len()],
    pub(crate) sessions_expired: u64,
    pub(crate) auth_failed: u64,
    pub(crate) watch_events: WatchEventCounts,
}

impl Replica {
    /// Builds a member out of what was on disk; the entries behind the snapshot are applied by the first steps.
    ///
    /// Errors: [`RecoverError`] if the parts do not fit together.
    pub fn start(config: ReplicaConfig, recovered: Recovered, now: Now) -> Result<Replica, RecoverError> {
        let id = config.ensemble.member.id.0;
        let Recovered { snapshot, hard_state, entries } = recovered;
        let (index, term, meta, tree) = match snapshot {
            Some(snapshot) => (snapshot.index, snapshot.term, Meta::decode(&snapshot.meta)?, snapshot.tree),
            None => (0, 0, Meta { voters: vec![id], genesis: None }, Tree::with_name_key(config.seed)),
        };
        if let Some(first) = entries.first().map(|entry| entry.index)
            && first != index + 1
        {
            return Err(RecoverError::Gap { first, wanted: index + 1 });
        }
        let voters = meta.voters.clone();
        let start = Start { id, voters, snapshot_index: index, snapshot_term: term, hard_state, entries };
        let seed = config.seed;
        let mut replica = Replica {
            engine: Engine::start(start)?,
            tree,
            progress: Progress { index, term, ..Progress::default() },
            genesis: None,
            passwords: None,
            sessions: Sessions::new(config.tick_ms, seed),
            connections: Connections::new(seed),
            watches: Watches::new(seed),
            proposals: Proposals::new(seed),
            snapshots: Snapshots::new(config.snapshots, index, meta.voters),
            reaper: Reaper::new(config.reaping, now.monotonic_ms()),
            figures: Figures::default(),
            log_full: false,
            changes: Changes::default(),
            heard: Vec::new(),
            output: Output::default(),
            nobody: Arc::new(Identities::new()),
            serving: false,
            founding: false,
            next_session: first_session(config.ensemble.member.server_id, now.wall_ms),
            last_tick_ms: now.monotonic_ms(),
            config,
        };
        if let Some(genesis) = meta.genesis {
            replica.found(genesis);
        }
        Ok(replica)
    }

    /// Returns true while requests of clients are taken.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// Returns what names the ensemble, once this member knows it.
    pub fn cluster_id(&self) -> Option<[u8; 16]> {
        self.genesis.as_ref().map(|genesis| genesis.cluster_id)
    }

    /// Returns the tree, for checks and reports.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Takes in all `events` and appends what is to be done to `out`, in order.
    ///
    /// Everything that is handed in together shares an entry of the log, so the edge hands in all that is waiting.
    pub fn step(&mut self, now: Now, events: &mut Vec<Event>, out: &mut Vec<Action>) {
        self.sessions.runs(now.monotonic_ms());
        for event in events.drain(..) {
            self.take(event, now, out);
        }
        self.advance(now, out);
        for slot in self.watches.sweep() {
            self.connections.free(slot);
        }
        self.connections.flush(out);
    }

    fn take(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        match event {
            Event::Frames { conn, frames, received_us } => {
                if let Some(slot) = self.connections.find(conn) {
                    self.take_frames(slot, &frames, received_us, now);
                }
            }
            Event::LogSynced(batch) => self.engine.synced(batch),
            Event::Connect(attempt) => self.connect(&attempt, now, out),
            Event::Disconnected(conn) => self.disconnected(conn),
            Event::Tick => self.tick(now),
            Event::Peer { .. }
            | Event::PeerUp { .. }
            | Event::PeerDown(_)
            | Event::LogRead { .. }
            | Event::SnapshotReceived { .. }
            | Event::SnapshotSent { .. } => unreachable!("a member that stands alone has no peers"),
            Event::Resign => out.push(Action::Resigned),
            Event::LogFull => self.log_full = true,
            Event::LogHasRoom => self.log_full = false,
            Event::SnapshotSaved { index } => {
                if let Some(first_kept) = self.snapshots.saved(index) {
                    out.push(Action::PurgeLog { first_kept });
                }
            }
            Event::SnapshotFailed => self.snapshots.failed(),
            Event::SnapshotWanted => self.snapshots.want(),
            Event::Inspect { token, what } => {
                let report = Box::new(self.inspect(what, now));
                out.push(Action::Inspected { token, report });
            }
        }
    }

    /// Moves entries into the log and out of it until there is nothing left to do without the edge.
    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        loop {
            let mut output = std::mem::take(&mut self.output);
            self.engine.poll(&mut output);
            out.extend(output.batches.drain(..).map(Action::Append));
            let progressed = !output.committed.is_empty();
            for entry in output.committed.drain(..) {
                self.apply_entry(entry, now);
            }
            self.output = output;
            self.begin_serving(now);
            let proposed = self.propose(now);
            if !progressed && !proposed {
                break;
            }
        }
        if let Some(image) = self.snapshots.begin(&mut self.progress, &self.tree, self.genesis.as_ref()) {
            out.push(Action::SaveSnapshot(Box::new(image)));
        }
    }

    fn propose(&mut self, now: Now) -> bool {
        if !self.engine.is_leader() {
            return false;
        }
        let mut proposed = false;
        if self.genesis.is_none() && !self.founding && self.is_caught_up() {
            self.founding = self.engine.propose(encode_genesis_entry(&self.config.genesis));
            proposed = self.founding;
        }
        while let Some(data) = self.proposals.next_entry(now.wall_ms, self.config.policy) {
            assert!(self.engine.propose(data), "a leader without a bound on its log takes every entry");
            proposed = true;
        }
        proposed
    }

    /// An entry of its own term is applied, so everything before it is.
    fn is_caught_up(&self) -> bool {
        self.progress.index > 0 && self.progress.term == self.engine.term()
    }

    /// A leader that has caught up gives every session its whole timeout again, and serves.
    fn begin_serving(&mut self, now: Now) {
        if self.serving || !self.engine.is_leader() || self.genesis.is_none() || !self.is_caught_up() {
            return;
        }
        self.serving = true;
        let mut closing = Vec::new();
        for session in self.tree.sessions() {
            if session.is_closing() {
                closing.push(session.id());
            } else {
                self.sessions.watch_over(session.id(), session.timeout_ms(), now.monotonic_ms());
            }
        }
        for session in closing {
            self.propose_close(session, Origin::Own);
        }
    }

    /// Takes in what the ensemble was founded with.
    pub(crate) fn found(&mut self, genesis: Genesis) {
        self.passwords = Some(Passwords::new(&genesis.session_key));
        self.genesis = Some(genesis);
    }

    fn tick(&mut self, now: Now) {
        let now_ms = now.monotonic_ms();
        if now_ms.saturating_sub(self.last_tick_ms) >= crate::TICK_MS {
            self.last_tick_ms = now_ms;
            self.engine.tick();
        }
        if !self.serving || self.log_full {
            return;
        }
        for session in self.sessions.expire(now_ms) {
            self.figures.sessions_expired += 1;
            self.propose_close(session, Origin::Own);
        }
        for path in self.reaper.due(&self.tree, now) {
            let mut body = Vec::with_capacity(path.len() + 4);
            grange_proto::wire::put_text(&mut body, &path);
            self.proposals.push(SessionId::NONE, &self.nobody, Op::DeleteContainer, &body, Origin::Own);
        }
    }

    /// Proposes to close a session, or to go on with closing it.
    pub(crate) fn propose_close(&mut self, session: SessionId, origin: Origin) {
        self.proposals.push(session, &self.nobody, Op::CloseSession, &[], origin);
    }

    fn connect(&mut self, attempt: &ConnectAttempt, now: Now, out: &mut Vec<Action>) {
        let Some(passwords) = self.passwords.as_ref().filter(|_| self.serving) else {
            out.push(Action::Close(attempt.conn));
            return;
        };
        if attempt.last_zxid_seen > self.tree.last_zxid() {
            // The client has seen a future that this member does not know: it has to try another one.
            out.push(Action::Close(attempt.conn));
            return;
        }
        let timeout_ms =
            attempt.timeout_ms.clamp(self.config.session_timeout_ms_min, self.config.session_timeout_ms_max);
        let may_return = attempt.session != SessionId::NONE
            && passwords.verify(attempt.session, &attempt.password)
            && self.tree.session(attempt.session).is_some_and(|session| !session.is_closing());
        let slot = self.connections.add(attempt.conn, attempt.peer, attempt.read_only, now);
        if attempt.session == SessionId::NONE {
            self.open_session(slot, timeout_ms);
        } else if may_return {
            self.sessions.watch_over(attempt.session, timeout_ms, now.monotonic_ms());
            self.welcome(slot, attempt.session, timeout_ms, now);
        } else {
            let refused = ConnectResponse::refused(attempt.read_only.map(|_| false));
            self.connections.put_frames(slot, 1, |out| put_frame(out, |out| refused.encode(out)));
            self.connections.close(slot);
        }
    }

    fn open_session(&mut self, slot: ConnSlot, timeout_ms: i32) {
        if self.log_full {
            self.connections.close(slot);
            return;
        }
        let session = self.new_session();
        let conn = self.connections.at(slot);
        let origin = Origin::Connect { slot, conn: conn.id };
        let mut body = Vec::with_capacity(4);
        put_i32(&mut body, timeout_ms);
        self.proposals.push(session, &self.nobody, Op::CreateSession, &body, origin);
    }

    fn new_session(&mut self) -> SessionId {
        loop {
            let session = SessionId(self.next_session);
            self.next_session = self.next_session.wrapping_add(1);
            if session != SessionId::NONE && session.0 != i64::MIN && self.tree.session(session).is_none() {
                return session;
            }
        }
    }

    fn disconnected(&mut self, conn: ConnId) {
        if let Some(slot) = self.connections.disconnect(conn)
            && self.watches.disconnect(slot)
        {
            self.connections.free(slot);
        }
    }

    /// Takes whole frames of a connection: writes go into the next entry, reads are answered in their turn.
    pub(crate) fn take_frames(&mut self, slot: ConnSlot, frames: &Bytes, received_us: u64, now: Now) {
        let conn = self.connections.at(slot);
        match conn.phase {
            Phase::Serving => {}
            Phase::Opening => {
                conn.backlog.push((frames.clone(), received_us));
                return;
            }
            Phase::Closing | Phase::Gone => return,
        }
        self.sessions.heard(conn.session, now.monotonic_ms());
        let mut rest: &[u8] = frames;
        while let Ok(Some((payload, behind))) = split_frame(rest, usize::MAX) {
            rest = behind;
            self.connections.count_received(slot);
            self.take_request(slot, frames, payload, received_us, now);
            if self.connections.at(slot).phase != Phase::Serving {
                break;
            }
        }
    }

    fn take_request(&mut self, slot: ConnSlot, frames: &Bytes, payload: &[u8], received_us: u64, now: Now) {
        let mut reader = Reader::new(payload);
        let Ok(RequestHeader { xid, op_code }) = RequestHeader::decode(&mut reader) else {
            self.connections.close(slot);
            return;
        };
        let op = Op::from_code(op_code).filter(|op| op.class() != Class::Internal);
        let Some(op) = op else {
            self.refuse(slot, Refusal { xid, why: Refused::Unimplemented }, now);
            return;
        };
        self.figures.count(op);
        match op.class() {
            Class::Write if self.log_full => {
                self.refuse(slot, Refusal { xid, why: Refused::LogFull }, now);
            }
            Class::Write => {
                let conn = self.connections.at(slot);
                conn.wait_for_write();
                if op == Op::CloseSession {
                    conn.phase = Phase::Closing;
                }
                let origin = Origin::Request { slot, conn: conn.id, asked: Asked { xid, op, received_us } };
                self.proposals.push(conn.session, &conn.identities, op, reader.rest(), origin);
            }
            Class::Read => {
                let conn = self.connections.at(slot);
                if conn.pending.is_empty() {
                    self.read(slot, payload, received_us, now);
                } else {
                    conn.pending.push_back(Pending::Read { payload: frames.slice_ref(payload), received_us });
                }
            }
            Class::Connection | Class::Internal => {
                match Request::decode(op, &mut reader) {
                    Ok(Request::Auth(packet)) => {
                        let granted = self.authenticate(slot, &packet);
                        self.answer_auth(slot, xid, op, granted, now);
                    }
                    // There is no login configuration. Apache answers with an empty token then, and kazoo, which takes
                    // it for a challenge, asks again for ever.
                    Ok(Request::Sasl(_)) => self.answer_auth(slot, xid, op, false, now),
                    _ => self.connections.close(slot),
                }
            }
        }
    }

    fn read(&mut self, slot: ConnSlot, payload: &[u8], received_us: u64, now: Now) {
        let mut reader = Reader::new(payload);
        let header = RequestHeader::decode(&mut reader).expect("the header was decoded when the frame came");
        let op = Op::from_code(header.op_code).expect("only known operations are read");
        let asked = Asked { xid: header.xid, op, received_us };
        match Request::decode(op, &mut reader) {
            Ok(request) => {
                let Replica { tree, watches, connections, config, .. } = self;
                let mut reads = Reads { tree, watches, connections, policy: config.policy, now };
                reads.answer(slot, asked, &request);
            }
            Err(why) => self.connections.reply(slot, asked, self.tree.last_zxid(), Err(why.into()), now),
        }
    }

    fn refuse(&mut self, slot: ConnSlot, refusal: Refusal, now: Now) {
        let conn = self.connections.at(slot);
        if conn.pending.is_empty() {
            self.refuse_now(slot, refusal, now);
        } else {
            conn.pending.push_back(Pending::Refused(refusal));
        }
    }

    fn refuse_now(&mut self, slot: ConnSlot, refusal: Refusal, now: Now) {
        let asked = Asked { xid: refusal.xid, op: Op::Notification, received_us: now.monotonic_us };
        match refusal.why {
            Refused::LogFull => {
                self.connections.reply(slot, asked, self.tree.last_zxid(), Err(ErrorCode::SystemError), now);
            }
            Refused::Unimplemented => {
                // The request never got near the tree, so there is no zxid to tell: `UnimplementedRequestProcessor`.
                self.connections.reply(slot, asked, Zxid(-1), Err(ErrorCode::Unimplemented), now);
                self.connections.close(slot);
            }
        }
    }

    /// Answers what waited behind a write, up to the next write.
    pub(crate) fn answer_pending(&mut self, slot: ConnSlot, now: Now) {
        loop {
            let conn = self.connections.at(slot);
            match conn.pending.front() {
                Some(Pending::Read { .. } | Pending::Refused(_)) => {}
                Some(Pending::Writes(_)) | None => return,
            }
            match conn.pending.pop_front() {
                Some(Pending::Read { payload, received_us }) => self.read(slot, &payload, received_us, now),
                Some(Pending::Refused(refusal)) => self.refuse_now(slot, refusal, now),
                Some(Pending::Writes(_)) | None => unreachable!("the front was looked at"),
            }
        }
    }

    /// Adds the identity that a packet proves to the connection's.
    fn authenticate(&mut self, slot: ConnSlot, packet: &Auth<'_>) -> bool {
        let conn = self.connections.at(slot);
        let mut identities = (*conn.identities).clone();
        let granted = auth::authenticate(packet, self.config.super_digest.as_deref(), &mut identities);
        conn.identities = Arc::new(identities);
        granted
    }

    /// Auth packets are answered at once, whatever waits before them.
    ///
    /// The reply carries the xid of the request: stock clients send [`Xid::AUTH`], others number auth packets as any.
    fn answer_auth(&mut self, slot: ConnSlot, xid: Xid, op: Op, granted: bool, now: Now) {
        let asked = Asked { xid, op, received_us: now.monotonic_us };
        let result = if granted { Ok(&Response::Empty) } else { Err(ErrorCode::AuthFailed) };
        self.connections.reply(slot, asked, Zxid::ZERO, result, now);
        if !granted {
            self.figures.auth_failed += 1;
            self.connections.close(slot);
        }
    }
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            by_op: [0; Op::ALL.len()],
            sessions_expired: 0,
            auth_failed: 0,
            watch_events: WatchEventCounts::default(),
        }
    }
}

impl Figures {
    /// Notes that `watchers` connections were told of an event at `path`.
    pub(crate) fn count_event(&mut self, event: EventType, path: &str, watchers: usize) {
        let events = &mut self.watch_events;
        match event {
            EventType::NodeCreated => events.created += 1,
            EventType::NodeDeleted => events.deleted += 1,
            EventType::NodeDataChanged => events.changed += 1,
            EventType::NodeChildrenChanged => events.children += 1,
        }
        events.bytes += (path.len() * watchers) as u64;
    }

    fn count(&mut self, op: Op) {
        if let Some(place) = Op::ALL.iter().position(|&other| other == op) {
            self.by_op[place] += 1;
        }
    }
}

/// Returns the first session number of a run: the server's number in the top byte, then the time.
///
/// Source: `SessionTrackerImpl.initializeNextSessionId`.
fn first_session(server_id: u8, wall_ms: i64) -> i64 {
    let time = (wall_ms << 24).cast_unsigned() >> 8;
    (time & (u64::MAX >> 8)).cast_signed() | (i64::from(server_id) << 56)
}
