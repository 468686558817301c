//! The clients' connections: what each waits for, what is on its way to it, its figures.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use grange_proto::op::Class;
use grange_proto::response::{Response, put_reply};
use grange_proto::{ErrorCode, Id, Op, SessionId, Xid, Zxid};
use grange_tree::Identities;
use hashbrown::HashMap;
use slab::Slab;

use crate::event::{Action, ConnId, Now};
use crate::read_points::Ticket;
use crate::report::{ConnectionReport, Latency};
use crate::watches::ConnSlot;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its session is being made; frames wait.
    Opening,
    /// Requests are taken.
    Serving,
    /// Nothing more is taken; what is under way is still answered.
    Closing,
    /// The edge reported it gone; the place is kept until its watches are taken out.
    Gone,
}

/// What stands between a connection's earlier requests and its later ones, so that replies keep their order.
#[derive(Debug)]
pub(crate) enum Pending {
    /// So many writes, under way.
    Writes(u32),
    /// A read that must see them.
    Read {
        /// The payload of its frame.
        payload: Bytes,
        /// When it came.
        received_us: u64,
    },
    /// What follows waits until this member is known to have applied all that was acknowledged before.
    ReadPoint(Ticket),
    /// A request that is refused, in its turn.
    Refused(Refusal),
}

/// A request that is refused without a look at its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    /// The request.
    pub(crate) xid: Xid,
    /// Why.
    pub(crate) why: Refused,
}

/// Why a request is refused without a look at its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The operation is unknown or not for clients; the connection is closed behind the reply.
    Unimplemented,
    /// The disk is full.
    LogFull,
    /// There is no leader, and the client is served reads only.
    NotReadOnly,
}

/// Which request is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Its number.
    pub(crate) xid: Xid,
    /// Its operation.
    pub(crate) op: Op,
    /// When it came.
    pub(crate) received_us: u64,
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    pub(crate) peer: SocketAddr,
    pub(crate) phase: Phase,
    pub(crate) session: SessionId,
    pub(crate) timeout_ms: i32,
    /// Whether the client said if a member that only serves reads will do.
    pub(crate) read_only: Option<bool>,
    /// Whether it is served reads only, because there is no leader.
    pub(crate) is_read_only: bool,
    pub(crate) identities: Arc<Identities>,
    pub(crate) pending: VecDeque<Pending>,
    /// Whether a reconfig is under way, which is answered only when the members have changed. What comes behind it waits.
    pub(crate) awaits_reconfig: bool,
    /// Frames that came while the session was being made or a reconfig was under way.
    pub(crate) backlog: Vec<(Bytes, u64)>,
    /// Whether the leader has yet to be told that the client is alive.
    pub(crate) is_alive_untold: bool,
    out: Vec<u8>,
    answered: u32,
    is_dirty: bool,
    closes: bool,
    /// Whether the edge was told to close it.
    is_close_told: bool,
    received: u64,
    sent: u64,
    outstanding: u64,
    established_ms: i64,
    last: Option<(Op, Xid, Zxid)>,
    last_reply_us: u64,
    last_latency_us: u64,
    latency: Latency,
}

impl Connection {
    /// Notes a write that is under way.
    pub(crate) fn wait_for_write(&mut self) {
        match self.pending.back_mut() {
            Some(Pending::Writes(count)) => *count += 1,
            _ => self.pending.push_back(Pending::Writes(1)),
        }
    }

    /// Notes that the oldest write under way was answered.
    pub(crate) fn write_answered(&mut self) {
        match self.pending.front_mut() {
            Some(Pending::Writes(1)) => {
                self.pending.pop_front();
            }
            Some(Pending::Writes(count)) => *count -= 1,
            other => unreachable!("writes are answered in order, but {other:?} is next"),
        }
    }
}

/// All connections of a member.
pub(crate) struct Connections {
    table: Slab<Connection>,
    by_id: HashMap<ConnId, ConnSlot, foldhash::fast::FixedState>,
    by_session: HashMap<SessionId, ConnSlot, foldhash::fast::FixedState>,
    dirty: Vec<ConnSlot>,
    /// Frames received, sent, and requests not yet answered, over all connections.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) outstanding: u64,
    pub(crate) read_latency: Latency,
    pub(crate) update_latency: Latency,
}

impl Connections {
    pub(crate) fn new(seed: u64) -> Connections {
        Connections {
            table: Slab::new(),
            by_id: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            by_session: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            dirty: Vec::new(),
            received: 0,
            sent: 0,
            outstanding: 0,
            read_latency: Latency::default(),
            update_latency: Latency::default(),
        }
    }

