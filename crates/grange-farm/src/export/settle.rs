//! When to act on changes: once they have stopped for a while, and not later than after a longer while.

use std::time::Duration;

use tokio::time::Instant;

/// Collects changes, so that a storm of them is acted on once.
///
/// Each change starts the quiet time anew; the first change since the last action starts the longest wait.
#[derive(Debug, Clone)]
pub struct Settle {
    quiet: Duration,
    wait_max: Duration,
    /// When the first and the last change were seen that nobody has acted on.
    changes: Option<(Instant, Instant)>,
}

impl Settle {
    /// Acts when nothing has changed for `quiet`, and `wait_max` after the first change at the latest.
    pub fn new(quiet: Duration, wait_max: Duration) -> Settle {
        Settle { quiet, wait_max: wait_max.max(quiet), changes: None }
    }

    /// Notes a change.
    pub fn changed(&mut self, now: Instant) {
        let first = self.changes.map_or(now, |(first, _)| first);
        self.changes = Some((first, now));
    }

    /// Returns when to act; `None` if nothing has changed.
    pub fn due(&self) -> Option<Instant> {
        self.changes.map(|(_, last)| (last + self.quiet).min(self.latest().unwrap_or(last)))
    }

    /// Returns when to act even if more is known to be coming.
    pub fn latest(&self) -> Option<Instant> {
        self.changes.map(|(first, _)| first + self.wait_max)
    }

    /// Notes that all changes so far were acted on.
    pub fn acted(&mut self) {
        self.changes = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns when actions happen, in milliseconds, for changes at these times.
    fn actions(quiet: u64, wait_max: u64, changes: &[u64]) -> Vec<u64> {
        let zero = Instant::now();
        let at = |milliseconds| zero + Duration::from_millis(milliseconds);
        let mut settle = Settle::new(Duration::from_millis(quiet), Duration::from_millis(wait_max));
        let mut actions = Vec::new();
        for &change in changes {
            while let Some(due) = settle.due().filter(|due| *due <= at(change)) {
                actions.push(due);
                settle.acted();
            }
            settle.changed(at(change));
        }
        actions.extend(settle.due());
        actions.into_iter().map(|action| u64::try_from((action - zero).as_millis()).unwrap()).collect()
    }

    #[test]
    fn a_storm_is_one_action_when_it_is_over() {
        assert_eq!(actions(100, 1000, &[0, 50, 100, 150]), [250]);
        assert_eq!(actions(100, 1000, &[0, 100, 300]), [100, 200, 400]);
    }

    #[test]
    fn a_storm_that_does_not_end_is_acted_on_in_time() {
        let storm: Vec<u64> = (0..30).map(|index| index * 50).collect();
        assert_eq!(actions(100, 500, &storm), [500, 1000, 1500]);
    }

    #[test]
    fn without_a_quiet_time_each_change_is_acted_on_at_once() {
        assert_eq!(actions(0, 0, &[0, 10]), [0, 10]);
        assert_eq!(actions(0, 1000, &[5]), [5]);
    }

    #[test]
    fn nothing_is_due_without_a_change() {
        let mut settle = Settle::new(Duration::ZERO, Duration::ZERO);
        assert_eq!((settle.due(), settle.latest()), (None, None));
        settle.changed(Instant::now());
        settle.acted();
        assert_eq!(settle.due(), None);
    }
}
