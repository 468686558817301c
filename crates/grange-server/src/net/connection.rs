//! One connection: from bytes that arrive to events, and from answers to bytes that leave.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr};

use bytes::Bytes;
use grange_proto::connect::ConnectRequest;
use grange_proto::frame::{FrameError, LENGTH_BYTES, frame_length};
use grange_replica::{ConnId, ConnectAttempt, Event};
use mio::net::TcpStream;

use super::admission::Permit;
use super::in_flight::InFlight;
use super::output::Output;
use super::{OUTPUT_BYTES_HARD_MAX, OUTPUT_BYTES_MAX};
use crate::four_letter::Word;

/// What some telnet clients send to end a connection.
const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing complete has arrived.
    First,
    /// A four-letter word is being answered.
    Asking,
    /// The handshake is with the replica.
    Connecting,
    /// Requests go to the replica.
    Open,
    /// Nothing is passed on any more; what is left is written.
    Closing,
    /// Everything is written; waits until the client has closed too, else the kernel may drop what it has not read.
    Lingering,
}

/// Why a connection goes. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloseReason {
    #[error("the client closed it")]
    EndOfStream,
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the first frame is not a connect request: {0}")]
    Handshake(#[from] grange_proto::DecodeError),
    #[error("a telnet client ended it")]
    Telnet,
    #[error("the handshake took too long")]
    HandshakeTime,
    #[error("the client did not read the last answers")]
    CloseTime,
    #[error("{0} bytes of watch events and replies wait to be read by the client")]
    Output(usize),
}

/// What came of moving a connection on.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing more until something happens.
    Waits,
    /// There is more to read.
    HasMore,
    /// A four-letter word arrived.
    Word(Word, Vec<u8>),
    /// It is over.
    Over(CloseReason),
}

/// What moving a connection on needs from its worker.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// What one read fills at most.
    pub(super) scratch: &'a mut [u8],
    /// Takes events for the replica.
    pub(super) events: &'a mut Vec<Event>,
    /// Bytes in flight of all connections of the worker.
    pub(super) in_flight_bytes: &'a mut usize,
    /// Counts what is read.
    pub(super) received_bytes: &'a mut u64,
    pub(super) frame_bytes_max: usize,
    /// When the worker came to this read, in microseconds.
    pub(super) now_us: u64,
}

#[derive(Debug)]
pub(super) struct Connection {
    id: ConnId,
    stream: TcpStream,
    peer: SocketAddr,
    phase: Phase,
    /// Bytes that arrived and are not passed on.
    input: Vec<u8>,
    output: Output,
    in_flight: InFlight,
    /// Whether the socket may have something to read.
    readable: bool,
    /// Whether the client has closed its side: then a read returns nothing some time, and must be reached.
    read_closed: bool,
    /// Whether the replica knows of it.
    pub(super) announced: bool,
    /// Whether it is in the worker's list of connections to move on.
    pub(super) queued: bool,
    _permit: Permit,
}

impl Connection {
    pub(super) fn new(id: ConnId, stream: TcpStream, peer: SocketAddr, permit: Permit) -> Connection {
        Connection {
            id,
            stream,
            peer,
            phase: Phase::First,
            input: Vec::new(),
            output: Output::default(),
            in_flight: InFlight::default(),
            readable: true,
            read_closed: false,
            announced: false,
            queued: false,
            _permit: permit,
        }
    }

    pub(super) fn id(&self) -> ConnId {
        self.id
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight.bytes()
    }

