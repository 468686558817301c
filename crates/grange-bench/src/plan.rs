//! What to measure.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::error::BenchError;
use crate::layout::{CONNECTIONS_MAX, ZNODES_MAX};

/// Largest value: a frame of the default size must hold it with its path.
pub const VALUE_BYTES_MAX: usize = 1_000_000;
/// Most requests of one connection that are under way at once; bounds what the generator may buffer.
pub const IN_FLIGHT_MAX: usize = 65_536;

/// The operation whose throughput and latency are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// setData on random preloaded znodes.
    Set,
    /// create, each connection in a directory of its own.
    Create,
    /// getData of random preloaded znodes.
    Get,
    /// exists on random preloaded znodes.
    Exists,
    /// getChildren of random directories of preloaded znodes.
    Children,
    /// getData and setData, with this many reads in a hundred operations.
    Mixed(u8),
    /// delete of all preloaded znodes.
    Delete,
    /// create of an ephemeral znode and its delete, in turn.
    Ephemeral,
    /// getData with a watch and the setData that fires it, in turn, each connection on a znode of its own.
    Watch,
    /// Opens sessions, which then stay idle.
    Sessions,
    /// sync.
    Sync,
    /// create of the preloaded znodes.
    Fill,
}

impl Operation {
    /// Returns true if the znodes are made before the measurement.
    pub fn wants_preload(self) -> bool {
        use Operation::{Children, Delete, Exists, Get, Mixed, Set, Watch};
        matches!(self, Set | Get | Exists | Children | Mixed(_) | Delete | Watch)
    }

    /// Returns true if the work is over once every preloaded znode was touched.
    pub fn walks_nodes(self) -> bool {
        matches!(self, Operation::Delete | Operation::Fill)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Set => "set",
            Operation::Create => "create",
            Operation::Get => "get",
            Operation::Exists => "exists",
            Operation::Children => "children",
            Operation::Mixed(reads) => return write!(f, "mixed:{reads}"),
            Operation::Delete => "delete",
            Operation::Ephemeral => "ephemeral",
            Operation::Watch => "watch",
            Operation::Sessions => "sessions",
            Operation::Sync => "sync",
            Operation::Fill => "fill",
        })
    }
}

/// A word that names no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not one of set, create, get, exists, children, mixed:READS (0 to 100), delete, ephemeral, watch, \
     sessions, sync, fill"
)]
pub struct OperationError(String);

impl FromStr for Operation {
    type Err = OperationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(reads) = text.strip_prefix("mixed:") {
            let reads = reads.parse().ok().filter(|&reads| reads <= 100);
            return reads.map(Operation::Mixed).ok_or_else(|| OperationError(text.to_owned()));
        }
        let plain = [
            Operation::Set,
            Operation::Create,
            Operation::Get,
            Operation::Exists,
            Operation::Children,
            Operation::Delete,
            Operation::Ephemeral,
            Operation::Watch,
            Operation::Sessions,
            Operation::Sync,
            Operation::Fill,
        ];
        plain.into_iter().find(|each| each.to_string() == text).ok_or_else(|| OperationError(text.to_owned()))
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// For this time.
    Time(Duration),
    /// Until this many operations are done.
    Count(u64),
}

/// A whole run: what to do, to whom, how hard, for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The servers; connections take turns.
    pub servers: Vec<SocketAddr>,
    /// What to measure.
    pub operation: Operation,
    /// How many connections, each with a session of its own.
    pub connections: usize,
    /// How many requests each keeps under way; for [`Operation::Sessions`] how many handshakes each thread does.
    pub in_flight: usize,
    /// How many threads generate load.
    pub threads: usize,
    /// Size of the data of each znode.
    pub value_bytes: usize,
    /// How many znodes to preload, fill or delete.
    pub nodes: u64,
    /// How long to measure; for [`Operation::Sessions`] how many to open.
    pub extent: Extent,
    /// How long to run before measuring.
    pub warmup: Duration,
    /// The znode below which everything happens.
    pub root: String,
    /// What becomes of the znodes.
    pub afterwards: Afterwards,
    /// Requests per second over all connections, independent of the replies; `None` for as many as are answered.
    pub rate: Option<u64>,
    /// The processes whose CPU time and memory to report, as a sum: one for each member of an ensemble.
    pub server_pids: Vec<u32>,
    /// The session timeout to ask for.
    pub session_timeout: Duration,
    /// For [`Operation::Sessions`]: how long they stay idle, kept alive by pings.
    pub hold: Duration,
    /// From how many addresses 127.0.0.1, 127.0.0.2, … to connect; with 1 the system chooses.
    pub source_addresses: u8,
}

/// What becomes of the znodes when the measurement is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// They are deleted.
    Delete,
    /// They stay.
    Keep,
}

impl Plan {
    /// Refuses what cannot be run, with the reason.
    pub fn check(&self) -> Result<(), BenchError> {
        let refuse = |reason: &str| Err(BenchError::Plan(reason.to_owned()));
        let connections = u64::try_from(self.connections).unwrap_or(u64::MAX);
        if self.servers.is_empty() {
            return refuse("name at least one server");
        }
        if self.threads == 0 || self.connections < self.threads {
            return refuse("each thread needs a connection");
        }
        if connections > CONNECTIONS_MAX {
            return refuse("at most 100,000 connections");
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            return refuse("1 to 65,536 requests in flight");
        }
        if self.value_bytes > VALUE_BYTES_MAX {
            return refuse("a value has at most 1,000,000 bytes");
        }
        if !(1..=ZNODES_MAX).contains(&self.nodes) {
            return refuse("1 to 1,000,000,000 znodes");
        }
        if self.rate == Some(0) {
            return refuse("a rate is at least 1 per second");
        }
        if self.operation == Operation::Watch && self.nodes < connections {
            return refuse("the operation watch needs a znode for each connection");
        }
        if self.operation == Operation::Sessions && matches!(self.extent, Extent::Time(_)) {
            return refuse("the operation sessions needs a count");
        }
        if !self.root.starts_with('/') || self.root.len() < 2 || self.root.ends_with('/') {
            return refuse("the root is an absolute path below /");
        }
        Ok(())
    }

    /// Returns how many connections, or sessions, or whatever there are `total` of, fall to thread `thread`.
    pub(crate) fn share(&self, total: u64, thread: usize) -> u64 {
        let (threads, thread) = (u64::try_from(self.threads), u64::try_from(thread));
        let (threads, thread) = (threads.unwrap_or(u64::MAX), thread.unwrap_or(u64::MAX));
        total / threads + u64::from(thread < total % threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_as_they_print() {
        for text in ["set", "mixed:0", "mixed:100", "fill", "sessions"] {
            assert_eq!(text.parse::<Operation>().unwrap().to_string(), text);
        }
        for text in ["mixed", "mixed:101", "mixed:-1", "SET", ""] {
            assert!(text.parse::<Operation>().is_err(), "{text}");
        }
    }
}
