//! Requests: a header and a body that depends on the operation.

use crate::acl::AclList;
pub use crate::body::{Create, PathVersion, SetData, Watchable};
pub use crate::header::RequestHeader;
use crate::ids::Xid;
use crate::multi::MultiOps;
use crate::op::Op;
use crate::watch::SetWatches;
use crate::wire::{DecodeError, Reader, put_buffer, put_i32, put_i64, put_text};

/// The body of a setACL.
#[derive(Debug, Clone, Copy)]
pub struct SetAcl<'a> {
    /// The znode.
    pub path: &'a str,
    /// The new ACL; an empty one is refused.
    pub acl: AclList<'a>,
    /// The version of the ACL it must have; -1 for any.
    pub version: i32,
}

/// The body of a reconfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconfig<'a> {
    /// Members to add or change, separated by commas.
    pub joining: Option<&'a str>,
    /// Numbers of members to remove, separated by commas.
    pub leaving: Option<&'a str>,
    /// The whole new membership.
    pub new_members: Option<&'a str>,
    /// The version of the configuration it must follow; -1 for any.
    pub config_id: i64,
}

/// The body of an auth packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Unused; clients send 0.
    pub kind: i32,
    /// The name of the scheme; one that is null or no text is a scheme that nobody knows.
    pub scheme: Option<&'a [u8]>,
    /// The credentials in the form of the scheme.
    pub credentials: Option<&'a [u8]>,
}

