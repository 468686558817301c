//! A client: one session after the other, over connections to any member, and what it checks of what it reads.

use std::collections::{BTreeSet, VecDeque};

use grange_proto::connect::{ConnectRequest, ConnectResponse, PASSWORD_BYTES};
use grange_proto::frame::{put_frame, split_frame};
use grange_proto::request::{Request, put_request};
use grange_proto::response::{ReplyHeader, Response};
use grange_proto::watch::{EventType, SetWatches, WatcherEvent};
use grange_proto::wire::{TextList, put_texts};
use grange_proto::{ErrorCode, Op, Reader, SessionId, Xid, Zxid};

use super::finish::Phase;
use super::operator::CONFIG_PATH;
use super::{ClientIndex, ConnIndex, Task, World};
use crate::check::{Frame, FrameKind, Observed, OpRecord, Reply};
use crate::queue::{MS, Micros, SECOND};
use crate::random::Random;

/// How long an operator waits for the end of a reconfig.
const RECONFIG_PATIENCE: Micros = 12 * SECOND;
/// Requests under way on a connection at most.
const PENDING_MAX: usize = 20;

/// What a client knows of its session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    password: [u8; PASSWORD_BYTES],
    timeout_ms: i32,
    /// The newest state it has seen something of.
    seen: Zxid,
}

/// Where a client stands with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dial {
    /// It has none.
    Idle,
    /// It waits for the answer to its first frame.
    Greeting(ConnIndex),
    /// It has a session on it.
    Served(ConnIndex),
}

/// The watches that a client sets again when it comes back.
#[derive(Debug, Default)]
struct Registry {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) random: Random,
    pub(crate) session: Option<Session>,
    dial: Dial,
    dialled: Micros,
    heard: Micros,
    sent: Micros,
    wish_ms: i32,
    next_xid: i32,
    /// Places of the requests under way, oldest first.
    pending: VecDeque<usize>,
    registry: Registry,
    /// What the newest sync on this connection must show.
    sync_floor: Zxid,
    pub(crate) paused_until: Option<Micros>,
    timer: u64,
    /// Counts its data, so that no two writes are alike.
    pub(crate) counter: u64,
    /// Names that were completed by the server, to be deleted some time.
    pub(crate) created: Vec<String>,
    /// When it sent the last write that was answered.
    pub(crate) write_sent: Micros,
    is_leaving: bool,
    /// Whether it may change the members, and does.
    pub(crate) is_operator: bool,
    /// The data of `/zookeeper/config` as it was last read.
    pub(crate) config: Option<String>,
}

impl Client {
    pub(crate) fn new(random: &mut Random, is_operator: bool) -> Client {
        let mut random = random.fork();
        Client {
            session: None,
            dial: Dial::Idle,
            dialled: 0,
            heard: 0,
            sent: 0,
            wish_ms: i32::try_from(random.range(800, 5_000)).expect("it is below the bound"),
            next_xid: 1,
            pending: VecDeque::new(),
            registry: Registry::default(),
            sync_floor: Zxid::ZERO,
            paused_until: None,
            timer: 0,
            counter: 0,
            created: Vec::new(),
            write_sent: 0,
            is_leaving: false,
            is_operator,
            config: None,
            random,
        }
    }

    /// Returns the connection, whatever has come of it.
    pub(crate) fn conn(&self) -> Option<ConnIndex> {
        match self.dial {
            Dial::Idle => None,
            Dial::Greeting(conn) | Dial::Served(conn) => Some(conn),
        }
    }

