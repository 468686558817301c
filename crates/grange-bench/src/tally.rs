//! What a thread counts while it generates load.

use std::collections::BTreeMap;

use crate::latency::Latencies;

/// How many lost connections are described; the others are only counted.
const DESCRIBED_MAX: usize = 5;

/// Counts of one phase.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Requests answered without an error.
    pub(crate) completed: u64,
    /// Watch events.
    pub(crate) events: u64,
    /// Latencies; those of a read that also brought an error are left out.
    pub(crate) latencies: Latencies,
    /// What went wrong.
    pub(crate) failures: Failures,
}

/// What went wrong during a measurement; its result is worth nothing unless this is empty.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Failures {
    /// How often each error code was answered.
    pub errors: BTreeMap<i32, u64>,
    /// How many connections were lost.
    pub connections_lost: u64,
    /// The reasons of the first few.
    pub reasons: Vec<String>,
}

impl Failures {
    /// Returns true if nothing went wrong.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty() && self.connections_lost == 0
    }

    /// Notes a connection that was lost.
    pub(crate) fn lost(&mut self, reason: String) {
        self.connections_lost += 1;
        self.describe(&reason);
    }

    fn describe(&mut self, reason: &String) {
        if self.reasons.len() < DESCRIBED_MAX && !self.reasons.contains(reason) {
            self.reasons.push(reason.clone());
        }
    }

    fn add(&mut self, other: &Failures) {
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
        self.connections_lost += other.connections_lost;
        other.reasons.iter().for_each(|reason| self.describe(reason));
    }
}

impl Tally {
    /// Counts an error reply.
    #[cold]
    pub(crate) fn error(&mut self, code: i32) {
        *self.failures.errors.entry(code).or_default() += 1;
    }

    /// Adds what another thread has counted.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.completed += other.completed;
        self.events += other.events;
        self.latencies.add(&other.latencies);
        self.failures.add(&other.failures);
    }
}
