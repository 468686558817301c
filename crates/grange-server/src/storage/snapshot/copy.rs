//! A snapshot file as bytes: read whole on one member, and put together on another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::super::disk::{Disk, DiskFile};
use super::format::{self, TRAILER_BYTES};
use super::writer::SYNC_STEP_BYTES;
use super::{SnapshotError, SnapshotFile, SnapshotReader, SnapshotStore, io_error};

/// An open snapshot file that is to be copied. It can be read to its end even after it was removed.
#[derive(Debug)]
pub struct SnapshotSource {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    bytes: u64,
    fingerprint: u64,
}

/// A snapshot file that grows as parts of it arrive. Dropped before [`SnapshotCopy::finish`], it removes what it wrote.
#[derive(Debug)]
pub struct SnapshotCopy {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    unfinished: PathBuf,
    file: Arc<dyn DiskFile>,
    index: u64,
    term: u64,
    offset: u64,
    synced_offset: u64,
    finished: bool,
}

impl SnapshotStore {
    /// Opens the snapshot of this index and term to be copied, `None` if there is none.
    pub fn source(&self, index: u64, term: u64) -> Result<Option<SnapshotSource>, SnapshotError> {
        let found = self.list()?.into_iter().find(|file| (file.index, file.term) == (index, term));
        found.map(|file| SnapshotSource::open(&*self.disk, &file)).transpose()
    }

    /// Starts to put together a snapshot whose bytes come from elsewhere; one at a time for an index and term.
    pub fn copy(&self, index: u64, term: u64) -> Result<SnapshotCopy, SnapshotError> {
        let name = format::name(index, term);
        let (path, unfinished) = (self.dir.join(&name), self.dir.join(name + SUFFIX_COPY));
        let file = self.disk.create(&unfinished).map_err(io_error("create", &unfinished))?;
        Ok(SnapshotCopy {
            disk: Arc::clone(&self.disk),
            dir: self.dir.clone(),
            path,
            unfinished,
            file,
            index,
            term,
            offset: 0,
            synced_offset: 0,
            finished: false,
        })
    }
}

/// Ends like every unfinished file, so that the next start removes it too.
const SUFFIX_COPY: &str = ".copy.tmp";
const _: () = assert!(is_unfinished(SUFFIX_COPY), "the next start removes what was not completed");

const fn is_unfinished(suffix: &str) -> bool {
    let (suffix, end) = (suffix.as_bytes(), format::SUFFIX_UNFINISHED.as_bytes());
    let mut at = 0;
    while at < end.len() {
        if suffix[suffix.len() - end.len() + at] != end[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl SnapshotSource {
    fn open(disk: &dyn Disk, snapshot: &SnapshotFile) -> Result<SnapshotSource, SnapshotError> {
        let path = &snapshot.path;
        let file = disk.open(path).map_err(io_error("open", path))?;
        let bytes = file.size().map_err(io_error("read", path))?;
        let trailer_offset = bytes.saturating_sub(TRAILER_BYTES as u64);
        let mut trailer = [0; TRAILER_BYTES];
        let read = file.read_full_at(&mut trailer, trailer_offset).map_err(io_error("read", path))?;
        // The trailer has a checksum over the checksums of all chunks.
        let crc = crc32c::crc32c(&trailer[..read]);
        let table_crc = format::decode_trailer(&trailer).map_or(0, |trailer| trailer.table_crc);
        let fingerprint = u64::from(table_crc) << 32 | u64::from(crc);
        Ok(SnapshotSource { path: path.clone(), file, bytes, fingerprint })
    }

    /// Returns the size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns a number that tells files apart which have the same index and term.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Reads at most `bytes_max` bytes from `offset`, at least one.
    ///
    /// Errors: [`SnapshotError::Damaged`] if the file has become shorter.
    pub fn read(&self, offset: u64, bytes_max: u64) -> Result<Bytes, SnapshotError> {
        let bytes = self.bytes.saturating_sub(offset).min(bytes_max);
        let mut buf = vec![0; usize::try_from(bytes).expect("a part fits into memory")];
        let read = self.file.read_full_at(&mut buf, offset).map_err(io_error("read", &self.path))?;
        if read < buf.len() || buf.is_empty() {
            let what = "the file is shorter than it was";
            return Err(SnapshotError::Damaged { path: self.path.clone(), offset, what });
        }
        Ok(buf.into())
    }
}

impl SnapshotCopy {
    /// Returns how much of the file is there.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Adds the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write_all_at(bytes, self.offset).map_err(io_error("write", &self.unfinished))?;
        self.offset += bytes.len() as u64;
        if self.offset - self.synced_offset >= SYNC_STEP_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes all of it durable, and opens it as the snapshot it is said to be. The chunks are still to be checked.
    pub fn check(&mut self) -> Result<SnapshotReader, SnapshotError> {
        self.sync()?;
        SnapshotReader::open(&*self.disk, &self.described(&self.unfinished))
    }

    /// Gives the file its name. Whoever calls has read every chunk from [`SnapshotCopy::check`].
    pub fn finish(mut self) -> Result<SnapshotFile, SnapshotError> {
        self.sync()?;
        self.disk.rename(&self.unfinished, &self.path).map_err(io_error("rename", &self.unfinished))?;
        self.finished = true;
        self.disk.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))?;
        Ok(self.described(&self.path))
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        if self.synced_offset < self.offset {
            self.file.sync_data().map_err(io_error("sync", &self.unfinished))?;
            self.synced_offset = self.offset;
        }
        Ok(())
    }

    fn described(&self, path: &Path) -> SnapshotFile {
        SnapshotFile { index: self.index, term: self.term, bytes: self.offset, path: path.to_owned() }
    }
}

impl Drop for SnapshotCopy {
    fn drop(&mut self) {
        if !self.finished {
            // The next start removes it too; here it gives the space back early.
            let _ = self.disk.remove(&self.unfinished);
        }
    }
}
