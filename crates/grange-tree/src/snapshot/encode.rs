//! Writes the chunks of a snapshot.

use grange_proto::Zxid;
use grange_proto::acl::put_acls;
use grange_proto::wire::{put_bool, put_buffer, put_i32, put_i64};

use super::{BLOCK_SLOTS, ChunkKind, FORMAT_VERSION, Reach, SLOT_FREE, SLOT_FULL, SLOT_FULL_WITH_EXTRA, Summary};
use crate::acl_table::AclRecord;
use crate::node::{Extra, Node, lifetime_parts};
use crate::session::Session;
use crate::slab::{Extent, Frozen, Key, Slot};
use crate::tree::Tree;

impl Tree {
    /// Returns the state as it is now. Takes microseconds; what is written afterwards is copied first, a few thousand
    /// bytes at a time, until the snapshot is dropped.
    pub fn snapshot(&self) -> TreeSnapshot {
        TreeSnapshot {
            zxid: self.last_zxid,
            digest: self.digest(),
            root: self.store.root,
            nodes: self.store.nodes.freeze(),
            extras: self.store.extras.freeze(),
            acls: self.store.acls.freeze(),
            sessions: self.store.sessions.freeze(),
        }
    }
}

/// A tree at one point in time, to be written by any thread.
pub struct TreeSnapshot {
    zxid: Zxid,
    digest: u64,
    root: Key<Node>,
    nodes: Frozen<Node>,
    extras: Frozen<Extra>,
    acls: Frozen<AclRecord>,
    sessions: Frozen<Session>,
}

const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<TreeSnapshot>();
};

fn block_count<T>(slots: &Frozen<T>) -> usize {
    slots.extent().slot_count.div_ceil(BLOCK_SLOTS)
}

impl TreeSnapshot {
    /// Returns the last transaction in the snapshot.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Returns the digest of the state in the snapshot.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Returns the number of chunks; at least one.
    pub fn chunk_count(&self) -> usize {
        1 + block_count(&self.acls) + block_count(&self.sessions) + block_count(&self.nodes)
    }

    /// Appends a chunk; the same bytes each time. 256 znodes make one, so that it is as large as their data.
    ///
    /// # Panics
    /// If `index` is not below [`TreeSnapshot::chunk_count`].
    pub fn encode_chunk(&self, index: usize, out: &mut Vec<u8>) {
        let Some(block) = index.checked_sub(1) else {
            return self.encode_summary(out);
        };
        if block < block_count(&self.acls) {
            return encode_block(out, ChunkKind::Acls, block, &self.acls, put_acl_record);
        }
        let block = block - block_count(&self.acls);
        if block < block_count(&self.sessions) {
            return encode_block(out, ChunkKind::Sessions, block, &self.sessions, put_session);
        }
        let block = block - block_count(&self.sessions);
        assert!(block < block_count(&self.nodes), "a snapshot has {} chunks", self.chunk_count());
        encode_block(out, ChunkKind::Nodes, block, &self.nodes, |out, node| self.put_node(out, node));
    }

    fn encode_summary(&self, out: &mut Vec<u8>) {
        let summary = Summary {
            zxid: self.zxid,
            digest: self.digest,
            root: self.root.number(),
            acls: reach(self.acls.extent()),
            sessions: reach(self.sessions.extent()),
            nodes: reach(self.nodes.extent()),
        };
        out.extend([FORMAT_VERSION, ChunkKind::Summary as u8]);
        put_i64(out, summary.zxid.0);
        put_i64(out, summary.digest.cast_signed());
        put_u32(out, summary.root);
        for reach in [summary.acls, summary.sessions, summary.nodes] {
            put_u32(out, reach.slot_count);
            put_u32(out, reach.full_count);
            put_u32(out, reach.free);
        }
    }

    fn put_node(&self, out: &mut Vec<u8>, node: &Node) {
        let extra = node.extra.and_then(|extra| self.extras.get(extra));
        out.push(if extra.is_some() { SLOT_FULL_WITH_EXTRA } else { SLOT_FULL });
        put_buffer(out, Some(node.name()));
        put_buffer(out, node.data());
        for number in [node.czxid.0, node.mzxid.0, node.ctime_ms, node.mtime_ms] {
            put_i64(out, number);
        }
        put_i32(out, node.version);
        for link in [node.parent, node.next, node.prev] {
            put_link(out, link);
        }
        if let Some(extra) = extra {
            put_extra(out, extra);
        }
    }
}

fn reach<T>(extent: Extent<T>) -> Reach {
    let narrow = |count| u32::try_from(count).expect("slots have numbers of 32 bits");
    Reach {
        slot_count: narrow(extent.slot_count),
        full_count: narrow(extent.full_count),
        free: extent.free.map_or(0, Key::number),
    }
}

/// A block: its number among those of its kind, the number of its slots, the slots.
fn encode_block<T>(
    out: &mut Vec<u8>,
    kind: ChunkKind,
    block: usize,
    slots: &Frozen<T>,
    put_full: impl Fn(&mut Vec<u8>, &T),
) {
    let slots = slots.slots(block * BLOCK_SLOTS..(block + 1) * BLOCK_SLOTS);
    out.extend([FORMAT_VERSION, kind as u8]);
    for number in [block, slots.len()] {
        put_u32(out, u32::try_from(number).expect("slots have numbers of 32 bits"));
    }
    for slot in slots {
        match slot {
            Slot::Free(next) => {
                out.push(SLOT_FREE);
                put_link(out, *next);
            }
            Slot::Full(value) => put_full(out, value),
        }
    }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    put_i32(out, number.cast_signed());
}

fn put_link<T>(out: &mut Vec<u8>, link: Option<Key<T>>) {
    put_u32(out, link.map_or(0, Key::number));
}

fn put_acl_record(out: &mut Vec<u8>, record: &AclRecord) {
    out.push(SLOT_FULL);
    put_acls(out, record.acl.entries());
}

fn put_session(out: &mut Vec<u8>, session: &Session) {
    out.push(SLOT_FULL);
    put_i64(out, session.id.0);
    put_i32(out, session.timeout_ms);
    put_i64(out, session.member.cast_signed());
    put_bool(out, session.is_closing);
    put_link(out, session.first_ephemeral);
}

fn put_extra(out: &mut Vec<u8>, extra: &Extra) {
    let (kind, owner) = lifetime_parts(extra.lifetime);
    put_link(out, extra.acl);
    put_i32(out, extra.aversion);
    out.push(kind);
    put_i64(out, owner);
    put_link(out, extra.first_child);
    put_u32(out, extra.child_count);
    put_i32(out, extra.cversion);
    put_i64(out, extra.pzxid.0);
    put_link(out, extra.ephemeral_next);
    put_link(out, extra.ephemeral_prev);
}

/// Shows where it stands; the znodes are too many to print.
impl std::fmt::Debug for TreeSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeSnapshot").field("zxid", &self.zxid).finish_non_exhaustive()
    }
}
