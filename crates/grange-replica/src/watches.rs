//! Watches: which connection wants to hear of which path.
//!
//! A path with watchers has a slot; a connection knows the slots it stands in. A closed connection with many watches
//! is taken out a bounded number of slots at a time ([`Watches::sweep`]), so that nobody waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::BuildHasher;

use grange_proto::watch::{AddWatchMode, EventType, WatcherType};
use hashbrown::HashTable;
use slab::Slab;

use crate::report::WatchCounts;

/// A connection, by its place in the replica's table.
pub(crate) type ConnSlot = usize;

/// Slots that one [`Watches::sweep`] clears at most.
const SWEEP_SLOTS_MAX: usize = 1_000;

/// What a connection waits for on a path; several at once are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kinds(u8);

impl Kinds {
    /// Set by getData and exists, gone when it fires.
    pub(crate) const DATA: Kinds = Kinds(1);
    /// Set by getChildren, gone when it fires.
    pub(crate) const CHILD: Kinds = Kinds(2);
    /// Stays; hears of the znode and its children.
    pub(crate) const PERSISTENT: Kinds = Kinds(4);
    /// Stays; hears of the znode and all below it.
    pub(crate) const RECURSIVE: Kinds = Kinds(8);

    const HEARS_DATA: Kinds = Kinds(1 | 4 | 8);
    const HEARS_CHILDREN: Kinds = Kinds(2 | 4);
    const ALL: Kinds = Kinds(15);

