//! Applying what is committed: the tree changes, watches fire, clients are answered, in this order.

use grange_proto::response::Response;
use grange_proto::watch::{EventType, WatcherEvent};
use grange_proto::{ErrorCode, Op, Reader, Request, SessionId, Zxid, path};
use grange_tree::{AclRef, Applied, ChangeKind, Changes, Identities, Policy, WriteContext};

use crate::connections::Phase;
use crate::engine::{self, Committed, EntryPurpose};
use crate::entry::{Item, RequestItem, Requests};
use crate::event::{Action, LogEntry, Now};
#[cfg(feature = "simulation")]
use crate::history::AppliedKind;
use crate::lookahead::{self, Pace};
use crate::proposals::Origin;
use crate::reads::put_event;
use crate::replica::Replica;

impl Replica {
    /// Applies one entry and answers whoever waits for its requests.
    ///
    /// # Panics
    /// If the entry is not in a form that this version knows. It passed its checksum and a majority agreed on it:
    /// going on without it would let this member differ from the others.
    pub(crate) fn apply_entry(&mut self, entry: Committed<LogEntry>, now: Now, out: &mut Vec<Action>) {
        let entry = entry.into_inner();
        self.progress.note(&entry);
        #[cfg(feature = "simulation")]
        self.note_entry(&entry);
        match engine::purpose(&entry) {
            EntryPurpose::Nothing => {}
            EntryPurpose::Members => self.apply_members(&entry, now, out),
            EntryPurpose::Requests => match Requests::decode(&entry.data) {
                Ok(requests) => self.apply_requests(requests, &entry, now, out),
                Err(why) => panic!("entry {} cannot be read by this version: {why}", entry.index),
            },
        }
        self.engine.applied(entry.index);
        self.note_digest(entry.index, out);
    }

