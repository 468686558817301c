//! The bodies that a request and an operation of a multi have in common.

use crate::acl::AclList;
use crate::op::Op;
use crate::wire::{DecodeError, Reader, put_bool, put_buffer, put_i32, put_i64, put_text};

/// A path and the wish to be told when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchable<'a> {
    /// The znode.
    pub path: &'a str,
    /// Whether to arm a watch.
    pub watch: bool,
}

/// The body of a create of any kind.
#[derive(Debug, Clone, Copy)]
pub struct Create<'a> {
    /// Which of the four operations asks: it decides the form of the reply.
    pub op: Op,
    /// The znode; for a sequential one the prefix of its name.
    pub path: &'a str,
    /// The data.
    pub data: Option<&'a [u8]>,
    /// The ACL; an empty one is refused.
    pub acl: AclList<'a>,
    /// The create mode as it came: see [`crate::CreateMode::from_flags`].
    pub flags: i32,
    /// The time to live of createTTL; `None` for the other three.
    pub ttl_ms: Option<i64>,
}

/// The body of a delete, or of the check of a version in a multi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathVersion<'a> {
    /// The znode.
    pub path: &'a str,
    /// The version it must have; -1 for any.
    pub version: i32,
}

/// The body of a setData.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetData<'a> {
    /// The znode.
    pub path: &'a str,
    /// The new data.
    pub data: Option<&'a [u8]>,
    /// The version it must have; -1 for any.
    pub version: i32,
}

impl<'a> Watchable<'a> {
    #[inline]
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Watchable { path: reader.text()?, watch: reader.bool()? })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, self.path);
        put_bool(out, self.watch);
    }
}

impl<'a> Create<'a> {
    #[inline]
    pub(crate) fn decode(op: Op, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Create {
            op,
            path: reader.text()?,
            data: reader.buffer()?,
            acl: AclList::decode(reader)?,
            flags: reader.i32()?,
            ttl_ms: if op == Op::CreateTtl { Some(reader.i64()?) } else { None },
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, self.path);
        put_buffer(out, self.data);
        self.acl.encode(out);
        put_i32(out, self.flags);
        if let Some(ttl_ms) = self.ttl_ms {
            put_i64(out, ttl_ms);
        }
    }
}

impl<'a> PathVersion<'a> {
    #[inline]
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(PathVersion { path: reader.text()?, version: reader.i32()? })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, self.path);
        put_i32(out, self.version);
    }
}

impl<'a> SetData<'a> {
    #[inline]
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(SetData { path: reader.text()?, data: reader.buffer()?, version: reader.i32()? })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, self.path);
        put_buffer(out, self.data);
        put_i32(out, self.version);
    }
}
