//! What stands in front of a request's or a reply's body.

use crate::ids::{Xid, Zxid};
use crate::wire::{DecodeError, Reader, put_i32};

/// The header of every request but the first frame of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// The client's number for the request.
    pub xid: Xid,
    /// The code of the operation, known or not.
    pub op_code: i32,
}

impl RequestHeader {
    /// Bytes on the wire.
    pub const WIRE_BYTES: usize = 8;

    /// Takes the header.
    #[inline]
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(RequestHeader { xid: Xid(reader.i32()?), op_code: reader.i32()? })
    }

    /// Appends the header.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.xid.0);
        put_i32(out, self.op_code);
    }
}

/// The header of every reply and every watch event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request that is answered.
    pub xid: Xid,
    /// The newest transaction the server had applied.
    pub zxid: Zxid,
    /// 0, or the code of an error, which leaves out the body.
    pub err: i32,
}

impl ReplyHeader {
    /// Bytes on the wire.
    pub const WIRE_BYTES: usize = 16;

    /// Appends the header.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; Self::WIRE_BYTES];
        bytes[..4].copy_from_slice(&self.xid.0.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.zxid.0.to_be_bytes());
        bytes[12..].copy_from_slice(&self.err.to_be_bytes());
        out.extend_from_slice(&bytes);
    }

    /// Takes the header.
    #[inline]
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ReplyHeader { xid: Xid(reader.i32()?), zxid: Zxid(reader.i64()?), err: reader.i32()? })
    }
}
