//! The one place that reads clocks for the replica.

use std::time::{Instant, SystemTime};

use grange_replica::Now;

/// Clocks with a common zero for all threads of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    zero: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { zero: Instant::now() }
    }

    /// Returns the time for a step.
    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic_us: self.monotonic_us(),
            wall_ms: i64::try_from(wall.as_millis()).expect("the clock shows a year before 292,000,000"),
        }
    }

    /// Returns microseconds of the clock that is in [`Clock::now`].
    pub(crate) fn monotonic_us(self) -> u64 {
        u64::try_from(self.zero.elapsed().as_micros()).expect("the process runs for less than 500,000 years")
    }
}
