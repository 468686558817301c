//! Handshakes: a client comes, with a session or without one.

use grange_proto::Op;
use grange_proto::SessionId;
use grange_proto::connect::{ConnectResponse, PASSWORD_BYTES};
use grange_proto::frame::put_frame;
use grange_proto::wire::put_i32;

use crate::event::{Action, ConnId, ConnectAttempt, Now};
use crate::proposals::Origin;
use crate::replica::Replica;
use crate::watches::ConnSlot;

impl Replica {
    pub(crate) fn connect(&mut self, attempt: &ConnectAttempt, now: Now, out: &mut Vec<Action>) {
        if self.serves_reads_only() {
            return self.connect_read_only(attempt, now, out);
        }
        let Some(passwords) = self.passwords.as_ref().filter(|_| self.serving) else {
            out.push(Action::Close(attempt.conn));
            return;
        };
        if attempt.last_zxid_seen > self.tree.last_zxid() {
            // The client has seen a future that this member does not know: it has to try another one.
            out.push(Action::Close(attempt.conn));
            return;
        }
        let timeout_ms = self.negotiate(attempt.timeout_ms);
        let is_known = passwords.verify(attempt.session, &attempt.password)
            && match self.tree.session(attempt.session) {
                Some(session) => !session.is_closing(),
                // It may have been opened at another member a moment ago.
                None => !self.is_alone(),
            };
        if is_known && let Some(former) = self.connections.of_session(attempt.session) {
            // What else comes from there would stand in the log behind the client's return, and behind what it has sent by
            // way of other members meanwhile. Source: `ZooKeeperServer.processConnectRequest`.
            self.connections.close(former);
        }
        let slot = self.connections.add(attempt.conn, attempt.peer, attempt.read_only, now);
        if attempt.session == SessionId::NONE {
            self.open_session(slot, timeout_ms);
        } else if !is_known {
            self.refuse_session(slot);
        } else if self.log_full {
            // Reads go on; the first write finds out whether the session is still this member's.
            self.welcome(slot, attempt.session, timeout_ms, now);
        } else {
            if self.leadership.is_leading {
                self.sessions.heard(attempt.session, now.monotonic_ms());
            }
            let origin = Origin::Connect { slot, conn: attempt.conn };
            self.proposals.push_return(attempt.session, timeout_ms, origin);
        }
    }

    /// Serves a client that can do without writes, while there is no leader.
    ///
    /// Its session is this member's alone. A session of the ensemble is not served here: its client goes on looking for
    /// a member that has a leader. Source: `ReadOnlyZooKeeperServer`.
    fn connect_read_only(&mut self, attempt: &ConnectAttempt, now: Now, out: &mut Vec<Action>) {
        let has_seen_more = attempt.last_zxid_seen > self.tree.last_zxid();
        let is_of_ensemble = self.tree.session(attempt.session).is_some();
        if attempt.read_only != Some(true) || has_seen_more || is_of_ensemble {
            out.push(Action::Close(attempt.conn));
            return;
        }
        let slot = self.connections.add(attempt.conn, attempt.peer, attempt.read_only, now);
        let conn = self.connections.at(slot);
        conn.is_read_only = true;
        let session = self.new_session();
        let timeout_ms = self.negotiate(attempt.timeout_ms);
        self.welcome(slot, session, timeout_ms, now);
    }

    fn negotiate(&self, timeout_ms: i32) -> i32 {
        timeout_ms.clamp(self.config.session_timeout_ms_min, self.config.session_timeout_ms_max)
    }

    /// Answers a handshake that asks for a session which does not exist, or with a wrong password.
    pub(crate) fn refuse_session(&mut self, slot: ConnSlot) {
        let refused = ConnectResponse::refused(self.connections.at(slot).read_only.map(|_| false));
        self.connections.put_frames(slot, 1, |out| put_frame(out, |out| refused.encode(out)));
        self.connections.close(slot);
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

    pub(crate) fn disconnected(&mut self, conn: ConnId) {
        if let Some(slot) = self.connections.disconnect(conn)
            && self.watches.disconnect(slot)
        {
            self.connections.free(slot);
        }
    }

    /// Answers a handshake and takes the frames that came meanwhile.
    pub(crate) fn welcome(&mut self, slot: usize, session: SessionId, timeout_ms: i32, now: Now) {
        self.connections.own_session(slot, session, timeout_ms);
        let conn = self.connections.at(slot);
        let read_only = conn.read_only.map(|_| conn.is_read_only);
        let password = self.passwords.as_ref().map_or([0; PASSWORD_BYTES], |passwords| passwords.of(session));
        let response = ConnectResponse { protocol_version: 0, timeout_ms, session, password, read_only };
        self.connections.put_frames(slot, 1, |out| put_frame(out, |out| response.encode(out)));
        self.take_backlog(slot, now);
    }
}

/// Returns the first session number of a run: the server's number in the top byte, then the time.
///
/// Source: `SessionTrackerImpl.initializeNextSessionId`.
pub(crate) fn first_session(server_id: u8, wall_ms: i64) -> i64 {
    let time = (wall_ms << 24).cast_unsigned() >> 8;
    (time & (u64::MAX >> 8)).cast_signed() | (i64::from(server_id) << 56)
}
