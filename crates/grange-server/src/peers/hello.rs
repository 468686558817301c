//! The first words on a connection between members: who is there, and whether the two belong together.
//!
//! The dialler sends a hello, the other side its answer: welcome, with the same facts about itself, or a refusal with
//! its reason. Both are `magic [8], version u16, bytes u16`, so many bytes, `crc u32` (CRC32C of all before it);
//! little-endian. The length has a bound, and so has the time (`HELLO_TIME_MAX`), since anybody may connect.

use std::io::{self, Read};

use bytes::{Buf, BufMut};
use grange_proto::ServerSpec;
use grange_replica::{Member, MemberId};

/// The version of everything that members say to each other.
const PROTOCOL_VERSION: u16 = 1;
const HELLO_MAGIC: [u8; 8] = *b"GRANGEPH";
const ANSWER_MAGIC: [u8; 8] = *b"GRANGEPA";
const HEAD_BYTES: usize = 12;
const CRC_BYTES: usize = 4;
/// The longest body: a server's line has a few addresses at most.
const BODY_BYTES_MAX: usize = 4096;
const SPEC_BYTES_MAX: usize = 2048;
const REASON_BYTES_MAX: usize = 512;

const WELCOME: u8 = 0;
const REFUSED: u8 = 1;

/// What names an ensemble.
pub(super) type ClusterId = [u8; 16];

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Messages of the replica.
    Messages,
    /// One snapshot.
    Snapshot,
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member: Member,
    /// Larger than at every earlier start of this member.
    pub(super) run: u64,
    /// The ensemble it belongs to, `None` as long as it does not know.
    pub(super) cluster_id: Option<ClusterId>,
    /// Whether it has no data of any ensemble.
    pub(super) is_blank: bool,
}

/// What a dialler says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) identity: Identity,
    pub(super) purpose: Purpose,
    /// The number of the server it means to reach.
    pub(super) expects: u8,
}

/// Why the first words on a connection are of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error("the connection broke before both sides had said who they are ({0})")]
    Io(#[from] io::Error),
    #[error("this is not a Grange server's port for members, or not a server that calls")]
    Magic,
    #[error("the other side speaks version {0} of the protocol between members, this one version {PROTOCOL_VERSION}")]
    Version(u16),
    #[error("the first words are not understood")]
    Format,
    #[error("the other side refuses: {0}")]
    Refused(String),
    #[error("{0}")]
    Mismatch(String),
}

impl Identity {
    /// Tells whether this server may talk with `other`; the reason is a sentence's part about `other`.
    pub(super) fn check(&self, other: &Identity) -> Result<(), String> {
        let (own, its) = (&self.member, &other.member);
        if own.id == its.id {
            return Err(format!(
                "server {} has a copy of the data directory of server {}: empty one of the two",
                its.server_id, own.server_id
            ));
        }
        if own.server_id == its.server_id {
            return Err(format!("another server has the number {} too", its.server_id));
        }
        match (self.cluster_id, other.cluster_id) {
            (Some(own), Some(its)) if own != its => {
                Err(format!("server {} belongs to another ensemble", other.member.server_id))
            }
            _ => Ok(()),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.cluster_id.unwrap_or_default());
        out.put_u64_le(self.member.id.0);
        out.put_u64_le(self.run);
        out.put_u8(self.member.server_id);
        out.put_u8(self.is_blank.into());
        let spec = self.member.spec.to_string();
        out.put_u16_le(u16::try_from(spec.len()).expect("a server's line is compared with its bound at the start"));
        out.put_slice(spec.as_bytes());
    }

    fn get(body: &mut &[u8]) -> Option<Identity> {
        let cluster_id: ClusterId = take(body, 16)?.try_into().ok()?;
        let id = MemberId(body.try_get_u64_le().ok()?);
        let run = body.try_get_u64_le().ok()?;
        let server_id = body.try_get_u8().ok()?;
        let is_blank = body.try_get_u8().ok()? != 0;
        let spec_bytes = usize::from(body.try_get_u16_le().ok()?);
        let spec: ServerSpec = std::str::from_utf8(take(body, spec_bytes)?).ok()?.parse().ok()?;
        let cluster_id = (cluster_id != [0; 16]).then_some(cluster_id);
        // Number 0 is nobody's: a server that stands alone has no others.
        let is_named = id.0 != 0 && server_id != 0;
        is_named.then_some(Identity { member: Member { id, server_id, spec }, run, cluster_id, is_blank })
    }
}

/// Tells whether a server can say who it is: its line is not longer than others accept.
pub(super) fn fits(spec: &ServerSpec) -> bool {
    spec.to_string().len() <= SPEC_BYTES_MAX
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        enclose(HELLO_MAGIC, |out| {
            out.put_u8(match self.purpose {
                Purpose::Messages => 0,
                Purpose::Snapshot => 1,
            });
            out.put_u8(self.expects);
            self.identity.put(out);
        })
    }

    pub(super) fn read(source: &mut impl Read) -> Result<Hello, HelloError> {
        let body = read_body(source, HELLO_MAGIC)?;
        let body = &mut &body[..];
        let hello = (|| {
            let purpose = match body.try_get_u8().ok()? {
                0 => Purpose::Messages,
                1 => Purpose::Snapshot,
                _ => return None,
            };
            let expects = body.try_get_u8().ok()?;
            Some(Hello { purpose, expects, identity: Identity::get(body)? })
        })();
        hello.ok_or(HelloError::Format)
    }
}