    /// Adds a connection whose first frame has come; it has the identity of its address.
    pub(crate) fn add(&mut self, id: ConnId, peer: SocketAddr, read_only: Option<bool>, now: Now) -> ConnSlot {
        let mut identities = Identities::new();
        identities.add(Id::new("ip", peer.ip().to_canonical().to_string()));
        self.received += 1;
        let slot = self.table.insert(Connection {
            id,
            peer,
            phase: Phase::Opening,
            session: SessionId::NONE,
            timeout_ms: 0,
            read_only,
            is_read_only: false,
            identities: Arc::new(identities),
            pending: VecDeque::new(),
            awaits_reconfig: false,
            backlog: Vec::new(),
            is_alive_untold: false,
            out: Vec::new(),
            answered: 0,
            is_dirty: false,
            closes: false,
            is_close_told: false,
            received: 1,
            sent: 0,
            outstanding: 0,
            established_ms: now.wall_ms,
            last: None,
            last_reply_us: now.monotonic_us,
            last_latency_us: 0,
            latency: Latency::default(),
        });
        self.by_id.insert(id, slot);
        slot
    }

    /// Returns the place of a connection that the edge has not reported gone.
    pub(crate) fn find(&self, id: ConnId) -> Option<ConnSlot> {
        self.by_id.get(&id).copied()
    }

    /// Returns the place of the connection that serves a session.
    pub(crate) fn of_session(&self, session: SessionId) -> Option<ConnSlot> {
        self.by_session.get(&session).copied()
    }

    /// Returns the connection at a place if it is still the one that is meant.
    pub(crate) fn get(&mut self, slot: ConnSlot, id: ConnId) -> Option<&mut Connection> {
        self.table.get_mut(slot).filter(|conn| conn.id == id && conn.phase != Phase::Gone)
    }

    /// Returns the connection at a place that is known to be taken.
    pub(crate) fn at(&mut self, slot: ConnSlot) -> &mut Connection {
        &mut self.table[slot]
    }

    /// Gives a session to a connection, and takes it from the one that had it, which is closed.
    pub(crate) fn own_session(&mut self, slot: ConnSlot, session: SessionId, timeout_ms: i32) {
        let conn = &mut self.table[slot];
        conn.session = session;
        conn.timeout_ms = timeout_ms;
        conn.phase = Phase::Serving;
        if let Some(former) = self.by_session.insert(session, slot)
            && former != slot
        {
            self.close(former);
        }
    }

    /// Takes out what belongs to a connection that is gone; its place stays taken until [`Connections::free`].
    pub(crate) fn disconnect(&mut self, id: ConnId) -> Option<ConnSlot> {
        let slot = self.by_id.remove(&id)?;
        let conn = &mut self.table[slot];
        conn.phase = Phase::Gone;
        conn.pending.clear();
        conn.backlog.clear();
        conn.out = Vec::new();
        self.outstanding -= conn.outstanding;
        conn.outstanding = 0;
        if self.by_session.get(&conn.session) == Some(&slot) {
            self.by_session.remove(&conn.session);
        }
        Some(slot)
    }

    /// Gives the place of a connection that is gone to the next one.
    pub(crate) fn free(&mut self, slot: ConnSlot) {
        self.table.remove(slot);
    }

