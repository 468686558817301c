//! One connection: the handshake and the framing.

use std::io;
use std::time::Duration;

use grange_proto::connect::{ConnectRequest, ConnectResponse, PASSWORD_BYTES};
use grange_proto::frame::{frame_length, put_frame};
use grange_proto::{SessionId, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::servers::ServerAddress;

/// The buffer that replies are read into grows by so many bytes at a time.
const READ_BYTES: usize = 64 * 1024;

/// What a client proves a session by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) id: SessionId,
    pub(super) password: [u8; PASSWORD_BYTES],
}

impl Identity {
    /// A session that is to be made.
    pub(super) const NEW: Identity = Identity { id: SessionId::NONE, password: [0; PASSWORD_BYTES] };
}

/// What the client asks of a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) identity: Identity,
    pub(super) last_zxid_seen: Zxid,
    pub(super) session_timeout: Duration,
    pub(super) read_only: bool,
    pub(super) reply_bytes_max: usize,
}

/// The receiving end.
pub(super) struct Receiver {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
    taken: usize,
    reply_bytes_max: usize,
}

impl Receiver {
    /// Reads one frame. Can be dropped at any await: what was read stays.
    pub(super) async fn frame(&mut self) -> io::Result<&[u8]> {
        loop {
            let unread = &self.buffer[self.taken..];
            let length = frame_length(unread, self.reply_bytes_max).map_err(io::Error::other)?;
            if let Some(length) = length.filter(|length| unread.len() >= length + 4) {
                let start = self.taken + 4;
                self.taken = start + length;
                return Ok(&self.buffer[start..start + length]);
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The sending end.
pub(super) struct Sender {
    stream: OwnedWriteHalf,
}

impl Sender {
    /// Where the bytes go.
    pub(super) fn stream(&mut self) -> &mut OwnedWriteHalf {
        &mut self.stream
    }
}

/// Connects to one server and asks for a session, within `patience`.
pub(super) async fn open(
    address: &ServerAddress,
    wish: &Wish,
    patience: Duration,
) -> io::Result<(Sender, Receiver, ConnectResponse)> {
    timeout(patience, handshake(address, wish)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn handshake(address: &ServerAddress, wish: &Wish) -> io::Result<(Sender, Receiver, ConnectResponse)> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let mut sender = Sender { stream: write };
    let mut receiver = Receiver { stream: read, buffer: Vec::new(), taken: 0, reply_bytes_max: wish.reply_bytes_max };
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: wish.last_zxid_seen,
        timeout_ms: i32::try_from(wish.session_timeout.as_millis()).unwrap_or(i32::MAX),
        session: wish.identity.id,
        password: Some(&wish.identity.password),
        read_only: Some(wish.read_only),
    };
    let mut bytes = Vec::new();
    put_frame(&mut bytes, |out| request.encode(out));
    sender.stream.write_all(&bytes).await?;
    let answer = ConnectResponse::decode(receiver.frame().await?).map_err(io::Error::other)?;
    Ok((sender, receiver, answer))
}
