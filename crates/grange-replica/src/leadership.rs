//! Who leads, and what that means here: where writes go, who watches over sessions, whether clients are served.

use std::collections::VecDeque;

use bytes::Bytes;
use grange_proto::{Role, SessionId};

use crate::TICK_MS;
use crate::entry::{self, Requests};
use crate::event::{Action, Now};
use crate::members::{MemberId, Servers};
use crate::peer::PeerMessage;
use crate::read_points::Waiter;
use crate::replica::Replica;

/// Without a sign of a leader for so long a member serves no clients any more: what they read grows old, and they may
/// find a member that is not cut off. Far longer than an election takes, and shorter than any session's timeout.
pub(crate) const LEADERLESS_MS_MAX: u64 = 1_000;
/// Ticks between two messages that tell the leader which clients are alive.
const ALIVE_TICKS: u64 = 5;
/// How long a sign of life may be on its way to the leader: a session is given so much more than its timeout.
const ALIVE_DELAY_MS: u64 = 2 * ALIVE_TICKS * TICK_MS;
/// Ticks between two attempts of a leader without room for its log to hand leadership over. Nothing is written while one
/// is under way.
const HAND_OVER_TICKS: u64 = 50;
/// Entries between two comparisons of what the members' trees add up to.
const DIGEST_ENTRIES: u64 = 64;
/// Sums that are kept for comparison.
const DIGESTS_MAX: usize = 64;

/// What a member knows of leadership.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    /// Who led when it was last looked at, and in which term.
    seen: (Option<MemberId>, u64),
    /// When there was last a sign of a leader.
    heard_ms: u64,
    /// Whether that was too long ago when it was last looked at.
    is_leaderless: bool,
    /// Whether this member leads and has applied an entry of its own term.
    pub(crate) is_leading: bool,
    /// Whether this member has asked for proof that it is up to date, and has not got it.
    is_checking: bool,
    /// Whether this member leads as far as it knows, but has stood still, so that it may be wrong.
    is_doubtful: bool,
    /// Batches of other members that wait until entries are taken.
    batches: VecDeque<Bytes>,
    /// What the tree added up to, here and at the leader, at some entries.
    own_digests: VecDeque<(u64, u64)>,
    leader_digests: VecDeque<(u64, u64)>,
    ticks: u64,
    /// When leadership must have gone to another member, if this one is to stop.
    resign_until_ms: Option<u64>,
}

impl Leadership {
    pub(crate) fn new(now_ms: u64) -> Leadership {
        Leadership { heard_ms: now_ms, ..Leadership::default() }
    }
}

/// How long a member that stops waits for another one to lead.
const RESIGN_MS_MAX: u64 = 1_000;

impl Replica {
    /// Returns true if this member is the only one that decides.
    pub(crate) fn is_alone(&self) -> bool {
        let id = self.config.ensemble.member.id;
        self.ensemble.as_ref().is_some_and(|ensemble| {
            let conf = &ensemble.members.conf;
            conf.is_only(id) && conf.learners.is_empty() && self.config.ensemble.servers.len() <= 1
        })
    }

    /// Notices that somebody else leads than before, or anew.
    pub(crate) fn follow_leadership(&mut self, now: Now) {
        let seen = (self.engine.leader(), self.engine.term());
        if self.engine.is_leader() {
            self.leadership.heard_ms = now.monotonic_ms();
        }
        if seen == self.leadership.seen {
            return;
        }
        self.leadership.seen = seen;
        self.leadership.batches.clear();
        self.leadership.leader_digests.clear();
        if self.leadership.is_leading && !self.engine.is_leader() {
            self.leadership.heard_ms = now.monotonic_ms();
        }
        self.leadership.is_leading = false;
        self.sessions.forget_all();
        self.proposals.send_again();
    }