/// Encodes the answer that lets the dialler in.
pub(super) fn encode_welcome(own: &Identity) -> Vec<u8> {
    enclose(ANSWER_MAGIC, |out| {
        out.put_u8(WELCOME);
        own.put(out);
    })
}

/// Encodes the answer that sends the dialler away.
pub(super) fn encode_refusal(reason: &str) -> Vec<u8> {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    enclose(ANSWER_MAGIC, |out| {
        out.put_u8(REFUSED);
        out.put_slice(&reason.as_bytes()[..end]);
    })
}

/// Reads the answer to a hello.
pub(super) fn read_answer(source: &mut impl Read) -> Result<Identity, HelloError> {
    let body = read_body(source, ANSWER_MAGIC)?;
    let body = &mut &body[..];
    match body.try_get_u8() {
        Ok(WELCOME) => Identity::get(body).ok_or(HelloError::Format),
        // It comes from the network and goes into the log.
        Ok(REFUSED) => Err(HelloError::Refused(String::from_utf8_lossy(body).escape_debug().to_string())),
        _ => Err(HelloError::Format),
    }
}

fn take<'a>(body: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    body.split_off(..bytes)
}

fn enclose(magic: [u8; 8], put_body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.put_u16_le(PROTOCOL_VERSION);
    out.put_u16_le(0);
    put_body(&mut out);
    let bytes = u16::try_from(out.len() - HEAD_BYTES).expect("a body is far shorter than 64 KiB");
    out[10..HEAD_BYTES].copy_from_slice(&bytes.to_le_bytes());
    out.put_u32_le(crc32c::crc32c(&out));
    out
}

fn read_body(source: &mut impl Read, magic: [u8; 8]) -> Result<Vec<u8>, HelloError> {
    let mut all = vec![0; HEAD_BYTES];
    source.read_exact(&mut all)?;
    if all[..8] != magic {
        return Err(HelloError::Magic);
    }
    let version = u16::from_le_bytes([all[8], all[9]]);
    if version != PROTOCOL_VERSION {
        return Err(HelloError::Version(version));
    }
    let bytes = usize::from(u16::from_le_bytes([all[10], all[11]]));
    if bytes > BODY_BYTES_MAX {
        return Err(HelloError::Format);
    }
    all.resize(HEAD_BYTES + bytes + CRC_BYTES, 0);
    source.read_exact(&mut all[HEAD_BYTES..])?;
    let crc = all.split_off(HEAD_BYTES + bytes);
    if crc32c::crc32c(&all).to_le_bytes() != crc[..] {
        return Err(HelloError::Format);
    }
    Ok(all.split_off(HEAD_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: u64, server_id: u8, cluster_id: Option<ClusterId>) -> Identity {
        let spec = format!("host{server_id}:2888:3888:participant;0.0.0.0:2181").parse().unwrap();
        Identity { member: Member { id: MemberId(id), server_id, spec }, run: 7, cluster_id, is_blank: true }
    }

    #[test]
    fn both_sides_hear_what_was_said() {
        for purpose in [Purpose::Messages, Purpose::Snapshot] {
            let hello = Hello { identity: identity(1, 2, Some([3; 16])), purpose, expects: 4 };
            assert_eq!(Hello::read(&mut &hello.encode()[..]).unwrap(), hello);
        }
        let own = identity(9, 1, None);
        assert_eq!(read_answer(&mut &encode_welcome(&own)[..]).unwrap(), own);
        let Err(HelloError::Refused(reason)) = read_answer(&mut &encode_refusal("no\u{1b}[2J")[..]) else {
            panic!("a refusal is one")
        };
        assert_eq!(reason, "no\\u{1b}[2J", "it cannot change a terminal");
        assert!(read_answer(&mut &encode_refusal(&"ü".repeat(2000))[..]).is_err());
    }

    #[test]
    fn anything_else_is_refused() {
        let bytes = Hello { identity: identity(1, 2, None), purpose: Purpose::Messages, expects: 4 }.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Hello::read(&mut &damaged[..]).is_err(), "byte {at}");
            assert!(Hello::read(&mut &bytes[..at]).is_err(), "{at} bytes");
        }
        assert!(matches!(Hello::read(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]), Err(HelloError::Magic)));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert!(matches!(Hello::read(&mut &newer[..]), Err(HelloError::Version(2))));
        let mut long = bytes;
        long[10..12].copy_from_slice(&u16::MAX.to_le_bytes());
        long.resize(1 << 17, 0);
        assert!(matches!(Hello::read(&mut &long[..]), Err(HelloError::Format)), "its length is beyond the bound");
    }

    #[test]
    fn only_servers_of_one_ensemble_talk() {
        let own = identity(1, 1, Some([1; 16]));
        own.check(&identity(2, 2, Some([1; 16]))).unwrap();
        own.check(&identity(2, 2, None)).unwrap();
        assert!(own.check(&identity(2, 2, Some([2; 16]))).unwrap_err().contains("another ensemble"));
        assert!(own.check(&identity(1, 2, None)).unwrap_err().contains("a copy of the data directory"));
        assert!(own.check(&identity(2, 1, None)).unwrap_err().contains("the number 1 too"));
    }
}
