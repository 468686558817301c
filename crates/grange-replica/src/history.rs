//! What a simulation sees of a member beyond its actions: every request that it applied, in order, and whom it gave up.

use bytes::Bytes;
use grange_proto::{Op, Role, SessionId, Zxid};

use crate::event::LogEntry;
use crate::members::MemberId;
use crate::reconfig::Wish;
use crate::replica::{FOUNDING_MARK, Replica};

/// An entry of the log that was applied.
#[derive(Debug, Clone)]
pub struct AppliedEntry {
    /// Its place.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Its contents.
    pub data: Bytes,
    /// The requests in it, in order.
    pub requests: Vec<AppliedRequest>,
}

/// What was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppliedKind {
    /// A request of a client, or of a server of its own.
    Request(Op),
    /// A session that the leader ends, or the next step of that.
    End,
    /// A session's client came to another connection; takes no transaction number.
    Return,
    /// The list of members, which is the data of `/zookeeper/config`.
    Config,
    /// The list of members that the ensemble is on its way to and that nobody is shown yet; takes no transaction number.
    ConfigToCome,
    /// The reconfig under way has come to its end; takes no transaction number.
    ReconfigDone,
    /// The reconfig under way was given up; takes no transaction number.
    ReconfigGivenUp,
}

/// A request that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedRequest {
    /// What it is.
    pub kind: AppliedKind,
    /// The newest transaction number then: its own, if it took one.
    pub zxid: Zxid,
    /// The time that the leader gave it.
    pub time_ms: i64,
    /// The member by way of which it came.
    pub member: u64,
    /// Whose it is; [`SessionId::NONE`] for one of the server's own.
    pub session: SessionId,
    /// The body as the client sent it.
    pub body: Vec<u8>,
    /// The digest of the tree afterwards.
    pub digest: u64,
}

/// Where a member stands in the log, and which part it plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The term.
    pub term: u64,
    /// Whether it orders the writes of that term.
    pub is_leader: bool,
    /// The last entry.
    pub last: u64,
    /// The last entry known to be committed.
    pub committed: u64,
    /// The last entry applied.
    pub applied: u64,
    /// Whether requests of its clients, or of its own, wait to be applied.
    pub is_busy: bool,
}

/// Who the members are, as far as one of them knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those that vote, or will at the end of the change under way.
    pub voters: Vec<MemberId>,
    /// All of them, those that are to go included.
    pub members: Vec<MemberId>,
    /// Whether the voters change now.
    pub is_joint: bool,
    /// Whether all servers that found the ensemble are members.
    pub is_founded: bool,
    /// Servers that the reconfig under way asks for, and whether each is to vote; empty if it asks for a leader.
    pub wish: Option<Vec<(u8, bool)>>,
}

/// Notes what a member does, if it is asked to.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    is_on: bool,
    applied: Vec<AppliedEntry>,
    expired: Vec<SessionId>,
}

impl Replica {
    /// Starts to note what is done, for [`Replica::take_applied`] and [`Replica::take_expired`].
    pub fn record(&mut self) {
        self.recorder.is_on = true;
        self.note_founding();
    }

    /// Returns what was applied since the last call.
    pub fn take_applied(&mut self) -> Vec<AppliedEntry> {
        std::mem::take(&mut self.recorder.applied)
    }

    /// Returns the sessions that this member has found to be overdue since the last call; their end is yet to come.
    pub fn take_expired(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.recorder.expired)
    }

    /// Tells where the member stands.
    pub fn probe(&self) -> Probe {
        let (_, last, committed) = self.engine.extent();
        let (term, is_leader) = (self.engine.term(), self.engine.is_leader());
        let is_busy = !self.proposals.is_idle();
        Probe { term, is_leader, last, committed, applied: self.progress.index, is_busy }
    }

    /// Tells who the members are; nobody if this one belongs to no ensemble.
    pub fn membership(&self) -> Membership {
        let Some(ensemble) = &self.ensemble else { return Membership::default() };
        let members = &ensemble.members;
        Membership {
            voters: members.conf.voters.iter().map(|&id| MemberId(id)).collect(),
            members: members.iter().map(|member| member.id).collect(),
            is_joint: members.conf.is_joint(),
            is_founded: members.is_founded,
            wish: ensemble.wish.as_ref().map(|wish| match wish {
                Wish::Servers(servers) => servers.iter().map(|(&id, s)| (id, s.role == Role::Participant)).collect(),
                Wish::Leader(_) => Vec::new(),
            }),
        }
    }

    /// Notes what a founder has put into its first snapshot, if this member stands there.
    pub(crate) fn note_founding(&mut self) {
        let Some(ensemble) = self.ensemble.as_ref().filter(|_| self.progress.index == FOUNDING_MARK.0) else { return };
        let text = ensemble.members.config_text();
        if let Some(stat) = self
            .tree
            .stat("/zookeeper/config")
            .filter(|stat| stat.mzxid > Zxid::ZERO && stat.mzxid == self.tree.last_zxid())
        {
            let (index, term) = FOUNDING_MARK;
            self.note_entry(&LogEntry { index, term, tag: 0, data: Bytes::new() });
            self.note_applied(AppliedKind::Config, SessionId::NONE, text.as_bytes(), (stat.mtime_ms, 0));
        }
    }

    pub(crate) fn note_entry(&mut self, entry: &LogEntry) {
        if self.recorder.is_on {
            let LogEntry { index, term, ref data, .. } = *entry;
            self.recorder.applied.push(AppliedEntry { index, term, data: data.clone(), requests: Vec::new() });
        }
    }

    pub(crate) fn note_applied(&mut self, kind: AppliedKind, session: SessionId, body: &[u8], noted: (i64, u64)) {
        let (zxid, digest) = (self.tree.last_zxid(), self.tree.digest());
        let (time_ms, member) = noted;
        if let Some(entry) = self.recorder.applied.last_mut() {
            let body = body.to_vec();
            entry.requests.push(AppliedRequest { kind, zxid, time_ms, member, session, body, digest });
        }
    }

    pub(crate) fn note_expired(&mut self, session: SessionId) {
        if self.recorder.is_on {
            self.recorder.expired.push(session);
        }
    }
}
