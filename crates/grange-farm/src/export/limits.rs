//! What must not happen to a file because something has happened to the farm: that most of its hosts vanish from it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How many hosts may be missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// A file with fewer hosts is not written.
    pub hosts_min: usize,
    /// The largest part of the hosts that may go within [`Limits::window`], in percent. 100 is no limit.
    pub drop_percent_max: f64,
    /// Over what time that is counted. Sessions that were lost together do not end at the same moment.
    pub window: Duration,
}

impl Limits {
    /// Tells whether anything can be too little.
    pub fn is_any(&self) -> bool {
        self.hosts_min > 0 || self.drop_percent_max < 100.0
    }
}

/// Why a file is kept as it is.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Held {
    /// There is no farm at all.
    #[error("there is no such farm")]
    NoFarm,
    /// There are too few hosts.
    #[error("{now} hosts are left, which is fewer than {min}")]
    TooFew {
        /// How many there are.
        now: usize,
        /// How many there must be.
        min: usize,
    },
    /// Too many are gone.
    #[error(
        "{} of {before} hosts are gone, which is more than {percent_max} %",
        before - now
    )]
    Dropped {
        /// How many there were.
        before: usize,
        /// How many are left.
        now: usize,
        /// How many may go, in percent.
        percent_max: f64,
    },
}

/// Remembers how many hosts were exported lately.
#[derive(Debug)]
pub(super) struct DropGuard {
    limits: Limits,
    /// What the file has now. It counts however old it is.
    current: Option<usize>,
    /// What it had within the window, the oldest first, each with the time until which it had so many.
    earlier: VecDeque<(Instant, usize)>,
}

/// How many numbers are remembered; of more, the greatest are kept. Only a host a millisecond would notice.
const EARLIER_MAX: usize = 1000;

impl DropGuard {
    /// Starts with what the file holds already, if that is known.
    pub(super) fn new(limits: Limits, current: Option<usize>) -> DropGuard {
        DropGuard { limits, current, earlier: VecDeque::new() }
    }

    /// Tells whether a file with so many hosts may be written.
    pub(super) fn judge(&mut self, now: Instant, hosts: usize) -> Result<(), Held> {
        while self.earlier.front().is_some_and(|(until, _)| *until + self.limits.window < now) {
            self.earlier.pop_front();
        }
        if hosts < self.limits.hosts_min {
            return Err(Held::TooFew { now: hosts, min: self.limits.hosts_min });
        }
        let before = self.earlier.iter().map(|(_, count)| *count).chain(self.current).max().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 hosts")]
        let is_too_much =
            hosts < before && (before - hosts) as f64 * 100.0 > before as f64 * self.limits.drop_percent_max;
        match is_too_much {
            true => Err(Held::Dropped { before, now: hosts, percent_max: self.limits.drop_percent_max }),
            false => Ok(()),
        }
    }

    /// Notes that a file with so many hosts was written.
    pub(super) fn exported(&mut self, now: Instant, hosts: usize) {
        if let Some(current) = self.current.replace(hosts)
            && current > hosts
        {
            // What was smaller before it does not matter any more.
            while self.earlier.back().is_some_and(|(_, count)| *count <= current) {
                self.earlier.pop_back();
            }
            self.earlier.push_back((now, current));
            self.earlier.truncate(EARLIER_MAX);
        }
    }

    /// Forgets what there was: somebody has said that what is there now is right.
    pub(super) fn accept(&mut self) {
        self.current = None;
        self.earlier.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exports these numbers of hosts at these seconds, and tells which ones were held back.
    fn held(limits: Limits, current: Option<usize>, steps: &[(u64, usize)]) -> Vec<usize> {
        let zero = Instant::now();
        let mut guard = DropGuard::new(limits, current);
        let mut held = Vec::new();
        for &(second, hosts) in steps {
            let now = zero + Duration::from_secs(second);
            match guard.judge(now, hosts) {
                Ok(()) => guard.exported(now, hosts),
                Err(_) => held.push(hosts),
            }
        }
        held
    }

    const NONE: [usize; 0] = [];

    const HALF: Limits = Limits { hosts_min: 0, drop_percent_max: 50.0, window: Duration::from_secs(600) };

    #[test]
    fn many_at_once_are_held_back_until_enough_have_come_back() {
        assert_eq!(held(HALF, None, &[(0, 200), (1, 20), (2, 99), (3, 100), (4, 200)]), [20, 99]);
        assert_eq!(held(HALF, None, &[(0, 1), (1, 0)]), [0]);
        assert_eq!(held(HALF, None, &[(0, 0), (1, 0), (2, 5)]), NONE);
    }

    #[test]
    fn many_in_small_steps_are_held_back_too() {
        let steps: Vec<_> = (0..=18).map(|index| (index, 200 - usize::try_from(index).unwrap() * 10)).collect();
        assert_eq!(held(HALF, None, &steps), [90, 80, 70, 60, 50, 40, 30, 20]);
    }

    #[test]
    fn a_farm_may_shrink_slowly() {
        assert_eq!(held(HALF, None, &[(0, 200), (700, 120), (1400, 70), (2100, 40)]), NONE);
        // What the file has counts, however old it is.
        assert_eq!(held(HALF, None, &[(0, 200), (7000, 20)]), [20]);
    }

    #[test]
    fn what_a_file_had_before_the_start_counts() {
        assert_eq!(held(HALF, Some(200), &[(0, 20)]), [20]);
        assert_eq!(held(HALF, None, &[(0, 20)]), NONE);
    }

    #[test]
    fn there_can_be_a_least_number() {
        let limits = Limits { hosts_min: 3, drop_percent_max: 100.0, ..HALF };
        assert_eq!(held(limits, None, &[(0, 2), (1, 3), (2, 200), (3, 0), (4, 3)]), [2, 0]);
    }

    #[test]
    fn what_was_accepted_is_the_new_beginning() {
        let mut guard = DropGuard::new(HALF, Some(200));
        let now = Instant::now();
        let held = guard.judge(now, 20).unwrap_err();
        assert_eq!(held.to_string(), "180 of 200 hosts are gone, which is more than 50 %");
        guard.accept();
        assert_eq!(guard.judge(now, 20), Ok(()));
    }
}
