//! Applying what is committed: the tree changes, watches fire, clients are answered, in this order.

use grange_proto::connect::{ConnectResponse, PASSWORD_BYTES};
use grange_proto::frame::put_frame;
use grange_proto::response::Response;
use grange_proto::watch::{EventType, WatcherEvent};
use grange_proto::{ErrorCode, Op, Reader, Request, SessionId, Zxid, path};
use grange_tree::{AclRef, Applied, ChangeKind, Identities, Policy, WriteContext};

use crate::connections::Phase;
use crate::engine::{self, Committed};
use crate::entry::{EntryContent, Item, RequestItem, Requests};
use crate::event::{LogEntry, Now};
use crate::proposals::Origin;
use crate::reads::put_event;
use crate::replica::Replica;

impl Replica {
    /// Applies one entry and answers whoever waits for its requests.
    ///
    /// # Panics
    /// If the entry is not in a form that this version knows. It passed its checksum and a majority agreed on it:
    /// going on without it would let this member differ from the others.
    pub(crate) fn apply_entry(&mut self, entry: Committed<LogEntry>, now: Now) {
        let entry = entry.into_inner();
        self.progress.note(&entry);
        if !engine::is_blank(&entry.data) {
            match EntryContent::decode(&entry.data) {
                Ok(EntryContent::Genesis(genesis)) => self.found(genesis),
                Ok(EntryContent::Requests(requests)) => self.apply_requests(requests, entry.index, now),
                Err(why) => panic!("entry {} cannot be read by this version: {why}", entry.index),
            }
        }
        self.engine.applied(entry.index);
    }

    fn apply_requests(&mut self, mut requests: Requests<'_>, index: u64, now: Now) {
        let mut origins = self.proposals.applied(requests.batch);
        let mut identities: Vec<Identities> = Vec::new();
        loop {
            match requests.next() {
                Ok(None) => return,
                Ok(Some(Item::Identities(next))) => identities.push(next),
                Ok(Some(Item::Request(item))) => {
                    let Some(own) = identities.get(item.identities) else {
                        panic!("entry {index} refers to identities it does not hold")
                    };
                    let stamp = Stamp { time_ms: requests.time_ms, policy: requests.policy };
                    self.apply_request(&item, own, stamp, origins.pop_front(), now);
                }
                Err(why) => panic!("entry {index} cannot be read by this version: {why}"),
            }
        }
    }

    fn apply_request(
        &mut self,
        item: &RequestItem<'_>,
        identities: &Identities,
        stamp: Stamp,
        origin: Option<Origin>,
        now: Now,
    ) {
        let zxid = self.tree.last_zxid().next();
        self.progress.requests += 1;
        let cx = WriteContext { zxid, time_ms: stamp.time_ms, session: item.session, identities, policy: stamp.policy };
        let mut changes = std::mem::take(&mut self.changes);
        if self.watches.is_empty() {
            changes.ignore();
        } else {
            changes.clear();
        }
        let result = match Request::decode(item.op, &mut Reader::new(item.body)) {
            Ok(request) => self.tree.apply(&cx, &request, &mut changes),
            Err(_) => {
                self.tree.apply_refused(zxid);
                Err(ErrorCode::MarshallingError)
            }
        };
        for change in changes.iter() {
            self.fire(change.kind, change.path, [change.acl, change.parent_acl], zxid);
        }
        self.changes = changes;
        self.settle(item, result, origin, zxid, now);
    }

    /// Tells the watchers of a change, each after a look whether it may read what the event is about.
    fn fire(&mut self, kind: ChangeKind, path: &str, acls: [Option<&AclRef>; 2], zxid: Zxid) {
        let event = match kind {
            ChangeKind::Created => EventType::NodeCreated,
            ChangeKind::Deleted => EventType::NodeDeleted,
            ChangeKind::DataChanged => EventType::NodeDataChanged,
        };
        let mut heard = std::mem::take(&mut self.heard);
        self.watches.fire_node(path, event, &mut heard);
        self.notify(&heard, WatcherEvent { event, path }, acls[0], zxid);
        if kind != ChangeKind::DataChanged
            && let Some((parent, _)) = path::split(path)
        {
            self.watches.fire_children(parent, &mut heard);
            let event = WatcherEvent { event: EventType::NodeChildrenChanged, path: parent };
            self.notify(&heard, event, acls[1], zxid);
        }
        self.heard = heard;
    }