/// A request without its header, borrowed from its frame.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// create, create2, createContainer, createTTL.
    Create(Create<'a>),
    /// delete.
    Delete(PathVersion<'a>),
    /// exists.
    Exists(Watchable<'a>),
    /// getData.
    GetData(Watchable<'a>),
    /// setData.
    SetData(SetData<'a>),
    /// getACL.
    GetAcl(&'a str),
    /// setACL.
    SetAcl(SetAcl<'a>),
    /// getChildren.
    GetChildren(Watchable<'a>),
    /// getChildren2.
    GetChildren2(Watchable<'a>),
    /// sync.
    Sync(&'a str),
    /// ping.
    Ping,
    /// multi: writes only.
    Multi(MultiOps<'a>),
    /// multiRead: reads only.
    MultiRead(MultiOps<'a>),
    /// reconfig.
    Reconfig(Reconfig<'a>),
    /// checkWatches: the znode and a [`crate::watch::WatcherType`] as it came.
    CheckWatches(&'a str, i32),
    /// removeWatches: the znode and a [`crate::watch::WatcherType`] as it came.
    RemoveWatches(&'a str, i32),
    /// auth.
    Auth(Auth<'a>),
    /// setWatches; without persistent watches.
    SetWatches(SetWatches<'a>),
    /// setWatches2.
    SetWatches2(SetWatches<'a>),
    /// sasl: a token.
    Sasl(Option<&'a [u8]>),
    /// getEphemerals: a prefix of paths, as plain text.
    GetEphemerals(&'a str),
    /// getAllChildrenNumber.
    GetAllChildrenNumber(&'a str),
    /// addWatch: the znode and a [`crate::watch::AddWatchMode`] as it came.
    AddWatch(&'a str, i32),
    /// whoAmI.
    WhoAmI,
    /// createSession: the negotiated timeout in milliseconds; made by the server.
    CreateSession(i32),
    /// closeSession.
    CloseSession,
    /// deleteContainer: made by the server.
    DeleteContainer(&'a str),
}

impl<'a> Request<'a> {
    /// Takes the body of a request for `op`.
    ///
    /// Errors: [`DecodeError`], which goes out as `MarshallingError`; also for an operation that is no request of its
    /// own ([`Op::Notification`], [`Op::Check`]).
    #[inline]
    pub fn decode(op: Op, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match op {
            Op::SetData => Request::SetData(SetData::decode(reader)?),
            Op::GetData => Request::GetData(Watchable::decode(reader)?),
            Op::Create | Op::Create2 | Op::CreateContainer | Op::CreateTtl => {
                Request::Create(Create::decode(op, reader)?)
            }
            Op::Delete => Request::Delete(PathVersion::decode(reader)?),
            Op::Exists => Request::Exists(Watchable::decode(reader)?),
            Op::GetAcl => Request::GetAcl(reader.text()?),
            Op::SetAcl => {
                let path = reader.text()?;
                Request::SetAcl(SetAcl { path, acl: AclList::decode(reader)?, version: reader.i32()? })
            }
            Op::GetChildren => Request::GetChildren(Watchable::decode(reader)?),
            Op::GetChildren2 => Request::GetChildren2(Watchable::decode(reader)?),
            Op::Sync => Request::Sync(reader.text()?),
            Op::Ping => Request::Ping,
            Op::Multi => Request::Multi(MultiOps::decode_writes(reader)?),
            Op::MultiRead => Request::MultiRead(MultiOps::decode_reads(reader)?),
            Op::Reconfig => Request::Reconfig(Reconfig::decode(reader)?),
            Op::CheckWatches => Request::CheckWatches(reader.text()?, reader.i32()?),
            Op::RemoveWatches => Request::RemoveWatches(reader.text()?, reader.i32()?),
            Op::Auth => {
                let kind = reader.i32()?;
                Request::Auth(Auth { kind, scheme: reader.buffer()?, credentials: reader.buffer()? })
            }
            Op::SetWatches => Request::SetWatches(SetWatches::decode(reader, false)?),
            Op::SetWatches2 => Request::SetWatches2(SetWatches::decode(reader, true)?),
            Op::Sasl => Request::Sasl(reader.buffer()?),
            Op::GetEphemerals => Request::GetEphemerals(reader.text()?),
            Op::GetAllChildrenNumber => Request::GetAllChildrenNumber(reader.text()?),
            Op::AddWatch => Request::AddWatch(reader.text()?, reader.i32()?),
            Op::WhoAmI => Request::WhoAmI,
            Op::CreateSession => Request::CreateSession(reader.i32()?),
            Op::CloseSession => Request::CloseSession,
            Op::DeleteContainer => Request::DeleteContainer(reader.text()?),
            Op::Notification | Op::Check => return Err(DecodeError::Unknown(op.code(), "request")),
        })
    }

    /// Returns the operation.
    pub fn op(&self) -> Op {
        match self {
            Request::Create(create) => create.op,
            Request::Delete(_) => Op::Delete,
            Request::Exists(_) => Op::Exists,
            Request::GetData(_) => Op::GetData,
            Request::SetData(_) => Op::SetData,
            Request::GetAcl(_) => Op::GetAcl,
            Request::SetAcl(_) => Op::SetAcl,
            Request::GetChildren(_) => Op::GetChildren,
            Request::GetChildren2(_) => Op::GetChildren2,
            Request::Sync(_) => Op::Sync,
            Request::Ping => Op::Ping,
            Request::Multi(_) => Op::Multi,
            Request::MultiRead(_) => Op::MultiRead,
            Request::Reconfig(_) => Op::Reconfig,
            Request::CheckWatches(..) => Op::CheckWatches,
            Request::RemoveWatches(..) => Op::RemoveWatches,
            Request::Auth(_) => Op::Auth,
            Request::SetWatches(_) => Op::SetWatches,
            Request::SetWatches2(_) => Op::SetWatches2,
            Request::Sasl(_) => Op::Sasl,
            Request::GetEphemerals(_) => Op::GetEphemerals,
            Request::GetAllChildrenNumber(_) => Op::GetAllChildrenNumber,
            Request::AddWatch(..) => Op::AddWatch,
            Request::WhoAmI => Op::WhoAmI,
            Request::CreateSession(_) => Op::CreateSession,
            Request::CloseSession => Op::CloseSession,
            Request::DeleteContainer(_) => Op::DeleteContainer,
        }
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Request::Create(ref create) => create.encode(out),
            Request::Delete(body) => body.encode(out),
            Request::SetData(body) => body.encode(out),
            Request::Exists(body)
            | Request::GetData(body)
            | Request::GetChildren(body)
            | Request::GetChildren2(body) => body.encode(out),
            Request::SetAcl(ref body) => {
                put_text(out, body.path);
                body.acl.encode(out);
                put_i32(out, body.version);
            }
            Request::GetAcl(path)
            | Request::Sync(path)
            | Request::GetEphemerals(path)
            | Request::GetAllChildrenNumber(path)
            | Request::DeleteContainer(path) => put_text(out, path),
            Request::CheckWatches(path, number)
            | Request::RemoveWatches(path, number)
            | Request::AddWatch(path, number) => {
                put_text(out, path);
                put_i32(out, number);
            }
            Request::Multi(ref ops) | Request::MultiRead(ref ops) => ops.encode(out),
            Request::Reconfig(body) => body.encode(out),
            Request::Auth(auth) => {
                put_i32(out, auth.kind);
                put_buffer(out, auth.scheme);
                put_buffer(out, auth.credentials);
            }
            Request::SetWatches(ref watches) => watches.encode(false, out),
            Request::SetWatches2(ref watches) => watches.encode(true, out),
            Request::Sasl(token) => put_buffer(out, token),
            Request::CreateSession(timeout_ms) => put_i32(out, timeout_ms),
            Request::Ping | Request::WhoAmI | Request::CloseSession => {}
        }
    }
}

impl<'a> Reconfig<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (joining, leaving) = (reader.optional_text()?, reader.optional_text()?);
        let new_members = reader.optional_text()?;
        Ok(Reconfig { joining, leaving, new_members, config_id: reader.i64()? })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for text in [self.joining, self.leaving, self.new_members] {
            put_buffer(out, text.map(str::as_bytes));
        }
        put_i64(out, self.config_id);
    }
}

/// Appends a whole frame: length, header, body.
pub fn put_request(out: &mut Vec<u8>, xid: Xid, request: &Request<'_>) {
    crate::frame::put_frame(out, |out| {
        RequestHeader { xid, op_code: request.op().code() }.encode(out);
        request.encode(out);
    });
}
