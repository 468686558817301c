//! Who may connect: the bounds on connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::config::Limits;

/// Refusals are logged at most this often: whoever runs into a bound tends to try again at once.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Counts connections. Locked when one comes or goes, never in between.
#[derive(Debug)]
pub(crate) struct Admission {
    per_address_max: usize,
    total_max: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    logged: Option<Instant>,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Arc<Admission> {
        let bound = |limit: Option<NonZeroUsize>| limit.map_or(usize::MAX, usize::from);
        Arc::new(Admission {
            per_address_max: bound(limits.connections_per_address_max),
            total_max: bound(limits.connections_max),
            counts: Mutex::default(),
        })
    }

    /// Takes a place for a connection from `address`, `None` if a bound is reached.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let mut counts = self.lock();
        let from_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if from_address >= self.per_address_max || counts.total >= self.total_max {
            if counts.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
                counts.logged = Some(Instant::now());
                let limit = if from_address >= self.per_address_max { "maxClientCnxns" } else { "maxCnxns" };
                tracing::warn!(%address, limit, connections = counts.total, from_address, "connections are refused");
            }
            return None;
        }
        counts.total += 1;
        *counts.by_address.entry(address).or_default() += 1;
        Some(Permit { admission: Arc::clone(self), address })
    }

    /// Returns the number of connections.
    pub(crate) fn count(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nothing panics while it holds this lock")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.total -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_goes() {
        let limits = Limits {
            connections_per_address_max: NonZeroUsize::new(1),
            connections_max: NonZeroUsize::new(2),
            handshake_time_max: Duration::ZERO,
            frame_bytes_max: 1024,
        };
        let admission = Admission::new(&limits);
        let [one, two, three] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let first = admission.admit(one);
        assert!(first.is_some());
        assert!(admission.admit(one).is_none(), "the bound of an address");
        let second = admission.admit(two);
        assert!(second.is_some());
        assert!(admission.admit(three).is_none(), "the bound of all");
        drop(first);
        assert!(admission.admit(three).is_some());
        drop(second);
        assert_eq!(admission.count(), 0);
    }
}
