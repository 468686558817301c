//! What a member is told when it starts.

use grange_proto::ServerSpec;
use grange_tree::{Policy, Tree};

use crate::event::{HardState, LogEntry};
use crate::members::{Member, MemberId};

/// The settings of a member; every value is checked before it gets here.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// This member and the ensemble it belongs to.
    pub ensemble: EnsembleConfig,
    /// The unit of session expiry, in milliseconds (`tickTime`).
    pub tick_ms: u32,
    /// The shortest session timeout a client gets, in milliseconds.
    pub session_timeout_ms_min: i32,
    /// The longest session timeout a client gets, in milliseconds.
    pub session_timeout_ms_max: i32,
    /// What is stamped into every entry.
    pub policy: Policy,
    /// `super:<hash>`: the digest identity that no ACL applies to, if there is one.
    pub super_digest: Option<String>,
    /// How containers and znodes with a time to live are deleted.
    pub reaping: Reaping,
    /// When a snapshot is made.
    pub snapshots: SnapshotPolicy,
    /// Written into the log by the first leader ever; the same on every member from then on.
    pub genesis: Genesis,
    /// The source of everything that must differ between runs: session numbers, election timeouts.
    pub seed: u64,
}

/// This member and the ensemble it belongs to.
#[derive(Debug, Clone)]
pub struct EnsembleConfig {
    /// This member.
    pub member: Member,
    /// Larger than at every earlier start with this data directory: tells what this run has sent from what earlier ones
    /// have.
    pub run: u64,
    /// Whether to found an ensemble if there is nothing on the disk; otherwise the member waits to be added to one.
    pub founds: bool,
    /// The servers that the configuration lists, this one included; empty for a server that stands alone.
    ///
    /// A founder serves nobody before all participants among them are members. A leader adds those that are not
    /// members and have no data ([`crate::Event::PeerUp`]), in the place of a member with the same number.
    pub servers: Vec<(u8, ServerSpec)>,
    /// Whether clients that said they can do without writes are served while there is no leader.
    pub read_only_mode: bool,
    /// Whether every read waits until it is known to see all writes acknowledged before it was sent.
    pub linearizable_reads: bool,
}

impl EnsembleConfig {
    /// Returns the settings of a server that stands alone.
    pub fn alone(id: MemberId, run: u64) -> EnsembleConfig {
        EnsembleConfig {
            member: Member { id, server_id: 0, spec: ServerSpec::nowhere() },
            run,
            founds: true,
            servers: Vec::new(),
            read_only_mode: false,
            linearizable_reads: false,
        }
    }
}

/// How containers and znodes with a time to live are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaping {
    /// Milliseconds between two looks (`znode.container.checkIntervalMs`).
    pub interval_ms: u64,
    /// The most deletions in a minute (`znode.container.maxPerMinute`).
    pub per_minute_max: u32,
    /// Milliseconds after which a container that never had a child goes; 0 for never.
    pub never_used_ms: i64,
}

/// When a snapshot is made: as soon as one of the bounds is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Requests in the log since the last snapshot (`snapCount`).
    pub requests: u64,
    /// Bytes in the log since the last snapshot.
    pub log_bytes: u64,
}

/// What makes an ensemble itself; made at random by the member that founds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Genesis {
    /// Members with different numbers never talk.
    pub cluster_id: [u8; 16],
    /// The key of the sessions' passwords.
    pub session_key: [u8; 32],
}

impl std::fmt::Debug for Genesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Genesis").field("cluster_id", &self.cluster_id).finish_non_exhaustive()
    }
}

/// What the edge found on the disk.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The newest snapshot.
    pub snapshot: Option<RecoveredSnapshot>,
    /// The hard state.
    pub hard_state: HardState,
    /// Every entry behind the snapshot, without gaps; the snapshot's own and earlier ones too if the log has them.
    pub entries: Vec<LogEntry>,
}

/// A snapshot, decoded.
pub struct RecoveredSnapshot {
    /// The index of the last entry it contains.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// What belongs to it besides the tree.
    pub meta: Vec<u8>,
    /// The tree.
    pub tree: Tree,
}

impl std::fmt::Debug for RecoveredSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecoveredSnapshot")
            .field("index", &self.index)
            .field("term", &self.term)
            .finish_non_exhaustive()
    }
}

/// Why a member cannot start from what was found on the disk.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log does not continue where the snapshot ends.
    #[error("the log starts at entry {first}, but entry {wanted} must follow the snapshot")]
    Gap {
        /// The first entry there is.
        first: u64,
        /// The entry that is missing.
        wanted: u64,
    },
    /// An entry or a snapshot's meta part passed its checksum, but is not in a form this version knows.
    #[error("{what} cannot be read by this version: {why}")]
    Format {
        /// Which part.
        what: String,
        /// In which way.
        why: String,
    },
    /// There is nothing to start anew from.
    #[error("this member belongs to no ensemble: it has no data")]
    Nothing,
    /// The engine refused what was found.
    #[error("the replication engine cannot start")]
    Engine(#[source] raft::Error),
}
