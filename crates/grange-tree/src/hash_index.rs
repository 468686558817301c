//! Finds the slot of a value by the hash of its name.
//!
//! The names themselves stay in the slab; an entry is eight bytes, the slot and 32 bits of the hash, so that growing
//! touches no slot. Entries are spread over shards that grow one at a time: a tree of 10^7 znodes never stops for a
//! copy of its whole table. Nothing ever walks the entries, so their order cannot be seen from outside.

use hashbrown::HashTable;

use crate::slab::Key;

#[derive(Debug)]
struct Entry<T> {
    hash: u32,
    key: Key<T>,
}

enum Done<T> {
    Inserted(u32, Key<T>),
    Removed(u32, Key<T>),
}

/// The index of one slab.
pub(crate) struct HashIndex<T> {
    shards: Vec<HashTable<Entry<T>>>,
    journal: Option<Vec<Done<T>>>,
}

/// Keeps the half of a hash that an entry stores.
#[inline]
fn shorten(hash: u64) -> u32 {
    // Truncation is the point: the upper half of a 64-bit hash.
    (hash >> 32) as u32
}

/// Spreads the stored half: the table takes its bucket from the low bits and its tag from the top seven, the shard is
/// taken from the lowest byte.
#[inline]
fn widen(hash: u32) -> u64 {
    (u64::from(hash) << 32) | u64::from(hash >> 8)
}

impl<T> HashIndex<T> {
    /// Makes an empty index of `shard_count` tables, 1 to 256 of them and a power of two.
    pub(crate) fn new(shard_count: usize) -> HashIndex<T> {
        assert!(shard_count.is_power_of_two() && shard_count <= 256, "a shard is chosen by one byte of the hash");
        HashIndex { shards: (0..shard_count).map(|_| HashTable::new()).collect(), journal: None }
    }

    /// Makes room for `count` entries in all.
    pub(crate) fn reserve(&mut self, count: usize) {
        // A shard's share varies by a few times its square root.
        let share = count / self.shards.len();
        for shard in &mut self.shards {
            shard.reserve(share + share / 32, |entry| widen(entry.hash));
        }
    }

    #[inline]
    fn shard(&self, hash: u32) -> usize {
        hash as usize & (self.shards.len() - 1)
    }

    /// Returns the slot whose name has this hash and for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(Key<T>) -> bool) -> Option<Key<T>> {
        let hash = shorten(hash);
        let shard = &self.shards[self.shard(hash)];
        shard.find(widen(hash), |entry| entry.hash == hash && is_it(entry.key)).map(|entry| entry.key)
    }

    /// Adds a slot whose name is not in the index.
    pub(crate) fn insert(&mut self, hash: u64, key: Key<T>) {
        let hash = shorten(hash);
        self.insert_short(hash, key);
        if let Some(journal) = &mut self.journal {
            journal.push(Done::Inserted(hash, key));
        }
    }

    fn insert_short(&mut self, hash: u32, key: Key<T>) {
        let shard = self.shard(hash);
        self.shards[shard].insert_unique(widen(hash), Entry { hash, key }, |entry| widen(entry.hash));
    }

    /// Removes a slot.
    ///
    /// # Panics
    /// If it is not in the index under this hash.
    pub(crate) fn remove(&mut self, hash: u64, key: Key<T>) {
        let hash = shorten(hash);
        self.remove_short(hash, key);
        if let Some(journal) = &mut self.journal {
            journal.push(Done::Removed(hash, key));
        }
    }

    fn remove_short(&mut self, hash: u32, key: Key<T>) {
        let shard = self.shard(hash);
        match self.shards[shard].find_entry(widen(hash), |entry| entry.key == key) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => panic!("slot {key:?} is not in its index"),
        }
    }

    /// Starts to remember.
    pub(crate) fn begin(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// Keeps what was done since [`HashIndex::begin`].
    pub(crate) fn commit(&mut self) {
        self.journal = None;
    }

    /// Undoes what was done since [`HashIndex::begin`].
    pub(crate) fn rollback(&mut self) {
        for done in self.journal.take().into_iter().flatten().rev() {
            match done {
                Done::Inserted(hash, key) => self.remove_short(hash, key),
                Done::Removed(hash, key) => self.insert_short(hash, key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key<u8> {
        Key::from_index(n).unwrap()
    }

    #[test]
    fn equal_hashes_are_told_apart_by_the_caller() {
        let mut index = HashIndex::new(256);
        for n in 0..1000 {
            index.insert(42 << 32, key(n));
        }
        assert_eq!(index.find(42 << 32, |k| k == key(700)), Some(key(700)));
        assert_eq!(index.find(43 << 32, |_| true), None);
    }

    #[test]
    fn a_rollback_undoes_in_reverse() {
        let mut index = HashIndex::new(1);
        index.insert(7, key(1));
        index.begin();
        index.remove(7, key(1));
        index.insert(7, key(2));
        index.rollback();
        assert_eq!(index.find(7, |_| true), Some(key(1)));
    }
}