    /// Starts to lead or to serve, as far as that is possible now.
    pub(crate) fn begin_serving(&mut self, now: Now) {
        if self.engine.is_leader() {
            if !self.leadership.is_leading && self.is_caught_up() {
                self.begin_leading(now);
            }
            let is_founded = self.ensemble.as_ref().is_some_and(|ensemble| ensemble.members.is_founded);
            if self.serving || !self.leadership.is_leading || !is_founded {
                return;
            }
            if !self.leadership.is_doubtful {
                return self.serve();
            }
        }
        let is_heard = self.engine.leader().is_some() && !self.is_leaderless(now);
        let is_founded = self.ensemble.as_ref().is_some_and(|ensemble| ensemble.members.is_founded);
        if !self.serving && is_heard && !self.cannot_follow() && is_founded && !self.leadership.is_checking {
            self.leadership.is_checking = true;
            self.read_points.wait(Waiter::Own);
        }
    }

    /// Takes in proof that this member is up to date.
    pub(crate) fn is_up_to_date(&mut self) {
        self.leadership.is_checking = false;
        if self.ensemble.as_ref().is_some_and(|ensemble| ensemble.members.is_founded) {
            self.serve();
        }
    }

    /// A leader that has caught up gives every session its whole timeout again, and goes on with closing sessions.
    fn begin_leading(&mut self, now: Now) {
        self.leadership.is_leading = true;
        self.expect_delay();
        self.leadership.is_doubtful = false;
        let mut closing = Vec::new();
        for session in self.tree.sessions() {
            if session.is_closing() {
                closing.push(session.id());
            } else {
                self.sessions.watch_over(session.id(), session.timeout_ms(), now.monotonic_ms());
            }
        }
        closing.into_iter().for_each(|session| self.end_session(session));
    }

    /// Gives signs of life the time they need to come from other members, if there are any.
    pub(crate) fn expect_delay(&mut self) {
        self.sessions.set_delay(if self.is_alone() { 0 } else { ALIVE_DELAY_MS });
    }

    /// Proposes, as leader, to close a session or to go on with closing it.
    pub(crate) fn end_session(&mut self, session: SessionId) {
        self.proposals.push_end(session, self.engine.term());
    }

    /// Returns true while clients that can do without writes are served, and no others.
    pub(crate) fn serves_reads_only(&self) -> bool {
        !self.serving
            && self.config.ensemble.read_only_mode
            && self.leadership.is_leaderless
            && self.ensemble.as_ref().is_some_and(|ensemble| ensemble.members.is_founded)
    }

    /// Serves clients. Those that were served reads only come again, to have sessions of the ensemble.
    fn serve(&mut self) {
        self.leadership.is_doubtful = false;
        self.serving = true;
        self.connections.close_read_only(None);
    }

    fn is_leaderless(&self, now: Now) -> bool {
        now.monotonic_ms().saturating_sub(self.leadership.heard_ms) > LEADERLESS_MS_MAX
    }

    /// Closes all clients' connections; they try other members, and come back when this one serves again.
    pub(crate) fn stop_serving(&mut self) {
        if !self.serving && !self.leadership.is_checking {
            return;
        }
        self.serving = false;
        self.leadership.is_checking = false;
        self.leadership.is_doubtful = true;
        self.read_points.forget_own();
        self.connections.close_all();
    }

    /// Gives batches to the log, or to whoever leads.
    pub(crate) fn propose(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        let policy = self.config.policy;
        if self.engine.is_leader() {
            let mut proposed = false;
            while self.engine.can_propose() {
                if let Some(batch) = self.leadership.batches.pop_front() {
                    let mut data = batch.to_vec();
                    entry::stamp(&mut data, now.wall_ms, policy);
                    self.engine.propose(Bytes::from(data));
                } else if let Some(data) = self.proposals.next_batch(|data| entry::stamp(data, now.wall_ms, policy)) {
                    self.engine.propose(data);
                } else {
                    break;
                }
                proposed = true;
            }
            return proposed;
        }
        let Some(leader) = self.engine.leader().filter(|leader| self.peers.contains_key(leader)) else { return false };
        while let Some(data) = self.proposals.next_batch(|_| {}) {
            out.push(Action::SendPeer { to: leader, message: PeerMessage::Batch(data).encode() });
        }
        false
    }

