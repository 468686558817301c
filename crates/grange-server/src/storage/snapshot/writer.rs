//! Writing a snapshot file, chunk by chunk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::disk::{Disk, DiskFile};
use super::format::{self, CHUNK_BYTES_MAX, ChunkInfo};
use super::{SnapshotError, SnapshotFile, SnapshotMeta, io_error};

/// Bytes written between two syncs. Without them the last sync would write the whole file at once, and a sync of the
/// log on the same disk would wait for it.
pub(super) const SYNC_STEP_BYTES: u64 = 8 << 20;

/// A snapshot being written. Dropped before [`SnapshotWriter::finish`], it removes what it wrote.
#[derive(Debug)]
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    unfinished: PathBuf,
    file: Arc<dyn DiskFile>,
    index: u64,
    term: u64,
    offset: u64,
    synced_offset: u64,
    chunks: Vec<ChunkInfo>,
    finished: bool,
}

impl SnapshotWriter {
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotWriter, SnapshotError> {
        let name = format::name(meta.index, meta.term);
        let (path, unfinished) = (dir.join(&name), dir.join(name + format::SUFFIX_UNFINISHED));
        let file = disk.create(&unfinished).map_err(io_error("create", &unfinished))?;
        let mut writer = SnapshotWriter {
            disk,
            dir: dir.to_owned(),
            path,
            unfinished,
            file,
            index: meta.index,
            term: meta.term,
            offset: 0,
            synced_offset: 0,
            chunks: Vec::new(),
            finished: false,
        };
        writer.write(&format::encode_header(meta))?;
        Ok(writer)
    }

    /// Writes one chunk. Its limits are kept: the reader gets the same bytes as one chunk.
    ///
    /// Panics if it is larger than [`CHUNK_BYTES_MAX`].
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        assert!(bytes.len() <= CHUNK_BYTES_MAX, "a chunk has at most {CHUNK_BYTES_MAX} bytes");
        self.write(bytes)?;
        let size = u32::try_from(bytes.len()).expect("compared with the bound above");
        self.chunks.push(ChunkInfo { bytes: size, crc: crc32c::crc32c(bytes) });
        Ok(())
    }

    /// Completes the file, makes it durable and gives it its name.
    ///
    /// After an error the snapshot may or may not be there, but if it is, it is complete.
    pub fn finish(mut self) -> Result<SnapshotFile, SnapshotError> {
        self.write(&format::encode_end(self.offset, &self.chunks))?;
        self.file.sync_data().map_err(io_error("sync", &self.unfinished))?;
        self.disk.rename(&self.unfinished, &self.path).map_err(io_error("rename", &self.unfinished))?;
        self.finished = true;
        self.disk.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))?;
        Ok(SnapshotFile { index: self.index, term: self.term, bytes: self.offset, path: self.path.clone() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write_all_at(bytes, self.offset).map_err(io_error("write", &self.unfinished))?;
        self.offset += bytes.len() as u64;
        if self.offset - self.synced_offset >= SYNC_STEP_BYTES {
            self.file.sync_data().map_err(io_error("sync", &self.unfinished))?;
            self.synced_offset = self.offset;
        }
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            // The next start removes it too; here it gives the space back early.
            let _ = self.disk.remove(&self.unfinished);
        }
    }
}