    /// Returns true if it has a session on a connection.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self.dial, Dial::Served(_))
    }

    /// Returns true if a reconfig of its has no answer.
    pub(crate) fn awaits_reconfig(&self, observed: &Observed) -> bool {
        self.pending.iter().any(|place| observed.ops[*place].op == Op::Reconfig)
    }

    /// How long it hears nothing before it gives a connection up: whatever comes behind a reconfig waits for its end.
    fn patience(&self, observed: &Observed) -> Micros {
        if self.is_operator && self.awaits_reconfig(observed) { RECONFIG_PATIENCE } else { self.timeout() * 2 / 3 }
    }

    fn timeout(&self) -> Micros {
        let timeout_ms = self.session.as_ref().map_or(self.wish_ms, |session| session.timeout_ms);
        u64::try_from(timeout_ms).unwrap_or(0) * MS
    }
}

impl World {
    /// Sets a client's timer; the one before is void.
    pub(crate) fn wake_client(&mut self, client: ClientIndex, at: Micros) {
        self.clients[client].timer += 1;
        self.queue.push(at, Task::Client(client, self.clients[client].timer));
    }

    pub(crate) fn client(&mut self, client: ClientIndex, timer: u64) {
        let own = &mut self.clients[client];
        if own.timer != timer || matches!(self.phase, Phase::Draining { .. } | Phase::Done) {
            return;
        }
        if let Some(until) = own.paused_until.filter(|until| *until > self.now) {
            return self.wake_client(client, until);
        }
        own.paused_until = None;
        match own.dial {
            Dial::Idle => self.dial_server(client),
            Dial::Greeting(conn) => {
                if self.now - own.dialled > own.timeout() / 3 {
                    self.hang_up(client, conn);
                }
                let at = self.now + self.clients[client].random.around(100 * MS);
                self.wake_client(client, at);
            }
            Dial::Served(conn) => self.act_as_client(client, conn),
        }
    }

