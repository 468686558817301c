//! What a simulator needs of the edge: the storage as it ships, on a simulated disk and without threads.

use std::path::Path;
use std::sync::Arc;

use grange_replica::{LogBatch, Recovered, RecoveredSnapshot, SnapshotImage};

use crate::log_writer::stored;
use crate::recovery::{self, DataError, Opened, Source};
use crate::snapshotter::write;
use crate::storage::log::{Batch, Log};
use crate::storage::snapshot::{SnapshotError, SnapshotFile, SnapshotStore};

pub use crate::storage::sim_disk::{Faults, SimDisk};

const LOG_DIR: &str = "/log";
const SNAPSHOT_DIR: &str = "/snapshot";

/// The files of a member on a simulated disk, opened.
#[derive(Debug)]
pub struct SimulatedData {
    /// What the replica starts with.
    pub recovered: Recovered,
    /// The log; it makes its segments within the calls that need them.
    pub log: Log,
    /// The snapshots.
    pub snapshots: SnapshotStore,
}

/// Opens a member's files as the server does at its start.
///
/// Errors: as the server's own.
pub fn open(disk: &SimDisk, segment_bytes: u64) -> Result<SimulatedData, DataError> {
    let (snapshot_dir, log_dir) = (Path::new(SNAPSHOT_DIR), Path::new(LOG_DIR));
    let source = Source { snapshot_dir, log_dir, segment_bytes, disk: Arc::new(disk.clone()) };
    let Opened { recovered, log, snapshots } = source.open(Log::open_inline, 1)?;
    Ok(SimulatedData { recovered, log, snapshots })
}

/// Returns a batch as the log stores it, in pieces that fit a segment.
pub fn to_stored(batch: &LogBatch, bytes_max: usize) -> Vec<Batch> {
    stored(batch, bytes_max)
}

/// Encodes and saves a snapshot as the server's snapshot thread does.
///
/// Errors: as [`SnapshotStore::create`].
pub fn save_snapshot(store: &SnapshotStore, image: SnapshotImage) -> Result<SnapshotFile, SnapshotError> {
    write(store, image)
}

/// Reads and decodes a snapshot.
///
/// Errors: as [`SnapshotStore::read`].
pub fn load_snapshot(
    store: &SnapshotStore,
    file: &SnapshotFile,
    name_key: u64,
) -> Result<RecoveredSnapshot, SnapshotError> {
    recovery::load_file(store, file, name_key)
}
