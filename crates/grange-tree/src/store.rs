//! The znodes and everything that must change together with them.
//!
//! Sessions and their ephemerals are in [`crate::ephemeral`]. A method of [`Store`] is one indivisible change: it keeps the links, the index of names, the counters, the digest
//! and the lists of ephemerals and idle znodes in step. It checks nothing: that is the business of [`crate::write`].

use std::borrow::Cow;

use grange_proto::{Lifetime, Stat, Zxid};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::acl::AclRef;
use crate::acl_table::AclTable;
use crate::hash_index::HashIndex;
use crate::idle::IdleNodes;
use crate::node::{Extra, Node, Scratch};
use crate::session::Sessions;
use crate::slab::{Key, Slab};

const NAME_SHARDS: usize = 256;

/// A znode that was found by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: Key<Node>,
    /// The names from the root down, hashed one into the other.
    pub(crate) path_hash: u64,
}

impl Place {
    /// Returns the hash of a child's path.
    #[inline]
    pub(crate) fn child_hash(self, name: &[u8]) -> u64 {
        xxh3_64_with_seed(name, self.path_hash)
    }
}

/// The hash of the root's path.
pub(crate) const ROOT_HASH: u64 = 0;

/// Sums over all znodes and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Wraps around: the sum of the shares of all znodes and sessions.
    pub(crate) digest: u64,
    /// Bytes of paths and data.
    pub(crate) data_bytes: u64,
    pub(crate) ephemeral_count: usize,
    /// The znodes below /zookeeper/quota that hold limits.
    pub(crate) quota_count: usize,
}

/// How a znode is born.
pub(crate) struct Birth<'a> {
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) acl: Option<AclRef>,
    pub(crate) lifetime: Lifetime,
    pub(crate) zxid: Zxid,
    pub(crate) time_ms: i64,
}

/// The state but for the number of the last transaction.
pub(crate) struct Store {
    pub(crate) nodes: Slab<Node>,
    pub(crate) extras: Slab<Extra>,
    pub(crate) names: HashIndex<Node>,
    pub(crate) acls: AclTable,
    pub(crate) sessions: Sessions,
    pub(crate) idle: IdleNodes,
    pub(crate) totals: Totals,
    pub(crate) root: Key<Node>,
    /// Where names are found in memory, and nothing else, depends on it.
    name_key: u64,
    scratch: Scratch,
    totals_before: Option<Totals>,
    /// What the children of the parent that was changed last make of the digest: often it is changed again.
    family_digest: Option<(Key<Node>, u64)>,
}

