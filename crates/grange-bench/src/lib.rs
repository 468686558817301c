//! A load generator for any server that speaks the ZooKeeper protocol.
//!
//! It exists to measure servers that are faster than ordinary clients, on a machine that the server shares with it.
//! So it costs little itself: requests are encoded once and patched ([`template`]), replies are only scanned for
//! their headers ([`reply`]), a read and a write carry many of them, and nothing is allocated per operation. It does
//! check every reply: its xid, its error code and, where the operation fixes it, its size.
//!
//! [`run`] takes a [`Plan`] and returns a [`Report`]. The crate depends on the protocol only, so that what it
//! measures can be neither the server's code nor the client's.

#![forbid(unsafe_code)]

mod run;

pub mod error;
pub mod plan;
pub mod report;

pub mod layout;
pub mod template;
mod workload;

mod connection;
mod control;
mod handshake;
pub mod poll;
pub mod reply;
mod sessions;
mod worker;

pub mod latency;
pub mod process;
pub mod schedule;
mod tally;

pub use error::BenchError;
pub use plan::{Afterwards, Extent, Operation, Plan};
pub use report::Report;
pub use run::run;
pub use tally::Failures;
