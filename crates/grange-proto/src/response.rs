//! Replies: a header, and a body if the request succeeded.

use crate::acl::{Acl, AclList, put_acls};
use crate::error::ErrorCode;
pub use crate::header::ReplyHeader;
use crate::ids::{Xid, Zxid};
use crate::multi::{self, MultiResult, MultiResults};
use crate::op::Op;
use crate::stat::Stat;
pub use crate::wire::TextBody;
use crate::wire::{DecodeError, Reader, TextList, put_buffer, put_i32, put_length, put_text};

/// The body of a successful reply, borrowed from the tree (to send it) or from a frame (to read it).
#[derive(Debug, Clone)]
pub enum Response<'a> {
    /// No body: delete, ping, checkWatches and the like.
    Empty,
    /// create, sync.
    Path(&'a str),
    /// create2, createContainer, createTTL.
    PathStat(&'a str, Stat),
    /// exists, setData, setACL.
    Stat(Stat),
    /// getData, reconfig.
    Data(Option<&'a [u8]>, Stat),
    /// getACL.
    Acl(AclBody<'a>, Stat),
    /// getChildren, getEphemerals.
    Texts(TextBody<'a>),
    /// getChildren2.
    TextsStat(TextBody<'a>, Stat),
    /// getAllChildrenNumber; addWatch (always 0).
    Number(i32),
    /// whoAmI: pairs of scheme and user.
    WhoAmI(Vec<(&'a str, &'a str)>),
    /// sasl: the server's next token.
    Token(Option<&'a [u8]>),
    /// multi and multiRead.
    Multi(Vec<MultiResult<'a>>),
    /// The same on its way to a client, encoded already; never what [`Response::decode`] returns.
    MultiEncoded(MultiResults),
}

/// An ACL, as it comes or as it goes.
#[derive(Debug, Clone)]
pub enum AclBody<'a> {
    /// Read from a frame.
    Framed(AclList<'a>),
    /// Built for sending.
    Built(std::borrow::Cow<'a, [Acl]>),
}

impl Response<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Response::Empty => {}
            Response::Path(path) => put_text(out, path),
            Response::PathStat(path, stat) => {
                put_text(out, path);
                stat.encode(out);
            }
            Response::Stat(stat) => stat.encode(out),
            Response::Data(data, stat) => {
                put_buffer(out, *data);
                stat.encode(out);
            }
            Response::Acl(acl, stat) => {
                match acl {
                    AclBody::Framed(list) => list.encode(out),
                    AclBody::Built(list) => put_acls(out, list),
                }
                stat.encode(out);
            }
            Response::Texts(texts) => texts.encode(out),
            Response::TextsStat(texts, stat) => {
                texts.encode(out);
                stat.encode(out);
            }
            Response::Number(number) => put_i32(out, *number),
            Response::WhoAmI(users) => {
                put_length(out, users.len());
                for (scheme, user) in users {
                    put_text(out, scheme);
                    put_text(out, user);
                }
            }
            Response::Token(token) => put_buffer(out, *token),
            Response::Multi(results) => multi::encode_results(results, out),
            Response::MultiEncoded(results) => results.encode(out),
        }
    }
}

impl<'a> Response<'a> {
    /// Takes the body of the reply to `op`.
    ///
    /// Errors: [`DecodeError`]; also for an operation that has no reply of this form (auth has none).
    pub fn decode(op: Op, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match op {
            Op::Create | Op::Sync => Response::Path(reader.text()?),
            Op::Create2 | Op::CreateContainer | Op::CreateTtl => {
                Response::PathStat(reader.text()?, Stat::decode(reader)?)
            }
            Op::Exists | Op::SetData | Op::SetAcl => Response::Stat(Stat::decode(reader)?),
            Op::GetData | Op::Reconfig => Response::Data(reader.buffer()?, Stat::decode(reader)?),
            Op::GetAcl => Response::Acl(AclBody::Framed(AclList::decode(reader)?), Stat::decode(reader)?),
            Op::GetChildren | Op::GetEphemerals => Response::Texts(TextBody::Framed(TextList::decode(reader)?)),
            Op::GetChildren2 => Response::TextsStat(TextBody::Framed(TextList::decode(reader)?), Stat::decode(reader)?),
            Op::GetAllChildrenNumber | Op::AddWatch => Response::Number(reader.i32()?),
            Op::WhoAmI => {
                let count = reader.count(8)?;
                let users = (0..count).map(|_| Ok((reader.text()?, reader.text()?)));
                Response::WhoAmI(users.collect::<Result<_, DecodeError>>()?)
            }
            Op::Sasl => Response::Token(reader.buffer()?),
            Op::Multi | Op::MultiRead => Response::Multi(multi::decode_results(reader)?),
            Op::Delete
            | Op::Ping
            | Op::CheckWatches
            | Op::RemoveWatches
            | Op::SetWatches
            | Op::SetWatches2
            | Op::CloseSession => Response::Empty,
            Op::Notification | Op::Check | Op::DeleteContainer | Op::Auth | Op::CreateSession => {
                return Err(DecodeError::Unknown(op.code(), "reply"));
            }
        })
    }
}

/// Appends a whole frame: length, header, body.
#[inline]
pub fn put_reply(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, result: Result<&Response<'_>, ErrorCode>) {
    crate::frame::put_frame(out, |out| {
        let err = result.as_ref().err().map_or(0, |code| code.code());
        ReplyHeader { xid, zxid, err }.encode(out);
        if let Ok(body) = result {
            body.encode(out);
        }
    });
}
