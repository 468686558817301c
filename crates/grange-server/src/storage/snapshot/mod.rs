//! Snapshot files: a state at one log index, written once, complete or not there.
//!
//! # Shape of a file
//!
//! `<index, 20 digits>-<term>.snap`, all integers little-endian:
//!
//! | part | contents |
//! |---|---|
//! | header | `magic [8], version u32, meta_bytes u32, index u64, term u64, zxid u64`, the meta bytes, `crc u32` |
//! | chunks | bytes, one chunk after the other |
//! | table | `bytes u32, crc u32` for each chunk |
//! | trailer, 32 bytes | `table_offset u64, chunk_count u64, table_crc u32, magic [8], crc u32` |
//!
//! A checksum (CRC32C) covers what stands before it in its part. The table is at the end because the writer does not
//! know it before; a file that was cut short has no trailer. Chunks can be read in any order and by several threads.
//!
//! A file is written under another name (`.tmp`), synced, renamed, and the directory synced: so a `.snap` that does
//! not hold is damaged. What an interrupted write left is removed at the next start.

mod copy;
mod format;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use copy::{SnapshotCopy, SnapshotSource};
pub use format::CHUNK_BYTES_MAX;
pub use reader::SnapshotReader;
pub use writer::SnapshotWriter;

use super::disk::{self, Disk};

/// What a snapshot says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Index of the last log entry it contains.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Last zxid it contains, as the bits of the signed number.
    pub zxid: u64,
    /// Opaque bytes for the owner, for example the members of the ensemble; at most 1 MiB.
    pub extra: Bytes,
}

/// A snapshot file in the directory, not opened yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotFile {
    /// Index of the last log entry it contains.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file system or the quota is full; nothing of the snapshot remains.
    #[error("no space for the snapshot {}", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{}: damaged at byte {offset}: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged part starts.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A newer version of the program wrote it.
    #[error("{}: snapshot format {version} is newer than this program; use the version that wrote it", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The format found.
        version: u32,
    },
}

/// Why no snapshot could be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The newest one is unusable, and no older one together with the log can stand in for it.
    #[error(
        "the newest snapshot cannot be used, and the log does not reach back to a usable older one: restore this \
         member from a backup or, in an ensemble, start it with an empty directory"
    )]
    NoneUsable {
        /// What is wrong with the newest one.
        #[source]
        newest: SnapshotError,
    },
    /// The directory cannot be read, or a snapshot is of a newer version.
    #[error("cannot restore a snapshot")]
    Snapshot(#[source] SnapshotError),
}

/// The directory of snapshot files.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl SnapshotStore {
    /// Opens the existing directory `dir` and removes what an interrupted write left there.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<SnapshotStore, SnapshotError> {
        let store = SnapshotStore { dir: dir.to_owned(), disk };
        for name in store.names()? {
            if name.ends_with(format::SUFFIX_UNFINISHED) {
                let path = dir.join(name);
                store.disk.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        // The last process may have died between naming a snapshot and syncing the directory. The log must not be
        // purged on the strength of a name that a power loss can take back.
        store.disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        Ok(store)
    }

    /// Lists the snapshots, oldest first, without looking into them.
    pub fn list(&self) -> Result<Vec<SnapshotFile>, SnapshotError> {
        let mut files = Vec::new();
        for name in self.names()? {
            if let Some((index, term)) = format::parse_name(&name) {
                let path = self.dir.join(name);
                let size = self.disk.open(&path).and_then(|file| file.size());
                files.push(SnapshotFile { index, term, bytes: size.map_err(io_error("open", &path))?, path });
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Starts to write a snapshot. It appears when [`SnapshotWriter::finish`] returns.
    ///
    /// The writer is independent of the store and may be used on another thread; one writer at a time for an index.
    pub fn create(&self, meta: &SnapshotMeta) -> Result<SnapshotWriter, SnapshotError> {
        SnapshotWriter::create(Arc::clone(&self.disk), &self.dir, meta)
    }

    /// Opens a snapshot and checks all of it but the chunks, which are checked as they are read.
    pub fn read(&self, file: &SnapshotFile) -> Result<SnapshotReader, SnapshotError> {
        SnapshotReader::open(&*self.disk, file)
    }

    /// Removes a snapshot.
    pub fn remove(&self, file: &SnapshotFile) -> Result<(), SnapshotError> {
        self.disk.remove(&file.path).map_err(io_error("remove", &file.path))?;
        self.disk.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))
    }

    /// Loads the newest snapshot, or `None` if there is none.
    ///
    /// `load` gets a reader and builds the state; it returns the error of [`SnapshotReader::chunk`], or one made with
    /// [`SnapshotReader::damaged`]. If the newest one is damaged or unreadable, an older one is used, with a warning,
    /// provided that `log_reaches(index)` says that the log holds every entry from `index` on, where `index` is the
    /// first one after the older snapshot. Nothing is ever skipped otherwise.
    pub fn restore<T>(
        &self,
        mut log_reaches: impl FnMut(u64) -> bool,
        mut load: impl FnMut(&SnapshotReader) -> Result<T, SnapshotError>,
    ) -> Result<Option<(SnapshotFile, T)>, RestoreError> {
        let mut newest_error = None;
        for file in self.list().map_err(RestoreError::Snapshot)?.into_iter().rev() {
            if newest_error.is_some() && !log_reaches(file.index + 1) {
                break;
            }
            match self.read(&file).and_then(|reader| load(&reader)) {
                Ok(state) => return Ok(Some((file, state))),
                Err(error @ SnapshotError::Version { .. }) => return Err(RestoreError::Snapshot(error)),
                Err(error) => {
                    tracing::error!(
                        path = %file.path.display(),
                        error = &error as &dyn std::error::Error,
                        "a snapshot cannot be used; trying an older one with the log. Check this disk"
                    );
                    newest_error.get_or_insert(error);
                }
            }
        }
        newest_error.map_or(Ok(None), |newest| Err(RestoreError::NoneUsable { newest }))
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        self.disk.list(&self.dir).map_err(io_error("list", &self.dir))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| {
        if disk::is_full(&source) {
            SnapshotError::Full { path, source }
        } else {
            SnapshotError::Io { action, path, source }
        }
    }
}
