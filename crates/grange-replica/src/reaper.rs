//! When containers and znodes with a time to live are looked at, and how many are deleted at a time.

use grange_tree::Tree;

use crate::config::Reaping;
use crate::event::Now;

/// Decides when to look; the tree decides what is due.
pub(crate) struct Reaper {
    reaping: Reaping,
    next_ms: u64,
}

impl Reaper {
    pub(crate) fn new(reaping: Reaping, now_ms: u64) -> Reaper {
        Reaper { reaping, next_ms: now_ms + reaping.interval_ms }
    }

    /// Returns the paths to delete now, often none.
    ///
    /// They are not sure to go: the tree looks again when the deletion is applied.
    pub(crate) fn due(&mut self, tree: &Tree, now: Now) -> Vec<String> {
        let now_ms = now.monotonic_ms();
        if now_ms < self.next_ms {
            return Vec::new();
        }
        self.next_ms = now_ms + self.reaping.interval_ms;
        let share = u64::from(self.reaping.per_minute_max) * self.reaping.interval_ms / 60_000;
        let limit = usize::try_from(share.max(1)).unwrap_or(usize::MAX);
        tree.reapable(now.wall_ms, self.reaping.never_used_ms, limit)
    }
}
