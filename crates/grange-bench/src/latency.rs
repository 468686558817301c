//! Latencies of all requests, in a histogram that keeps three significant digits.
//!
//! Requests that left in one write and whose replies came in one read share their times, so recording every request
//! costs little more than recording every write.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

const SIGNIFICANT_DIGITS: u8 = 3;
const NANOS_MIN: u64 = 100;
const NANOS_MAX: u64 = 600_000_000_000;

/// A histogram of latencies.
#[derive(Debug, Clone)]
pub struct Latencies {
    nanos: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let nanos = Histogram::new_with_bounds(NANOS_MIN, NANOS_MAX, SIGNIFICANT_DIGITS);
        Latencies { nanos: nanos.expect("the bounds are constants in the histogram's range") }
    }
}

impl Latencies {
    /// Records `count` requests that took `latency`; more than ten minutes count as ten minutes.
    #[inline]
    pub fn record(&mut self, latency: Duration, count: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.saturating_record_n(nanos, count);
    }

    /// Adds what another thread has recorded.
    pub fn add(&mut self, other: &Latencies) {
        self.nanos.add(&other.nanos).expect("all histograms have the same bounds");
    }

    /// Returns how many requests were recorded.
    pub fn count(&self) -> u64 {
        self.nanos.len()
    }

    /// Returns the figures to print.
    pub fn summary(&self) -> LatencySummary {
        let micros = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
        let quantile = |quantile| micros(self.nanos.value_at_quantile(quantile));
        LatencySummary {
            count: self.nanos.len(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: micros(self.nanos.max()),
        }
    }
}

/// The latencies of a run, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many requests were recorded.
    pub count: u64,
    /// Half of the requests took no longer.
    pub p50_us: f64,
    /// Nine of ten took no longer.
    pub p90_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// 999 of 1,000 took no longer.
    pub p999_us: f64,
    /// None took longer.
    pub max_us: f64,
}

/// The times at which unanswered requests began, in the order in which they will be answered.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    batches: VecDeque<(Instant, u64)>,
}

impl Starts {
    /// Notes that `count` requests began at `at`.
    #[inline]
    pub(crate) fn push(&mut self, at: Instant, count: u64) {
        self.batches.push_back((at, count));
    }

    /// Takes the `count` oldest requests off, with `on_batch(began, how many)` for each batch.
    #[inline]
    pub(crate) fn take(&mut self, mut count: u64, mut on_batch: impl FnMut(Instant, u64)) {
        while count > 0 {
            let Some((at, waiting)) = self.batches.front_mut() else { return };
            let taken = count.min(*waiting);
            on_batch(*at, taken);
            count -= taken;
            *waiting -= taken;
            if *waiting == 0 {
                self.batches.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_keep_three_digits() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_micros(100), 989);
        latencies.record(Duration::from_millis(20), 10);
        latencies.record(Duration::from_secs(3600), 1);
        let summary = latencies.summary();
        let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.001;
        assert_eq!(summary.count, 1000);
        assert!(near(summary.p50_us, 100.0) && near(summary.p90_us, 100.0), "{summary:?}");
        assert!(near(summary.p99_us, 20_000.0) && near(summary.p999_us, 20_000.0), "{summary:?}");
        assert!(near(summary.max_us, 600e6), "{summary:?}");
    }

    #[test]
    fn replies_are_matched_with_the_oldest_requests() {
        let zero = Instant::now();
        let [one, two] = [1, 2].map(|millis| zero + Duration::from_millis(millis));
        let mut starts = Starts::default();
        starts.push(one, 3);
        starts.push(two, 2);
        let mut taken = Vec::new();
        starts.take(2, |at, count| taken.push((at, count)));
        starts.take(3, |at, count| taken.push((at, count)));
        starts.take(1, |at, count| taken.push((at, count)));
        assert_eq!(taken, [(one, 2), (one, 1), (two, 2)]);
    }
}
