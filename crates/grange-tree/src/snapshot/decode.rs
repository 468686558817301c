//! Reads a chunk of a snapshot: everything that can be checked without the other chunks.

use grange_proto::lifetime::TTL_MS_MAX;
use grange_proto::{AclList, DecodeError, Lifetime, Reader, SessionId, Zxid, path};

use super::{BLOCK_SLOTS, ChunkKind, FORMAT_VERSION, Reach, SLOT_FREE, SLOT_FULL, SLOT_FULL_WITH_EXTRA, Summary};
use crate::acl::AclRef;
use crate::acl_table::AclRecord;
use crate::node::{Extra, Node, Scratch};
use crate::session::Session;
use crate::slab::{Key, Slot};

/// Why bytes are not a snapshot of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A field cannot be read.
    #[error("a chunk of the snapshot cannot be read")]
    Field(#[from] DecodeError),
    /// The chunk was written by a newer program.
    #[error("the snapshot has the format {0}, this program reads {FORMAT_VERSION}")]
    Version(u8),
    /// A field has a value that no tree has.
    #[error("{0} in the snapshot is out of range")]
    Value(&'static str),
    /// A chunk is missing, or there twice.
    #[error("the snapshot has not each of its chunks once")]
    Chunks,
    /// The chunks do not fit together.
    #[error("the snapshot contradicts itself: {0}")]
    Contradiction(&'static str),
    /// All fits together, but it is not what was written.
    #[error("the snapshot adds up to the digest {found:#x}, it was written with {expected:#x}")]
    Digest {
        /// What the summary says.
        expected: u64,
        /// What the znodes and sessions add up to.
        found: u64,
    },
}

/// A chunk that was read: to be handed to [`super::TreeBuilder::add`].
pub struct DecodedChunk(pub(super) Content);

pub(super) enum Content {
    Summary(Summary),
    Acls(Block<AclRecord>),
    Sessions(Block<Session>),
    Nodes(Block<Node>, Vec<(usize, Extra)>),
}

/// A run of slots.
pub(super) struct Block<T> {
    pub(super) index: u32,
    pub(super) slots: Vec<Slot<T>>,
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<DecodedChunk>();
};

type Result<T> = std::result::Result<T, SnapshotError>;

impl super::TreeBuilder {
    /// Reads a chunk that [`super::TreeSnapshot::encode_chunk`] wrote; from any thread, in any order.
    pub fn decode_chunk(bytes: &[u8]) -> Result<DecodedChunk> {
        let reader = &mut Reader::new(bytes);
        let version = reader.u8()?;
        if version != FORMAT_VERSION {
            return Err(SnapshotError::Version(version));
        }
        let kind = reader.u8()?;
        let content = match [ChunkKind::Summary, ChunkKind::Acls, ChunkKind::Sessions, ChunkKind::Nodes]
            .into_iter()
            .find(|known| *known as u8 == kind)
            .ok_or(SnapshotError::Value("the kind of a chunk"))?
        {
            ChunkKind::Summary => Content::Summary(decode_summary(reader)?),
            ChunkKind::Acls => Content::Acls(decode_block(reader, |_, _, reader| decode_acl_record(reader))?),
            ChunkKind::Sessions => Content::Sessions(decode_block(reader, |_, _, reader| decode_session(reader))?),
            ChunkKind::Nodes => {
                let (mut extras, mut scratch) = (Vec::new(), NodeScratch::default());
                let nodes = decode_block(reader, |offset, tag, reader| {
                    let node = decode_node(reader, &mut scratch)?;
                    if tag == SLOT_FULL_WITH_EXTRA {
                        extras.push((offset, decode_extra(reader)?));
                    }
                    Ok(node)
                })?;
                Content::Nodes(nodes, extras)
            }
        };
        match reader.rest() {
            [] => Ok(DecodedChunk(content)),
            _ => Err(SnapshotError::Value("the length of a chunk")),
        }
    }
}

fn take_u32(reader: &mut Reader<'_>) -> Result<u32> {
    Ok(reader.i32()?.cast_unsigned())
}

fn take_link<T>(reader: &mut Reader<'_>) -> Result<Option<Key<T>>> {
    Ok(Key::from_number(take_u32(reader)?))
}

fn decode_summary(reader: &mut Reader<'_>) -> Result<Summary> {
    let (zxid, digest) = (Zxid(reader.i64()?), reader.i64()?.cast_unsigned());
    let root = take_u32(reader)?;
    let mut reach = || -> Result<Reach> {
        Ok(Reach { slot_count: take_u32(reader)?, full_count: take_u32(reader)?, free: take_u32(reader)? })
    };
    Ok(Summary { zxid, digest, root, acls: reach()?, sessions: reach()?, nodes: reach()? })
}

/// Takes a block; `decode_full` gets the place of a slot in the block and its tag.
fn decode_block<'a, T>(
    reader: &mut Reader<'a>,
    mut decode_full: impl FnMut(usize, u8, &mut Reader<'a>) -> Result<T>,
) -> Result<Block<T>> {
    let index = take_u32(reader)?;
    let slot_count = take_u32(reader)? as usize;
    if !(1..=BLOCK_SLOTS).contains(&slot_count) {
        return Err(SnapshotError::Value("the number of slots in a block"));
    }
    let mut slots = Vec::with_capacity(slot_count);
    for offset in 0..slot_count {
        slots.push(match reader.u8()? {
            SLOT_FREE => Slot::Free(take_link(reader)?),
            tag @ (SLOT_FULL | SLOT_FULL_WITH_EXTRA) => Slot::Full(decode_full(offset, tag, reader)?),
            _ => return Err(SnapshotError::Value("the kind of a slot")),
        });
    }
    Ok(Block { index, slots })
}

fn decode_acl_record(reader: &mut Reader<'_>) -> Result<AclRecord> {
    let entries = AclList::decode(reader)?.iter().map(|entry| entry.to_owned()).collect();
    let acl = AclRef::new(entries).ok_or(SnapshotError::Value("an access control list"))?;
    Ok(AclRecord { acl, use_count: 0 })
}

fn decode_session(reader: &mut Reader<'_>) -> Result<Session> {
    let id = SessionId(reader.i64()?);
    if !id.is_possible() {
        return Err(SnapshotError::Value("the number of a session"));
    }
    let (timeout_ms, member, is_closing) = (reader.i32()?, reader.i64()?.cast_unsigned(), reader.bool()?);
    Ok(Session { id, timeout_ms, member, is_closing, first_ephemeral: take_link(reader)?, ephemeral_count: 0 })
}

#[derive(Default)]
struct NodeScratch {
    joined: Scratch,
    path: String,
}

fn decode_node(reader: &mut Reader<'_>, scratch: &mut NodeScratch) -> Result<Node> {
    let name = reader.text()?;
    let data = reader.buffer()?;
    let czxid = Zxid(reader.i64()?);
    let mut node = Node::new(name.as_bytes(), data, czxid, 0, &mut scratch.joined);
    node.mzxid = Zxid(reader.i64()?);
    node.ctime_ms = reader.i64()?;
    node.mtime_ms = reader.i64()?;
    node.version = reader.i32()?;
    node.parent = take_link(reader)?;
    node.next = take_link(reader)?;
    node.prev = take_link(reader)?;
    scratch.path.clear();
    scratch.path.push('/');
    scratch.path.push_str(name);
    let is_fit = match node.parent {
        None => name.is_empty(),
        Some(_) => !name.is_empty() && !name.contains('/') && path::validate(&scratch.path).is_ok(),
    };
    if is_fit { Ok(node) } else { Err(SnapshotError::Value("the name of a znode")) }
}

fn decode_extra(reader: &mut Reader<'_>) -> Result<Extra> {
    let acl = take_link(reader)?;
    let aversion = reader.i32()?;
    let (kind, owner) = (reader.u8()?, reader.i64()?);
    let lifetime = match kind {
        0 if owner == 0 => Lifetime::Persistent,
        1 if SessionId(owner).is_possible() => Lifetime::Ephemeral(SessionId(owner)),
        2 if owner == 0 => Lifetime::Container,
        3 if (1..=TTL_MS_MAX).contains(&owner) => Lifetime::Ttl(owner),
        _ => return Err(SnapshotError::Value("the lifetime of a znode")),
    };
    Ok(Extra {
        acl,
        aversion,
        lifetime,
        first_child: take_link(reader)?,
        child_count: take_u32(reader)?,
        descendant_count: 0,
        cversion: reader.i32()?,
        pzxid: Zxid(reader.i64()?),
        ephemeral_next: take_link(reader)?,
        ephemeral_prev: take_link(reader)?,
    })
}
