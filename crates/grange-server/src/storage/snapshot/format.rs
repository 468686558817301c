//! Names, header, table and trailer of a snapshot file: bytes only.

use bytes::{Buf, BufMut, Bytes};

use super::SnapshotMeta;

/// Largest chunk, in bytes. Writers choose chunks of about 1 MiB; readers refuse to allocate more than this.
pub const CHUNK_BYTES_MAX: usize = 64 << 20;
/// Largest `extra` of the meta data, in bytes.
pub(super) const EXTRA_BYTES_MAX: usize = 1 << 20;

pub(super) const HEADER_FIXED_BYTES: usize = 8 + 4 + 4 + 24;
pub(super) const CRC_BYTES: usize = 4;
pub(super) const TABLE_ENTRY_BYTES: usize = 8;
pub(super) const TRAILER_BYTES: usize = 8 + 8 + 4 + 8 + CRC_BYTES;

pub(super) const SUFFIX_UNFINISHED: &str = ".tmp";
const SUFFIX: &str = ".snap";
const VERSION: u32 = 1;
const HEADER_MAGIC: &[u8; 8] = b"GRANGESN";
const TRAILER_MAGIC: &[u8; 8] = b"GRANGEND";

pub(super) fn name(index: u64, term: u64) -> String {
    format!("{index:020}-{term}{SUFFIX}")
}

/// Returns index and term; `None` if the file is not a snapshot.
pub(super) fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (index, term) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((index.parse().ok()?, term.parse().ok()?))
}

pub(super) fn encode_header(meta: &SnapshotMeta) -> Vec<u8> {
    assert!(meta.extra.len() <= EXTRA_BYTES_MAX, "the meta data of a snapshot is at most {EXTRA_BYTES_MAX} bytes");
    let mut out = Vec::with_capacity(HEADER_FIXED_BYTES + meta.extra.len() + CRC_BYTES);
    out.put_slice(HEADER_MAGIC);
    out.put_u32_le(VERSION);
    out.put_u32_le(u32::try_from(meta.extra.len()).expect("compared with the bound above"));
    out.put_u64_le(meta.index);
    out.put_u64_le(meta.term);
    out.put_u64_le(meta.zxid);
    out.put_slice(&meta.extra);
    out.put_u32_le(crc32c::crc32c(&out));
    out
}

/// What the beginning of a file turned out to be.
pub(super) enum Header {
    /// A header, and the number of bytes it takes.
    Valid(SnapshotMeta, usize),
    /// One of a newer version.
    Newer(u32),
    /// Not a header, or one that does not match its checksum.
    Damaged,
}

/// Decodes the header at the start of `bytes`, which hold at least the largest one, or the whole file.
pub(super) fn decode_header(bytes: &Bytes) -> Header {
    let mut head = bytes.clone();
    if head.len() < HEADER_FIXED_BYTES + CRC_BYTES || head.split_to(HEADER_MAGIC.len()) != HEADER_MAGIC[..] {
        return Header::Damaged;
    }
    let version = head.get_u32_le();
    let extra_bytes = usize::try_from(head.get_u32_le()).unwrap_or(usize::MAX);
    let (index, term, zxid) = (head.get_u64_le(), head.get_u64_le(), head.get_u64_le());
    if extra_bytes > EXTRA_BYTES_MAX || head.len() < extra_bytes + CRC_BYTES {
        return Header::Damaged;
    }
    let extra = head.split_to(extra_bytes);
    let covered = HEADER_FIXED_BYTES + extra_bytes;
    if head.get_u32_le() != crc32c::crc32c(&bytes[..covered]) {
        return Header::Damaged;
    }
    // After the checksum, or a flipped bit would look like a newer version. A version that moves the checksum also
    // raises the format of the data directory.
    if version > VERSION {
        return Header::Newer(version);
    }
    Header::Valid(SnapshotMeta { index, term, zxid, extra }, covered + CRC_BYTES)
}

/// Size and checksum of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkInfo {
    pub(super) bytes: u32,
    pub(super) crc: u32,
}

/// Encodes table and trailer; `table_offset` is where they will lie.
pub(super) fn encode_end(table_offset: u64, chunks: &[ChunkInfo]) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunks.len() * TABLE_ENTRY_BYTES + TRAILER_BYTES);
    for chunk in chunks {
        out.put_u32_le(chunk.bytes);
        out.put_u32_le(chunk.crc);
    }
    let trailer = out.len();
    let table_crc = crc32c::crc32c(&out);
    out.put_u64_le(table_offset);
    out.put_u64_le(chunks.len() as u64);
    out.put_u32_le(table_crc);
    out.put_slice(TRAILER_MAGIC);
    out.put_u32_le(crc32c::crc32c(&out[trailer..]));
    out
}

/// The decoded trailer.
pub(super) struct Trailer {
    pub(super) table_offset: u64,
    pub(super) chunk_count: u64,
    pub(super) table_crc: u32,
}

pub(super) fn decode_trailer(bytes: &[u8; TRAILER_BYTES]) -> Option<Trailer> {
    let mut fields = &bytes[..];
    let (table_offset, chunk_count, table_crc) = (fields.get_u64_le(), fields.get_u64_le(), fields.get_u32_le());
    let magic = fields.copy_to_bytes(TRAILER_MAGIC.len());
    let crc = crc32c::crc32c(&bytes[..TRAILER_BYTES - CRC_BYTES]);
    (magic == TRAILER_MAGIC[..] && fields.get_u32_le() == crc).then_some(Trailer {
        table_offset,
        chunk_count,
        table_crc,
    })
}

pub(super) fn decode_table(mut bytes: &[u8]) -> Vec<ChunkInfo> {
    let mut chunks = Vec::with_capacity(bytes.len() / TABLE_ENTRY_BYTES);
    while bytes.len() >= TABLE_ENTRY_BYTES {
        chunks.push(ChunkInfo { bytes: bytes.get_u32_le(), crc: bytes.get_u32_le() });
    }
    chunks
}
