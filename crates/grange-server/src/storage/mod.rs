//! Files: the data directory, the write-ahead log and the snapshots.
//!
//! Nothing here knows what the bytes mean, so all of it is tested alone, on a simulated disk that loses and tears
//! writes. `docs/storage.md` is the operator's side of it.

pub mod dir;
pub mod disk;
pub mod log;
pub mod retention;
pub mod snapshot;
pub mod space;

#[cfg(any(test, feature = "simulation"))]
pub mod sim_disk;
