//! Figures that only the edge knows. They are counted per batch or per connection, never per request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::peers::PeerStats;

/// Figures of the edge.
#[derive(Debug, Default)]
pub(crate) struct EdgeStats {
    /// Connections that were taken.
    pub(crate) connections_accepted: Counter,
    /// Connections that a bound refused.
    pub(crate) connections_refused: Counter,
    /// Connections that are gone.
    pub(crate) connections_closed: Counter,
    /// Connections that were closed because their handshake took too long.
    pub(crate) sessionless_expired: Counter,
    /// Bytes read from clients.
    pub(crate) bytes_received: Counter,
    /// Syncs of the log.
    pub(crate) syncs: Durations,
    /// Snapshots that were saved.
    pub(crate) snapshots: Durations,
    /// The links to other members.
    pub(crate) peers: Arc<PeerStats>,
}

/// A number that only grows. Relaxed: nothing is concluded from two of them together.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, again and again.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    count: Counter,
    total_us: Counter,
    max_us: AtomicU64,
}

impl Durations {
    pub(crate) fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.add(1);
        self.total_us.add(us);
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    pub(crate) fn total_us(&self) -> u64 {
        self.total_us.get()
    }

    pub(crate) fn max_us(&self) -> u64 {
        self.max_us.load(Ordering::Relaxed)
    }
}
