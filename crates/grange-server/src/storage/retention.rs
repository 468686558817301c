//! Which snapshots and which part of the log may go.

use super::snapshot::SnapshotFile;

/// How much history is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Snapshots to keep, at least 1; default 3.
    pub snapshots_keep: usize,
    /// Bytes that snapshots and log together should not exceed; default 4 GiB. Above, older snapshots and the log
    /// before the next one go early; what recovery needs stays in any case.
    pub bytes_max: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { snapshots_keep: 3, bytes_max: 4 << 30 }
    }
}

/// What to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Snapshots to remove, oldest first.
    pub snapshots: Vec<SnapshotFile>,
    /// The log may be purged before this index (`Log::purge_before`); 0 if nothing may go.
    pub log_before: u64,
}

impl Retention {
    /// Decides what to remove, given the snapshots, oldest first, and the size of the log in bytes.
    ///
    /// `log_bytes_before(index)` is what purging before that index would release. The newest snapshot and the log
    /// after it always stay. So does the log back to the oldest snapshot that is kept, because a snapshot without it
    /// could not stand in for a damaged newer one.
    pub fn plan(&self, snapshots: &[SnapshotFile], log_bytes: u64, log_bytes_before: impl Fn(u64) -> u64) -> Plan {
        let mut removed = snapshots.len().saturating_sub(self.snapshots_keep.max(1));
        let before = |removed: usize| snapshots.get(removed).map_or(0, |oldest: &SnapshotFile| oldest.index + 1);
        let bytes_kept = |removed: usize| {
            let snapshot_bytes: u64 = snapshots.iter().skip(removed).map(|snapshot| snapshot.bytes).sum();
            snapshot_bytes + log_bytes.saturating_sub(log_bytes_before(before(removed)))
        };
        while removed + 1 < snapshots.len() && bytes_kept(removed) > self.bytes_max {
            removed += 1;
        }
        Plan { snapshots: snapshots[..removed].to_vec(), log_before: before(removed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshots(indexes: &[u64]) -> Vec<SnapshotFile> {
        let file = |index: &u64| SnapshotFile { index: *index, term: 1, bytes: 10, path: index.to_string().into() };
        indexes.iter().map(file).collect()
    }

    /// Plans for a log of one byte for each of 1000 entries; returns the removed indexes and the log's new start.
    fn check(keep: usize, bytes_max: u64, indexes: &[u64]) -> (Vec<u64>, u64) {
        let retention = Retention { snapshots_keep: keep, bytes_max };
        let plan = retention.plan(&snapshots(indexes), 1000, |index| index.saturating_sub(1));
        (plan.snapshots.iter().map(|snapshot| snapshot.index).collect(), plan.log_before)
    }

    #[test]
    fn the_log_stays_back_to_the_oldest_snapshot_kept() {
        assert_eq!(check(3, u64::MAX, &[]), (vec![], 0));
        assert_eq!(check(3, u64::MAX, &[100]), (vec![], 101));
        assert_eq!(check(3, u64::MAX, &[100, 200, 300, 400, 500]), (vec![100, 200], 301));
    }

    #[test]
    fn a_bound_on_bytes_removes_more_but_never_the_newest() {
        assert_eq!(check(3, 830, &[100, 200, 300]), (vec![100], 201), "20 + 800 bytes fit");
        assert_eq!(check(3, 0, &[100, 200, 300]), (vec![100, 200], 301));
        assert_eq!(check(0, 0, &[100]), (vec![], 101));
        assert_eq!(check(3, 0, &[]), (vec![], 0), "without a snapshot all of the log is needed");
    }
}