    fn dial_server(&mut self, client: ClientIndex) {
        let count = self.servers.len();
        let own = &mut self.clients[client];
        let server = own.random.index(count);
        let none = ([0; PASSWORD_BYTES], Zxid::ZERO);
        let (password, seen) = own.session.as_ref().map_or(none, |session| (session.password, session.seen));
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: seen,
            timeout_ms: own.wish_ms,
            session: own.session.as_ref().map_or(SessionId::NONE, |session| session.id),
            password: Some(&password),
            read_only: Some(false),
        };
        let mut first = Vec::new();
        put_frame(&mut first, |out| request.encode(out));
        let conn = self.open_connection(client, server, first);
        self.trace.line(self.now, || {
            format!("client {client} dials server {server} on {conn} for session {}", request.session)
        });
        let own = &mut self.clients[client];
        own.dial = Dial::Greeting(conn);
        own.dialled = self.now;
        own.pending.clear();
        own.sync_floor = Zxid::ZERO;
        let at = self.now + own.random.around(100 * MS);
        self.wake_client(client, at);
    }

    /// Gives up a connection.
    fn hang_up(&mut self, client: ClientIndex, conn: ConnIndex) {
        self.trace.line(self.now, || format!("client {client} hangs up on {conn}"));
        self.connections[conn].is_open = false;
        self.send_to_server(conn, None);
        self.clients[client].dial = Dial::Idle;
        self.clients[client].pending.clear();
    }

    /// The connection has ended at the other side.
    pub(crate) fn client_loses(&mut self, client: ClientIndex, conn: ConnIndex) {
        self.connections[conn].is_open = false;
        if self.clients[client].conn() == Some(conn) {
            self.trace.line(self.now, || format!("client {client} loses connection {conn}"));
            let own = &mut self.clients[client];
            own.dial = Dial::Idle;
            own.pending.clear();
            let at = self.now + own.random.around(60 * MS);
            self.wake_client(client, at);
        }
    }

    fn act_as_client(&mut self, client: ClientIndex, conn: ConnIndex) {
        let is_calm = self.phase != Phase::Chaos;
        let think = self.setup.think;
        let own = &mut self.clients[client];
        let (timeout, patience) = (own.timeout(), own.patience(&self.observed));
        let mut next = self.now + own.random.around(think);
        if self.now - own.heard > patience || (!is_calm && own.random.chance(3)) {
            self.hang_up(client, conn);
        } else if !is_calm && own.random.chance(2) {
            // As long as it takes for the session to expire, or nearly.
            let pause = timeout / 2 + own.random.below(timeout * 2);
            self.trace.line(self.now, || format!("client {client} falls silent for {pause} us"));
            own.paused_until = Some(self.now + pause);
            next = self.now + pause;
        } else if own.random.chance(if is_calm { 0 } else { 4 }) && own.pending.len() < PENDING_MAX {
            own.is_leaving = true;
            self.send_requests(client, conn, &[(Op::CloseSession, Vec::new())]);
            next = self.now + timeout;
        } else if own.pending.len() < PENDING_MAX && !own.is_leaving {
            let count = 1 + own.random.below(self.setup.burst_max);
            let mut requests = Vec::new();
            (0..count).for_each(|_| self.draw_requests(client, &mut requests));
            self.send_requests(client, conn, &requests);
        } else if self.now - own.sent > timeout / 3 {
            self.send_requests(client, conn, &[(Op::Ping, Vec::new())]);
        }
        self.wake_client(client, next);
    }

    /// Sends requests in one piece.
    fn send_requests(&mut self, client: ClientIndex, conn: ConnIndex, requests: &[(Op, Vec<u8>)]) {
        let mut out = Vec::new();
        for (op, body) in requests {
            let Ok(request) = Request::decode(*op, &mut Reader::new(body)) else { continue };
            let own = &mut self.clients[client];
            let Some(session) = &own.session else { return };
            let xid = match op {
                Op::Ping => Xid::PING,
                Op::SetWatches | Op::SetWatches2 => Xid::SET_WATCHES,
                Op::Auth => Xid::AUTH,
                _ => {
                    own.next_xid += 1;
                    Xid(own.next_xid)
                }
            };
            put_request(&mut out, xid, &request);
            let is_write = op.class() == grange_proto::op::Class::Write;
            if *op == Op::Sync {
                own.sync_floor = self.acknowledged;
            }
            if *op == Op::Reconfig && own.is_operator {
                self.reconfig_sent = Some(self.now);
            }
            let floor = match op {
                // It does not look at any state.
                Op::Auth => Zxid::ZERO,
                _ if is_write => self.acknowledged,
                _ if self.setup.linearizable_reads && *op != Op::Ping => self.acknowledged,
                _ => own.sync_floor,
            };
            own.pending.push_back(self.observed.ops.len());
            let (session, body, op) = (session.id, body.clone(), *op);
            self.observed.ops.push(OpRecord { session, xid, op, body, sent: self.now, floor, reply: None });
            self.stats.requests += 1;
            self.trace.line(self.now, || format!("client {client} sends {} {xid:?} on {conn}", op.name()));
        }
        self.clients[client].sent = self.now;
        self.send_to_server(conn, Some(out));
    }

    pub(crate) fn client_reads(&mut self, client: ClientIndex, conn: ConnIndex, bytes: &[u8]) {
        if self.clients[client].conn() != Some(conn) {
            return;
        }
        self.clients[client].heard = self.now;
        let mut rest = bytes;
        while let Ok(Some((payload, behind))) = split_frame(rest, usize::MAX) {
            rest = behind;
            match self.clients[client].dial {
                Dial::Greeting(_) => self.greeted(client, conn, payload),
                Dial::Served(_) => self.take_frame(client, conn, payload),
                Dial::Idle => return,
            }
            if self.violation.is_some() {
                return;
            }
        }
    }

    fn greeted(&mut self, client: ClientIndex, conn: ConnIndex, payload: &[u8]) {
        let Ok(response) = ConnectResponse::decode(payload) else {
            return self.violated("replies can be decoded", format!("client {client} cannot read its welcome"));
        };
        let own = &mut self.clients[client];
        if response.timeout_ms == 0 {
            if let Some(session) = own.session.take() {
                self.observed.refused.push((session.id, self.now));
                self.stats.expired += 1;
                self.trace.line(self.now, || format!("client {client} finds session {} expired", session.id));
            }
            own.registry = Registry::default();
            own.is_leaving = false;
            self.hang_up(client, conn);
            let at = self.now + self.clients[client].random.around(50 * MS);
            return self.wake_client(client, at);
        }
        let seen = match &own.session {
            Some(session) if session.id != response.session => {
                let what = format!("client {client} asked for {} and got {}", session.id, response.session);
                return self.violated("a session comes back as itself", what);
            }
            Some(session) => {
                self.stats.returns += 1;
                session.seen
            }
            None => {
                self.stats.sessions += 1;
                Zxid::ZERO
            }
        };
        let (id, password, timeout_ms) = (response.session, response.password, response.timeout_ms);
        own.session = Some(Session { id, password, timeout_ms, seen });
        own.dial = Dial::Served(conn);
        own.is_leaving = false;
        self.trace.line(self.now, || format!("client {client} has session {id} on {conn}"));
        if self.clients[client].is_operator {
            self.observed.knowledge.operators.insert(id);
            self.send_requests(client, conn, &[super::operator::password()]);
        }
        if let Some(body) = self.clients[client].registry.set_again(seen) {
            self.send_requests(client, conn, &[(Op::SetWatches2, body)]);
        }
        self.wake_client(client, self.now);
    }

    fn take_frame(&mut self, client: ClientIndex, conn: ConnIndex, payload: &[u8]) {
        let mut reader = Reader::new(payload);
        let Ok(header) = ReplyHeader::decode(&mut reader) else {
            return self.violated("replies can be decoded", format!("client {client} got a frame without a header"));
        };
        let own = &mut self.clients[client];
        let Some(session) = &mut own.session else { return };
        if header.zxid > Zxid::ZERO {
            if header.zxid < session.seen {
                let what = format!("client {client} has seen {} and now sees {}", session.seen, header.zxid);
                return self.violated("a session never goes back", what);
            }
            session.seen = header.zxid;
        }
        if header.xid == Xid::NOTIFICATION {
            let Ok(event) = WatcherEvent::decode(&mut reader) else {
                return self.violated("replies can be decoded", format!("client {client} got an unknown event"));
            };
            self.stats.events += 1;
            own.registry.heard(event.event, event.path);
            let kind = FrameKind::Event(event.event, event.path.to_owned());
            self.trace.line(self.now, || format!("client {client} hears {event:?} at {}", header.zxid));
            self.observed.connections[conn].push(Frame { at: self.now, zxid: header.zxid, kind });
            return;
        }
        self.take_reply(client, conn, header, payload);
    }

    fn take_reply(&mut self, client: ClientIndex, conn: ConnIndex, header: ReplyHeader, payload: &[u8]) {
        let own = &mut self.clients[client];
        let place = own.pending.pop_front();
        let expected = place.map(|place| self.observed.ops[place].xid);
        let Some(place) = place.filter(|_| expected == Some(header.xid)) else {
            let what = format!("client {client} got {:?} where {expected:?} was next", header.xid);
            return self.violated("replies come in order", what);
        };
        let ReplyHeader { zxid, err, .. } = header;
        let record = &mut self.observed.ops[place];
        let (op, floor) = (record.op, record.floor);
        let is_write = op.class() == grange_proto::op::Class::Write;
        record.reply = Some(Reply { at: self.now, zxid, err, payload: payload.to_vec() });
        self.stats.replies += 1;
        self.observed.connections[conn].push(Frame { at: self.now, zxid, kind: FrameKind::Reply(place) });
        self.trace.line(self.now, || format!("client {client} is answered {:?}: {err} at {zxid}", header.xid));
        let is_applied = is_write && err != ErrorCode::SystemError.code();
        if is_applied {
            self.stats.writes += 1;
            self.acknowledged = self.acknowledged.max(zxid);
            self.clients[client].write_sent = self.observed.ops[place].sent;
        }
        if is_applied && zxid <= floor {
            let what = format!("client {client} got {zxid} for a write sent after {floor} was acknowledged");
            return self.violated("real-time order of writes", what);
        }
        if !is_write && zxid < floor {
            let what = format!("client {client} reads at {zxid}, but {floor} was acknowledged before, as it must see");
            return self.violated("real-time order after sync", what);
        }
        self.learn(client, place);
    }

    /// Takes from a reply what the client has to remember.
    fn learn(&mut self, client: ClientIndex, place: usize) {
        let OpRecord { op, body, reply: Some(reply), .. } = &self.observed.ops[place] else { return };
        let own = &mut self.clients[client];
        let Ok(request) = Request::decode(*op, &mut Reader::new(body)) else { return };
        own.registry.answered(&request, reply.err);
        if *op == Op::CloseSession {
            own.session = None;
            own.registry = Registry::default();
        }
        let mut reader = Reader::new(&reply.payload[ReplyHeader::WIRE_BYTES..]);
        let shows_config = match &request {
            Request::Reconfig(_) => true,
            Request::GetData(read) => read.path == CONFIG_PATH,
            _ => false,
        };
        if shows_config
            && reply.err == 0
            && let Ok(Response::Data(Some(text), _)) = Response::decode(*op, &mut reader)
        {
            own.config = Some(String::from_utf8_lossy(text).into_owned());
            return;
        }
        if let Request::Create(create) = &request
            && reply.err == 0
            && let Ok(Response::Path(path) | Response::PathStat(path, _)) = Response::decode(*op, &mut reader)
            && path != create.path
        {
            own.created.push(path.to_owned());
        }
    }
}