    /// Tells whether nothing that was asked is unanswered or unwritten.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.requests() == 0 && self.output.is_empty() && self.phase != Phase::Connecting
    }

    /// Tells whether the handshake, or a four-letter word, is not done with.
    pub(super) fn is_before_session(&self) -> bool {
        matches!(self.phase, Phase::First | Phase::Asking)
    }

    pub(super) fn note_readable(&mut self, read_closed: bool) {
        self.readable = true;
        self.read_closed |= read_closed;
    }

    /// Tells whether [`Connection::advance`] has something to do.
    pub(super) fn can_advance(&self) -> bool {
        self.takes_input() && (self.readable || (self.phase == Phase::Open && !self.input.is_empty()))
    }

    fn takes_input(&self) -> bool {
        match self.phase {
            Phase::First | Phase::Lingering => true,
            Phase::Open => self.in_flight.room() > 0 && self.output.bytes() < OUTPUT_BYTES_MAX,
            Phase::Asking | Phase::Connecting | Phase::Closing => false,
        }
    }

    /// Passes on what has arrived and reads once, as far as the bounds allow.
    pub(super) fn advance(&mut self, around: &mut Surroundings<'_>) -> Progress {
        self.try_advance(around).unwrap_or_else(Progress::Over)
    }

    fn try_advance(&mut self, around: &mut Surroundings<'_>) -> Result<Progress, CloseReason> {
        if self.phase == Phase::Open && !self.input.is_empty() {
            self.pass_on_input(around)?;
        }
        if !self.takes_input() || !self.readable {
            return Ok(Progress::Waits);
        }
        let count = match self.stream.read(around.scratch) {
            Ok(0) => return Err(CloseReason::EndOfStream),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(Progress::Waits);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Progress::HasMore),
            Err(error) => return Err(error.into()),
        };
        *around.received_bytes += count as u64;
        // A read that did not fill the buffer has emptied the socket; the kernel tells when there is something again.
        self.readable = count == around.scratch.len() || self.read_closed;
        let word = self.take_in(count, around)?;
        Ok(match word {
            Some((word, argument)) => Progress::Word(word, argument),
            None if self.can_advance() => Progress::HasMore,
            None => Progress::Waits,
        })
    }

    /// Takes in the first `count` bytes of the scratch buffer.
    fn take_in(&mut self, count: usize, around: &mut Surroundings<'_>) -> Result<Option<(Word, Vec<u8>)>, CloseReason> {
        let chunk = &around.scratch[..count];
        match self.phase {
            Phase::Open if self.input.is_empty() => {
                // The usual case: whole frames, which are copied once, into exactly as much memory as they need.
                let split = Split::of(chunk, around.frame_bytes_max, self.in_flight.room());
                let frames = Bytes::copy_from_slice(&chunk[..split.bytes]);
                self.input.extend_from_slice(&chunk[split.bytes..]);
                self.pass_on(frames, split.count, around);
                split.broken.map_or(Ok(None), |error| Err(error.into()))
            }
            Phase::Open => {
                self.input.extend_from_slice(chunk);
                self.pass_on_input(around)?;
                Ok(None)
            }
            Phase::First => {
                self.input.extend_from_slice(chunk);
                self.take_first(around)
            }
            // What a client sends after its end is of no interest.
            Phase::Lingering | Phase::Asking | Phase::Connecting | Phase::Closing => Ok(None),
        }
    }

    /// Looks whether the input begins with a four-letter word or a complete handshake.
    fn take_first(&mut self, around: &mut Surroundings<'_>) -> Result<Option<(Word, Vec<u8>)>, CloseReason> {
        let Some((head, rest)) = self.input.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        if *head == TELNET_CLOSE {
            return Err(CloseReason::Telnet);
        }
        if let Some(word) = Word::from_bytes(*head) {
            let Some(argument) = rest.get(..word.argument_bytes()) else { return Ok(None) };
            let argument = argument.to_vec();
            self.input = Vec::new();
            self.phase = Phase::Asking;
            return Ok(Some((word, argument)));
        }
        let Some(length) = frame_length(&self.input, around.frame_bytes_max)? else { return Ok(None) };
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let request = ConnectRequest::decode(payload)?;
        around.events.push(Event::Connect(ConnectAttempt {
            conn: self.id,
            peer: self.peer,
            last_zxid_seen: request.last_zxid_seen,
            timeout_ms: request.timeout_ms,
            session: request.session,
            password: request.password.unwrap_or_default().to_vec(),
            read_only: request.read_only,
        }));
        self.announced = true;
        self.phase = Phase::Connecting;
        self.input = self.input.split_off(LENGTH_BYTES + length);
        Ok(None)
    }

    /// Passes on the whole frames at the front of the input.
    fn pass_on_input(&mut self, around: &mut Surroundings<'_>) -> Result<(), CloseReason> {
        let split = Split::of(&self.input, around.frame_bytes_max, self.in_flight.room());
        if split.bytes > 0 {
            let rest = self.input[split.bytes..].to_vec();
            let mut frames = std::mem::replace(&mut self.input, rest);
            frames.truncate(split.bytes);
            self.pass_on(frames.into(), split.count, around);
        }
        split.broken.map_or(Ok(()), |error| Err(error.into()))
    }

    fn pass_on(&mut self, frames: Bytes, count: usize, around: &mut Surroundings<'_>) {
        if count > 0 {
            self.in_flight.add(count, frames.len());
            *around.in_flight_bytes += frames.len();
            around.events.push(Event::Frames { conn: self.id, frames, received_us: around.now_us });
        }
    }

    /// Queues frames that answer so many requests; returns the bytes that are not in flight any more.
    pub(super) fn send(&mut self, bytes: Vec<u8>, answered: u32) -> Result<usize, CloseReason> {
        if answered == 0 && self.output.bytes() > OUTPUT_BYTES_HARD_MAX {
            return Err(CloseReason::Output(self.output.bytes()));
        }
        let reply_bytes = bytes.len();
        if !matches!(self.phase, Phase::Closing | Phase::Lingering) {
            self.output.push(bytes);
        }
        if self.phase == Phase::Connecting {
            self.phase = Phase::Open;
            return Ok(0);
        }
        Ok(self.in_flight.answered(usize::try_from(answered).unwrap_or(usize::MAX), reply_bytes))
    }

    /// Queues the answer to a four-letter word, and closes.
    pub(super) fn answer_word(&mut self, text: String) {
        self.output.push(text.into_bytes());
        self.close();
    }

    /// Passes nothing on any more; what is queued is still written.
    pub(super) fn close(&mut self) {
        if self.phase != Phase::Lingering {
            self.phase = Phase::Closing;
        }
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), CloseReason> {
        self.output.write_to(&mut self.stream)?;
        if self.phase == Phase::Closing && self.output.is_empty() {
            self.phase = Phase::Lingering;
            self.input = Vec::new();
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}

/// How much of some bytes is whole frames.
#[derive(Debug)]
struct Split {
    bytes: usize,
    count: usize,
    /// The length behind them that is out of range.
    broken: Option<FrameError>,
}

impl Split {
    /// Looks at lengths only, and at no more than `count_max` frames.
    fn of(input: &[u8], frame_bytes_max: usize, count_max: usize) -> Split {
        let mut split = Split { bytes: 0, count: 0, broken: None };
        while split.count < count_max {
            match frame_length(&input[split.bytes..], frame_bytes_max) {
                Ok(Some(length)) if input.len() - split.bytes >= LENGTH_BYTES + length => {
                    split.bytes += LENGTH_BYTES + length;
                    split.count += 1;
                }
                Ok(_) => break,
                Err(error) => {
                    split.broken = Some(error);
                    break;
                }
            }
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &[u8], count_max: usize) -> (usize, usize, bool) {
        let split = Split::of(input, 100, count_max);
        (split.bytes, split.count, split.broken.is_some())
    }

    #[test]
    fn whole_frames_are_told_by_their_lengths() {
        let frames = [0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 2, 7, 7];
        assert_eq!(split(&frames, 10), (15, 3, false));
        assert_eq!(split(&frames, 2), (9, 2, false));
        assert_eq!(split(&frames[..14], 10), (9, 2, false));
        assert_eq!(split(&frames[..3], 10), (0, 0, false));
    }

    #[test]
    fn frames_before_a_bad_length_count() {
        assert_eq!(split(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 10), (4, 1, true));
        assert_eq!(split(&[0, 0, 0, 101], 10), (0, 0, true));
    }
}
