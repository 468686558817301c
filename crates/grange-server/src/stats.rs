//! Figures that only the edge knows. They are counted per batch or per connection, never per request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of the edge; relaxed, since nothing is concluded from two of them together.
#[derive(Debug, Default)]
pub(crate) struct EdgeStats {
    connections_refused: AtomicU64,
    sessionless_expired: AtomicU64,
    snapshots_saved: AtomicU64,
    syncs: AtomicU64,
    sync_us_total: AtomicU64,
    sync_us_max: AtomicU64,
}

/// How long syncs of the log took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncTimes {
    pub(crate) count: u64,
    pub(crate) total_us: u64,
    pub(crate) max_us: u64,
}

impl EdgeStats {
    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connections_refused(&self) -> u64 {
        self.connections_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn sessionless_connection_expired(&self) {
        self.sessionless_expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sessionless_expired(&self) -> u64 {
        self.sessionless_expired.load(Ordering::Relaxed)
    }

    pub(crate) fn snapshot_saved(&self) {
        self.snapshots_saved.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshots_saved(&self) -> u64 {
        self.snapshots_saved.load(Ordering::Relaxed)
    }

    pub(crate) fn synced(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_us_total.fetch_add(us, Ordering::Relaxed);
        self.sync_us_max.fetch_max(us, Ordering::Relaxed);
    }

    pub(crate) fn sync_times(&self) -> SyncTimes {
        SyncTimes {
            count: self.syncs.load(Ordering::Relaxed),
            total_us: self.sync_us_total.load(Ordering::Relaxed),
            max_us: self.sync_us_max.load(Ordering::Relaxed),
        }
    }
}
