//! The ZooKeeper wire protocol as values: records, framing, operation and error codes, vocabulary types.
//!
//! Everything here is a pure function from bytes to values and back. A decoder borrows from its input, checks every
//! length against the bytes that are left before it allocates, and never recurses on what a client sent.
//!
//! Decisions that hold for every record:
//! - a `ustring` that is null or not UTF-8 is refused where the field has a meaning only as text (a path, a scheme);
//! - a null vector reads as an empty one;
//! - a null data buffer is kept apart from an empty one, since clients can tell them apart;
//! - bytes after the last field of a record are ignored, as Apache's servers do.

#![forbid(unsafe_code)]

pub mod wire;

pub mod acl;
mod body;
pub mod connect;
pub mod error;
pub mod frame;
mod header;
pub mod ids;
pub mod lifetime;
pub mod multi;
pub mod op;
pub mod path;
pub mod request;
pub mod response;
pub mod server_spec;
pub mod stat;
pub mod watch;

pub use acl::{Acl, AclList, Id, Perms};
pub use error::ErrorCode;
pub use ids::{SessionId, Xid, Zxid};
pub use lifetime::{CreateMode, Lifetime};
pub use op::Op;
pub use path::ZnodePath;
pub use request::Request;
pub use server_spec::{Role, ServerSpec};
pub use stat::Stat;
pub use wire::{DecodeError, Reader};
