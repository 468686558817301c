//! What a connection has still to be sent.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

/// Pieces that one system call takes.
const PIECES_PER_WRITE: usize = 16;

/// Unwritten bytes in the pieces in which they came, so that nothing is copied.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that are written.
    written: usize,
    bytes: usize,
}

impl Output {
    pub(super) fn push(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Returns the number of bytes that are not written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Writes until everything is written or the socket takes no more.
    pub(super) fn write_to(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.bytes > 0 {
            match self.write_once(socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_once(&self, socket: &mut impl Write) -> io::Result<usize> {
        if let [piece] = self.pieces.as_slices().0 {
            return socket.write(&piece[self.written..]);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let start = if count == 0 { self.written } else { 0 };
            *slice = IoSlice::new(&piece[start..]);
            count += 1;
        }
        socket.write_vectored(&slices[..count])
    }

    fn advance(&mut self, count: usize) {
        self.bytes -= count;
        self.written += count;
        while let Some(piece) = self.pieces.front()
            && self.written >= piece.len()
        {
            self.written -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, at most three in one call.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(3).min(self.room);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.taken.extend_from_slice(&bytes[..count]);
            self.room -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_written_in_order_whatever_the_socket_takes() {
        let mut output = Output::default();
        for number in 0..40_u8 {
            output.push(vec![number; usize::from(number % 7)]);
        }
        let wanted: Vec<u8> = (0..40_u8).flat_map(|number| vec![number; usize::from(number % 7)]).collect();
        let mut socket = Narrow { taken: Vec::new(), room: 0 };
        while !output.is_empty() {
            socket.room = 5;
            output.write_to(&mut socket).unwrap();
            assert_eq!(output.bytes(), wanted.len() - socket.taken.len());
        }
        assert_eq!(socket.taken, wanted);
    }
}
