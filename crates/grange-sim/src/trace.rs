//! The trace of a run: what happened, line by line, and a hash over all of it.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::queue::Micros;

/// Lines kept for the end of a run that fails.
const LINES_KEPT: usize = 60;

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracing {
    /// Nowhere: they are not even made.
    Off,
    /// Into the hash, and the last ones are kept.
    Kept,
    /// To standard output too.
    Printed,
}

/// The lines of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    tracing: Tracing,
    hash: u64,
    lines: VecDeque<String>,
}

impl Trace {
    /// Starts without lines.
    pub(crate) fn new(tracing: Tracing) -> Trace {
        Trace { tracing, hash: 0, lines: VecDeque::new() }
    }

    /// Adds a line if anybody wants it.
    #[inline]
    pub(crate) fn line(&mut self, at: Micros, text: impl FnOnce() -> String) {
        if self.tracing != Tracing::Off {
            self.add(at, &text());
        }
    }

    fn add(&mut self, at: Micros, text: &str) {
        let line = format!("{:>4}.{:06} {text}", at / 1_000_000, at % 1_000_000);
        self.hash = xxh3_64_with_seed(line.as_bytes(), self.hash);
        if self.tracing == Tracing::Printed {
            println!("{line}");
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Returns a number that is equal for equal traces.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the last lines, oldest first.
    pub(crate) fn last_lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
