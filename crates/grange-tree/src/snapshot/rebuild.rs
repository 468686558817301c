//! Puts the chunks of a snapshot together again, and believes nothing that it has not checked.

use std::collections::BTreeMap;

use grange_proto::Lifetime;

use super::decode::{Block, Content, DecodedChunk, SnapshotError};
use super::{BLOCK_SLOTS, Reach, Summary};
use crate::acl_table::{AclRecord, AclTable};
use crate::node::{Extra, Node};
use crate::session::{Session, Sessions};
use crate::slab::{Extent, Key, Slab, Slot};
use crate::store::{Place, Store};
use crate::tree::{CONFIG_PATH, Tree};

type Result<T> = std::result::Result<T, SnapshotError>;

/// Collects the chunks of a snapshot in any order and makes them a tree.
pub struct TreeBuilder {
    summary: Option<Summary>,
    acls: Assembly<AclRecord>,
    sessions: Assembly<Session>,
    nodes: Assembly<Node>,
    extras: Slab<Extra>,
    /// Whether a chunk came twice.
    has_repetition: bool,
    name_key: u64,
}

/// Slots of one kind that are put together block by block.
struct Assembly<T> {
    slab: Slab<T>,
    next_block: u32,
    /// Blocks that came before their turn.
    waiting: BTreeMap<u32, Vec<Slot<T>>>,
}

impl<T: Clone> Assembly<T> {
    fn new() -> Assembly<T> {
        Assembly { slab: Slab::new(), next_block: 0, waiting: BTreeMap::new() }
    }

    /// Takes a block; false if it came before.
    fn add(&mut self, block: Block<T>) -> bool {
        let is_new = block.index >= self.next_block && self.waiting.insert(block.index, block.slots).is_none();
        while let Some(slots) = self.waiting.remove(&self.next_block) {
            self.slab.append(slots);
            self.next_block += 1;
        }
        is_new
    }

    /// Returns the slots if all are there.
    fn finish(mut self, reach: Reach) -> Result<Slab<T>> {
        let extent = Extent {
            slot_count: reach.slot_count as usize,
            full_count: reach.full_count as usize,
            free: Key::from_number(reach.free),
        };
        let block_count = extent.slot_count.div_ceil(BLOCK_SLOTS);
        if !self.waiting.is_empty() || self.next_block as usize != block_count {
            return Err(SnapshotError::Chunks);
        }
        match self.slab.set_extent(extent) {
            true => Ok(self.slab),
            false => Err(SnapshotError::Contradiction("free slots")),
        }
    }
}

impl Default for TreeBuilder {
    fn default() -> TreeBuilder {
        TreeBuilder::new()
    }
}

impl TreeBuilder {
    /// Starts with no chunk, and with a key that everybody knows: see [`TreeBuilder::with_name_key`].
    pub fn new() -> TreeBuilder {
        TreeBuilder::with_name_key(0)
    }

    /// Starts with no chunk; `name_key` is as in [`Tree::with_name_key`].
    pub fn with_name_key(name_key: u64) -> TreeBuilder {
        TreeBuilder {
            name_key,
            summary: None,
            acls: Assembly::new(),
            sessions: Assembly::new(),
            nodes: Assembly::new(),
            extras: Slab::new(),
            has_repetition: false,
        }
    }

    /// Takes a chunk. In the order of the snapshot is best: what comes before its turn is kept twice for a while.
    pub fn add(&mut self, chunk: DecodedChunk) {
        let is_new = match chunk.0 {
            Content::Summary(summary) => self.summary.replace(summary).is_none(),
            Content::Acls(block) => self.acls.add(block),
            Content::Sessions(block) => self.sessions.add(block),
            Content::Nodes(mut block, extras) => {
                for (offset, extra) in extras {
                    if let Slot::Full(node) = &mut block.slots[offset] {
                        node.extra = Some(self.extras.insert(extra));
                    }
                }
                self.nodes.add(block)
            }
        };
        self.has_repetition |= !is_new;
    }

    /// Makes the tree.
    ///
    /// Errors: [`SnapshotError`] if a chunk is missing, if the znodes are not one tree, if sessions and their
    /// ephemerals do not match, or if the digest is not the one that was written.
    pub fn finish(self) -> Result<Tree> {
        let summary = self.summary.ok_or(SnapshotError::Chunks)?;
        if self.has_repetition {
            return Err(SnapshotError::Chunks);
        }
        let nodes = self.nodes.finish(summary.nodes)?;
        let acls = AclTable::from_records(self.acls.finish(summary.acls)?);
        let sessions = Sessions::from_records(self.sessions.finish(summary.sessions)?)
            .ok_or(SnapshotError::Contradiction("two sessions have one number"))?;
        let root = Key::from_number(summary.root)
            .filter(|root| nodes.get(*root).is_some_and(|node| node.parent.is_none()))
            .ok_or(SnapshotError::Contradiction("no root"))?;
        let mut store = Store::assemble(nodes, self.extras, acls, sessions, root, self.name_key);
        store.names.reserve(store.nodes.len());
        Walk { store: &mut store, node_count: 0 }.run()?;
        check_ephemerals(&mut store)?;
        for session in store.sessions.iter() {
            store.totals.digest = store.totals.digest.wrapping_add(session.digest());
        }
        if store.totals.digest != summary.digest {
            return Err(SnapshotError::Digest { expected: summary.digest, found: store.totals.digest });
        }
        if store.find(CONFIG_PATH).is_none() || store.find(crate::quota::QUOTA_PATH).is_none() {
            return Err(SnapshotError::Contradiction("a reserved znode is missing"));
        }
        store.totals.quota_count = store.count_quotas();
        Ok(Tree { store, last_zxid: summary.zxid, soft_quota_exceeded_count: 0 })
    }
}

