//! Settings of the server: what was written ([`RawConfig`]), and what it means ([`Config`]).
//!
//! The keys are those of Apache ZooKeeper's `zoo.cfg` as far as they apply; `docs/server.md` is their manual.

mod check;
mod ensemble;
mod raw;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use grange_proto::frame::FRAME_BYTES_MAX_DEFAULT;
use grange_replica::{Reaping, SnapshotPolicy};
use grange_tree::Policy;

pub use check::Problem;
pub use ensemble::{Ensemble, TlsFiles};
pub use raw::{IgnoredKey, Key, Origin, RawConfig};

use crate::four_letter::Whitelist;

/// The port of ZooKeeper servers.
pub const CLIENT_PORT_DEFAULT: u16 = 2181;
/// The default of `tickTime`, in milliseconds.
pub const TICK_MS_DEFAULT: u32 = 3000;
/// The default of `maxClientCnxns`.
pub const CONNECTIONS_PER_ADDRESS_MAX_DEFAULT: usize = 60;
/// The default of `nio.sessionlessCnxnTimeout`, in milliseconds.
pub const HANDSHAKE_MS_MAX_DEFAULT: u64 = 10_000;
/// The default of `snapCount`: replaying that many requests takes about a second.
pub const SNAPSHOT_REQUESTS_DEFAULT: u64 = 1_000_000;
/// The default of `snapSizeLimitInKb`, in bytes.
pub const SNAPSHOT_LOG_BYTES_DEFAULT: u64 = 1 << 30;
/// The default and the least value of `autopurge.snapRetainCount`.
pub const SNAPSHOTS_KEPT_MIN: usize = 3;

/// The settings of a server; only made from a [`RawConfig`] or as [`Config::embedded`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect.
    pub listen: Listen,
    /// This server's number, the others, and how they reach each other.
    pub ensemble: Ensemble,
    /// Where data is kept and for how long.
    pub storage: StorageConfig,
    /// The bounds of what clients may use.
    pub limits: Limits,
    /// Timeouts of sessions.
    pub sessions: SessionConfig,
    /// The four-letter words that are answered.
    pub four_letter: Whitelist,
    /// What the tree enforces.
    pub policy: Policy,
    /// `super:<hash>`: the digest identity that no ACL applies to.
    pub super_digest: Option<String>,
    /// How containers and znodes with a time to live are deleted.
    pub reaping: Reaping,
    /// When a snapshot is made.
    pub snapshots: SnapshotPolicy,
    /// Threads that read and write sockets; default: one for each processor.
    pub io_threads: NonZeroUsize,
    /// Keys that were written but have no effect.
    pub ignored: Vec<IgnoredKey>,
}

/// Where clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address; the unspecified IPv6 address takes IPv4 too.
    pub address: SocketAddr,
    /// Connections that may wait to be accepted, as far as the kernel allows so many.
    pub backlog: i32,
}

/// Where data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataPlace {
    /// In a directory of the operator's.
    Directory {
        /// Snapshots, and the log too unless it has a place of its own.
        data: PathBuf,
        /// The log's own place.
        log: Option<PathBuf>,
    },
    /// In a directory that goes when the server stops.
    Temporary,
}

/// Where data is kept and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// The place.
    pub place: DataPlace,
    /// Bytes of a log segment: what the log takes from the disk at once. One that is written and one made ahead are
    /// always there.
    pub segment_bytes: u64,
    /// Whether a write is synced to the disk before it is acknowledged.
    pub sync: bool,
    /// How many snapshots are kept, the newest included; `None` keeps all of them, and the whole log.
    pub snapshots_kept: Option<usize>,
}

/// The bounds of what clients may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections from one address; beyond it a connection is closed when it is accepted. `None` for no bound.
    pub connections_per_address_max: Option<NonZeroUsize>,
    /// Connections in all; as above.
    pub connections_max: Option<NonZeroUsize>,
    /// How long a connection may take until its handshake, or its four-letter word, is done; then it is closed.
    pub handshake_time_max: Duration,
    /// Bytes of a frame; a connection that announces more is closed.
    pub frame_bytes_max: usize,
}

/// Timeouts of sessions, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionConfig {
    /// The unit of expiry.
    pub tick_ms: u32,
    /// The shortest timeout a client gets.
    pub timeout_ms_min: i32,
    /// The longest timeout a client gets.
    pub timeout_ms_max: i32,
}

impl Config {
    /// Returns the settings of a server that lives inside another program: a port of the system's choice on loopback,
    /// data in a temporary directory without syncs, no bound on connections.
    pub fn embedded() -> Config {
        let mut raw = RawConfig::default();
        raw.set_flag(Key::Listen, "embedded", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string());
        raw.set_flag(Key::MaxClientCnxns, "embedded", "0");
        raw.set_flag(Key::TickTime, "embedded", "500");
        raw.set_flag(Key::MaxSessionTimeout, "embedded", "60000");
        raw.set_flag(Key::ForceSync, "embedded", "no");
        raw.set_flag(Key::DataDir, "embedded", ".");
        let mut config = Config::try_from(raw).expect("these values are within their ranges");
        config.storage.place = DataPlace::Temporary;
        config
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is not in the grammar of Java's property files.
    #[error("{}:{line}: not a line of a property file", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the reader says.
        #[source]
        source: java_properties::PropertiesError,
    },
    /// Values are out of their ranges; all of them are listed, one per line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
}

const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), CLIENT_PORT_DEFAULT);
const FRAME_BYTES_DEFAULT: usize = FRAME_BYTES_MAX_DEFAULT;

#[cfg(test)]
mod tests;
