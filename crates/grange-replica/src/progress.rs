//! How far a member has come in the log.

use crate::event::LogEntry;

/// How far the log is applied.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Requests and bytes applied since the last snapshot was begun.
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
}

impl Progress {
    /// Starts from a snapshot.
    pub(crate) fn from_snapshot(index: u64, term: u64) -> Progress {
        Progress { index, term, ..Progress::default() }
    }

    pub(crate) fn note(&mut self, entry: &LogEntry) {
        self.index = entry.index;
        self.term = entry.term;
        self.bytes += entry.data.len() as u64;
    }
}