/// Looks at each znode once, parents first: follows the links, fills the index, adds up the totals.
struct Walk<'a> {
    store: &'a mut Store,
    node_count: usize,
}

/// A znode whose children are being looked at.
struct Ancestor {
    place: Place,
    path_bytes: usize,
    children_left: u32,
    descendant_count: u32,
}

impl Walk<'_> {
    fn run(mut self) -> Result<()> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        let mut next = Some(self.store.root);
        let mut prev = None;
        loop {
            let Some(key) = next else {
                // The children of the innermost znode are done: its next sibling follows.
                let Some(done) = ancestors.pop() else { break };
                if done.children_left > 0 {
                    return Err(SnapshotError::Contradiction("a znode has fewer children than it counts"));
                }
                if let Some(parent) = ancestors.last_mut() {
                    parent.descendant_count += done.descendant_count + 1;
                }
                self.store.restore_descendant_count(done.place.key, done.descendant_count);
                prev = Some(done.place.key);
                next = self.store.node(done.place.key).next;
                continue;
            };
            let (place, path_bytes) = self.enter(key, prev, ancestors.last_mut())?;
            let extra = self.visit(place, path_bytes)?;
            let (first_child, children_left) = extra.unwrap_or((None, 0));
            ancestors.push(Ancestor { place, path_bytes, children_left, descendant_count: 0 });
            (prev, next) = (None, first_child);
        }
        if self.node_count != self.store.nodes.len() {
            return Err(SnapshotError::Contradiction("a znode is not below the root"));
        }
        if self.store.acls.has_unused() {
            return Err(SnapshotError::Contradiction("no znode has an access control list"));
        }
        self.store.totals.data_bytes += 1;
        Ok(())
    }

    /// Follows the link to `key` and checks that it leads back.
    fn enter(
        &mut self,
        key: Key<Node>,
        prev: Option<Key<Node>>,
        parent: Option<&mut Ancestor>,
    ) -> Result<(Place, usize)> {
        let node = self.store.nodes.get(key).ok_or(SnapshotError::Contradiction("a link leads nowhere"))?;
        if node.prev != prev || node.parent != parent.as_ref().map(|parent| parent.place.key) {
            return Err(SnapshotError::Contradiction("a link does not lead back"));
        }
        self.node_count += 1;
        let Some(parent) = parent else {
            return match node.next {
                None => Ok((self.store.root_place(), 0)),
                Some(_) => Err(SnapshotError::Contradiction("the root has a sibling")),
            };
        };
        parent.children_left = parent
            .children_left
            .checked_sub(1)
            .ok_or(SnapshotError::Contradiction("a znode has more children than it counts"))?;
        if self.store.child(parent.place, node.name()).is_some() {
            return Err(SnapshotError::Contradiction("two children have one name"));
        }
        let place = Place { key, path_hash: parent.place.child_hash(node.name()) };
        let path_bytes = parent.path_bytes + 1 + node.name().len();
        self.store.index_name(parent.place.key, key);
        Ok((place, path_bytes))
    }

    /// Adds a znode to the totals; returns its first child and the number of children.
    fn visit(&mut self, place: Place, path_bytes: usize) -> Result<Option<(Option<Key<Node>>, u32)>> {
        let extra =
            self.store.extra(place.key).map(|extra| (extra.acl, extra.lifetime, extra.first_child, extra.child_count));
        if let Some((acl, lifetime, _, child_count)) = extra {
            if acl.is_some_and(|acl| !self.store.acls.count(acl)) {
                return Err(SnapshotError::Contradiction("an access control list is missing"));
            }
            if let Lifetime::Ephemeral(_) = lifetime {
                if child_count > 0 || place.key == self.store.root {
                    return Err(SnapshotError::Contradiction("an ephemeral znode is the root or has children"));
                }
                self.store.totals.ephemeral_count += 1;
            }
        }
        self.store.note_idle(place.key);
        let digest = self.store.digest(place);
        let totals = &mut self.store.totals;
        totals.digest = totals.digest.wrapping_add(digest);
        totals.data_bytes += (path_bytes + self.store.nodes[place.key].data_bytes()) as u64;
        Ok(extra.map(|(_, _, first_child, child_count)| (first_child, child_count)))
    }
}

/// Follows the list of each session's ephemerals and counts them.
fn check_ephemerals(store: &mut Store) -> Result<()> {
    let sessions: Vec<_> = store.sessions.iter().map(|session| (session.id, session.first_ephemeral)).collect();
    let mut found_count = 0;
    for (id, first) in sessions {
        let (mut next, mut prev, mut count) = (first, None, 0);
        while let Some(key) = next {
            let extra = store.nodes.get(key).and_then(|node| node.extra).map(|extra| &store.extras[extra]);
            let own = extra.filter(|extra| extra.lifetime == Lifetime::Ephemeral(id) && extra.ephemeral_prev == prev);
            let own = own.ok_or(SnapshotError::Contradiction("an ephemeral znode is not its session's"))?;
            (prev, next) = (Some(key), own.ephemeral_next);
            count += 1;
        }
        found_count += count;
        if let Some(key) = store.sessions.key(id).filter(|_| count > 0) {
            store.sessions.change(key).ephemeral_count = count;
        }
    }
    match found_count == store.totals.ephemeral_count {
        true => Ok(()),
        false => Err(SnapshotError::Contradiction("an ephemeral znode has no session")),
    }
}