    fn has(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    fn without(self, other: Kinds) -> Kinds {
        Kinds(self.0 & !other.0)
    }

    /// Returns the kinds that a checkWatches or removeWatches means.
    pub(crate) fn of_type(kind: WatcherType) -> Kinds {
        match kind {
            WatcherType::Children => Kinds::CHILD,
            WatcherType::Data => Kinds::DATA,
            WatcherType::Any => Kinds::ALL,
            WatcherType::Persistent => Kinds::PERSISTENT,
            WatcherType::PersistentRecursive => Kinds::RECURSIVE,
        }
    }

    /// Returns the kind that an addWatch asks for.
    pub(crate) fn of_mode(mode: AddWatchMode) -> Kinds {
        match mode {
            AddWatchMode::Persistent => Kinds::PERSISTENT,
            AddWatchMode::PersistentRecursive => Kinds::RECURSIVE,
        }
    }
}

type PathSlot = usize;

/// A path's slot under the hash of the path: the table grows without a look at the paths.
struct Indexed {
    hash: u64,
    slot: PathSlot,
}

struct Watched {
    path: Box<str>,
    watchers: BTreeMap<ConnSlot, Kinds>,
}

/// All watches of a member's connections.
pub(crate) struct Watches {
    by_path: HashTable<Indexed>,
    hasher: foldhash::fast::FixedState,
    watched: Slab<Watched>,
    by_conn: BTreeMap<ConnSlot, BTreeSet<PathSlot>>,
    /// Slots of closed connections, to be taken out.
    swept: VecDeque<(ConnSlot, BTreeSet<PathSlot>)>,
    /// How many recursive watches there are on paths of each length: a change of a deep znode looks only at those of
    /// its ancestors that are as long as a watched path.
    recursive: BTreeMap<usize, usize>,
    total: usize,
}

impl Watches {
    /// Starts without watches; `seed` makes the table's order unknown to clients.
    pub(crate) fn new(seed: u64) -> Watches {
        Watches {
            by_path: HashTable::new(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
            watched: Slab::new(),
            by_conn: BTreeMap::new(),
            swept: VecDeque::new(),
            recursive: BTreeMap::new(),
            total: 0,
        }
    }

    /// Arms a watch; one that is armed already stays one.
    pub(crate) fn arm(&mut self, conn: ConnSlot, path: &str, kind: Kinds) {
        let slot = self.find(path).unwrap_or_else(|| self.add(path));
        let kinds = self.watched[slot].watchers.entry(conn).or_insert_with(|| {
            self.total += 1;
            Kinds::default()
        });
        // Persistent and recursive exclude each other on a path: the later mode counts.
        if kind == Kinds::RECURSIVE && !kinds.has(Kinds::RECURSIVE) {
            *self.recursive.entry(path.len()).or_default() += 1;
            *kinds = kinds.without(Kinds::PERSISTENT);
        } else if kind == Kinds::PERSISTENT && kinds.has(Kinds::RECURSIVE) {
            count_down(&mut self.recursive, path.len());
            *kinds = kinds.without(Kinds::RECURSIVE);
        }
        kinds.0 |= kind.0;
        self.by_conn.entry(conn).or_default().insert(slot);
    }

    /// Returns true if the connection has a watch of one of these kinds on the path.
    pub(crate) fn has(&self, conn: ConnSlot, path: &str, kinds: Kinds) -> bool {
        self.find(path).and_then(|slot| self.watched[slot].watchers.get(&conn)).is_some_and(|own| own.has(kinds))
    }

    #[inline]
    fn find(&self, path: &str) -> Option<PathSlot> {
        let hash = self.hasher.hash_one(path);
        let is_it = |indexed: &Indexed| indexed.hash == hash && *self.watched[indexed.slot].path == *path;
        self.by_path.find(hash, is_it).map(|indexed| indexed.slot)
    }

    fn add(&mut self, path: &str) -> PathSlot {
        let slot = self.watched.insert(Watched { path: path.into(), watchers: BTreeMap::new() });
        let hash = self.hasher.hash_one(path);
        self.by_path.insert_unique(hash, Indexed { hash, slot }, |indexed| indexed.hash);
        slot
    }

    /// Removes the connection's watches of these kinds on the path; returns false if there was none.
    pub(crate) fn remove(&mut self, conn: ConnSlot, path: &str, kinds: Kinds) -> bool {
        let Some(slot) = self.find(path) else { return false };
        let removed = self.disarm(slot, conn, kinds);
        self.drop_if_unwatched(slot);
        removed
    }

    /// Takes out the watches of a connection that is gone, now or by and by; returns true if it is done now.
    ///
    /// Until [`Watches::sweep`] returns the connection, its place must not be used again and it still fires.
    pub(crate) fn disconnect(&mut self, conn: ConnSlot) -> bool {
        match self.by_conn.remove(&conn) {
            None => true,
            Some(slots) => {
                self.swept.push_back((conn, slots));
                false
            }
        }
    }

    /// Does a bounded part of what [`Watches::disconnect`] left to do; returns the connections it is done with.
    pub(crate) fn sweep(&mut self) -> Vec<ConnSlot> {
        let mut done = Vec::new();
        let mut budget = SWEEP_SLOTS_MAX;
        while let Some((conn, mut slots)) = self.swept.pop_front() {
            while let Some(slot) = slots.pop_first() {
                if self.watched.get(slot).is_some_and(|watched| watched.watchers.contains_key(&conn)) {
                    self.disarm(slot, conn, Kinds::ALL);
                    self.drop_if_unwatched(slot);
                }
                budget -= 1;
                if budget == 0 {
                    self.swept.push_front((conn, slots));
                    return done;
                }
            }
            done.push(conn);
        }
        done
    }

    /// Returns true if there is no watch at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Finds who hears that `event` happened to the znode at `path` itself, and removes what fires once.
    ///
    /// The connections come in ascending order, each once.
    pub(crate) fn fire_node(&mut self, path: &str, event: EventType, heard: &mut Vec<ConnSlot>) {
        heard.clear();
        let mut hears = Kinds::HEARS_DATA;
        if event == EventType::NodeDeleted {
            hears.0 |= Kinds::CHILD.0;
        }
        self.fire(path, hears, heard);
        if !self.recursive.is_empty() {
            for &length in self.recursive.range(1..path.len().max(1)).map(|(length, _)| length) {
                // The root is above everything; any other ancestor ends where a slash follows.
                if length == 1 || path.as_bytes()[length] == b'/' {
                    self.collect(&path[..length], Kinds::RECURSIVE, heard);
                }
            }
            heard.sort_unstable();
            heard.dedup();
        }
    }

    /// Finds who hears that the children of `path` changed, and removes what fires once.
    pub(crate) fn fire_children(&mut self, path: &str, heard: &mut Vec<ConnSlot>) {
        heard.clear();
        self.fire(path, Kinds::HEARS_CHILDREN, heard);
    }

    fn fire(&mut self, path: &str, hears: Kinds, heard: &mut Vec<ConnSlot>) {
        let Some(slot) = self.find(path) else { return };
        let once = Kinds(hears.0 & (Kinds::DATA.0 | Kinds::CHILD.0));
        let start = heard.len();
        let watchers = &self.watched[slot].watchers;
        heard.extend(watchers.iter().filter(|(_, kinds)| kinds.has(hears)).map(|(&conn, _)| conn));
        for &conn in &heard[start..] {
            self.disarm(slot, conn, once);
        }
        self.drop_if_unwatched(slot);
    }

    fn collect(&self, path: &str, kinds: Kinds, heard: &mut Vec<ConnSlot>) {
        let Some(slot) = self.find(path) else { return };
        let watchers = &self.watched[slot].watchers;
        heard.extend(watchers.iter().filter(|(_, own)| own.has(kinds)).map(|(&conn, _)| conn));
    }

    /// Takes kinds from a connection on a path; forgets the pair when none is left.
    fn disarm(&mut self, slot: PathSlot, conn: ConnSlot, kinds: Kinds) -> bool {
        let Watched { path, watchers } = &mut self.watched[slot];
        let Some(own) = watchers.get_mut(&conn) else { return false };
        let removed = own.has(kinds);
        if own.has(Kinds::RECURSIVE) && kinds.has(Kinds::RECURSIVE) {
            count_down(&mut self.recursive, path.len());
        }
        *own = own.without(kinds);
        if *own == Kinds::default() {
            watchers.remove(&conn);
            self.total -= 1;
            if let Some(slots) = self.by_conn.get_mut(&conn) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.by_conn.remove(&conn);
                }
            }
        }
        removed
    }

