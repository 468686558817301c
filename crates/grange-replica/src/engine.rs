//! The one module that knows the consensus engine: everything Raft says ends here.
//!
//! The engine is the crate `raft`, a stepped core without I/O. It is driven with asynchronous readies: a batch goes to
//! the log, more may follow before it is durable, and entries come back as [`Committed`] only when a majority has them
//! on disk, this member included.
//!
//! Its message types come from protobuf; no byte from the network or from the disk is ever parsed by that library.

mod cache;

use bytes::Bytes;
use raft::prelude::{ConfState, Config, Entry, EntryType};
use raft::{RawNode, StateRole};

use crate::config::RecoverError;
use crate::event::{HardState, LogBatch, LogEntry};
use cache::EntryCache;

/// Ticks of silence after which a follower asks for an election; a tick is [`crate::TICK_MS`].
const ELECTION_TICKS: usize = 10;
/// Ticks between two heartbeats of a leader.
const HEARTBEAT_TICKS: usize = 2;
/// The most bytes of entries in one message to a follower.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Applied entries stay in memory up to this many bytes, for members that are a little behind.
const CACHE_BYTES_MAX: usize = 8 << 20;

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

/// Where the entries start.
pub(crate) struct Start {
    /// This member; never 0.
    pub(crate) id: u64,
    /// The members that vote.
    pub(crate) voters: Vec<u64>,
    /// The last entry that the snapshot contains; 0 for none.
    pub(crate) snapshot_index: u64,
    /// Its term.
    pub(crate) snapshot_term: u64,
    /// What was promised before the stop.
    pub(crate) hard_state: HardState,
    /// The entries behind the snapshot.
    pub(crate) entries: Vec<LogEntry>,
}

/// What [`Engine::poll`] found to do.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Batches for the log, in order.
    pub(crate) batches: Vec<LogBatch>,
    /// Entries to apply, in order; those without data are left out.
    pub(crate) committed: Vec<Committed<LogEntry>>,
}

/// The engine of one member.
pub(crate) struct Engine {
    node: RawNode<EntryCache>,
    /// The last entry handed out as committed.
    handed_out: u64,
}

impl Engine {
    /// Starts from what was on disk; a member without peers becomes leader with the first batch it writes.
    pub(crate) fn start(start: Start) -> Result<Engine, RecoverError> {
        let config = Config {
            id: start.id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: start.snapshot_index,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let alone = start.voters == [start.id];
        let conf_state = ConfState { voters: start.voters, ..ConfState::default() };
        let handed_out = start.snapshot_index;
        let hard_state = raft::prelude::HardState {
            term: start.hard_state.term.max(start.snapshot_term),
            vote: start.hard_state.vote,
            commit: start.hard_state.commit.max(start.snapshot_index),
            ..Default::default()
        };
        let cache = EntryCache::new(start.snapshot_index, start.snapshot_term, hard_state, conf_state, start.entries);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, cache, &logger).map_err(RecoverError::Engine)?;
        let mut engine = Engine { node, handed_out };
        if alone {
            engine.node.campaign().map_err(RecoverError::Engine)?;
        }
        Ok(engine)
    }

    /// Returns true if this member orders the writes.
    pub(crate) fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Adds an entry to the log of the leader; returns false if the engine does not take it now.
    pub(crate) fn propose(&mut self, data: Vec<u8>) -> bool {
        self.node.propose(Vec::new(), data).is_ok()
    }

    /// Moves the engine's clock on by one tick.
    pub(crate) fn tick(&mut self) {
        self.node.tick();
    }

    /// Takes in that a batch and all before it are durable.
    pub(crate) fn synced(&mut self, batch: u64) {
        self.node.on_persist_ready(batch);
    }

    /// Takes in that everything up to `index` was applied.
    pub(crate) fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.node.mut_store().trim(index, CACHE_BYTES_MAX);
    }

    /// Collects what is to be written and what is to be applied.
    pub(crate) fn poll(&mut self, out: &mut Output) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let entries = ready.take_entries();
            let hard_state = ready.hs().map(|hs| HardState { term: hs.term, vote: hs.vote, commit: hs.commit });
            if let Some(hs) = ready.hs() {
                self.node.mut_store().set_hard_state(hs.clone());
            }
            for entry in ready.take_committed_entries() {
                self.hand_out(entry, out);
            }
            // A commit index alone is not worth a write: it is found again by the next election.
            if ready.must_sync() || !entries.is_empty() {
                self.node.mut_store().append(&entries);
                let entries = entries.into_iter().map(LogEntry::from).collect();
                let number = ready.number();
                out.batches.push(LogBatch {
                    number,
                    entries,
                    hard_state,
                    reset_to: None,
                    must_sync: ready.must_sync(),
                });
            }
            self.node.advance_append_async(ready);
        }
    }

    fn hand_out(&mut self, entry: Entry, out: &mut Output) {
        assert!(entry.index == self.handed_out + 1, "the engine hands out entries without gaps");
        self.handed_out = entry.index;
        match entry.entry_type {
            EntryType::EntryNormal => out.committed.push(Committed(LogEntry::from(entry))),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                unreachable!("a member that stands alone proposes no change of members")
            }
        }
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

impl From<Entry> for LogEntry {
    fn from(mut entry: Entry) -> LogEntry {
        LogEntry { index: entry.index, term: entry.term, tag: 0, data: entry.take_data() }
    }
}

impl From<LogEntry> for Entry {
    fn from(entry: LogEntry) -> Entry {
        Entry { index: entry.index, term: entry.term, data: entry.data, ..Entry::default() }
    }
}

/// Bytes that an entry without a request has: what a new leader writes first.
pub(crate) fn is_blank(data: &Bytes) -> bool {
    data.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(entries: Vec<LogEntry>, hard_state: HardState) -> Engine {
        let start = Start { id: 1, voters: vec![1], snapshot_index: 0, snapshot_term: 0, hard_state, entries };
        Engine::start(start).unwrap()
    }

    fn data(out: &mut Output) -> Vec<Bytes> {
        let entries = out.committed.drain(..).map(|entry| entry.into_inner().data);
        entries.filter(|data| !is_blank(data)).collect()
    }

    #[test]
    fn an_entry_is_committed_only_after_its_batch_is_durable() {
        let mut engine = alone(Vec::new(), HardState::default());
        let mut out = Output::default();
        engine.poll(&mut out);
        let vote = out.batches.pop().unwrap();
        assert!(vote.must_sync && vote.hard_state.is_some_and(|hard_state| hard_state.vote == 1));
        engine.synced(vote.number);
        engine.poll(&mut out);
        assert!(engine.is_leader());
        assert!(engine.propose(b"one".to_vec()));
        engine.poll(&mut out);
        assert!(data(&mut out).is_empty(), "nothing is durable yet");
        let last = out.batches.last().unwrap().number;
        engine.synced(last);
        engine.poll(&mut out);
        assert_eq!(data(&mut out), [Bytes::from_static(b"one")]);
    }

    #[test]
    fn entries_from_before_a_stop_are_committed_again() {
        let entry = LogEntry { index: 1, term: 1, tag: 0, data: Bytes::from_static(b"old") };
        let mut engine = alone(vec![entry], HardState { term: 1, vote: 1, commit: 0 });
        let mut out = Output::default();
        for _ in 0..3 {
            engine.poll(&mut out);
            if let Some(last) = out.batches.last() {
                engine.synced(last.number);
            }
        }
        assert_eq!(data(&mut out), [Bytes::from_static(b"old")]);
        assert_eq!(engine.term(), 2);
    }
}
