//! The one module that knows the consensus engine: everything Raft says ends here.
//!
//! The engine is the crate `raft`, a stepped core without I/O. It is driven with asynchronous readies: a batch goes to
//! the log, more may follow before it is durable, and entries come back as [`Committed`] only when a majority has them
//! on disk, this member included.
//!
//! What a leader sends may leave at once; what a follower promises (votes, acknowledgements) leaves only when the batch
//! that holds the promise is durable: [`Engine::synced`]. That it is alive is no promise: a leader whose followers wait
//! for their disks still leads.
//!
//! Its message types come from protobuf; no byte from the network or from the disk is ever parsed by that library.

mod cache;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::Bytes;
use grange_proto::wire::DecodeError;
use raft::prelude::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Config, Entry, EntryType, Message,
    MessageType,
};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};

use crate::config::RecoverError;
use crate::event::{HardState, LogBatch, LogEntry};
use crate::members::{Conf, MemberId, MembersChange, Step};
use cache::{EntryCache, SavedSnapshot};

/// Ticks of silence after which a follower asks for an election; a tick is [`crate::TICK_MS`].
const ELECTION_TICKS: usize = 10;
/// Ticks between two heartbeats of a leader.
const HEARTBEAT_TICKS: usize = 2;
/// The most bytes of entries in one message to a follower.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Messages with entries to one follower that it has not answered; more wait in the leader's log.
const MESSAGES_IN_FLIGHT_MAX: usize = 64;
/// Applied entries stay in memory up to this many bytes, for members that are a little behind.
const CACHE_BYTES_MAX: usize = 8 << 20;
/// Entries that a learner may lack to count as caught up.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// Proof that the value comes out of an entry that a majority has on disk.
///
/// Only this module can make one, and replies to writes can only be made from one: durable before visible.
#[derive(Debug)]
pub(crate) struct Committed<T>(T);

impl<T> Committed<T> {
    /// Gives up the proof.
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryPurpose {
    /// It holds nothing: a new leader's first.
    Nothing,
    /// It holds a batch of requests.
    Requests,
    /// It changes the members.
    Members,
}

/// Tells what an entry is for.
pub(crate) fn purpose(entry: &LogEntry) -> EntryPurpose {
    match (entry.tag, entry.data.is_empty()) {
        (wire::TAG_MEMBERS, _) => EntryPurpose::Members,
        (_, true) => EntryPurpose::Nothing,
        _ => EntryPurpose::Requests,
    }
}

/// Where the entries start.
pub(crate) struct Start {
    /// This member; never 0.
    pub(crate) id: MemberId,
    /// Who votes, as of the snapshot.
    pub(crate) conf: Conf,
    /// The last entry that the snapshot contains, and its term; 0 for none.
    pub(crate) snapshot: (u64, u64),
    /// What was promised before the stop.
    pub(crate) hard_state: HardState,
    /// The entries behind the snapshot.
    pub(crate) entries: Vec<LogEntry>,
    /// The source of the elections' timeouts.
    pub(crate) seed: u64,
}

/// What [`Engine::poll`] found to do.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Batches for the log, in order.
    pub(crate) batches: Vec<LogBatch>,
    /// Entries to apply, in order.
    pub(crate) committed: Vec<Committed<LogEntry>>,
    /// Messages that may leave now.
    pub(crate) messages: Vec<(MemberId, Vec<u8>)>,
    /// Snapshots to send: to whom, index, term, and the message that goes with it.
    pub(crate) snapshots: Vec<(MemberId, u64, u64, Vec<u8>)>,
    /// Entries to read back: from, and to before. Some of them will do.
    pub(crate) reads: Vec<(u64, u64)>,
    /// Points up to which a reader must have applied: what [`Engine::ask_read_point`] was given, and the index.
    pub(crate) read_points: Vec<(u64, u64)>,
    /// The snapshot that everything goes on from, given by [`Engine::install`].
    pub(crate) installed: Option<(u64, u64)>,
}

