//! Frames of clients: writes go into the next entry, reads are answered in their turn.

use std::sync::Arc;

use bytes::Bytes;
use grange_proto::frame::split_frame;
use grange_proto::op::Class;
use grange_proto::request::{Auth, RequestHeader};
use grange_proto::response::Response;
use grange_proto::{ErrorCode, Op, Reader, Request, Xid, Zxid};

use crate::auth;
use crate::connections::{Asked, Pending, Phase, Refusal, Refused};
use crate::event::Now;
use crate::lookahead::{self, Pace};
use crate::proposals::Origin;
use crate::read_points::Waiter;
use crate::reads::Reads;
use crate::replica::Replica;
use crate::watches::ConnSlot;

impl Replica {
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
        self.heard(slot, now);
        if self.connections.at(slot).awaits_reconfig {
            self.connections.at(slot).backlog.push((frames.clone(), received_us));
            return;
        }
        let mut rest: &[u8] = frames;
        let mut pace = Pace::default();
        while let Ok(Some((payload, behind))) = split_frame(rest, usize::MAX) {
            if pace.is_due() {
                lookahead::at_reads(&self.tree, rest);
            }
            rest = behind;
            self.connections.count_received(slot);
            self.take_request(slot, frames, payload, received_us, now);
            let conn = self.connections.at(slot);
            if conn.awaits_reconfig && !rest.is_empty() {
                conn.backlog.push((frames.slice_ref(rest), received_us));
            }
            if conn.phase != Phase::Serving || conn.awaits_reconfig {
                break;
            }
        }
    }

    /// Takes the frames that waited.
    pub(crate) fn take_backlog(&mut self, slot: ConnSlot, now: Now) {
        let backlog = std::mem::take(&mut self.connections.at(slot).backlog);
        for (frames, received_us) in backlog {
            self.take_frames(slot, &frames, received_us, now);
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
            _ if self.connections.at(slot).is_read_only && (op.class() == Class::Write || op == Op::Sync) => {
                self.take_write_without_leader(slot, xid, op, now);
            }
            Class::Write if self.log_full => {
                self.refuse(slot, Refusal { xid, why: Refused::LogFull }, now);
            }
            Class::Write => {
                let conn = self.connections.at(slot);
                conn.wait_for_write();
                conn.awaits_reconfig = op == Op::Reconfig;
                if op == Op::CloseSession {
                    conn.phase = Phase::Closing;
                }
                let origin = Origin::Request { slot, conn: conn.id, asked: Asked { xid, op, received_us } };
                self.proposals.push(conn.session, &conn.identities, op, reader.rest(), origin);
            }
            Class::Read => {
                if self.waits_for_read_point(op) && !self.connections.at(slot).is_read_only {
                    let conn = self.connections.at(slot);
                    let ticket = self.read_points.wait(Waiter::Connection(slot, conn.id));
                    conn.pending.push_back(Pending::ReadPoint(ticket));
                }
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

    /// A client that is served reads only may close its session, which is this member's alone, and write nothing.
    fn take_write_without_leader(&mut self, slot: ConnSlot, xid: Xid, op: Op, now: Now) {
        if op == Op::CloseSession {
            let asked = Asked { xid, op, received_us: now.monotonic_us };
            self.connections.reply(slot, asked, self.tree.last_zxid(), Ok(&Response::Empty), now);
            self.connections.close(slot);
        } else {
            self.refuse(slot, Refusal { xid, why: Refused::NotReadOnly }, now);
        }
    }

    /// Tells whether an operation must see all that was acknowledged before it, at any member.
    fn waits_for_read_point(&self, op: Op) -> bool {
        let asks = op == Op::Sync || (self.config.ensemble.linearizable_reads && op != Op::Ping);
        asks && !self.is_alone()
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
            Refused::NotReadOnly => {
                self.connections.reply(slot, asked, self.tree.last_zxid(), Err(ErrorCode::NotReadOnly), now);
            }
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

    /// Answers what a connection sent before a write that is about to be applied.
    ///
    /// A read that waits for a read point need not wait any more: what was acknowledged before it came has an earlier
    /// place in the log than the write that came after it.
    pub(crate) fn answer_reads_before_write(&mut self, slot: ConnSlot, now: Now) {
        while self.connections.at(slot).pending.pop_front_if(|front| matches!(front, Pending::ReadPoint(_))).is_some() {
            self.answer_pending(slot, now);
        }
    }

    /// Answers what waited behind a write, up to the next write.
    pub(crate) fn answer_pending(&mut self, slot: ConnSlot, now: Now) {
        loop {
            let conn = self.connections.at(slot);
            match conn.pending.front() {
                Some(Pending::Read { .. } | Pending::Refused(_)) => {}
                Some(Pending::ReadPoint(ticket)) if self.read_points.has_passed(*ticket) => {}
                Some(Pending::ReadPoint(_) | Pending::Writes(_)) | None => return,
            }
            match conn.pending.pop_front() {
                Some(Pending::Read { payload, received_us }) => self.read(slot, &payload, received_us, now),
                Some(Pending::Refused(refusal)) => self.refuse_now(slot, refusal, now),
                Some(Pending::ReadPoint(_)) => {}
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