    pub(crate) fn apply_requests(
        &mut self,
        mut requests: Requests<'_>,
        entry: &LogEntry,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let index = entry.index;
        if !self.ensemble.as_mut().is_some_and(|ensemble| ensemble.accept(requests.batch)) {
            return;
        }
        let mut origins = self.proposals.applied(requests.batch);
        let mut identities: Vec<Identities> = Vec::new();
        let mut pace = Pace::default();
        loop {
            if pace.is_due() {
                lookahead::at_writes(&self.tree, &requests);
            }
            match requests.next() {
                Ok(None) => return,
                Ok(Some(Item::Identities(next))) => identities.push(next),
                Ok(Some(Item::Request(item))) => {
                    let Some(own) = identities.get(item.identities) else {
                        panic!("entry {index} refers to identities it does not hold")
                    };
                    let (stamp, origin) = (Stamp::of(&requests), origins.pop_front());
                    if let Some(Origin::Request { slot, conn, .. }) = origin
                        && self.connections.get(slot, conn).is_some()
                    {
                        self.answer_reads_before_write(slot, now);
                    }
                    match item.op {
                        Op::Reconfig => self.apply_wish(&item, own, stamp, origin, now, out),
                        _ => self.apply_request(&item, own, stamp, origin, now),
                    }
                }
                Ok(Some(Item::Return { session, timeout_ms })) => {
                    let moved = self.tree.move_session(session, requests.batch.member, timeout_ms);
                    #[cfg(feature = "simulation")]
                    self.note_applied(AppliedKind::Return, session, &[], Stamp::of(&requests).noted());
                    self.session_returned(session, timeout_ms, moved, origins.pop_front(), now);
                }
                Ok(Some(Item::WishEnd { term, is_fulfilled })) => {
                    origins.pop_front();
                    match (term == entry.term, is_fulfilled) {
                        (true, true) => self.fulfil_wish(now),
                        (true, false) => self.abandon_wish(now, out),
                        (false, _) => {}
                    }
                }
                Ok(Some(Item::End { session, term })) => {
                    origins.pop_front();
                    if term == entry.term {
                        self.apply_end(session, Stamp::of(&requests), now);
                    }
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
        let cx = stamp.context(zxid, item.session, identities);
        let mut changes = self.collect_changes();
        let result = match Request::decode(item.op, &mut Reader::new(item.body)) {
            Ok(request) => self.tree.apply(&cx, &request, &mut changes),
            Err(_) => {
                self.tree.apply_refused(zxid);
                Err(ErrorCode::MarshallingError)
            }
        };
        #[cfg(feature = "simulation")]
        self.note_applied(AppliedKind::Request(item.op), item.session, item.body, stamp.noted());
        self.fire_all(&changes, zxid);
        self.changes = changes;
        self.settle(item.session, result, origin, zxid, now);
    }

    /// Applies a reconfig: it is refused at once, or answered when the members are as it asks for.
    fn apply_wish(
        &mut self,
        item: &RequestItem<'_>,
        identities: &Identities,
        stamp: Stamp,
        origin: Option<Origin>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let zxid = self.tree.last_zxid().next();
        self.progress.requests += 1;
        let cx = stamp.context(zxid, item.session, identities);
        let refused = match Request::decode(item.op, &mut Reader::new(item.body)) {
            Ok(Request::Reconfig(request)) => self.apply_reconfig(&cx, &request, origin, out),
            _ => {
                self.tree.apply_refused(zxid);
                Some(ErrorCode::MarshallingError)
            }
        };
        #[cfg(feature = "simulation")]
        self.note_applied(AppliedKind::Request(item.op), item.session, item.body, stamp.noted());
        if let Some(code) = refused {
            self.settle(item.session, Err(code), origin, zxid, now);
        }
    }

    /// Takes the next step of closing a session, which the leader has decided.
    fn apply_end(&mut self, session: SessionId, stamp: Stamp, now: Now) {
        let zxid = self.tree.last_zxid().next();
        self.progress.requests += 1;
        let nobody = std::sync::Arc::clone(&self.nobody);
        let cx = stamp.context(zxid, session, &nobody);
        let mut changes = self.collect_changes();
        let result = self.tree.end_session(&cx, &mut changes);
        #[cfg(feature = "simulation")]
        self.note_applied(AppliedKind::End, session, &[], stamp.noted());
        self.fire_all(&changes, zxid);
        self.changes = changes;
        self.settle(session, result, None, zxid, now);
    }

    /// Returns an empty list for the changes of one write, which collects none while nobody watches.
    pub(crate) fn collect_changes(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.changes);
        if self.watches.is_empty() {
            changes.ignore();
        } else {
            changes.clear();
        }
        changes
    }

    /// Tells the watchers of all that one write has changed.
    pub(crate) fn fire_all(&mut self, changes: &Changes, zxid: Zxid) {
        for change in changes.iter() {
            self.fire(change.kind, change.path, [change.acl, change.parent_acl], zxid);
        }
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
        session: SessionId,
        result: Result<Applied<'_>, ErrorCode>,
        origin: Option<Origin>,
        zxid: Zxid,
        now: Now,
    ) {
        match result {
            Ok(Applied::SessionOpened) => return self.session_opened(session, origin, now),
            Ok(Applied::SessionClosing) => return self.session_closing(session, origin),
            _ => {}
        }
        let origin = match &result {
            Ok(Applied::SessionClosed) => self.session_closed(session, origin),
            _ => origin,
        };
        let (slot, conn, asked) = match origin {
            Some(Origin::Request { slot, conn, asked }) => (slot, conn, asked),
            Some(Origin::Connect { slot, conn }) => {
                // The number of the session that was to be opened is taken: the client tries again.
                if self.connections.get(slot, conn).is_some() {
                    self.connections.close(slot);
                }
                return;
            }
            Some(Origin::Own) | None => return,
        };
        if self.connections.get(slot, conn).is_none() {
            return;
        }
        if matches!(result, Err(ErrorCode::SessionMoved)) {
            // No reply: what the client has sent here is none of its session's business any more. (ZOOKEEPER-710)
            self.connections.close(slot);
            return;
        }
        let is_over = matches!(result, Err(ErrorCode::SessionExpired));
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
        if is_over || asked.op == Op::CloseSession {
            self.connections.close(slot);
        }
        self.answer_pending(slot, now);
        if asked.op == Op::Reconfig {
            self.connections.at(slot).awaits_reconfig = false;
            self.take_backlog(slot, now);
        }
    }

    fn session_opened(&mut self, session: SessionId, origin: Option<Origin>, now: Now) {
        let timeout_ms = self.tree.session(session).map_or(0, |session| session.timeout_ms());
        self.watch_over(session, timeout_ms, now);
        let Some(Origin::Connect { slot, conn }) = origin else { return };
        if self.connections.get(slot, conn).is_none_or(|conn| conn.phase != Phase::Opening) {
            return;
        }
        self.connections.note_session_opened(slot, self.tree.last_zxid());
        self.welcome(slot, session, timeout_ms, now);
    }

    /// As leader, expects signs of life of a session from now on.
    fn watch_over(&mut self, session: SessionId, timeout_ms: i32, now: Now) {
        if self.leadership.is_leading {
            self.sessions.watch_over(session, timeout_ms, now.monotonic_ms());
        }
    }

    /// A client has come back to its session, here or at another member: whatever connection it had before is closed.
    fn session_returned(
        &mut self,
        session: SessionId,
        timeout_ms: i32,
        moved: Result<(), ErrorCode>,
        origin: Option<Origin>,
        now: Now,
    ) {
        let own = match origin {
            Some(Origin::Connect { slot, conn }) if self.connections.get(slot, conn).is_some() => Some(slot),
            _ => None,
        };
        if moved.is_ok() {
            self.watch_over(session, timeout_ms, now);
            if let Some(former) = self.connections.of_session(session).filter(|former| Some(*former) != own) {
                self.connections.close(former);
            }
        }
        let Some(slot) = own.filter(|&slot| self.connections.at(slot).phase == Phase::Opening) else { return };
        match moved {
            Ok(()) => self.welcome(slot, session, timeout_ms, now),
            Err(_) => self.refuse_session(slot),
        }
    }

    /// A session with many ephemeral znodes is closed in several entries; what others want stands between them.
    fn session_closing(&mut self, session: SessionId, origin: Option<Origin>) {
        self.sessions.forget(session);
        if let Some(origin @ Origin::Request { .. }) = origin {
            self.closing.insert(session, origin);
        }
        if self.leadership.is_leading {
            self.end_session(session);
        }
    }

    /// Returns who waits for the end of the session.
    fn session_closed(&mut self, session: SessionId, origin: Option<Origin>) -> Option<Origin> {
        self.sessions.forget(session);
        let origin = self.closing.remove(&session).or(origin);
        let asking = match origin {
            Some(Origin::Request { slot, .. }) => Some(slot),
            _ => None,
        };
        if let Some(slot) = self.connections.of_session(session)
            && asking != Some(slot)
        {
            self.connections.close(slot);
        }
        origin
    }
}

/// What the head of an entry says about each of its requests.
#[derive(Clone, Copy)]
struct Stamp {
    time_ms: i64,
    policy: Policy,
    member: u64,
}

impl Stamp {
    /// The time and the member, for the history.
    #[cfg(feature = "simulation")]
    fn noted(self) -> (i64, u64) {
        (self.time_ms, self.member)
    }

    fn of(requests: &Requests<'_>) -> Stamp {
        Stamp { time_ms: requests.time_ms, policy: requests.policy, member: requests.batch.member }
    }

    fn context(self, zxid: Zxid, session: SessionId, identities: &Identities) -> WriteContext<'_> {
        let Stamp { time_ms, policy, member } = self;
        WriteContext { zxid, time_ms, session, identities, policy, member }
    }
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
