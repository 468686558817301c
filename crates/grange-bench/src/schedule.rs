//! When requests are due at a fixed rate.
//!
//! The clock of the schedule does not stop while a server stalls: a request that could not be sent in time is late
//! from the moment it was due, so that a stall counts for every request it held up and not only for those in flight.

use std::time::{Duration, Instant};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The moments at which one thread's requests are due, evenly spaced.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Instant,
    per_second: u64,
    /// This thread has every `threads`-th request, beginning with number `thread`.
    thread: u64,
    threads: u64,
}

impl Schedule {
    /// Begins at `start` with `per_second` requests (at least 1) over all threads.
    pub fn new(start: Instant, per_second: u64, thread: u64, threads: u64) -> Schedule {
        Schedule { start, per_second: per_second.max(1), thread, threads: threads.max(1) }
    }

    /// Returns when this thread's `nth` request is due, counted from 0.
    #[inline]
    pub fn due(&self, nth: u64) -> Instant {
        let overall = u128::from(nth) * u128::from(self.threads) + u128::from(self.thread);
        let nanos = overall * NANOS_PER_SECOND / u128::from(self.per_second);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_share_one_even_rate() {
        let start = Instant::now();
        let threads = [0, 1].map(|thread| Schedule::new(start, 1000, thread, 2));
        let offsets: Vec<_> = (0..3).flat_map(|nth| threads.map(|each| each.due(nth) - start)).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4, 5].map(Duration::from_millis));
    }

    #[test]
    fn the_spacing_does_not_drift() {
        let start = Instant::now();
        assert_eq!(Schedule::new(start, 3, 0, 1).due(3_000_000_000) - start, Duration::from_secs(1_000_000_000));
    }
}