    /// Takes in a message of another member.
    pub(crate) fn take_peer(&mut self, from: MemberId, message: &Bytes, now: Now, out: &mut Vec<Action>) {
        if self.engine.leader() == Some(from) {
            self.leadership.heard_ms = now.monotonic_ms();
        }
        match PeerMessage::decode(message) {
            Ok(PeerMessage::Engine(bytes)) => {
                if self.engine.step(from, &bytes).is_err() {
                    self.figures.peer_messages_refused += 1;
                } else if self.engine.leader() == Some(from) {
                    self.leadership.heard_ms = now.monotonic_ms();
                }
            }
            Ok(PeerMessage::Batch(_) | PeerMessage::Alive(_))
                if self.leadership.is_leading && !self.is_member(from) =>
            {
                out.push(Action::SendPeer { to: from, message: PeerMessage::Stranger.encode() });
            }
            Ok(PeerMessage::Batch(data)) => self.take_batch(from, data, now),
            Ok(PeerMessage::Stranger) if self.engine.leader() == Some(from) => {
                // It was taken out, and the entry that says so never reached it. Its clients go elsewhere at once.
                self.leadership.heard_ms = 0;
                self.stop_serving();
            }
            Ok(PeerMessage::Alive(sessions)) if self.leadership.is_leading => {
                for (session, _) in sessions {
                    self.sessions.heard(session, now.monotonic_ms());
                }
            }
            Ok(PeerMessage::Digest { index, digest }) if self.engine.leader() == Some(from) => {
                push_bounded(&mut self.leadership.leader_digests, (index, digest));
                self.compare_digests();
            }
            Ok(PeerMessage::Alive(_) | PeerMessage::Digest { .. } | PeerMessage::Stranger) => {}
            Err(_) => self.figures.peer_messages_refused += 1,
        }
    }

    fn is_member(&self, id: MemberId) -> bool {
        self.ensemble.as_ref().is_some_and(|ensemble| ensemble.members.get(id).is_some())
    }

    /// Takes in requests of another member's clients. They are checked here, because what is in the log must be readable
    /// by all.
    fn take_batch(&mut self, from: MemberId, data: Bytes, now: Now) {
        let is_member = self.is_member(from);
        match Requests::check(&data) {
            Ok(batch) if batch.member == from.0 && is_member => {
                if self.engine.is_leader() {
                    // Now, and not when they are applied: the disk may take longer than the session has left.
                    for session in Requests::sessions(&data) {
                        self.sessions.heard(session, now.monotonic_ms());
                    }
                    self.leadership.batches.push_back(data);
                }
            }
            _ => self.figures.peer_messages_refused += 1,
        }
    }

    /// Does what comes with time for leadership.
    pub(crate) fn tick_leadership(&mut self, now: Now, out: &mut Vec<Action>) {
        self.leadership.ticks += 1;
        if let Some(number) = self.read_points.tick() {
            self.engine.ask_read_point(number);
        }
        if self.is_alone() {
            return;
        }
        if self.log_full && self.leadership.ticks.is_multiple_of(HAND_OVER_TICKS) {
            self.hand_over();
        }
        self.leadership.is_leaderless = self.is_leaderless(now);
        if self.leadership.is_leaderless || self.cannot_follow() {
            self.stop_serving();
        }
        if !self.serving && self.config.ensemble.read_only_mode {
            self.connections.close_read_only(Some(now));
        }
        if !self.leadership.is_leading && self.leadership.ticks.is_multiple_of(ALIVE_TICKS) {
            self.tell_alive(out);
        }
    }

    /// Tells the leader which clients were heard.
    fn tell_alive(&mut self, out: &mut Vec<Action>) {
        let Some(leader) = self.engine.leader().filter(|leader| self.peers.contains_key(leader)) else { return };
        let sessions = self.connections.take_alive(&mut self.alive);
        if !sessions.is_empty() {
            out.push(Action::SendPeer { to: leader, message: PeerMessage::Alive(sessions).encode() });
        }
    }

    /// Takes in a sign of life of a client.
    #[inline]
    pub(crate) fn heard(&mut self, slot: usize, now: Now) {
        let conn = self.connections.at(slot);
        if conn.is_read_only {
            return;
        }
        if self.leadership.is_leading {
            self.sessions.heard(conn.session, now.monotonic_ms());
        } else if !conn.is_alive_untold {
            conn.is_alive_untold = true;
            self.alive.push((slot, conn.id));
        }
    }

