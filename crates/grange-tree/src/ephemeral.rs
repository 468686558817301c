//! The sessions' side of the store: who is there, and which ephemerals go with whom.

use grange_proto::SessionId;

use crate::node::Node;
use crate::session::Session;
use crate::slab::Key;
use crate::store::Store;

impl Store {
    /// Walks a session's ephemerals, the one created last first.
    pub(crate) fn ephemerals(&self, session: &Session) -> impl Iterator<Item = Key<Node>> {
        std::iter::successors(session.first_ephemeral, |key| self.extra(*key)?.ephemeral_next)
    }

    /// Adds a znode to its session's ephemerals.
    pub(crate) fn link_ephemeral(&mut self, key: Key<Node>, owner: SessionId) {
        let session = self.sessions.key(owner).expect("a session that creates an ephemeral is open");
        let session = self.sessions.change(session);
        let next = session.first_ephemeral.replace(key);
        session.ephemeral_count += 1;
        if let Some(next) = next {
            self.change_extra(next).ephemeral_prev = Some(key);
        }
        self.change_extra(key).ephemeral_next = next;
        self.totals.ephemeral_count += 1;
    }

    /// Takes a znode off its session's ephemerals.
    pub(crate) fn unlink_ephemeral(&mut self, key: Key<Node>, owner: SessionId) {
        let extra = self.extra_or_implied(key);
        let (next, prev) = (extra.ephemeral_next, extra.ephemeral_prev);
        let session = self.sessions.key(owner).expect("a session stays until its last ephemeral is gone");
        let session = self.sessions.change(session);
        session.ephemeral_count -= 1;
        if prev.is_none() {
            session.first_ephemeral = next;
        }
        if let Some(next) = next {
            self.change_extra(next).ephemeral_prev = prev;
        }
        if let Some(prev) = prev {
            self.change_extra(prev).ephemeral_next = next;
        }
        self.totals.ephemeral_count -= 1;
    }

    /// Opens a session whose number is not taken.
    pub(crate) fn open_session(&mut self, id: SessionId, timeout_ms: i32, member: u64) {
        let session = Session { id, timeout_ms, member, is_closing: false, first_ephemeral: None, ephemeral_count: 0 };
        self.totals.digest = self.totals.digest.wrapping_add(session.digest());
        self.sessions.open(session);
    }

    /// Marks a session as closing.
    pub(crate) fn start_closing(&mut self, key: Key<Session>) {
        self.change_session(key, |session| session.is_closing = true);
    }

    /// Gives a session to a member, with another timeout.
    pub(crate) fn move_session(&mut self, key: Key<Session>, member: u64, timeout_ms: i32) {
        self.change_session(key, |session| {
            session.member = member;
            session.timeout_ms = timeout_ms;
        });
    }

    fn change_session(&mut self, key: Key<Session>, change: impl FnOnce(&mut Session)) {
        let session = self.sessions.change(key);
        let before = session.digest();
        change(session);
        let after = session.digest();
        self.totals.digest = self.totals.digest.wrapping_sub(before).wrapping_add(after);
    }

    /// Removes a session that has no ephemerals left.
    pub(crate) fn close_session(&mut self, key: Key<Session>) {
        let digest = self.sessions.change(key).digest();
        self.totals.digest = self.totals.digest.wrapping_sub(digest);
        self.sessions.close(key);
    }
}
