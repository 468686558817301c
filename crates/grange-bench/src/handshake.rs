//! The first exchange of a connection, which opens a session.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use grange_proto::connect::{ConnectRequest, ConnectResponse, PASSWORD_BYTES};
use grange_proto::frame::{LENGTH_BYTES, put_frame};
use grange_proto::{SessionId, Zxid};

use crate::error::BenchError;

/// How long a connection, a handshake or the end of a session may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the answer on the wire: its length and its fields.
pub(crate) const ANSWER_BYTES: usize = LENGTH_BYTES + 37;

/// Returns the request for a new session, ready to send.
pub(crate) fn request(session_timeout: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: i32::try_from(session_timeout.as_millis()).unwrap_or(i32::MAX),
        session: SessionId::NONE,
        password: Some(&[0; PASSWORD_BYTES]),
        read_only: Some(false),
    };
    put_frame(&mut out, |out| request.encode(out));
    out
}

/// Judges the answer: the session's timeout, or why there is no session.
pub(crate) fn accepted(answer: &[u8; ANSWER_BYTES]) -> Result<Duration, String> {
    let (head, payload) = answer.split_at(LENGTH_BYTES);
    let expected = i32::try_from(payload.len()).expect("a constant that fits");
    if head != expected.to_be_bytes() {
        return Err("the answer is not that of a ZooKeeper server".to_owned());
    }
    match ConnectResponse::decode(payload) {
        Ok(response) => match u64::try_from(response.timeout_ms) {
            Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
            _ => Err("the server refuses the session".to_owned()),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// Opens a session on a blocking connection.
pub(crate) fn shake_hands(
    stream: &mut TcpStream,
    address: SocketAddr,
    session_timeout: Duration,
) -> Result<Duration, BenchError> {
    let handshake = |reason: String| BenchError::Handshake { address, reason };
    let mut answer = [0; ANSWER_BYTES];
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(CONNECT_TIMEOUT)))
        .and_then(|()| stream.write_all(&request(session_timeout)))
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| handshake(error.to_string()))?;
    accepted(&answer).map_err(handshake)
}
