//! Frames between members: `bytes u32, crc u32`, then so many bytes; little-endian.
//!
//! The checksum (CRC32C) covers the length and the bytes. A frame without bytes says that the sender is alive.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

pub(super) const FRAME_HEAD_BYTES: usize = 8;
/// The longest frame: far more than the replica puts into one message, or a snapshot is cut into.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes that one read takes at most.
const READ_BYTES_MAX: usize = 128 << 10;

/// Why bytes are not a frame. The connection is of no use then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes is announced; {FRAME_BYTES_MAX} are the most")]
    TooLong(usize),
    #[error("a frame does not match its checksum")]
    Checksum,
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Appends a frame.
///
/// Panics if `message` is longer than [`FRAME_BYTES_MAX`].
pub(super) fn put_frame(out: &mut Vec<u8>, message: &[u8]) {
    assert!(message.len() <= FRAME_BYTES_MAX, "a message of {} bytes is beyond every bound", message.len());
    let length = u32::try_from(message.len()).expect("compared with the bound above").to_le_bytes();
    out.reserve(FRAME_HEAD_BYTES + message.len());
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, message).to_le_bytes());
    out.extend_from_slice(message);
}

fn checksum(length: [u8; 4], message: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), message)
}

/// Cuts what arrives into frames.
#[derive(Debug)]
pub(super) struct FrameReader {
    /// Grows with the bytes that have come, not with the length that is announced.
    arrived: BytesMut,
    scratch: Vec<u8>,
}

impl FrameReader {
    pub(super) fn new() -> FrameReader {
        FrameReader { arrived: BytesMut::new(), scratch: vec![0; READ_BYTES_MAX] }
    }

    /// Reads once; returns how many bytes came, 0 at the end.
    pub(super) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        let bytes = loop {
            match source.read(&mut self.scratch) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.arrived.extend_from_slice(&self.scratch[..bytes]);
        Ok(bytes)
    }

    /// Takes one whole frame out of what has arrived.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(head) = self.arrived.first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
        let [a, b, c, d, crc @ ..] = *head;
        let length = u32::from_le_bytes([a, b, c, d]);
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(bytes));
        }
        if self.arrived.len() < FRAME_HEAD_BYTES + bytes {
            return Ok(None);
        }
        self.arrived.advance(FRAME_HEAD_BYTES);
        let message = self.arrived.split_to(bytes).freeze();
        if checksum(length.to_le_bytes(), &message) != u32::from_le_bytes(crc) {
            return Err(FrameError::Checksum);
        }
        Ok(Some(message))
    }

    /// Reads until there is a whole frame.
    pub(super) fn wait(&mut self, source: &mut impl Read) -> io::Result<Bytes> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(message);
            }
            if self.fill(source)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let mut bytes = Vec::new();
        let messages: [&[u8]; 3] = [b"one", b"", &[7; 300_000]];
        messages.iter().for_each(|message| put_frame(&mut bytes, message));
        for step in [1, 7, 4096, bytes.len()] {
            let mut reader = FrameReader::new();
            let mut seen = Vec::new();
            for mut piece in bytes.chunks(step) {
                reader.fill(&mut piece).unwrap();
                while let Some(message) = reader.next().unwrap() {
                    seen.push(message);
                }
                while !piece.is_empty() {
                    reader.fill(&mut piece).unwrap();
                    seen.extend(reader.next().unwrap());
                }
            }
            assert_eq!(seen, messages);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, b"message");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            let mut reader = FrameReader::new();
            reader.fill(&mut &damaged[..]).unwrap();
            // A longer length waits for more, which does not match either.
            reader.fill(&mut &[0; 4096][..]).unwrap();
            assert!(!matches!(reader.next(), Ok(Some(_))), "byte {at}");
        }
        let mut reader = FrameReader::new();
        reader.fill(&mut &u64::MAX.to_le_bytes()[..]).unwrap();
        assert!(matches!(reader.next(), Err(FrameError::TooLong(_))));
    }
}