impl Output {
    fn put(&mut self, message: &Message) {
        let mut bytes = vec![crate::peer::KIND_ENGINE];
        if !wire::encode(message, &mut bytes) {
            return;
        }
        let to = MemberId(message.to);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let metadata = message.get_snapshot().get_metadata();
            self.snapshots.push((to, metadata.index, metadata.term, bytes));
        } else {
            self.messages.push((to, bytes));
        }
    }
}

/// How far another member has come, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Follower {
    /// The last entry it is known to have.
    pub(crate) matched: u64,
    /// Whether it lacks next to nothing.
    pub(crate) is_caught_up: bool,
}

/// The engine of one member.
pub(crate) struct Engine {
    node: RawNode<EntryCache>,
    id: MemberId,
    /// The last entry handed out as committed.
    handed_out: u64,
    /// Promises that leave when the batch of this number is durable.
    held: VecDeque<(u64, Vec<Message>)>,
    /// The newest batch handed out, and the newest that is durable.
    last_batch: u64,
    synced_batch: u64,
    /// The newest term handed out to be written, and the batch that holds it.
    written_term: (u64, u64),
    /// Committed entries that wait for a batch to be durable: from a change of the members on.
    waiting: VecDeque<(u64, Committed<LogEntry>)>,
    /// The newest ready, with or without a batch.
    last_ready: u64,
    /// The last entry of a snapshot that everything goes on from and that the log does not continue yet. Until it does,
    /// this member asks for no election: the engine would look for the entries before it.
    installing: Option<u64>,
    /// Reads of the log that are under way.
    reading: Vec<u64>,
    seed: u64,
    /// Elections that this member has asked for.
    campaigns: u64,
    /// Whether this member asks for elections: not while it cannot write to its log.
    may_lead: bool,
}

impl Engine {
    /// Starts from what was on disk; a member without peers becomes leader with the first batch it writes.
    pub(crate) fn start(start: Start) -> Result<Engine, RecoverError> {
        let Start { id, conf, snapshot, hard_state, entries, seed } = start;
        let config = Config {
            id: id.0,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: snapshot.0,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let last = entries.last().map_or(snapshot.0, |entry| entry.index);
        let hard_state = raft::prelude::HardState {
            term: hard_state.term.max(snapshot.1),
            vote: hard_state.vote,
            commit: hard_state.commit.clamp(snapshot.0, last),
            ..Default::default()
        };
        let hard_state_term = hard_state.term;
        let alone = conf.is_only(id);
        let entries = entries.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let cache = EntryCache::new(snapshot, hard_state, conf, entries.into_iter());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, cache, &logger).map_err(RecoverError::Engine)?;
        let mut engine = Engine {
            node,
            id,
            handed_out: snapshot.0,
            held: VecDeque::new(),
            written_term: (hard_state_term, 0),
            waiting: VecDeque::new(),
            last_batch: 0,
            synced_batch: 0,
            last_ready: 0,
            installing: None,
            reading: Vec::new(),
            seed,
            campaigns: 0,
            may_lead: true,
        };
        engine.set_timeout();
        if alone {
            engine.node.campaign().map_err(RecoverError::Engine)?;
        }
        Ok(engine)
    }

