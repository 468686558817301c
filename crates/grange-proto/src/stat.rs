//! The metadata of a znode as clients see it.

use crate::ids::Zxid;
use crate::wire::{DecodeError, Reader, put_i32, put_i64};

/// The metadata of a znode, 68 bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// The transaction that created the znode.
    pub czxid: Zxid,
    /// The transaction that last changed the data.
    pub mzxid: Zxid,
    /// When it was created, in milliseconds since 1970.
    pub ctime_ms: i64,
    /// When the data was last changed, in milliseconds since 1970.
    pub mtime_ms: i64,
    /// How often the data was changed.
    pub version: i32,
    /// How often a child was created or deleted: twice the creations less the children there are.
    pub cversion: i32,
    /// How often the ACL was changed.
    pub aversion: i32,
    /// The session that owns an ephemeral znode, else 0; containers and znodes with a time to live show 0.
    pub ephemeral_owner: i64,
    /// Bytes of data; 0 for null data.
    pub data_length: i32,
    /// The number of children.
    pub num_children: i32,
    /// The transaction that last created or deleted a child.
    pub pzxid: Zxid,
}

impl Stat {
    /// Bytes on the wire.
    pub const WIRE_BYTES: usize = 68;

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.czxid.0);
        put_i64(out, self.mzxid.0);
        put_i64(out, self.ctime_ms);
        put_i64(out, self.mtime_ms);
        put_i32(out, self.version);
        put_i32(out, self.cversion);
        put_i32(out, self.aversion);
        put_i64(out, self.ephemeral_owner);
        put_i32(out, self.data_length);
        put_i32(out, self.num_children);
        put_i64(out, self.pzxid.0);
    }

    /// Takes the record.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Stat, DecodeError> {
        Ok(Stat {
            czxid: Zxid(reader.i64()?),
            mzxid: Zxid(reader.i64()?),
            ctime_ms: reader.i64()?,
            mtime_ms: reader.i64()?,
            version: reader.i32()?,
            cversion: reader.i32()?,
            aversion: reader.i32()?,
            ephemeral_owner: reader.i64()?,
            data_length: reader.i32()?,
            num_children: reader.i32()?,
            pzxid: Zxid(reader.i64()?),
        })
    }
}
