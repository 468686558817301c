//! The engine's view of the log: the newest entries in memory, the terms of all that can be read, and those that were
//! read back from the disk for a member that is far behind.
//!
//! What is durable is the business of the edge; the engine only needs to read back what it has handed out.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use raft::prelude::{Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::conf_state;
use crate::members::{Conf, MemberId};

/// Ranges that were read back and may be needed once more.
const FETCHED_RANGES_MAX: usize = 4;

/// A snapshot that the edge has on its disk.
#[derive(Debug, Clone)]
pub(super) struct SavedSnapshot {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) conf: Conf,
}

/// The newest entries of the log.
pub(super) struct EntryCache {
    /// The entry before the first one held, and its term.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The first entry that can be read at all, from here or from the disk.
    log_first: u64,
    /// Where each term starts, from the entry before `log_first` on.
    terms: VecDeque<(u64, u64)>,
    hard_state: HardState,
    conf: Conf,
    saved: Option<SavedSnapshot>,
    /// Entries read back from the disk, by the first of each range.
    fetched: BTreeMap<u64, Vec<Entry>>,
    /// Reads that found nothing here: where from, up to where, and who goes on once it is there.
    wanted: RefCell<Vec<(u64, u64, GetEntriesContext)>>,
    wants_snapshot: RefCell<bool>,
}

impl EntryCache {
    pub(super) fn new(
        snapshot: (u64, u64),
        hard_state: HardState,
        conf: Conf,
        entries: impl Iterator<Item = Entry>,
    ) -> EntryCache {
        let mut cache = EntryCache {
            before: snapshot,
            entries: VecDeque::new(),
            bytes: 0,
            log_first: snapshot.0 + 1,
            terms: VecDeque::from([snapshot]),
            hard_state,
            conf,
            saved: None,
            fetched: BTreeMap::new(),
            wanted: RefCell::default(),
            wants_snapshot: RefCell::default(),
        };
        entries.for_each(|entry| cache.push(entry));
        cache
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Forgets everything; the log goes on behind a snapshot.
    pub(super) fn reset(&mut self, snapshot: (u64, u64)) {
        self.before = snapshot;
        self.entries.clear();
        self.bytes = 0;
        self.log_first = snapshot.0 + 1;
        self.terms = VecDeque::from([snapshot]);
        self.fetched.clear();
    }

    /// Adds entries; those that stand where others stood replace them and all behind them.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        if self.last() >= first.index {
            self.fetched.clear();
        }
        while self.last() >= first.index {
            let replaced = self.entries.pop_back().expect("only entries that are held are replaced");
            self.bytes -= replaced.data.len();
        }
        while self.terms.len() > 1 && self.terms.back().is_some_and(|&(start, _)| start >= first.index) {
            self.terms.pop_back();
        }
        entries.iter().for_each(|entry| self.push(entry.clone()));
    }

    fn push(&mut self, entry: Entry) {
        assert!(self.last() + 1 == entry.index, "the engine appends without gaps");
        if self.terms.back().is_none_or(|&(_, term)| term != entry.term) {
            self.terms.push_back((entry.index, entry.term));
        }
        self.bytes += entry.data.len();
        self.entries.push_back(entry);
    }

    /// Drops the oldest entries up to `applied` while more than `bytes_max` bytes are held.
    pub(super) fn trim(&mut self, applied: u64, bytes_max: usize) {
        while self.bytes > bytes_max && self.before.0 < applied {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.data.len();
            self.before = (oldest.index, oldest.term);
        }
    }

    /// Takes note that the edge gives up the entries before `first`.
    pub(super) fn purged(&mut self, first: u64) {
        self.log_first = self.log_first.max(first.min(self.before.0 + 1));
        while self.terms.get(1).is_some_and(|&(start, _)| start < self.log_first) {
            self.terms.pop_front();
        }
    }

    /// Takes in what was read back; `None` if the disk does not have it. Returns who waits for it.
    pub(super) fn fetched(&mut self, first: u64, entries: Option<Vec<Entry>>) -> Vec<GetEntriesContext> {
        match entries {
            Some(entries) => {
                if self.fetched.len() == FETCHED_RANGES_MAX && !self.fetched.contains_key(&first) {
                    // Those behind come before the others, which will ask again.
                    self.fetched.pop_last();
                }
                self.fetched.insert(first, entries);
            }
            None => self.log_first = self.before.0 + 1,
        }
        let (ready, waiting) =
            self.wanted.take().into_iter().partition(|(low, ..)| *low == first || *low >= self.log_first_in_memory());
        self.wanted.replace(waiting);
        let ready: Vec<(u64, u64, GetEntriesContext)> = ready;
        ready.into_iter().map(|(.., context)| context).collect()
    }

    fn log_first_in_memory(&self) -> u64 {
        self.before.0 + 1
    }

    /// Returns the ranges that are to be read back and were not asked for yet; `asked` has those that were.
    pub(super) fn wanted(&self, asked: &mut Vec<u64>) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        for &(low, high, _) in self.wanted.borrow().iter() {
            if !asked.contains(&low) {
                asked.push(low);
                ranges.push((low, high));
            }
        }
        ranges
    }

    pub(super) fn set_conf(&mut self, conf: Conf) {
        self.conf = conf;
    }

    pub(super) fn set_saved(&mut self, saved: SavedSnapshot) {
        self.saved = Some(saved);
    }

    /// Returns true once if a member needs a newer snapshot than there is.
    pub(super) fn take_wants_snapshot(&mut self) -> bool {
        self.wants_snapshot.take()
    }

    /// Returns the first entry in memory.
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

    /// Finds entries that were read back.
    fn read_back(&self, low: u64, high: u64, bytes_max: u64) -> Option<Vec<Entry>> {
        let (&first, entries) = self.fetched.range(..=low).next_back()?;
        let skipped = usize::try_from(low - first).ok()?;
        let behind = entries.get(skipped..).filter(|behind| !behind.is_empty())?;
        Some(take_bytes(behind.iter().take_while(|entry| entry.index < high), bytes_max))
    }
}

