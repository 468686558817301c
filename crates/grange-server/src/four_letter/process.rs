//! What the edge itself knows about the server and its process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::Whitelist;
use crate::config::{Ensemble, Limits, SessionConfig};
use crate::net::Admission;
use crate::peers::Peers;
use crate::stats::EdgeStats;

/// Facts that do not change while the server runs, and handles to the figures of the edge.
#[derive(Debug)]
pub(crate) struct ServerFacts {
    pub(crate) whitelist: Whitelist,
    pub(crate) local_addr: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) sessions: SessionConfig,
    pub(crate) limits: Limits,
    pub(crate) backlog: i32,
    pub(crate) ensemble: Ensemble,
    /// The links to other members, once they are there; never for a server that stands alone.
    pub(crate) peers: OnceLock<Arc<Peers>>,
    pub(crate) started: Instant,
    pub(crate) admission: Arc<Admission>,
    pub(crate) stats: Arc<EdgeStats>,
}

/// Returns the bytes of the files below `dir`; what cannot be read counts nothing.
pub(super) fn directory_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Open files of this process and how many it may have.
pub(super) fn file_descriptors() -> (u64, u64) {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (open, limit.current.unwrap_or(u64::MAX))
}