impl Store {
    /// Makes a store with nothing but the root.
    pub(crate) fn new(name_key: u64) -> Store {
        let mut scratch = Scratch::new();
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new(b"", Some(b""), Zxid::ZERO, 0, &mut scratch));
        let mut store = Store::assemble(nodes, Slab::new(), AclTable::new(), Sessions::new(), root, name_key);
        store.totals.digest = store.own_digest(store.root_place());
        store.totals.data_bytes = 1;
        store
    }

    /// Puts parts together whose names are not indexed and whose totals are not known yet.
    pub(crate) fn assemble(
        nodes: Slab<Node>,
        extras: Slab<Extra>,
        acls: AclTable,
        sessions: Sessions,
        root: Key<Node>,
        name_key: u64,
    ) -> Store {
        Store {
            nodes,
            extras,
            names: HashIndex::new(NAME_SHARDS),
            acls,
            sessions,
            idle: IdleNodes::new(),
            totals: Totals::default(),
            root,
            name_key,
            scratch: Scratch::new(),
            totals_before: None,
            family_digest: None,
        }
    }

    pub(crate) fn root_place(&self) -> Place {
        Place { key: self.root, path_hash: ROOT_HASH }
    }

    /// Finds a znode. The empty path is the root too, as it is in Apache's tree.
    #[inline]
    pub(crate) fn find(&self, path: &str) -> Option<Place> {
        let mut place = self.root_place();
        match path.strip_prefix('/') {
            Some("") => Some(place),
            Some(names) => {
                for name in names.split('/') {
                    place = self.child(place, name.as_bytes())?;
                }
                Some(place)
            }
            None => path.is_empty().then_some(place),
        }
    }

    /// Finds a child.
    #[inline]
    pub(crate) fn child(&self, parent: Place, name: &[u8]) -> Option<Place> {
        let key = self.names.find(self.name_hash(parent.key, name), |key| {
            let node = &self.nodes[key];
            node.parent == Some(parent.key) && node.name() == name
        })?;
        Some(Place { key, path_hash: parent.child_hash(name) })
    }

    /// Returns the hash by which a child is found.
    ///
    /// It depends on a key that clients do not know, and so is not the hash that goes into the digest: whoever can
    /// compute it can make names that all have the same one, and every look-up would have to walk through them.
    #[inline]
    pub(crate) fn name_hash(&self, parent: Key<Node>, name: &[u8]) -> u64 {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        xxh3_64_with_seed(name, self.name_key ^ u64::from(parent.number()).wrapping_mul(SPREAD))
    }

    /// Makes a znode findable under its parent.
    pub(crate) fn index_name(&mut self, parent: Key<Node>, key: Key<Node>) {
        let hash = self.name_hash(parent, self.nodes[key].name());
        self.names.insert(hash, key);
    }

    #[inline]
    pub(crate) fn node(&self, key: Key<Node>) -> &Node {
        &self.nodes[key]
    }

    #[inline]
    pub(crate) fn extra(&self, key: Key<Node>) -> Option<&Extra> {
        self.nodes[key].extra.map(|extra| &self.extras[extra])
    }

    /// Returns what a znode is taken to have beside its node.
    #[inline]
    pub(crate) fn extra_or_implied(&self, key: Key<Node>) -> Cow<'_, Extra> {
        match self.extra(key) {
            Some(extra) => Cow::Borrowed(extra),
            None => Cow::Owned(Extra::implied(self.nodes[key].czxid)),
        }
    }

    #[inline]
    pub(crate) fn acl(&self, key: Key<Node>) -> Option<&AclRef> {
        self.acl_of(self.extra(key)?)
    }

    #[inline]
    pub(crate) fn acl_of(&self, extra: &Extra) -> Option<&AclRef> {
        extra.acl.map(|acl| self.acls.get(acl))
    }

    pub(crate) fn stat(&self, key: Key<Node>) -> Stat {
        self.nodes[key].stat(self.extra(key))
    }

    /// Walks the children, the one created last first.
    pub(crate) fn children(&self, parent: Key<Node>) -> Children<'_> {
        let extra = self.extra(parent);
        Children {
            store: self,
            next: extra.and_then(|extra| extra.first_child),
            left: extra.map_or(0, |extra| extra.child_count as usize),
        }
    }

    /// Walks everything below a znode, parents before their children, without recursion.
    pub(crate) fn descendants(&self, top: Key<Node>) -> impl Iterator<Item = Key<Node>> {
        let first_child = |key| self.extra(key).and_then(|extra| extra.first_child);
        let mut next = first_child(top);
        std::iter::from_fn(move || {
            let key = next?;
            next = first_child(key);
            let mut climb = Some(key);
            while let (None, Some(key)) = (next, climb) {
                next = self.nodes[key].next;
                climb = self.nodes[key].parent.filter(|parent| *parent != top);
            }
            Some(key)
        })
    }

    /// Returns the path of a znode, and the place of each znode on it from the root down to itself.
    pub(crate) fn path(&self, key: Key<Node>) -> (String, Vec<Place>) {
        let mut keys: Vec<_> = std::iter::successors(Some(key), |key| self.nodes[*key].parent).collect();
        keys.reverse();
        let mut path = String::new();
        let mut places = vec![self.root_place()];
        for key in keys.into_iter().skip(1) {
            let node = &self.nodes[key];
            path.push('/');
            path.push_str(node.name_text());
            let path_hash = places[places.len() - 1].child_hash(node.name());
            places.push(Place { key, path_hash });
        }
        if path.is_empty() {
            path.push('/');
        }
        (path, places)
    }

    // Shares of the digest.

    fn own_digest(&self, place: Place) -> u64 {
        let extra = self.extra(place.key);
        let acl_hash = extra.and_then(|extra| extra.acl).map_or(0, |acl| self.acls.get(acl).hash());
        self.nodes[place.key].digest(place.path_hash, extra, acl_hash)
    }

    fn children_digest(&self, place: Place) -> u64 {
        let czxid = self.nodes[place.key].czxid;
        self.extra(place.key).map_or(0, |extra| extra.children_digest(place.path_hash, czxid))
    }

    /// Returns a znode's whole share.
    pub(crate) fn digest(&self, place: Place) -> u64 {
        self.own_digest(place).wrapping_add(self.children_digest(place))
    }

    // Changes.

    /// Returns the record of a znode, a new one if it has none.
    fn own_extra(&mut self, key: Key<Node>) -> Key<Extra> {
        match self.nodes[key].extra {
            Some(extra) => extra,
            None => {
                let extra = self.extras.insert(Extra::implied(self.nodes[key].czxid));
                self.nodes.change(key).extra = Some(extra);
                extra
            }
        }
    }

    /// As [`Store::own_extra`], to change it.
    pub(crate) fn change_extra(&mut self, key: Key<Node>) -> &mut Extra {
        let extra = self.own_extra(key);
        self.extras.change(extra)
    }

    /// Changes what a parent keeps of its children.
    fn change_family(&mut self, parent: Place, change: impl FnOnce(&mut Extra)) {
        let extra = self.own_extra(parent.key);
        let node = &self.nodes[parent.key];
        let extra = self.extras.change(extra);
        let before = match self.family_digest {
            Some((key, digest)) if key == parent.key => digest,
            _ => extra.children_digest(parent.path_hash, node.czxid),
        };
        self.idle.remove(parent.key, node, Some(extra));
        change(extra);
        self.idle.add(parent.key, node, Some(extra));
        let after = extra.children_digest(parent.path_hash, node.czxid);
        self.family_digest = Some((parent.key, after));
        self.totals.digest = self.totals.digest.wrapping_sub(before).wrapping_add(after);
    }

    /// Changes the records of everything above a znode.
    fn change_ancestors(&mut self, below: Key<Node>, change: impl Fn(&mut Extra)) {
        let mut next = self.nodes[below].parent;
        while let Some(key) = next {
            change(self.change_extra(key));
            next = self.nodes[key].parent;
        }
    }

    /// Sets what a snapshot leaves out.
    pub(crate) fn restore_descendant_count(&mut self, key: Key<Node>, count: u32) {
        if count > 0 {
            self.change_extra(key).descendant_count = count;
        }
    }

    /// Adds a child to `parent`, under a name it has no child of. `path_bytes` is the length of the whole path.
    pub(crate) fn insert(&mut self, parent: Place, name: &str, path_bytes: usize, birth: Birth<'_>) -> Place {
        let Birth { data, acl, lifetime, zxid, time_ms } = birth;
        let next = self.extra(parent.key).and_then(|extra| extra.first_child);
        let mut node = Node::new(name.as_bytes(), data, zxid, time_ms, &mut self.scratch);
        node.parent = Some(parent.key);
        node.next = next;
        if acl.is_some() || lifetime != Lifetime::Persistent {
            let acl = acl.map(|acl| self.acls.acquire(acl));
            node.extra = Some(self.extras.insert(Extra { acl, lifetime, ..Extra::implied(zxid) }));
        }
        let key = self.nodes.insert(node);
        if let Some(next) = next {
            self.nodes.change(next).prev = Some(key);
        }
        let place = Place { key, path_hash: parent.child_hash(name.as_bytes()) };
        self.index_name(parent.key, key);
        self.change_family(parent, |extra| {
            extra.first_child = Some(key);
            extra.child_count += 1;
            extra.cversion = extra.cversion.wrapping_add(1);
            extra.pzxid = zxid;
            extra.descendant_count += 1;
        });
        self.change_ancestors(parent.key, |extra| extra.descendant_count += 1);
        if let Lifetime::Ephemeral(session) = lifetime {
            self.link_ephemeral(key, session);
        }
        self.note_idle(key);
        self.totals.digest = self.totals.digest.wrapping_add(self.own_digest(place));
        self.totals.data_bytes += (path_bytes + data.map_or(0, <[u8]>::len)) as u64;
        place
    }

    /// Removes a child without children of its own.
    pub(crate) fn remove(&mut self, parent: Place, place: Place, path_bytes: usize, zxid: Zxid) {
        let key = place.key;
        self.family_digest = self.family_digest.filter(|(parent, _)| *parent != key);
        self.totals.digest = self.totals.digest.wrapping_sub(self.digest(place));
        self.totals.data_bytes -= (path_bytes + self.nodes[key].data_bytes()) as u64;
        self.note_not_idle(key);
        if let Some(Lifetime::Ephemeral(session)) = self.extra(key).map(|extra| extra.lifetime) {
            self.unlink_ephemeral(key, session);
        }
        self.names.remove(self.name_hash(parent.key, self.nodes[key].name()), key);
        let node = self.nodes.remove(key);
        if let Some(extra) = node.extra.map(|extra| self.extras.remove(extra))
            && let Some(acl) = extra.acl
        {
            self.acls.release(acl);
        }
        if let Some(next) = node.next {
            self.nodes.change(next).prev = node.prev;
        }
        if let Some(prev) = node.prev {
            self.nodes.change(prev).next = node.next;
        }
        self.change_family(parent, |extra| {
            if node.prev.is_none() {
                extra.first_child = node.next;
            }
            extra.child_count -= 1;
            extra.pzxid = zxid;
            extra.descendant_count -= 1;
        });
        self.change_ancestors(parent.key, |extra| extra.descendant_count -= 1);
    }

    /// Replaces the data and makes it version `version`.
    pub(crate) fn set_data(&mut self, place: Place, data: Option<&[u8]>, version: i32, zxid: Zxid, time_ms: i64) {
        self.change_own(place, |node, scratch| {
            node.set_data(data, scratch);
            node.version = version;
            node.mzxid = zxid;
            node.mtime_ms = time_ms;
        });
    }

    /// Replaces the data and nothing else: the counts of a quota.
    pub(crate) fn set_data_silently(&mut self, place: Place, data: &[u8]) {
        self.change_own(place, |node, scratch| node.set_data(Some(data), scratch));
    }

    fn change_own(&mut self, place: Place, change: impl FnOnce(&mut Node, &mut Scratch)) {
        let before = self.own_digest(place);
        self.note_not_idle(place.key);
        let node = self.nodes.change(place.key);
        let bytes_before = node.data_bytes() as u64;
        change(node, &mut self.scratch);
        let bytes_after = node.data_bytes() as u64;
        self.note_idle(place.key);
        let after = self.own_digest(place);
        let totals = &mut self.totals;
        totals.digest = totals.digest.wrapping_sub(before).wrapping_add(after);
        totals.data_bytes = totals.data_bytes - bytes_before + bytes_after;
    }

    /// Replaces the ACL and makes it version `aversion`.
    pub(crate) fn set_acl(&mut self, place: Place, acl: Option<AclRef>, aversion: i32) {
        let before = self.own_digest(place);
        let acl = acl.map(|acl| self.acls.acquire(acl));
        let extra = self.change_extra(place.key);
        let former = std::mem::replace(&mut extra.acl, acl);
        extra.aversion = aversion;
        if let Some(former) = former {
            self.acls.release(former);
        }
        let after = self.own_digest(place);
        self.totals.digest = self.totals.digest.wrapping_sub(before).wrapping_add(after);
    }

    /// Makes it so that the children of these znodes were there from the beginning: a new server's counters are 0.
    pub(crate) fn forget_creations<const N: usize>(&mut self, places: [Place; N]) {
        for place in places {
            self.change_family(place, |extra| extra.cversion = 0);
        }
    }

    /// Takes a znode off the list of idle ones before it changes.
    #[inline]
    fn note_not_idle(&mut self, key: Key<Node>) {
        let node = &self.nodes[key];
        self.idle.remove(key, node, node.extra.map(|extra| &self.extras[extra]));
    }

    /// Puts a znode on the list of idle ones after it has changed, if it is one.
    #[inline]
    pub(crate) fn note_idle(&mut self, key: Key<Node>) {
        let node = &self.nodes[key];
        self.idle.add(key, node, node.extra.map(|extra| &self.extras[extra]));
    }

    // A multi.

    /// Starts to remember, so that [`Store::rollback`] can undo what follows.
    pub(crate) fn begin(&mut self) {
        self.totals_before = Some(self.totals);
        self.nodes.begin();
        self.extras.begin();
        self.names.begin();
        self.acls.begin();
        self.sessions.begin();
        self.idle.begin();
    }

    /// Keeps what was done since [`Store::begin`].
    pub(crate) fn commit(&mut self) {
        self.totals_before = None;
        self.nodes.commit();
        self.extras.commit();
        self.names.commit();
        self.acls.commit();
        self.sessions.commit();
        self.idle.commit();
    }

    /// Undoes what was done since [`Store::begin`].
    pub(crate) fn rollback(&mut self) {
        self.totals = self.totals_before.take().expect("a rollback ends what begin started");
        self.family_digest = None;
        self.nodes.rollback();
        self.extras.rollback();
        self.names.rollback();
        self.acls.rollback();
        self.sessions.rollback();
        self.idle.rollback();
    }
}

/// The children of a znode.
pub(crate) struct Children<'a> {
    store: &'a Store,
    next: Option<Key<Node>>,
    left: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = (Key<Node>, &'a Node);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.next?;
        let node = self.store.node(key);
        self.next = node.next;
        self.left -= 1;
        Some((key, node))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Children<'_> {}