    fn drop_if_unwatched(&mut self, slot: PathSlot) {
        if self.watched[slot].watchers.is_empty() {
            let watched = self.watched.remove(slot);
            let hash = self.hasher.hash_one(&*watched.path);
            match self.by_path.find_entry(hash, |indexed| indexed.slot == slot) {
                Ok(entry) => drop(entry.remove()),
                Err(_) => unreachable!("every watched path is in the index"),
            }
        }
    }

    /// Counts connections, paths and pairs.
    pub(crate) fn counts(&self) -> WatchCounts {
        WatchCounts {
            connections: self.by_conn.len() as u64,
            paths: self.by_path.len() as u64,
            total: self.total as u64,
        }
    }

    /// Lists the watched paths of each connection, sorted.
    pub(crate) fn by_connection(&self) -> impl Iterator<Item = (ConnSlot, Vec<String>)> {
        self.by_conn.iter().map(|(&conn, slots)| {
            let mut paths: Vec<String> = slots.iter().map(|&slot| self.watched[slot].path.to_string()).collect();
            paths.sort_unstable();
            (conn, paths)
        })
    }
}

/// Takes one from the count of recursive watches on paths of this length.
fn count_down(recursive: &mut BTreeMap<usize, usize>, length: usize) {
    match recursive.get_mut(&length) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(recursive.remove(&length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(watches: &mut Watches, path: &str, event: EventType) -> Vec<ConnSlot> {
        let mut heard = Vec::new();
        watches.fire_node(path, event, &mut heard);
        heard
    }

    fn children(watches: &mut Watches, path: &str) -> Vec<ConnSlot> {
        let mut heard = Vec::new();
        watches.fire_children(path, &mut heard);
        heard
    }

    #[test]
    fn a_standard_watch_fires_once() {
        let mut watches = Watches::new(1);
        watches.arm(3, "/a", Kinds::DATA);
        watches.arm(3, "/a", Kinds::DATA);
        assert_eq!(watches.counts(), WatchCounts { connections: 1, paths: 1, total: 1 });
        assert_eq!(node(&mut watches, "/a", EventType::NodeDataChanged), [3]);
        assert_eq!(node(&mut watches, "/a", EventType::NodeDataChanged), []);
        assert!(watches.is_empty());
        assert_eq!(watches.counts(), WatchCounts::default());
    }

    #[test]
    fn a_deletion_is_heard_once_by_who_waits_for_data_and_children() {
        let mut watches = Watches::new(1);
        watches.arm(1, "/a", Kinds::DATA);
        watches.arm(1, "/a", Kinds::CHILD);
        watches.arm(2, "/a", Kinds::CHILD);
        assert_eq!(node(&mut watches, "/a", EventType::NodeDeleted), [1, 2]);
        assert!(watches.is_empty());
    }

    #[test]
    fn persistent_watches_stay_and_recursive_ones_hear_of_descendants() {
        let mut watches = Watches::new(1);
        watches.arm(1, "/a", Kinds::PERSISTENT);
        watches.arm(2, "/", Kinds::RECURSIVE);
        watches.arm(2, "/a", Kinds::RECURSIVE);
        for _ in 0..2 {
            assert_eq!(node(&mut watches, "/a/b/c", EventType::NodeCreated), [2]);
            assert_eq!(node(&mut watches, "/a", EventType::NodeDataChanged), [1, 2]);
            assert_eq!(children(&mut watches, "/a"), [1]);
        }
        assert!(watches.remove(2, "/", Kinds::RECURSIVE));
        assert!(!watches.remove(2, "/", Kinds::RECURSIVE));
        assert_eq!(node(&mut watches, "/x", EventType::NodeCreated), []);
        assert!(watches.has(2, "/a", Kinds::ALL));
    }

    #[test]
    fn a_recursive_watch_hears_of_whole_names_only() {
        let mut watches = Watches::new(1);
        for (conn, path) in ["/", "/a", "/ab", "/a/b", "", "x"].into_iter().enumerate() {
            watches.arm(conn, path, Kinds::RECURSIVE);
        }
        assert_eq!(node(&mut watches, "/a/b/c", EventType::NodeCreated), [0, 1, 3]);
        assert_eq!(node(&mut watches, "/abc", EventType::NodeCreated), [0]);
        assert_eq!(node(&mut watches, "/ab/\u{e9}", EventType::NodeCreated), [0, 2]);
        watches.arm(1, "/a", Kinds::PERSISTENT);
        assert!(watches.remove(3, "/a/b", Kinds::ALL));
        assert_eq!(node(&mut watches, "/a/b/c", EventType::NodeCreated), [0]);
        assert_eq!(node(&mut watches, "/a", EventType::NodeDataChanged), [0, 1]);
    }

    #[test]
    fn a_child_watch_does_not_hear_of_data() {
        let mut watches = Watches::new(1);
        watches.arm(1, "/a", Kinds::CHILD);
        assert_eq!(node(&mut watches, "/a", EventType::NodeDataChanged), []);
        assert_eq!(children(&mut watches, "/a"), [1]);
    }

    #[test]
    fn a_closed_connection_is_swept_in_bounded_steps() {
        let mut watches = Watches::new(1);
        for i in 0..SWEEP_SLOTS_MAX + 1 {
            watches.arm(7, &format!("/{i}"), Kinds::DATA);
        }
        watches.arm(8, "/0", Kinds::RECURSIVE);
        assert!(!watches.disconnect(7));
        assert_eq!(watches.sweep(), []);
        assert_eq!(watches.sweep(), [7]);
        assert_eq!(watches.counts(), WatchCounts { connections: 1, paths: 1, total: 1 });
        assert!(watches.disconnect(9), "one without watches is done at once");
    }
}
