//! Reading a snapshot file, in any order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::super::disk::{Disk, DiskFile};
use super::format::{self, ChunkInfo, Header, TABLE_ENTRY_BYTES, TRAILER_BYTES};
use super::{CHUNK_BYTES_MAX, SnapshotError, SnapshotFile, SnapshotMeta, io_error};

/// An open snapshot whose header, table and size are in order. Can be shared by threads.
#[derive(Debug)]
pub struct SnapshotReader {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    meta: SnapshotMeta,
    chunks: Vec<PlacedChunk>,
}

#[derive(Debug)]
struct PlacedChunk {
    offset: u64,
    info: ChunkInfo,
}

impl SnapshotReader {
    pub(super) fn open(disk: &dyn Disk, snapshot: &SnapshotFile) -> Result<SnapshotReader, SnapshotError> {
        let path = &snapshot.path;
        let file = disk.open(path).map_err(io_error("open", path))?;
        let source = Source { path, file: &*file };
        let size = file.size().map_err(io_error("read", path))?;
        let (meta, data_offset) = source.header(size)?;
        if (meta.index, meta.term) != (snapshot.index, snapshot.term) {
            return Err(source.damaged(0, "the header does not match the file name"));
        }
        let chunks = source.table(size, data_offset)?;
        Ok(SnapshotReader { path: path.clone(), file, meta, chunks })
    }

    /// Returns what the snapshot says about itself.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Returns the number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Reads and checks chunk `at`, counted from 0. Panics if there is no such chunk.
    pub fn chunk(&self, at: usize) -> Result<Bytes, SnapshotError> {
        let PlacedChunk { offset, info } = &self.chunks[at];
        let source = Source { path: &self.path, file: &*self.file };
        let bytes = source.read(*offset, u64::from(info.bytes))?;
        if crc32c::crc32c(&bytes) != info.crc {
            return Err(source.damaged(*offset, "a chunk does not match its checksum"));
        }
        Ok(bytes)
    }

    /// Returns the error for a chunk whose checksum holds but whose contents make no sense to the owner.
    pub fn damaged(&self, at: usize, what: &'static str) -> SnapshotError {
        let offset = self.chunks.get(at).map_or(0, |chunk| chunk.offset);
        SnapshotError::Damaged { path: self.path.clone(), offset, what }
    }
}

/// A file under examination.
struct Source<'a> {
    path: &'a Path,
    file: &'a dyn DiskFile,
}

impl Source<'_> {
    fn damaged(&self, offset: u64, what: &'static str) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.to_owned(), offset, what }
    }

    fn read(&self, offset: u64, bytes: u64) -> Result<Bytes, SnapshotError> {
        let mut buf = vec![0; usize::try_from(bytes).map_err(|_| self.damaged(offset, "a part is too large"))?];
        let read = self.file.read_full_at(&mut buf, offset).map_err(io_error("read", self.path))?;
        if read < buf.len() {
            return Err(self.damaged(offset, "the file is shorter than it says"));
        }
        Ok(buf.into())
    }

    /// Returns the meta data and where the chunks start.
    fn header(&self, size: u64) -> Result<(SnapshotMeta, u64), SnapshotError> {
        let bytes_max = format::HEADER_FIXED_BYTES + format::EXTRA_BYTES_MAX + format::CRC_BYTES;
        match format::decode_header(&self.read(0, size.min(bytes_max as u64))?) {
            Header::Valid(meta, bytes) => Ok((meta, bytes as u64)),
            Header::Newer(version) => Err(SnapshotError::Version { path: self.path.to_owned(), version }),
            Header::Damaged => Err(self.damaged(0, "the header does not match its checksum")),
        }
    }

    fn table(&self, size: u64, data_offset: u64) -> Result<Vec<PlacedChunk>, SnapshotError> {
        let trailer_offset = size.saturating_sub(TRAILER_BYTES as u64);
        let incomplete = || self.damaged(trailer_offset, "the file does not end with a trailer: it was cut short");
        let mut trailer = [0; TRAILER_BYTES];
        let read = self.file.read_full_at(&mut trailer, trailer_offset).map_err(io_error("read", self.path))?;
        let trailer = format::decode_trailer(&trailer).filter(|_| read == TRAILER_BYTES).ok_or_else(incomplete)?;
        let table_bytes = trailer.chunk_count.checked_mul(TABLE_ENTRY_BYTES as u64).ok_or_else(incomplete)?;
        if trailer.table_offset.checked_add(table_bytes) != Some(trailer_offset) {
            return Err(incomplete());
        }
        let table = self.read(trailer.table_offset, table_bytes)?;
        if crc32c::crc32c(&table) != trailer.table_crc {
            return Err(self.damaged(trailer.table_offset, "the table of chunks does not match its checksum"));
        }
        let mut offset = data_offset;
        let mut chunks = Vec::with_capacity(table.len() / TABLE_ENTRY_BYTES);
        for info in format::decode_table(&table) {
            if u64::from(info.bytes) > CHUNK_BYTES_MAX as u64 {
                return Err(self.damaged(trailer.table_offset, "a chunk is larger than any writer makes them"));
            }
            chunks.push(PlacedChunk { offset, info });
            offset += u64::from(info.bytes);
        }
        if offset != trailer.table_offset {
            return Err(self.damaged(trailer.table_offset, "the chunks do not fill the file"));
        }
        Ok(chunks)
    }
}
