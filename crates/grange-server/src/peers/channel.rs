//! A connection between members as bytes, with TLS or without.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustls::Connection;
use socket2::{SockRef, TcpKeepalive};

use super::tls::TlsContext;

/// How long what was sent may stay unacknowledged by the other host.
const UNACKNOWLEDGED_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a host may be silent before it is asked whether it is there, and between two such questions.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBES_MAX: u32 = 3;

/// A connection between members.
#[derive(Debug)]
pub(super) struct Channel {
    wire: Wire,
    session: Option<Box<Connection>>,
}

/// The socket, with a deadline over any number of reads: a byte now and then does not hold it up.
#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    until: Option<Instant>,
}

impl Channel {
    /// Takes a connection that was dialled, and shakes hands before `until` if there is TLS.
    pub(super) fn dialled(socket: TcpStream, tls: Option<&TlsContext>, until: Instant) -> io::Result<Channel> {
        let session = tls.map(|tls| tls.client().map(|session| Box::new(session.into()))).transpose();
        Channel::begin(socket, session, until)
    }

    /// Takes a connection that was accepted; likewise.
    pub(super) fn accepted(socket: TcpStream, tls: Option<&TlsContext>, until: Instant) -> io::Result<Channel> {
        let session = tls.map(|tls| tls.server().map(|session| Box::new(session.into()))).transpose();
        Channel::begin(socket, session, until)
    }

    fn begin(
        socket: TcpStream,
        session: Result<Option<Box<Connection>>, rustls::Error>,
        until: Instant,
    ) -> io::Result<Channel> {
        let options = SockRef::from(&socket);
        options.set_tcp_nodelay(true)?;
        options.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME_MAX))?;
        let probes = TcpKeepalive::new().with_time(PROBE_INTERVAL).with_interval(PROBE_INTERVAL);
        options.set_tcp_keepalive(&probes.with_retries(PROBES_MAX))?;
        socket.set_write_timeout(Some(UNACKNOWLEDGED_TIME_MAX))?;
        let session = session.map_err(io::Error::other)?;
        let mut channel = Channel { wire: Wire { socket, until: Some(until) }, session };
        if let Some(session) = &mut channel.session {
            session.set_buffer_limit(None);
            while session.is_handshaking() {
                session.complete_io(&mut channel.wire)?;
            }
        }
        Ok(channel)
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.wire.socket
    }

    /// Sets until when all reads together may take, and ends a timeout of single ones.
    pub(super) fn set_deadline(&mut self, until: Instant) {
        self.wire.until = Some(until);
    }

    /// Sets how long each single read may take, and ends the deadline.
    pub(super) fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.wire.until = None;
        self.wire.socket.set_read_timeout(Some(timeout))
    }

    pub(super) fn close(&self) {
        // It may be closed already.
        let _ = self.wire.socket.shutdown(Shutdown::Both);
    }

    /// Writes without waiting what the socket takes, after [`TcpStream::set_nonblocking`]; returns how much of `bytes`
    /// need not be given again. It may still be in this process: see [`Channel::flush_now`].
    ///
    /// Errors: [`io::ErrorKind::WouldBlock`] if that is nothing.
    pub(super) fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.wire.write(bytes) };
        while session.wants_write() {
            session.write_tls(&mut self.wire)?;
        }
        let taken = session.writer().write(&bytes[..bytes.len().min(TLS_PIECE_BYTES)])?;
        while session.wants_write() {
            match session.write_tls(&mut self.wire) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => drop(result?),
            }
        }
        Ok(taken)
    }

    /// Writes without waiting what [`Channel::write_now`] has left in this process.
    ///
    /// Errors: [`io::ErrorKind::WouldBlock`] if something of it stays.
    pub(super) fn flush_now(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            while session.wants_write() {
                session.write_tls(&mut self.wire)?;
            }
        }
        Ok(())
    }
}

/// Bytes that are encrypted before the socket is tried again.
const TLS_PIECE_BYTES: usize = 64 << 10;

impl Read for Channel {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.wire.read(buf) };
        loop {
            match session.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Nobody takes the trouble to announce an end: frames say where they end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            session.read_tls(&mut self.wire)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

/// Writes wait for the socket here; the timeout is [`UNACKNOWLEDGED_TIME_MAX`].
impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.wire.write(bytes) };
        let taken = session.writer().write(&bytes[..bytes.len().min(TLS_PIECE_BYTES)])?;
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_now()
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
        }
        match self.socket.read(buf) {
            // What Linux says about a timeout.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            result => result,
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
