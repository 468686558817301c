//! The handshake: the first frame of a connection and its answer, both without a header.

use crate::ids::{SessionId, Zxid};
use crate::wire::{DecodeError, Reader, put_bool, put_buffer, put_i32, put_i64};

/// Bytes of a session's password.
pub const PASSWORD_BYTES: usize = 16;

/// What a client sends first.
///
/// Shape: protocol version `i32`, last zxid `i64`, timeout `i32`, session `i64`, password buffer, and a bool that
/// clients up to 3.3 leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// 0 for every client of Apache's.
    pub protocol_version: i32,
    /// The newest transaction the client has seen the effect of.
    pub last_zxid_seen: Zxid,
    /// The timeout it wishes for.
    pub timeout_ms: i32,
    /// The session it wants back, or [`SessionId::NONE`].
    pub session: SessionId,
    /// The password of that session.
    pub password: Option<&'a [u8]>,
    /// Whether a server that only serves reads will do; `None` if the client is too old to say.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// Reads the payload of the first frame.
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        Ok(ConnectRequest {
            protocol_version: reader.i32()?,
            last_zxid_seen: Zxid(reader.i64()?),
            timeout_ms: reader.i32()?,
            session: SessionId(reader.i64()?),
            password: reader.buffer()?,
            read_only: if reader.rest().is_empty() { None } else { Some(reader.bool()?) },
        })
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.protocol_version);
        put_i64(out, self.last_zxid_seen.0);
        put_i32(out, self.timeout_ms);
        put_i64(out, self.session.0);
        put_buffer(out, self.password);
        if let Some(read_only) = self.read_only {
            put_bool(out, read_only);
        }
    }
}

/// What the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectResponse {
    /// 0.
    pub protocol_version: i32,
    /// The negotiated timeout; 0 says that the session is refused.
    pub timeout_ms: i32,
    /// The session, [`SessionId::NONE`] if refused.
    pub session: SessionId,
    /// Its password, zeros if refused.
    pub password: [u8; PASSWORD_BYTES],
    /// Whether this server only serves reads; left out for a client that did not say.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// Returns the answer that refuses a session.
    pub fn refused(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse {
            protocol_version: 0,
            timeout_ms: 0,
            session: SessionId::NONE,
            password: [0; PASSWORD_BYTES],
            read_only,
        }
    }

    /// Reads the payload.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        Ok(ConnectResponse {
            protocol_version: reader.i32()?,
            timeout_ms: reader.i32()?,
            session: SessionId(reader.i64()?),
            password: {
                let password = reader.buffer()?.ok_or(DecodeError::Null)?;
                password.try_into().map_err(|_| DecodeError::Truncated)?
            },
            read_only: if reader.rest().is_empty() { None } else { Some(reader.bool()?) },
        })
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.protocol_version);
        put_i32(out, self.timeout_ms);
        put_i64(out, self.session.0);
        put_buffer(out, Some(&self.password));
        if let Some(read_only) = self.read_only {
            put_bool(out, read_only);
        }
    }
}