    /// Returns true if this member orders the writes.
    pub(crate) fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Returns who orders the writes, as far as this member knows.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        Some(MemberId(self.node.raft.leader_id)).filter(|leader| leader.0 != 0)
    }

    /// Returns true if [`Engine::propose`] takes an entry now: not while leadership is handed over.
    pub(crate) fn can_propose(&self) -> bool {
        let raft = &self.node.raft;
        self.is_leader() && raft.lead_transferee.is_none() && raft.prs().get(self.id.0).is_some()
    }

    /// Adds an entry to the log of the leader, which must be able to take one.
    pub(crate) fn propose(&mut self, data: Bytes) {
        assert!(self.can_propose(), "entries are proposed only where they are taken");
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id.0;
        message.mut_entries().push(Entry { data, ..Entry::default() });
        let taken = self.node.raft.step(message);
        assert!(taken.is_ok(), "a leader without a bound on its log takes every entry");
    }

    /// Proposes a change of the members; the engine may drop it silently if another one is under way.
    pub(crate) fn propose_members(&mut self, change: &MembersChange) {
        if self.can_propose() {
            // A refusal shows in that nothing comes of it.
            let _ = self.node.propose_conf_change(change.encode(), conf_change(change));
        }
    }

    /// Returns true while a change of the members is in the log and not yet applied.
    pub(crate) fn has_pending_members(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// Applies a change of the members, and returns who votes from now on.
    ///
    /// # Panics
    /// If the change is impossible: it was checked by the leader that proposed it.
    pub(crate) fn apply_members(&mut self, change: &MembersChange) -> Conf {
        let state = self.node.apply_conf_change(&conf_change(change)).expect("the leader has checked the change");
        let conf = conf_of(&state);
        self.node.mut_store().set_conf(conf.clone());
        if self.is_leader() && !self.node.raft.promotable() {
            self.step_down();
        }
        self.set_timeout();
        conf
    }

    /// Stops to lead, and asks whoever lacks least to go on: this member votes no more, and the engine has no place any
    /// more for what it has written itself.
    fn step_down(&mut self) {
        let raft = &mut self.node.raft;
        let progress = raft.prs();
        let voters = progress.conf().to_conf_state().voters;
        let heirs = voters.into_iter().filter_map(|id| Some((progress.get(id)?.matched, id)));
        if let Some((_, heir)) = heirs.max() {
            raft.send_timeout_now(heir);
        }
        let term = raft.term;
        raft.become_follower(term, 0);
    }

    /// Moves the engine's clock on by one tick.
    pub(crate) fn tick(&mut self) {
        if self.installing.is_some() || (!self.may_lead && !self.is_leader()) {
            return;
        }
        let was_following = self.node.raft.state == StateRole::Follower;
        self.node.tick();
        if was_following && self.node.raft.state != StateRole::Follower {
            self.campaigns += 1;
        }
        self.set_timeout();
    }

    /// Takes in a message of another member.
    pub(crate) fn step(&mut self, from: MemberId, bytes: &Bytes) -> Result<(), DecodeError> {
        let message = wire::decode(bytes)?;
        if message.from != from.0 || message.to != self.id.0 || message.get_msg_type() == MessageType::MsgSnapshot {
            return Err(DecodeError::Unknown(0, "message of another member than its sender"));
        }
        let is_late =
            (self.installing.is_some() || !self.may_lead) && message.get_msg_type() == MessageType::MsgTimeoutNow;
        if is_late || self.is_stale_rejection(&message) {
            return Ok(());
        }
        // What the engine refuses is late or of a stranger; both happen.
        let _ = self.node.step(message);
        self.set_timeout();
        Ok(())
    }

    /// A rejection from before the follower had what it is known to have would move the leader's place in its log
    /// below that: the engine would send what the follower has, again and again.
    fn is_stale_rejection(&self, message: &Message) -> bool {
        message.get_msg_type() == MessageType::MsgAppendResponse
            && message.reject
            && message.term == self.node.raft.term
            && message.request_snapshot == 0
            && self
                .node
                .raft
                .prs()
                .get(message.from)
                .is_some_and(|progress| progress.state == ProgressState::Probe && message.index <= progress.matched)
    }

    /// Takes in a snapshot that is durable here; [`Output::installed`] says if everything goes on from it.
    pub(crate) fn install(&mut self, from: MemberId, bytes: &Bytes) -> Result<(), DecodeError> {
        let message = wire::decode(bytes)?;
        if message.from != from.0 || message.to != self.id.0 || message.get_msg_type() != MessageType::MsgSnapshot {
            return Err(DecodeError::Unknown(0, "message with a snapshot"));
        }
        let _ = self.node.step(message);
        self.set_timeout();
        Ok(())
    }

    /// Takes in that a batch and all before it are durable.
    pub(crate) fn synced(&mut self, batch: u64) {
        self.synced_batch = batch;
        // Readies behind the last batch had nothing to write.
        let ready = if batch == self.last_batch && batch > 0 { self.last_ready } else { batch };
        self.node.on_persist_ready(ready);
        if let Some(index) = self.installing.take_if(|index| *index <= self.node.raft.raft_log.persisted) {
            self.node.advance_apply_to(index);
        }
        self.set_timeout();
    }

    /// Takes in that everything up to `index` was applied.
    pub(crate) fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.node.mut_store().trim(index, CACHE_BYTES_MAX);
    }

    /// Takes in which snapshot the edge has on its disk.
    pub(crate) fn snapshot_saved(&mut self, index: u64, term: u64, conf: Conf) {
        self.node.mut_store().set_saved(SavedSnapshot { index, term, conf });
    }

    /// Takes in that the edge gives up the entries before `first`.
    pub(crate) fn purged(&mut self, first: u64) {
        self.node.mut_store().purged(first);
    }

    /// Takes in entries that were read back, or that they cannot be.
    pub(crate) fn log_read(&mut self, first: u64, entries: Option<Vec<LogEntry>>) {
        self.reading.retain(|&asked| asked != first);
        let entries = entries.and_then(|entries| entries.into_iter().map(entry).collect::<Result<Vec<_>, _>>().ok());
        for context in self.node.mut_store().fetched(first, entries) {
            self.node.on_entries_fetched(context);
        }
    }

    /// Returns true once if a member needs a newer snapshot than there is.
    pub(crate) fn take_wants_snapshot(&mut self) -> bool {
        self.node.mut_store().take_wants_snapshot()
    }

    /// Takes in what became of a snapshot that was sent.
    pub(crate) fn snapshot_sent(&mut self, to: MemberId, is_received: bool) {
        let status = if is_received { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(to.0, status);
    }

    /// Takes in that a member cannot be reached: what was sent to it may be lost.
    pub(crate) fn peer_lost(&mut self, peer: MemberId) {
        if self.is_leader() {
            self.node.report_unreachable(peer.0);
        } else if self.leader() == Some(peer) {
            self.leader_lost(peer);
        }
    }

    /// Asks for an election soon instead of after the timeout: the leader's process has ended or cannot be reached.
    ///
    /// The voters ask one after the other, so that they do not split the vote.
    fn leader_lost(&mut self, leader: MemberId) {
        let raft = &mut self.node.raft;
        let term = raft.term;
        raft.become_follower(term, 0);
        self.set_timeout();
        let raft = &mut self.node.raft;
        let rank = conf_of(&raft.prs().conf().to_conf_state())
            .voters
            .iter()
            .filter(|&&id| id != leader.0)
            .position(|&id| id == self.id.0)
            .unwrap_or(ELECTION_TICKS);
        raft.election_elapsed = raft.randomized_election_timeout().saturating_sub(1 + 2 * rank);
    }

    /// Asks up to where a reader must have applied to see every write that was acknowledged before. Answered by
    /// [`Output::read_points`], or not at all if leadership changes.
    pub(crate) fn ask_read_point(&mut self, ticket: u64) {
        self.node.read_index(ticket.to_be_bytes().to_vec());
    }

    /// Says whether this member may ask for elections, and take leadership that is handed over.
    pub(crate) fn set_may_lead(&mut self, may_lead: bool) {
        self.may_lead = may_lead;
    }

    /// Hands leadership over.
    pub(crate) fn transfer_to(&mut self, to: MemberId) {
        self.node.transfer_leader(to.0);
    }

    /// Returns how far a member has come; `None` if this one does not lead.
    pub(crate) fn follower(&self, id: MemberId) -> Option<Follower> {
        let raft = &self.node.raft;
        let progress = raft.prs().get(id.0).filter(|_| self.is_leader())?;
        let is_caught_up = progress.state == ProgressState::Replicate
            && progress.matched + CAUGHT_UP_ENTRIES >= raft.raft_log.last_index();
        Some(Follower { matched: progress.matched, is_caught_up })
    }

    /// Collects what is to be written, sent and applied.
    pub(crate) fn poll(&mut self, out: &mut Output) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let number = ready.number();
            self.last_ready = number;
            let entries = ready.take_entries();
            if let Some(hs) = ready.hs() {
                self.node.mut_store().set_hard_state(hs.clone());
            }
            let reset_to = self.take_snapshot(&ready, out);
            for state in ready.take_read_states() {
                if let Ok(ticket) = state.request_ctx.try_into() {
                    out.read_points.push((u64::from_be_bytes(ticket), state.index));
                }
            }
            ready.take_messages().iter().for_each(|message| out.put(message));
            let promises = ready.take_persisted_messages();
            let committed = ready.take_committed_entries();
            // A commit index alone is not worth a write: it is found again by the next election. But who votes in that
            // election is known only if it is remembered that a change of the members was committed.
            let must_sync = ready.must_sync() || committed.iter().any(is_members_change);
            if must_sync || !entries.is_empty() {
                self.node.mut_store().append(&entries);
                let entries = entries.iter().map(log_entry).collect();
                out.batches.push(LogBatch {
                    number,
                    entries,
                    hard_state: Some(self.hard_state()),
                    reset_to,
                    must_sync,
                });
                self.last_batch = number;
                if self.node.raft.term != self.written_term.0 {
                    self.written_term = (self.node.raft.term, number);
                }
            }
            for entry in committed {
                self.hand_out(&entry, out);
            }
            self.node.advance_append_async(ready);
            self.send_or_hold(promises, out);
        }
        self.release(out);
        self.hand_out_durable(out);
        self.set_timeout();
        out.reads.extend(self.node.store().wanted(&mut self.reading));
    }

    /// Sends promises if everything before them is durable.
    fn send_or_hold(&mut self, mut promises: Vec<Message>, out: &mut Output) {
        if self.synced_batch < self.last_batch {
            promises.retain(|message| {
                let is_free = self.is_sign_of_life(message);
                if is_free {
                    out.put(message);
                }
                !is_free
            });
            if !promises.is_empty() {
                self.held.push_back((self.last_batch, promises));
            }
            return;
        }
        self.node.on_persist_ready(self.last_ready);
        promises.iter().for_each(|message| out.put(message));
    }

    /// Returns true for an answer to a heartbeat that promises nothing which could be forgotten: its term is durable.
    fn is_sign_of_life(&self, message: &Message) -> bool {
        message.get_msg_type() == MessageType::MsgHeartbeatResponse
            && message.term == self.written_term.0
            && self.written_term.1 <= self.synced_batch
    }

    fn release(&mut self, out: &mut Output) {
        while self.held.front().is_some_and(|(batch, _)| *batch <= self.synced_batch) {
            let (_, promises) = self.held.pop_front().expect("the front was looked at");
            promises.iter().for_each(|message| out.put(message));
        }
    }

    fn take_snapshot(&mut self, ready: &raft::Ready, out: &mut Output) -> Option<(u64, u64)> {
        if ready.snapshot().is_empty() {
            return None;
        }
        let metadata = ready.snapshot().get_metadata();
        let mark = (metadata.index, metadata.term);
        let store = self.node.mut_store();
        store.reset(mark);
        store.set_conf(conf_of(metadata.get_conf_state()));
        self.handed_out = mark.0;
        self.waiting.clear();
        self.reading.clear();
        self.installing = Some(mark.0);
        out.installed = Some(mark);
        Some(mark)
    }

    fn hard_state(&self) -> HardState {
        let raft = &self.node.raft;
        HardState { term: raft.term, vote: raft.vote, commit: raft.raft_log.committed }
    }

    /// Hands out an entry to be applied. A change of the members is held until it is durable that it was committed, and
    /// what follows it until that one is handed out: after a restart this member must not ask those for their votes who
    /// were members before, while others have gone on with those who are members now.
    fn hand_out(&mut self, entry: &Entry, out: &mut Output) {
        assert!(entry.index == self.handed_out + 1, "the engine hands out entries without gaps");
        self.handed_out = entry.index;
        let committed = Committed(log_entry(entry));
        if is_members_change(entry) || !self.waiting.is_empty() {
            let batch = if is_members_change(entry) { self.last_batch } else { 0 };
            self.waiting.push_back((batch, committed));
        } else {
            out.committed.push(committed);
        }
    }

    fn hand_out_durable(&mut self, out: &mut Output) {
        while let Some((_, committed)) = self.waiting.pop_front_if(|(batch, _)| *batch <= self.synced_batch) {
            out.committed.push(committed);
        }
    }

    /// Sets the time after which this member asks for an election. The engine draws one from the system; ours depends
    /// on nothing but the seed and what has happened, so that a run can be repeated.
    fn set_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&raft.term.to_le_bytes());
        bytes[16..].copy_from_slice(&self.campaigns.to_le_bytes());
        let drawn = foldhash_of(&bytes) % ELECTION_TICKS as u64;
        raft.set_randomized_election_timeout(ELECTION_TICKS + usize::try_from(drawn).expect("a small number"));
    }

    /// Returns the term of this member.
    pub(crate) fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// Returns the first entry in memory, the last entry, and the last committed one.
    pub(crate) fn extent(&self) -> (u64, u64, u64) {
        let log = &self.node.raft.raft_log;
        (self.node.store().first(), log.last_index(), log.committed)
    }
}

