//! A frame: one batch as it lies in a segment, under checksums.
//!
//! Header, 32 bytes, little-endian: `header_crc u32, body_crc u32, body_bytes u32, magic u32, seq u64, synced u64`.
//! Then the body, then zeros to a multiple of 8. Both checksums are CRC32C; the one of the header starts from the
//! segment's seed and covers the rest of the header, so it covers `body_crc` too. Frames start at multiples of 8.
//!
//! `seq` counts frames over all segments. `synced` is the highest `seq` that was known to be durable when this frame
//! was encoded: it is what tells damage from a torn tail (see the module `log`).

use bytes::{Buf, BufMut, Bytes};

use super::super::disk::DiskFile;
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use std::io;

pub(super) const FRAME_HEADER_BYTES: usize = 32;
const FRAME_ALIGN: usize = 8;
const FRAME_MAGIC: u32 = 0x6c61_7747;
/// Bytes read at once while going through a segment.
const WINDOW_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    body_crc: u32,
    body_bytes: u32,
    pub(super) seq: u64,
    pub(super) synced: u64,
}

impl FrameHeader {
    /// Decodes and checks a header; `None` if these bytes are not a header of a segment with this seed.
    pub(super) fn decode(bytes: &[u8], seed: u32) -> Option<FrameHeader> {
        let (mut head, covered) = (bytes.get(..FRAME_HEADER_BYTES)?, bytes.get(4..FRAME_HEADER_BYTES)?);
        let header_crc = head.get_u32_le();
        let body_crc = head.get_u32_le();
        let body_bytes = head.get_u32_le();
        if head.get_u32_le() != FRAME_MAGIC || crc32c::crc32c_append(seed, covered) != header_crc {
            return None;
        }
        let (seq, synced) = (head.get_u64_le(), head.get_u64_le());
        // Numbers start at 1 and never get near the end, so that neighbours can be computed without a check.
        (1..u64::MAX).contains(&seq).then_some(FrameHeader { body_crc, body_bytes, seq, synced })
    }

    fn body_bytes(self) -> usize {
        usize::try_from(self.body_bytes).expect("usize has at least 32 bits on every platform we build for")
    }
}

/// Returns the space that a frame with a body of `body_bytes` takes.
pub(super) fn frame_bytes(body_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + body_bytes).next_multiple_of(FRAME_ALIGN)
}

/// Appends a frame to `out`; `body` writes the body.
pub(super) fn encode(out: &mut Vec<u8>, seed: u32, seq: u64, synced: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.resize(start + FRAME_HEADER_BYTES, 0);
    body(out);
    let body_start = start + FRAME_HEADER_BYTES;
    let body_crc = crc32c::crc32c(&out[body_start..]);
    let body_bytes = u32::try_from(out.len() - body_start).expect("a body is smaller than a segment");
    let mut head = &mut out[start + 4..body_start];
    head.put_u32_le(body_crc);
    head.put_u32_le(body_bytes);
    head.put_u32_le(FRAME_MAGIC);
    head.put_u64_le(seq);
    head.put_u64_le(synced);
    let header_crc = crc32c::crc32c_append(seed, &out[start + 4..body_start]);
    out[start..start + 4].copy_from_slice(&header_crc.to_le_bytes());
    out.resize(start + frame_bytes(out.len() - body_start), 0);
}

/// A frame whose checksums hold.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) offset: u64,
    pub(super) body: Bytes,
}

/// Reads the frames of one segment in order, without holding more than a window of it.
#[derive(Debug)]
pub(super) struct FrameReader<'a> {
    file: &'a dyn DiskFile,
    seed: u32,
    end: u64,
    offset: u64,
    window: Bytes,
}

impl<'a> FrameReader<'a> {
    pub(super) fn new(segment: &'a Segment) -> FrameReader<'a> {
        FrameReader::from_offset(segment, SEGMENT_HEADER_BYTES, segment.bytes)
    }

    /// Reads from a frame that starts at `offset` up to `end`.
    pub(super) fn from_offset(segment: &'a Segment, offset: u64, end: u64) -> FrameReader<'a> {
        FrameReader { file: segment.file.as_ref(), seed: segment.seed, end, offset, window: Bytes::new() }
    }

    /// Where the next frame starts, or would start.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next frame; `None`, without moving, if there is no intact frame here.
    ///
    /// With `expected`, a frame with another sequence number counts as none.
    pub(super) fn next(&mut self, expected: Option<u64>) -> io::Result<Option<Frame>> {
        if !self.fill(FRAME_HEADER_BYTES)? {
            return Ok(None);
        }
        let Some(header) = FrameHeader::decode(&self.window, self.seed) else { return Ok(None) };
        let size = frame_bytes(header.body_bytes());
        if expected.is_some_and(|seq| seq != header.seq) || !self.fill(size)? {
            return Ok(None);
        }
        let body = self.window.slice(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.body_bytes());
        if crc32c::crc32c(&body) != header.body_crc {
            return Ok(None);
        }
        let offset = self.offset;
        self.window.advance(size);
        self.offset += size as u64;
        Ok(Some(Frame { header, offset, body }))
    }

    /// Makes sure that the window holds `bytes` bytes from the current offset; false if the segment ends before.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        if self.window.len() >= bytes {
            return Ok(true);
        }
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        if bytes > left {
            return Ok(false);
        }
        let mut buf = vec![0; bytes.max(WINDOW_BYTES).min(left)];
        let read = self.file.read_full_at(&mut buf, self.offset)?;
        buf.truncate(read);
        self.window = buf.into();
        Ok(read >= bytes)
    }
}

/// Finds every intact frame header from `offset` to the end of the segment, whatever lies between.
pub(super) fn find_headers(segment: &Segment, offset: u64) -> io::Result<Vec<(u64, FrameHeader)>> {
    let mut found = Vec::new();
    let mut buf = vec![0; WINDOW_BYTES];
    let mut start = offset;
    while start < segment.bytes {
        let read = segment.file.read_full_at(&mut buf, start)?;
        // Windows overlap by a header, so that none is missed on a boundary.
        let mut at = 0;
        while at + FRAME_HEADER_BYTES <= read {
            let magic = &buf[at + 12..at + 16];
            if magic == FRAME_MAGIC.to_le_bytes()
                && let Some(header) = FrameHeader::decode(&buf[at..], segment.seed)
            {
                found.push((start + at as u64, header));
            }
            at += FRAME_ALIGN;
        }
        if at == 0 {
            break;
        }
        start += at as u64;
    }
    Ok(found)
}
