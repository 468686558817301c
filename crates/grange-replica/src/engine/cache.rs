//! The engine's view of the log: the newest entries, in memory.
//!
//! What is durable is the business of the edge; the engine only needs to read back what it has handed out.

use std::collections::VecDeque;

use raft::prelude::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::event::LogEntry;

/// The newest entries of the log.
pub(super) struct EntryCache {
    /// The entry before the first one held, and its term.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
    hard_state: HardState,
    conf_state: ConfState,
}

impl EntryCache {
    pub(super) fn new(
        snapshot_index: u64,
        snapshot_term: u64,
        hard_state: HardState,
        conf_state: ConfState,
        entries: Vec<LogEntry>,
    ) -> EntryCache {
        let entries: VecDeque<Entry> = entries.into_iter().map(Entry::from).collect();
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        EntryCache { before: (snapshot_index, snapshot_term), entries, bytes, hard_state, conf_state }
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Adds entries; those that stand where others stood replace them and all behind them.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.last() >= first.index {
            let replaced = self.entries.pop_back().expect("only entries that are held are replaced");
            self.bytes -= replaced.data.len();
        }
        assert!(self.last() + 1 == first.index, "the engine appends without gaps");
        self.bytes += entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Drops the oldest entries up to `applied` while more than `bytes_max` bytes are held.
    pub(super) fn trim(&mut self, applied: u64, bytes_max: usize) {
        while self.bytes > bytes_max && self.before.0 < applied {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.data.len();
            self.before = (oldest.index, oldest.term);
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.before.0 + 1
    }

    fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    fn offset(&self, index: u64) -> Result<usize, Error> {
        if index < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        usize::try_from(index - self.first()).map_err(|_| Error::Store(StorageError::Unavailable))
    }
}

impl Storage for EntryCache {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let (start, end) = (self.offset(low)?, self.offset(high)?);
        let mut bytes = 0;
        let mut taken = Vec::new();
        for entry in self.entries.range(start..end) {
            bytes += entry.data.len() as u64;
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        let entry = self.entries.get(self.offset(index)?);
        entry.map(|entry| entry.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