    /// Closes a connection behind what was sent to it.
    pub(crate) fn close(&mut self, slot: ConnSlot) {
        let conn = &mut self.table[slot];
        if conn.phase == Phase::Gone || conn.is_close_told {
            return;
        }
        conn.phase = Phase::Closing;
        conn.closes = true;
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Marks every client that is served as one that the leader has yet to be told of.
    pub(crate) fn tell_all_alive(&mut self, alive: &mut Vec<(ConnSlot, ConnId)>) {
        for (slot, conn) in &mut self.table {
            if conn.phase == Phase::Serving && !conn.is_read_only && !conn.is_alive_untold {
                conn.is_alive_untold = true;
                alive.push((slot, conn.id));
            }
        }
    }

    /// Takes out the sessions that the leader is to be told of, with their timeouts.
    pub(crate) fn take_alive(&mut self, alive: &mut Vec<(ConnSlot, ConnId)>) -> Vec<(SessionId, i32)> {
        let mut sessions = Vec::with_capacity(alive.len());
        for (slot, id) in alive.drain(..) {
            if let Some(conn) = self.get(slot, id) {
                conn.is_alive_untold = false;
                sessions.push((conn.session, conn.timeout_ms));
            }
        }
        sessions
    }

    /// Closes connections that are served reads only: all of them, or those not heard of for their timeout.
    pub(crate) fn close_read_only(&mut self, idle_at: Option<Now>) {
        let is_over = |conn: &Connection| {
            let timeout_us = u64::try_from(conn.timeout_ms).unwrap_or(0) * 1_000;
            conn.is_read_only
                && conn.phase == Phase::Serving
                && idle_at.is_none_or(|now| now.monotonic_us.saturating_sub(conn.last_reply_us) > timeout_us)
        };
        let over: Vec<ConnSlot> = self.table.iter().filter(|(_, conn)| is_over(conn)).map(|(slot, _)| slot).collect();
        over.into_iter().for_each(|slot| self.close(slot));
    }

    /// Closes every connection.
    pub(crate) fn close_all(&mut self) {
        let mut slots: Vec<ConnSlot> = self.by_id.values().copied().collect();
        slots.sort_unstable();
        slots.into_iter().for_each(|slot| self.close(slot));
    }

    /// Counts a request that came; before it is answered, or the number of those under way would be wrong.
    #[inline]
    pub(crate) fn count_received(&mut self, slot: ConnSlot) {
        let conn = &mut self.table[slot];
        conn.received += 1;
        conn.outstanding += 1;
        self.received += 1;
        self.outstanding += 1;
    }

    /// Gives room to write whole frames that answer no request: the handshake, watch events.
    pub(crate) fn put_frames(&mut self, slot: ConnSlot, frames: u64, fill: impl FnOnce(&mut Vec<u8>)) {
        let conn = &mut self.table[slot];
        if conn.phase == Phase::Gone {
            return;
        }
        fill(&mut conn.out);
        conn.sent += frames;
        self.sent += frames;
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Notes that a handshake made a session: it is the connection's first operation.
    pub(crate) fn note_session_opened(&mut self, slot: ConnSlot, zxid: Zxid) {
        self.table[slot].last = Some((Op::CreateSession, Xid(0), zxid));
    }

    /// Answers a request.
    #[inline]
    pub(crate) fn reply(
        &mut self,
        slot: ConnSlot,
        asked: Asked,
        zxid: Zxid,
        result: Result<&Response<'_>, ErrorCode>,
        now: Now,
    ) {
        let conn = &mut self.table[slot];
        if conn.phase == Phase::Gone {
            return;
        }
        put_reply(&mut conn.out, asked.xid, zxid, result);
        let latency_us = now.monotonic_us.saturating_sub(asked.received_us);
        conn.answered += 1;
        conn.sent += 1;
        conn.outstanding -= 1;
        conn.last = Some((asked.op, asked.xid, zxid));
        conn.last_reply_us = now.monotonic_us;
        conn.last_latency_us = latency_us;
        conn.latency.add(latency_us);
        match asked.op.class() {
            Class::Write => self.update_latency.add(latency_us),
            _ => self.read_latency.add(latency_us),
        }
        self.sent += 1;
        self.outstanding -= 1;
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Hands what was written since the last call to the edge.
    pub(crate) fn flush(&mut self, out: &mut Vec<Action>) {
        for slot in self.dirty.drain(..) {
            let Some(conn) = self.table.get_mut(slot) else { continue };
            conn.is_dirty = false;
            if conn.phase == Phase::Gone {
                continue;
            }
            if !conn.out.is_empty() {
                // The next burst is likely to be as large as this one.
                let next = Vec::with_capacity(conn.out.len().min(OUTPUT_BYTES_KEPT));
                let bytes = std::mem::replace(&mut conn.out, next);
                out.push(Action::Send { conn: conn.id, bytes, answered: std::mem::take(&mut conn.answered) });
            }
            if std::mem::take(&mut conn.closes) {
                conn.is_close_told = true;
                out.push(Action::Close(conn.id));
            }
        }
    }

    /// Returns the number of connections.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Describes each connection.
    pub(crate) fn reports(&self) -> Vec<ConnectionReport> {
        let mut present: Vec<&Connection> = self.by_id.values().map(|&slot| &self.table[slot]).collect();
        present.sort_unstable_by_key(|conn| conn.id);
        present.into_iter().map(Connection::report).collect()
    }

    /// Returns the connection's number and session at a place.
    pub(crate) fn identify(&self, slot: ConnSlot) -> Option<(ConnId, SessionId)> {
        self.table.get(slot).map(|conn| (conn.id, conn.session))
    }

    /// Counts latencies and frames anew.
    pub(crate) fn reset_statistics(&mut self) {
        self.received = 0;
        self.sent = 0;
        self.read_latency = Latency::default();
        self.update_latency = Latency::default();
    }

    /// Counts each connection's figures anew.
    pub(crate) fn reset_connection_statistics(&mut self) {
        for (_, conn) in &mut self.table {
            conn.received = 0;
            conn.sent = 0;
            conn.last = None;
            conn.last_latency_us = 0;
            conn.latency = Latency::default();
        }
    }
}

/// Room for output that is made in advance, at most.
const OUTPUT_BYTES_KEPT: usize = 64 << 10;

impl Connection {
    fn report(&self) -> ConnectionReport {
        ConnectionReport {
            peer: self.peer,
            session: self.session,
            timeout_ms: self.timeout_ms,
            outstanding: self.outstanding,
            received: self.received,
            sent: self.sent,
            established_ms: self.established_ms,
            last: self.last,
            last_reply_ms: self.last_reply_us / 1_000,
            last_latency_us: self.last_latency_us,
            latency: self.latency,
        }
    }
}

impl Latency {
    #[inline]
    fn add(&mut self, us: u64) {
        self.min_us = if self.count == 0 { us } else { self.min_us.min(us) };
        self.max_us = self.max_us.max(us);
        self.total_us += us;
        self.count += 1;
    }
}