    fn notify(&mut self, heard: &[usize], event: WatcherEvent<'_>, acl: Option<&AclRef>, zxid: Zxid) {
        if !heard.is_empty() {
            self.figures.count_event(event.event, event.path, heard.len());
        }
        for &slot in heard {
            let identities = &self.connections.at(slot).identities;
            if acl.is_none() || self.tree.may_read(acl, identities, self.config.policy) {
                put_event(&mut self.connections, slot, event, zxid);
            }
        }
    }

    /// Takes in what the outcome means for sessions, and answers.
    fn settle(
        &mut self,
        item: &RequestItem<'_>,
        result: Result<Applied<'_>, ErrorCode>,
        origin: Option<Origin>,
        zxid: Zxid,
        now: Now,
    ) {
        match result {
            Ok(Applied::SessionOpened) => return self.session_opened(item.session, origin, now),
            Ok(Applied::SessionClosing) => return self.session_closing(item.session, origin),
            Ok(Applied::SessionClosed) => self.session_closed(item.session, &origin),
            _ => {}
        }
        let Some(Origin::Request { slot, conn, asked }) = origin else { return };
        if self.connections.get(slot, conn).is_none() {
            return;
        }
        let expired = matches!(result, Err(ErrorCode::SessionExpired));
        let response = result.map(body);
        match &response {
            Ok(Body::Borrowed(response)) => self.connections.reply(slot, asked, zxid, Ok(response), now),
            Ok(Body::Created(path, stat)) => {
                let response = match asked.op {
                    Op::Create => Response::Path(path),
                    _ => Response::PathStat(path, *stat),
                };
                self.connections.reply(slot, asked, zxid, Ok(&response), now);
            }
            Err(code) => self.connections.reply(slot, asked, zxid, Err(*code), now),
        }
        self.connections.at(slot).write_answered();
        if expired || asked.op == Op::CloseSession {
            self.connections.close(slot);
        }
        self.answer_pending(slot, now);
    }

    fn session_opened(&mut self, session: SessionId, origin: Option<Origin>, now: Now) {
        let timeout_ms = self.tree.session(session).map_or(0, |session| session.timeout_ms());
        self.sessions.watch_over(session, timeout_ms, now.monotonic_ms());
        let Some(Origin::Connect { slot, conn }) = origin else { return };
        if self.connections.get(slot, conn).is_none_or(|conn| conn.phase != Phase::Opening) {
            return;
        }
        self.connections.note_session_opened(slot, self.tree.last_zxid());
        self.welcome(slot, session, timeout_ms, now);
    }

    /// Answers a handshake and takes the frames that came meanwhile.
    pub(crate) fn welcome(&mut self, slot: usize, session: SessionId, timeout_ms: i32, now: Now) {
        self.connections.own_session(slot, session, timeout_ms);
        let read_only = self.connections.at(slot).read_only.map(|_| false);
        let password = self.passwords.as_ref().map_or([0; PASSWORD_BYTES], |passwords| passwords.of(session));
        let response = ConnectResponse { protocol_version: 0, timeout_ms, session, password, read_only };
        self.connections.put_frames(slot, 1, |out| put_frame(out, |out| response.encode(out)));
        let backlog = std::mem::take(&mut self.connections.at(slot).backlog);
        for (frames, received_us) in backlog {
            self.take_frames(slot, &frames, received_us, now);
        }
    }

    /// A session with many ephemeral znodes is closed in several entries; what others want stands between them.
    fn session_closing(&mut self, session: SessionId, origin: Option<Origin>) {
        self.sessions.forget(session);
        if let Some(origin) = origin {
            self.propose_close(session, origin);
        }
    }

    fn session_closed(&mut self, session: SessionId, origin: &Option<Origin>) {
        self.sessions.forget(session);
        let asking = match origin {
            Some(Origin::Request { slot, .. }) => Some(*slot),
            _ => None,
        };
        if let Some(slot) = self.connections.of_session(session)
            && asking != Some(slot)
        {
            self.connections.close(slot);
        }
    }
}

/// What the leader stamped into the entry.
#[derive(Clone, Copy)]
struct Stamp {
    time_ms: i64,
    policy: Policy,
}

/// A reply's body; a created path may have been completed by the tree and then is not borrowed from anything.
enum Body<'a> {
    Borrowed(Response<'a>),
    Created(std::borrow::Cow<'a, str>, grange_proto::Stat),
}

fn body(applied: Applied<'_>) -> Body<'_> {
    Body::Borrowed(match applied {
        Applied::Created { path, stat } => return Body::Created(path, stat),
        Applied::Deleted | Applied::SessionOpened | Applied::SessionClosing | Applied::SessionClosed => Response::Empty,
        Applied::DataSet(stat) | Applied::AclSet(stat) => Response::Stat(stat),
        Applied::Multi(results) => Response::MultiEncoded(results),
    })
}
