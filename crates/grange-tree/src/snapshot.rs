//! The state at one point in time, as bytes.
//!
//! A snapshot is a number of chunks, each of which can be written, sent and read on its own and in parallel:
//! - chunk 0, the summary: transaction, digest, how far the slots of each kind reach;
//! - then blocks of slots: access control lists, sessions, znodes.
//!
//! Slots are written as they stand, free ones and links included. A tree that was read back therefore gives out the
//! same slots, lists children in the same order and writes the same snapshots as the one it came from.
//! Nothing that can be derived is written: the index of names, the counters, the idle znodes.
//!
//! Every chunk starts with the version of the format and the kind of the chunk, a byte each. Numbers are big-endian.

mod decode;
mod encode;
mod rebuild;

pub use decode::{DecodedChunk, SnapshotError};
pub use encode::TreeSnapshot;
pub use rebuild::TreeBuilder;

/// The version that is written, and the only one that is read.
const FORMAT_VERSION: u8 = 2;

/// Slots in a block, except the last one of its kind.
const BLOCK_SLOTS: usize = 256;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum ChunkKind {
    Summary = 0,
    Acls = 1,
    Sessions = 2,
    Nodes = 3,
}

/// What a slot holds.
const SLOT_FREE: u8 = 0;
const SLOT_FULL: u8 = 1;
/// A znode with a record of what few have.
const SLOT_FULL_WITH_EXTRA: u8 = 2;

/// How far the slots of one kind reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    slot_count: u32,
    full_count: u32,
    /// The number of the free slot to be used next, 0 for none.
    free: u32,
}

/// Chunk 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    zxid: grange_proto::Zxid,
    digest: u64,
    root: u32,
    acls: Reach,
    sessions: Reach,
    nodes: Reach,
}
