//! The clocks of a machine: neither runs with the world's, and one of them is set by hand.

use grange_replica::Now;

use crate::queue::Micros;
use crate::random::Random;

/// Milliseconds since 1970 at the beginning of every run.
const WALL_START_MS: i64 = 1_700_000_000_000;
/// By how much a monotonic clock is too fast or too slow, in millionths.
const DRIFT_PPM_MAX: u64 = 500;

/// The clocks of one machine.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    offset_us: u64,
    drift_ppm: u64,
    is_slow: bool,
    wall_offset_ms: i64,
}

impl Clock {
    /// Makes the clocks of a machine that has been up for some time.
    pub(crate) fn new(random: &mut Random) -> Clock {
        Clock {
            offset_us: random.below(1_000_000_000_000),
            drift_ppm: random.below(DRIFT_PPM_MAX),
            is_slow: random.chance(500),
            wall_offset_ms: i64::try_from(random.below(2_000)).expect("it is below the bound") - 1_000,
        }
    }

    /// Reads the clocks.
    pub(crate) fn now(&self, at: Micros) -> Now {
        let error = at / 1_000_000 * self.drift_ppm + at % 1_000_000 * self.drift_ppm / 1_000_000;
        let elapsed = if self.is_slow { at - error } else { at + error };
        let wall_ms = WALL_START_MS + i64::try_from(at / 1_000).expect("a run is short") + self.wall_offset_ms;
        Now { monotonic_us: self.offset_us + elapsed, wall_ms }
    }

    /// Sets the wall clock by so much.
    pub(crate) fn set_wall(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
    }
}
