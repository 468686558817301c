//! The sending half of a link: what the replica thread writes at once, and what waits for the socket.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mio::Waker;

use super::channel::Channel;
use super::frame::put_frame;
use super::{PeerStats, QUEUE_BYTES_MAX};

/// A connection to another member that takes messages.
///
/// A message goes out by a write on the thread that sends it, as long as nothing waits: the thread of the dialler only
/// helps when the socket is full.
#[derive(Debug)]
pub(super) struct Outgoing {
    state: Mutex<State>,
    /// Ends the dialler's wait.
    waker: Arc<Waker>,
    stats: Arc<PeerStats>,
}

#[derive(Debug)]
struct State {
    channel: Channel,
    /// What the socket has not taken, in order.
    queue: VecDeque<Vec<u8>>,
    /// How much of the first one it has.
    front_written: usize,
    queued_bytes: usize,
    last_write: Instant,
    closed: bool,
}

/// Why a message cannot be sent; the connection is of no use then.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("it does not take what is sent to it: {QUEUE_BYTES_MAX} bytes wait")]
    Overflow,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Outgoing {
    /// Takes a channel whose hello is done.
    pub(super) fn new(channel: Channel, waker: Arc<Waker>, stats: Arc<PeerStats>) -> io::Result<Outgoing> {
        channel.socket().set_nonblocking(true)?;
        let state = State {
            channel,
            queue: VecDeque::new(),
            front_written: 0,
            queued_bytes: 0,
            last_write: Instant::now(),
            closed: false,
        };
        Ok(Outgoing { state: Mutex::new(state), waker, stats })
    }

    /// Sends whole frames, behind those before; what the socket does not take waits.
    pub(super) fn send(&self, frames: Vec<u8>) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.queued_bytes > 0 && state.queued_bytes + frames.len() > QUEUE_BYTES_MAX {
            return Err(SendError::Overflow);
        }
        self.stats.bytes_sent.add(frames.len() as u64);
        state.queued_bytes += frames.len();
        state.queue.push_back(frames);
        state.drain()?;
        Ok(())
    }

    /// Goes on with what waits; to be called when the socket can be written.
    pub(super) fn drain(&self) -> io::Result<()> {
        self.lock().drain()
    }

    /// Says that this server is alive, unless something was written within `interval`.
    pub(super) fn keep_alive(&self, interval: Duration) -> io::Result<()> {
        let mut state = self.lock();
        if state.queue.is_empty() && state.last_write.elapsed() >= interval {
            let mut frame = Vec::new();
            put_frame(&mut frame, &[]);
            state.queued_bytes += frame.len();
            state.queue.push_back(frame);
            state.drain()?;
        }
        Ok(())
    }

    /// Ends the connection, and the dialler's wait for it. What was written before still arrives.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.channel.close();
        // A poll that is gone has nobody who waits.
        let _ = self.waker.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn socket(&self) -> io::Result<TcpStream> {
        self.lock().channel.socket().try_clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic while a message is sent ends the server")
    }
}

impl State {
    fn drain(&mut self) -> io::Result<()> {
        while let Some(front) = self.queue.front() {
            match self.channel.write_now(&front[self.front_written..]) {
                Ok(written) => {
                    self.last_write = Instant::now();
                    self.front_written += written;
                    if self.front_written == front.len() {
                        self.queued_bytes -= front.len();
                        self.queue.pop_front();
                        self.front_written = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match self.channel.flush_now() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}
