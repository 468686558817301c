//! Which entries the log holds, as the records say one after the other.

use super::batch::{Carry, HardState, Mark, Record};

/// Entries from `index` on that lie in frames before `seq` are void.
#[derive(Debug, Clone, Copy)]
struct Cutoff {
    index: u64,
    seq: u64,
}

/// The state that the records up to some frame add up to.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Index of the oldest entry; `last.index + 1` if there is none.
    pub(super) first: u64,
    pub(super) last: Mark,
    pub(super) index_max: u64,
    pub(super) hard_state: HardState,
    cutoffs: Vec<Cutoff>,
}

/// What applying an entry did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It follows the last one.
    Next,
    /// It replaced one, and all after that are void.
    Replaced,
    /// It leaves a gap: the log that contains it is not one of ours.
    Gap,
}

impl View {
    pub(super) fn new() -> View {
        View { first: 1, ..View::default() }
    }

    pub(super) fn carry(&self) -> Carry {
        Carry { last: self.last, index_max: self.index_max, hard_state: self.hard_state }
    }

    /// Takes over what an earlier segment, which is not read, has left.
    pub(super) fn start_from(&mut self, carry: Carry) {
        self.first = carry.last.index + 1;
        self.last = carry.last;
        self.index_max = carry.index_max;
        self.hard_state = carry.hard_state;
    }

    /// Applies a record found in frame `seq`.
    pub(super) fn apply(&mut self, record: &Record, seq: u64) -> Applied {
        match record {
            Record::Entry(entry) => return self.entry(Mark { index: entry.index, term: entry.term }, seq),
            Record::HardState(hard_state) => self.hard_state = *hard_state,
            Record::Reset(mark) => self.reset(*mark, seq),
            // It repeats what the segments before said; only the first one to be read tells something new.
            Record::Carry(_) => {}
        }
        Applied::Next
    }

    pub(super) fn entry(&mut self, entry: Mark, seq: u64) -> Applied {
        if entry.index == 0 || entry.index > self.last.index + 1 {
            return Applied::Gap;
        }
        let replaces = entry.index <= self.last.index;
        if replaces {
            self.cutoffs.push(Cutoff { index: entry.index, seq });
            self.first = self.first.min(entry.index);
        }
        self.last = entry;
        self.index_max = self.index_max.max(entry.index);
        if replaces { Applied::Replaced } else { Applied::Next }
    }

    pub(super) fn reset(&mut self, mark: Mark, seq: u64) {
        self.cutoffs.clear();
        self.cutoffs.push(Cutoff { index: 0, seq });
        self.first = mark.index + 1;
        self.last = mark;
    }

    /// Tells whether the entry `index` found in frame `seq` still counts.
    pub(super) fn is_live(&self, index: u64, seq: u64) -> bool {
        index >= self.first && self.cutoffs.iter().all(|cutoff| seq >= cutoff.seq || index < cutoff.index)
    }

    /// Moves the start of the log to `first`, and forgets the cutoffs that concern only frames before `seq_min`.
    pub(super) fn purged(&mut self, first: u64, seq_min: u64) {
        self.first = self.first.max(first);
        self.cutoffs.retain(|cutoff| cutoff.seq > seq_min);
    }
}