/// A number that depends on all of `bytes`.
fn foldhash_of(bytes: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

fn conf_change(change: &MembersChange) -> ConfChangeV2 {
    let mut conf_change = ConfChangeV2::default();
    if !change.steps.is_empty() {
        conf_change.set_transition(ConfChangeTransition::Explicit);
    }
    for step in &change.steps {
        let mut single = ConfChangeSingle::default();
        let (kind, id) = match step {
            Step::Vote(id) => (ConfChangeType::AddNode, id),
            Step::Learn(id) => (ConfChangeType::AddLearnerNode, id),
            Step::Leave(id) => (ConfChangeType::RemoveNode, id),
        };
        single.set_change_type(kind);
        single.node_id = id.0;
        conf_change.mut_changes().push(single);
    }
    conf_change
}

fn conf_state(conf: &Conf) -> ConfState {
    ConfState {
        voters: conf.voters.clone(),
        learners: conf.learners.clone(),
        voters_outgoing: conf.outgoing.clone(),
        learners_next: conf.learners_next.clone(),
        ..ConfState::default()
    }
}

fn conf_of(state: &ConfState) -> Conf {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    Conf {
        voters: sorted(&state.voters),
        learners: sorted(&state.learners),
        outgoing: sorted(&state.voters_outgoing),
        learners_next: sorted(&state.learners_next),
    }
}

fn is_members_change(entry: &Entry) -> bool {
    entry.entry_type != EntryType::EntryNormal
}

fn log_entry(entry: &Entry) -> LogEntry {
    let (tag, data) = wire::entry_parts(entry);
    LogEntry { index: entry.index, term: entry.term, tag, data: data.clone() }
}

fn entry(entry: LogEntry) -> Result<Entry, RecoverError> {
    let LogEntry { index, term, tag, data } = entry;
    wire::entry_from_parts(tag, term, index, data)
        .ok_or_else(|| RecoverError::Format { what: format!("entry {index}"), why: format!("its kind is {tag}") })
}

const _: () = assert!(HEARTBEAT_TICKS < ELECTION_TICKS, "a follower hears of its leader before it doubts it");