    /// Compares the state with the leader's now and then: a member that differs must not go on.
    pub(crate) fn note_digest(&mut self, index: u64, out: &mut Vec<Action>) {
        if !index.is_multiple_of(DIGEST_ENTRIES) || self.is_alone() {
            return;
        }
        let digest = self.tree.digest();
        push_bounded(&mut self.leadership.own_digests, (index, digest));
        if self.engine.is_leader() {
            let message = PeerMessage::Digest { index, digest }.encode();
            out.extend(self.peers.keys().map(|&to| Action::SendPeer { to, message: message.clone() }));
        } else {
            self.compare_digests();
        }
    }

    /// # Panics
    /// If this member's state differs from the leader's: a stopped member is safe, one that differs is not.
    fn compare_digests(&self) {
        for (index, theirs) in &self.leadership.leader_digests {
            let ours = self.leadership.own_digests.iter().find(|(own, _)| own == index);
            if let Some((_, ours)) = ours {
                assert!(ours == theirs, "this member's data differs from the leader's at entry {index}");
            }
        }
    }

    /// Forgets sums that are of another past than the state.
    pub(crate) fn forget_digests(&mut self) {
        self.leadership.own_digests.clear();
    }

    /// Takes in that this member is to stop.
    pub(crate) fn resign(&mut self, now: Now) {
        self.leadership.resign_until_ms.get_or_insert(now.monotonic_ms() + RESIGN_MS_MAX);
    }

    /// Hands leadership over before a stop; says when nothing keeps this member any more.
    pub(crate) fn advance_resignation(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(until_ms) = self.leadership.resign_until_ms else { return };
        let heir = self.heir();
        if !self.engine.is_leader() || heir.is_none() || now.monotonic_ms() >= until_ms {
            self.leadership.resign_until_ms = None;
            out.push(Action::Resigned);
        } else {
            self.hand_over();
        }
    }

    /// Takes in whether the log has room. A member without room does not lead if it can help it.
    pub(crate) fn set_log_full(&mut self, is_full: bool) {
        self.log_full = is_full;
        self.engine.set_may_lead(!is_full);
        if is_full && !self.is_alone() {
            self.hand_over();
        }
    }

    /// Returns true while this member cannot take what its leader sends, for want of room: its clients are better off
    /// elsewhere. A leader without room goes on serving reads, for nobody may be better off.
    fn cannot_follow(&self) -> bool {
        self.log_full && !self.engine.is_leader() && !self.is_alone()
    }

    /// Hands leadership to whoever lacks least, if this member has it.
    fn hand_over(&mut self) {
        if let Some(heir) = self.heir().filter(|_| self.engine.can_propose()) {
            self.engine.transfer_to(heir);
        }
    }

    /// Returns the voter that lacks least among those that are to vote in the future too.
    pub(crate) fn heir_among(&self, servers: &Servers) -> Option<MemberId> {
        let members = &self.ensemble.as_ref()?.members;
        let stays = |id: MemberId| {
            let member = members.get(id).filter(|member| members.conf.voters.contains(&member.id.0));
            member
                .is_some_and(|member| servers.get(&member.server_id).is_some_and(|spec| spec.role == Role::Participant))
        };
        let own = self.config.ensemble.member.id;
        let others = self.peers.keys().copied().filter(|&id| id != own && stays(id));
        others.max_by_key(|&id| (self.engine.follower(id).map(|follower| follower.matched), std::cmp::Reverse(id)))
    }

    /// Returns the voter that lacks least.
    pub(crate) fn heir(&self) -> Option<MemberId> {
        let conf = &self.ensemble.as_ref()?.members.conf;
        let own = self.config.ensemble.member.id;
        let voters = conf.voters.iter().map(|&id| MemberId(id)).filter(|&id| id != own && self.peers.contains_key(&id));
        voters.max_by_key(|&id| (self.engine.follower(id).map(|follower| follower.matched), std::cmp::Reverse(id)))
    }
}

fn push_bounded(digests: &mut VecDeque<(u64, u64)>, digest: (u64, u64)) {
    if digests.len() == DIGESTS_MAX {
        digests.pop_front();
    }
    digests.push_back(digest);
}
