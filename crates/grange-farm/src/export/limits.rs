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
    /// The next number is right, whatever it is.
    is_accepting: bool,
    /// Somebody has said that so many are right, though it is less than the least number. Ends with that.
    accepted: Option<usize>,
}

/// How many numbers are remembered; of more, the greatest are kept. Only a host a millisecond would notice.
pub(super) const EARLIER_MAX: usize = 1000;

impl DropGuard {
    /// Starts with what the file holds already, if that is known, and with what it had before, the oldest first.
    pub(super) fn new(limits: Limits, current: Option<usize>, earlier: VecDeque<(Instant, usize)>) -> DropGuard {
        DropGuard { limits, current, earlier, is_accepting: false, accepted: None }
    }

    /// Tells whether a file with so many hosts may be written; `None` without a farm.
    pub(super) fn judge(&mut self, now: Instant, hosts: Option<usize>) -> Result<(), Held> {
        while self.earlier.front().is_some_and(|(until, _)| *until + self.limits.window < now) {
            self.earlier.pop_front();
        }
        let count = hosts.unwrap_or(0);
        if std::mem::take(&mut self.is_accepting) {
            self.earlier.clear();
            (self.current, self.accepted) = (Some(count), Some(count));
            return Ok(());
        }
        if hosts.is_some() && count >= self.limits.hosts_min && self.accepted.is_some_and(|accepted| count > accepted) {
            self.accepted = None;
        }
        if hosts.is_none() && self.limits.is_any() && self.accepted != Some(0) {
            return Err(Held::NoFarm);
        }
        let min = self.accepted.map_or(self.limits.hosts_min, |accepted| accepted.min(self.limits.hosts_min));
        if count < min {
            return Err(Held::TooFew { now: count, min });
        }
        let before = self.earlier.iter().map(|(_, count)| *count).chain(self.current).max().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 hosts")]
        let is_too_much =
            count < before && (before - count) as f64 * 100.0 > before as f64 * self.limits.drop_percent_max;
        match is_too_much {
            true => Err(Held::Dropped { before, now: count, percent_max: self.limits.drop_percent_max }),
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

    /// Returns what the file had within the window, the oldest first, each with the time until which it had so many.
    pub(super) fn earlier(&self) -> impl Iterator<Item = (Instant, usize)> {
        self.earlier.iter().copied()
    }

    /// Forgets what there was: somebody says that what is there when it is judged next is right.
    pub(super) fn accept(&mut self) {
        self.is_accepting = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exports these numbers of hosts at these seconds, and tells which ones were held back.
    fn held(limits: Limits, current: Option<usize>, steps: &[(u64, usize)]) -> Vec<usize> {
        let zero = Instant::now();
        let mut guard = DropGuard::new(limits, current, VecDeque::new());
        let mut held = Vec::new();
        for &(second, hosts) in steps {
            let now = zero + Duration::from_secs(second);
            match guard.judge(now, Some(hosts)) {
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
        let mut guard = DropGuard::new(HALF, Some(200), VecDeque::new());
        let now = Instant::now();
        let held = guard.judge(now, Some(20)).unwrap_err();
        assert_eq!(held.to_string(), "180 of 200 hosts are gone, which is more than 50 %");
        guard.accept();
        assert_eq!(guard.judge(now, Some(20)), Ok(()));
    }

    #[test]
    fn what_was_accepted_may_be_less_than_the_least_number_for_as_long_as_that_lasts() {
        let mut guard = DropGuard::new(Limits { hosts_min: 5, ..HALF }, Some(9), VecDeque::new());
        let now = Instant::now();
        assert!(guard.judge(now, Some(3)).is_err());
        guard.accept();
        assert_eq!(guard.judge(now, Some(3)), Ok(()));
        // Whether it was written or not: from here on that is the beginning.
        assert_eq!(guard.judge(now, Some(3)), Ok(()), "a change of a host's properties");
        assert!(guard.judge(now, Some(1)).is_err());
        assert_eq!(guard.judge(now, Some(6)), Ok(()));
        guard.exported(now, 6);
        assert_eq!(guard.judge(now, Some(4)), Err(Held::TooFew { now: 4, min: 5 }));
    }

    #[test]
    fn a_farm_that_is_gone_is_one_that_can_be_accepted() {
        let mut guard = DropGuard::new(HALF, Some(2), VecDeque::new());
        let now = Instant::now();
        assert_eq!(guard.judge(now, None), Err(Held::NoFarm));
        guard.accept();
        assert_eq!((guard.judge(now, None), guard.judge(now, None)), (Ok(()), Ok(())));
        guard.exported(now, 0);
        assert_eq!(guard.judge(now, Some(2)), Ok(()));
        assert_eq!(guard.judge(now, None), Err(Held::NoFarm));
    }
}