impl Registry {
    fn answered(&mut self, request: &Request<'_>, err: i32) {
        let found = err == 0;
        match request {
            Request::GetData(read) if read.watch && found => drop(self.data.insert(read.path.to_owned())),
            Request::Exists(read) if read.watch && found => drop(self.data.insert(read.path.to_owned())),
            Request::Exists(read) if read.watch && err == ErrorCode::NoNode.code() => {
                self.exist.insert(read.path.to_owned());
            }
            Request::GetChildren(read) | Request::GetChildren2(read) if read.watch && found => {
                self.child.insert(read.path.to_owned());
            }
            Request::AddWatch(path, mode) if found => {
                let (own, other) = match mode {
                    0 => (&mut self.persistent, &mut self.recursive),
                    _ => (&mut self.recursive, &mut self.persistent),
                };
                own.insert((*path).to_owned());
                other.remove(*path);
            }
            _ => {}
        }
    }

    fn heard(&mut self, event: EventType, path: &str) {
        match event {
            EventType::NodeChildrenChanged => drop(self.child.remove(path)),
            _ => {
                self.data.remove(path);
                self.exist.remove(path);
                if event == EventType::NodeDeleted {
                    self.child.remove(path);
                }
            }
        }
    }

    /// Returns the body of a setWatches2 if there is anything to set.
    fn set_again(&self, seen: Zxid) -> Option<Vec<u8>> {
        let sets = [&self.data, &self.exist, &self.child, &self.persistent, &self.recursive];
        if sets.iter().all(|set| set.is_empty()) {
            return None;
        }
        let lists = sets.map(|set| {
            let mut bytes = Vec::new();
            put_texts(&mut bytes, set.iter().map(String::as_str));
            bytes
        });
        let list = |at: usize| TextList::decode(&mut Reader::new(&lists[at])).expect("it was just encoded");
        let (data, exist, child, persistent, recursive) = (list(0), list(1), list(2), list(3), list(4));
        let watches = SetWatches { relative_zxid: seen, data, exist, child, persistent, recursive };
        let mut body = Vec::new();
        Request::SetWatches2(watches).encode(&mut body);
        Some(body)
    }
}
