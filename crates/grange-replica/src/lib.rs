//! One member of the ensemble as a pure machine: sessions, watches, the request pipeline, consensus.
//!
//! The edge feeds [`Event`]s and performs [`Action`]s; between the two there is no socket, no file, no thread, no
//! clock. A member that stands alone is an ensemble of one: the same code, the same log.
//!
//! > **Invariant:** a reply to a write leaves only after the entry that holds the write was reported durable
//! > ([`Event::LogSynced`]) and applied.

#![forbid(unsafe_code)]

mod replica;

mod apply;
mod auth;
mod catch_up;
mod config;
mod connections;
mod engine;
mod ensemble;
mod entry;
mod event;
mod handshake;
#[cfg(feature = "simulation")]
mod history;
mod inspect;
mod leadership;
mod lookahead;
mod members;
mod membership;
mod password;
mod peer;
mod progress;
mod proposals;
mod read_points;
mod reads;
mod reaper;
mod reconfig;
mod report;
mod requests;
mod rescue;
mod sessions;
mod snapshots;
mod watches;

pub use config::{
    EnsembleConfig, Genesis, Reaping, RecoverError, Recovered, RecoveredSnapshot, ReplicaConfig, SnapshotPolicy,
};
pub use event::{Action, ConnId, ConnectAttempt, Event, HardState, LogBatch, LogEntry, Now, SnapshotImage};
#[cfg(feature = "simulation")]
pub use history::{AppliedEntry, AppliedKind, AppliedRequest, Membership, Probe};
pub use members::{Member, MemberId};
pub use replica::Replica;
pub use report::{
    ConnectionReport, Inspect, Latency, LogCounts, Mode, Report, SessionReport, Summary, WatchCounts, WatchEventCounts,
    WatchReport,
};
pub use rescue::rescue;

/// The longest pause between two [`Event::Tick`], in milliseconds: the granularity of timeouts.
pub const TICK_MS: u64 = 20;
