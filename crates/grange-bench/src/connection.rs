//! One connection under load: sends what its workload says and checks each reply.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use grange_proto::Xid;
use grange_proto::request::{Request, put_request};

use crate::error::BenchError;
use crate::handshake::{CONNECT_TIMEOUT, shake_hands};
use crate::latency::Starts;
use crate::reply::{Reply, ReplyScanner};
use crate::tally::Tally;
use crate::workload::{Workload, xid};

/// A connection and what is under way on it.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    workload: Workload,
    scanner: ReplyScanner,
    starts: Starts,
    out: Vec<u8>,
    written: usize,
    /// Requests sent and answered since the connection was opened: the next request's k.
    sent: u64,
    answered: u64,
    /// No request from this one on is sent.
    limit: u64,
    in_flight: u64,
    last_write: Instant,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// There may be more later.
    Open,
    /// The server has closed the connection.
    Closed,
}

impl Connection {
    /// Connects to `address` and opens a session.
    pub(crate) fn open(
        address: SocketAddr,
        session_timeout: Duration,
        workload: Workload,
        in_flight: usize,
    ) -> Result<Connection, BenchError> {
        let connect = |source| BenchError::Connect { address, source };
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(connect)?;
        shake_hands(&mut stream, address, session_timeout)?;
        stream.set_nonblocking(true).map_err(connect)?;
        let out = Vec::with_capacity(workload.frame_bytes_max().saturating_mul(in_flight).min(1 << 20));
        Ok(Connection {
            stream,
            workload,
            scanner: ReplyScanner::default(),
            starts: Starts::default(),
            out,
            written: 0,
            sent: 0,
            answered: 0,
            limit: 0,
            in_flight: u64::try_from(in_flight).expect("checked against the most requests in flight"),
            last_write: Instant::now(),
        })
    }

    /// Allows `count` more requests than were sent so far.
    pub(crate) fn allow(&mut self, count: u64) {
        self.limit = self.sent.saturating_add(count);
    }

    /// Allows no more requests.
    pub(crate) fn stop(&mut self) {
        self.limit = self.sent;
    }

    /// Returns true if every request that was allowed has been answered.
    pub(crate) fn is_done(&self) -> bool {
        self.answered == self.limit
    }

    /// Returns the k of the oldest request that was not answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// Sends as many requests as are allowed and as `due` says, in one write.
    ///
    /// `due` is a k: requests before it may go. Returns false if bytes had to stay behind.
    #[inline]
    pub(crate) fn send(&mut self, now: Instant, due: u64) -> io::Result<bool> {
        let until = self.limit.min(due).min(self.answered + self.in_flight);
        if until > self.sent {
            self.starts.push(now, until - self.sent);
            for k in self.sent..until {
                self.workload.append(k, &mut self.out);
            }
            self.sent = until;
        }
        self.flush(now)
    }

    /// Sends a ping if nothing was sent for `idle`, so that a slow schedule does not let the session expire.
    pub(crate) fn keep_alive(&mut self, now: Instant, idle: Duration) -> io::Result<bool> {
        if now - self.last_write >= idle {
            put_request(&mut self.out, Xid::PING, &Request::Ping);
        }
        self.flush(now)
    }

    #[inline]
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.last_write = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Reads once into `input`, adds the replies to `tally`, and returns the time after the read.
    ///
    /// Latencies count from when the request was sent, or, with a `schedule`, from the moment it gives for the
    /// request's k.
    ///
    /// Errors: the connection's, and a reply that is not the one that is due; the connection is of no use then.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        input: &mut [u8],
        tally: &mut Tally,
        schedule: Option<&dyn Fn(u64) -> Instant>,
    ) -> io::Result<(ReadEnd, Instant)> {
        let read = match self.stream.read(input) {
            Ok(0) => return Ok((ReadEnd::Closed, Instant::now())),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok((ReadEnd::Open, Instant::now()));
            }
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let before = self.answered;
        let (mut failed, mut wrong) = (0, None);
        let (workload, answered) = (&self.workload, &mut self.answered);
        let scanned = self.scanner.scan(&input[..read], |reply| match reply.xid {
            Xid::NOTIFICATION => tally.events += 1,
            Xid::PING => {}
            _ => {
                if reply.err != 0 {
                    failed += 1;
                    tally.error(reply.err);
                } else if wrong.is_none() && !is_answer(workload, *answered, reply) {
                    wrong = Some((*answered, reply));
                }
                *answered += 1;
            }
        });
        scanned.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some((k, reply)) = wrong {
            return Err(unexpected(workload, k, reply));
        }
        if self.answered > self.sent {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more replies than requests"));
        }
        let count = self.answered - before;
        tally.completed += count - failed;
        let measured = failed == 0;
        let (latencies, mut k) = (&mut tally.latencies, before);
        self.starts.take(count, |sent_at, batch| {
            match schedule {
                _ if !measured => {}
                None => latencies.record(now - sent_at, batch),
                Some(due) => (k..k + batch).for_each(|k| latencies.record(now.saturating_duration_since(due(k)), 1)),
            }
            k += batch;
        });
        Ok((ReadEnd::Open, now))
    }

    /// Closes the session: a blocking exchange, for a connection without requests under way.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        put_request(&mut self.out, xid(self.sent), &Request::CloseSession);
        self.stream.write_all(&self.out[self.written..])?;
        let mut rest = [0; 4096];
        while self.stream.read(&mut rest)? > 0 {}
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[inline]
fn is_answer(workload: &Workload, k: u64, reply: Reply) -> bool {
    reply.xid == xid(k) && workload.reply_bytes(k).is_none_or(|bytes| bytes == reply.bytes)
}

#[cold]
fn unexpected(workload: &Workload, k: u64, reply: Reply) -> io::Error {
    let (wanted, size) = (xid(k).0, workload.reply_bytes(k));
    let text = match size {
        Some(size) if reply.xid.0 == wanted => {
            format!("the reply to xid {wanted} has {} bytes instead of {size}", reply.bytes)
        }
        _ => format!("a reply to xid {} where xid {wanted} is due", reply.xid.0),
    };
    io::Error::new(io::ErrorKind::InvalidData, text)
}
