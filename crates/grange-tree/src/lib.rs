//! The replicated state: znodes, access control, quotas, sessions and their ephemerals.
//!
//! [`Tree::apply`] takes one write after the other, in the order of the log, and every member of an ensemble that has
//! applied the same writes holds the same state, byte for byte in its snapshots. All checks happen here, at that
//! moment; nothing is checked ahead.
//!
//! Invariants:
//! - There is no clock, no randomness, no I/O and no thread: time and permissions arrive in the [`WriteContext`], and
//!   nothing depends on the order of a hash table (`clippy.toml` bans what would).
//! - A write that fails changes nothing but [`Tree::last_zxid`], a multi included.
//! - Nothing recurses: paths may have as many components as fit into a frame.
//! - The digest is the sum of a share for each znode and session, kept up to date by every change. A snapshot that was
//!   read back must add up to the same sum.
//!
//! In memory a znode is 64 bytes in a slab, one allocation that holds its name and its data, and an entry of eight bytes
//! in an index by parent and name: 216 bytes with a name of 11 and data of 100, measured on 10^6 of them by
//! `examples/tree_bench.rs`. What few znodes have (children, an ACL, a lifetime) is in a record of its own. Siblings,
//! and the ephemerals of a session, are linked. A snapshot freezes the slabs; what is written afterwards is copied
//! first. Memory that deleted znodes leave is used by the next ones.

#![forbid(unsafe_code)]

mod hash_index;
mod slab;

mod acl;
mod acl_table;
mod change;
mod identity;
mod idle;
mod node;
mod sequential;
mod session;

mod ephemeral;
mod store;
mod warm;

mod multi;
mod quota;
mod read;
mod tree;
mod write;

mod snapshot;

pub use acl::AclRef;
pub use change::{Change, ChangeKind, Changes};
pub use identity::{Identities, Policy};
pub use session::Session;
pub use snapshot::{DecodedChunk, SnapshotError, TreeBuilder, TreeSnapshot};
pub use tree::{Applied, Tree, WriteContext};
pub use warm::WARM_MAX;
pub use write::EPHEMERALS_PER_STEP_MAX;
