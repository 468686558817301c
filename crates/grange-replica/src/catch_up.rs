//! How fast members that are far behind get what they lack from a leader's disk.
//!
//! Unbounded, they would get it as fast as they take it, and reading, sending and applying it would go at the expense of
//! those who write now: on machines that members share, half of the throughput. So entries are read back at a pace that
//! follows the writes: what comes in now, once more as much, and never less than [`BYTES_PER_SECOND_MIN`]. A member so
//! always gains on the writes, at the speed at which they are made.

use std::collections::VecDeque;

use crate::event::Action;

/// Bytes of entries read back at once.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// The pace when little is written: a member that lacks 10^6 writes of 100 bytes has them after some seconds.
const BYTES_PER_SECOND_MIN: u64 = 32 << 20;
/// The pace in bytes read back for each byte that is written meanwhile.
const PER_WRITTEN_BYTE: u64 = 2;
/// What may be read back at once after a pause.
const BURST_BYTES_MAX: i64 = 4 << 20;

/// The reads of the log that wait for their turn, and what may be read.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// Ranges of entries: the first, and the one behind the last. As many as there are members behind.
    waiting: VecDeque<(u64, u64)>,
    /// Bytes that may be read now; below zero until those that were read are made up for.
    budget_bytes: i64,
    /// Bytes of entries written since the budget last grew.
    written_bytes: u64,
    grown_ms: u64,
}

impl CatchUp {
    pub(crate) fn new(now_ms: u64) -> CatchUp {
        CatchUp { waiting: VecDeque::new(), budget_bytes: BURST_BYTES_MAX, written_bytes: 0, grown_ms: now_ms }
    }

    /// Takes note of entries that were written to the log.
    pub(crate) fn written(&mut self, bytes: usize) {
        self.written_bytes += bytes as u64;
    }

    /// Puts a range into the line.
    pub(crate) fn ask(&mut self, range: (u64, u64)) {
        self.waiting.push_back(range);
    }

    /// Lets the budget grow with the time.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.grown_ms);
        self.grown_ms = now_ms;
        let written_bytes = std::mem::take(&mut self.written_bytes);
        let grown = (BYTES_PER_SECOND_MIN * elapsed_ms / 1_000).max(PER_WRITTEN_BYTE * written_bytes);
        self.give(i64::try_from(grown).unwrap_or(i64::MAX));
    }

    /// Takes in what was read instead of [`READ_BYTES_MAX`].
    pub(crate) fn was_read(&mut self, bytes: usize) {
        self.give(signed(READ_BYTES_MAX) - signed(bytes));
    }

    fn give(&mut self, bytes: i64) {
        self.budget_bytes = self.budget_bytes.saturating_add(bytes).min(BURST_BYTES_MAX);
    }

    /// Asks for what may be read now.
    pub(crate) fn go_on(&mut self, out: &mut Vec<Action>) {
        while self.budget_bytes > 0 {
            let Some((first, end)) = self.waiting.pop_front() else { return };
            self.budget_bytes -= signed(READ_BYTES_MAX);
            out.push(Action::ReadLog { first, end, bytes_max: READ_BYTES_MAX });
        }
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads pieces of the whole size for ten seconds, in which `written` bytes are written in each, and returns the
    /// bytes per second.
    fn pace(written: usize) -> u64 {
        let mut catch_up = CatchUp::new(0);
        let mut read_bytes = 0;
        for tick in 1..=500 {
            catch_up.written(written / 50);
            catch_up.tick(tick * 20);
            let mut out = Vec::new();
            // Whoever catches up always wants more.
            (0..64).for_each(|_| catch_up.ask((1, 2)));
            catch_up.go_on(&mut out);
            catch_up.waiting.clear();
            read_bytes += out.len() as u64 * READ_BYTES_MAX as u64;
        }
        read_bytes / 10
    }

    #[test]
    fn the_pace_follows_the_writes_and_has_a_least() {
        let near = |found: u64, expected: u64| (expected * 9 / 10..expected * 11 / 10).contains(&found);
        assert!(near(pace(0), BYTES_PER_SECOND_MIN), "{}", pace(0));
        assert!(near(pace(1 << 20), BYTES_PER_SECOND_MIN));
        assert!(near(pace(100 << 20), 200 << 20), "{}", pace(100 << 20));
    }

    #[test]
    fn what_was_not_there_to_be_read_costs_nothing() {
        let mut catch_up = CatchUp::new(0);
        for _ in 0..1_000 {
            let mut out = Vec::new();
            catch_up.ask((1, 2));
            catch_up.go_on(&mut out);
            assert_eq!(out.len(), 1);
            catch_up.was_read(0);
        }
    }
}