/// Clones entries while they fit into `bytes_max`, at least one.
fn take_bytes<'a>(entries: impl Iterator<Item = &'a Entry>, bytes_max: u64) -> Vec<Entry> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    for entry in entries {
        bytes += (entry.data.len() + entry.context.len()) as u64;
        if bytes > bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(entry.clone());
    }
    taken
}

impl Storage for EntryCache {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), conf_state(&self.conf)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        if low < self.log_first {
            return Err(Error::Store(StorageError::Compacted));
        }
        if low < self.first() {
            let high = high.min(self.first());
            if let Some(entries) = self.read_back(low, high, bytes_max) {
                return Ok(entries);
            }
            assert!(context.can_async(), "only members that are behind need what is not in memory");
            self.wanted.borrow_mut().push((low, high, context));
            return Err(Error::Store(StorageError::LogTemporarilyUnavailable));
        }
        let (start, end) = (self.offset(low)?, self.offset(high)?);
        Ok(take_bytes(self.entries.range(start..end), bytes_max))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index + 1 < self.log_first {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let place = self.terms.partition_point(|&(start, _)| start <= index);
        match place.checked_sub(1).and_then(|place| self.terms.get(place)) {
            Some(&(_, term)) => Ok(term),
            None => Err(Error::Store(StorageError::Compacted)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log_first)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Only says which snapshot it is: the edge sends its contents.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let usable = self.saved.as_ref().filter(|saved| {
            saved.index + 1 >= self.log_first && saved.index >= request_index && saved.conf.contains(MemberId(to))
        });
        let Some(saved) = usable else {
            self.wants_snapshot.replace(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = saved.index;
        metadata.term = saved.term;
        metadata.set_conf_state(conf_state(&saved.conf));
        Ok(snapshot)
    }
}
