//! Sockets of clients: a fixed number of I/O workers, each with its own connections, its own poll and no locks
//! per request.
//!
//! A worker knows frames by their lengths only. What it read goes to the replica thread as one event per read; what
//! the replica answers comes back through the worker's [`Outbox`], with one wake-up for each batch. The workers use
//! `mio`, what tokio itself stands on, without tokio's tasks: a worker is one loop that owns all it touches, and an
//! idle connection costs a few hundred bytes.
//!
//! # Bounds
//!
//! | what | bound | beyond it |
//! |---|---|---|
//! | connections of an address, connections in all | [`crate::config::Limits`] | closed at accept |
//! | time until a handshake is complete | [`crate::config::Limits`] | closed |
//! | bytes of a frame | [`crate::config::Limits::frame_bytes_max`] | closed |
//! | requests of a connection in flight | [`REQUESTS_IN_FLIGHT_MAX`], fewer if replies are large | not read from until half are answered |
//! | request bytes of a connection in flight | [`REQUEST_BYTES_IN_FLIGHT_MAX`] | not read from |
//! | request bytes of all connections in flight | [`REQUEST_BYTES_IN_FLIGHT_TOTAL_MAX`] | nobody is read from |
//! | unwritten output of a connection | [`OUTPUT_BYTES_MAX`] | not read from |
//! | the same, when watch events add to it | [`OUTPUT_BYTES_HARD_MAX`] | closed |

mod admission;
mod connection;
mod in_flight;
mod listener;
mod outbox;
mod output;
mod window;
mod worker;

use std::time::Duration;

pub(crate) use admission::Admission;
pub(crate) use listener::BoundPort;
pub use listener::ListenError;
pub(crate) use outbox::{Command, Outbox};
pub(crate) use worker::{Worker, WorkerConfig};

use grange_replica::ConnId;

/// Requests of one connection that are passed on and not answered. The larger the replies, the fewer there may be.
pub(crate) const REQUESTS_IN_FLIGHT_MAX: usize = 512;
/// Bytes of such requests; at least one frame is always let through. So little because all of it is done in one step,
/// and long paths take long: others wait meanwhile.
pub(crate) const REQUEST_BYTES_IN_FLIGHT_MAX: usize = 256 << 10;
/// Bytes of such requests of all connections.
pub(crate) const REQUEST_BYTES_IN_FLIGHT_TOTAL_MAX: usize = 256 << 20;
/// Bytes that wait until the client reads them.
pub(crate) const OUTPUT_BYTES_MAX: usize = 4 << 20;
/// Bytes that may wait when watch events, which nobody asked for just now, are added. A single reply may be larger.
pub(crate) const OUTPUT_BYTES_HARD_MAX: usize = 64 << 20;
/// Bytes that one read takes at most.
const READ_BYTES_MAX: usize = 128 << 10;
/// How long a closed connection may take to read what was sent to it.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long requests in flight may take to be answered when the server stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// The most I/O workers: their number has eight bits in a [`ConnId`].
pub(crate) const WORKERS_MAX: usize = 64;

const _: () = assert!(OUTPUT_BYTES_MAX <= OUTPUT_BYTES_HARD_MAX, "a client is not read from long before it is closed");
const _: () = assert!(WORKERS_MAX <= 1 << 8, "the number of a worker has eight bits");

/// Bits of the slot in a [`ConnId`], below 32 bits that tell the users of a slot apart.
const SLOT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 32;

/// Makes the name of the connection in `slot` of a worker.
fn conn_id(worker: usize, generation: u32, slot: usize) -> ConnId {
    debug_assert!(slot < 1 << SLOT_BITS && worker < WORKERS_MAX, "more connections than a process can have open");
    ConnId((worker as u64) << (GENERATION_BITS + SLOT_BITS) | u64::from(generation) << SLOT_BITS | slot as u64)
}

/// Returns the worker that has a connection, or asked a question with this number.
pub(crate) fn worker_of(id: u64) -> usize {
    usize::from(id.to_be_bytes()[0])
}

fn slot_of(conn: ConnId) -> usize {
    usize::try_from(conn.0 & ((1 << SLOT_BITS) - 1)).expect("a slot has 24 bits")
}
