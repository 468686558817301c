//! Finds the slot of a value by the hash of its name.
//!
//! The names themselves stay in the slab; an entry is eight bytes, the slot and 32 bits of the hash, so that neither
//! growing nor passing over an entry touches a slot. Entries are spread over shards that grow one at a time: a tree of
//! 10^7 znodes never stops for a copy of its whole table. Nothing ever walks the entries, so their order cannot be
//! seen from outside.
//!
//! Probing is linear and there is nothing but entries: a look-up costs one cache miss, where a table with control
//! bytes beside its entries costs two that wait for each other (getData at random in 10^6 znodes: a quarter more).

use crate::slab::Key;

/// Entries of the smallest shard that has any.
const SHARD_ENTRIES_MIN: usize = 8;

struct Entry<T> {
    hash: u32,
    /// `None` in an entry that is not in use.
    key: Option<Key<T>>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Entry<T> {}

const _: () = assert!(size_of::<Entry<u8>>() == 8, "eight entries share a cache line");

/// A table with linear probing: an entry stands in its home or in the first free place behind it.
struct Shard<T> {
    /// None, or a power of two of them, of which a quarter is free at least.
    entries: Vec<Entry<T>>,
    used_count: usize,
}

impl<T> Shard<T> {
    fn new() -> Shard<T> {
        Shard { entries: Vec::new(), used_count: 0 }
    }

    /// Returns the first place for a hash. Its lowest byte has chosen the shard.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        (hash >> 8) as usize & self.entries.len().wrapping_sub(1)
    }

    #[inline]
    fn behind(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }

    /// Returns how far `place` is behind `home`.
    fn distance(&self, home: usize, place: usize) -> usize {
        place.wrapping_sub(home) & (self.entries.len() - 1)
    }

    #[inline]
    fn find(&self, hash: u32, mut is_it: impl FnMut(Key<T>) -> bool) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut place = self.home(hash);
        loop {
            let entry = self.entries[place];
            if entry.hash == hash && is_it(entry.key?) {
                return Some(place);
            }
            entry.key?;
            place = self.behind(place);
        }
    }

    fn insert(&mut self, entry: Entry<T>) {
        self.reserve(self.used_count + 1);
        let mut place = self.home(entry.hash);
        while self.entries[place].key.is_some() {
            place = self.behind(place);
        }
        self.entries[place] = entry;
        self.used_count += 1;
    }

    /// Removes the entry at `place` and moves those up that had to make way for it.
    fn remove(&mut self, mut place: usize) {
        let mut next = self.behind(place);
        while self.entries[next].key.is_some() {
            let home = self.home(self.entries[next].hash);
            if self.distance(home, next) >= self.distance(place, next) {
                self.entries[place] = self.entries[next];
                place = next;
            }
            next = self.behind(next);
        }
        self.entries[place].key = None;
        self.used_count -= 1;
    }

    /// Makes room for `count` entries in all.
    fn reserve(&mut self, count: usize) {
        if count * 4 <= self.entries.len() * 3 {
            return;
        }
        let entry_count = (count * 4).div_ceil(3).next_power_of_two().max(SHARD_ENTRIES_MIN);
        let unused = Entry { hash: 0, key: None };
        let former = std::mem::replace(&mut self.entries, vec![unused; entry_count]);
        self.used_count = 0;
        former.into_iter().filter(|entry| entry.key.is_some()).for_each(|entry| self.insert(entry));
    }
}

enum Done<T> {
    Inserted(u32, Key<T>),
    Removed(u32, Key<T>),
}

/// The index of one slab.
pub(crate) struct HashIndex<T> {
    shards: Vec<Shard<T>>,
    journal: Option<Vec<Done<T>>>,
}

/// Keeps the half of a hash that an entry stores.
#[inline]
fn shorten(hash: u64) -> u32 {
    // Truncation is the point: the upper half of a 64-bit hash.
    (hash >> 32) as u32
}

impl<T> HashIndex<T> {
    /// Makes an empty index of `shard_count` tables, 1 to 256 of them and a power of two.
    pub(crate) fn new(shard_count: usize) -> HashIndex<T> {
        assert!(shard_count.is_power_of_two() && shard_count <= 256, "a shard is chosen by one byte of the hash");
        HashIndex { shards: (0..shard_count).map(|_| Shard::new()).collect(), journal: None }
    }

    /// Makes room for `count` entries in all, if they spread evenly.
    pub(crate) fn reserve(&mut self, count: usize) {
        let share = count / self.shards.len();
        self.shards.iter_mut().for_each(|shard| shard.reserve(share));
    }

    #[inline]
    fn shard(&self, hash: u32) -> usize {
        hash as usize & (self.shards.len() - 1)
    }

    /// Returns the slot whose name has this hash and for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(Key<T>) -> bool) -> Option<Key<T>> {
        let hash = shorten(hash);
        let shard = &self.shards[self.shard(hash)];
        shard.entries[shard.find(hash, is_it)?].key
    }

    /// Reads the place where a look-up of this hash begins, so that it is in the processor's caches afterwards.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) {
        let hash = shorten(hash);
        let shard = &self.shards[self.shard(hash)];
        if let Some(entry) = shard.entries.get(shard.home(hash)) {
            std::hint::black_box(entry.hash);
        }
    }

    /// Returns the slot that a look-up of this hash asks about first, without asking.
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Option<Key<T>> {
        self.find(hash, |_| true)
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
        self.shards[shard].insert(Entry { hash, key: Some(key) });
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
        let shard = &mut self.shards[shard];
        let place = shard.find(hash, |other| other == key).expect("a slot is in its index from insert to remove");
        shard.remove(place);
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

    #[test]
    fn removing_keeps_what_stands_behind_within_reach() {
        // Homes 0 to 7 of a shard of 64, many of them equal: runs that grow together, and a wrap at the end.
        let hash_of = |n: usize| ((((n * n * 31) % 8 + 60) as u64) << 40) | ((n as u64) << 32 & 0xff << 32);
        let mut index = HashIndex::new(1);
        let mut present = std::collections::BTreeSet::new();
        for step in 0..5000 {
            let n = (step * 7919) % 40;
            if present.remove(&n) {
                index.remove(hash_of(n), key(n));
            } else {
                present.insert(n);
                index.insert(hash_of(n), key(n));
            }
            for n in 0..40 {
                let found = index.find(hash_of(n), |k| k == key(n));
                assert_eq!(found, present.contains(&n).then(|| key(n)), "{n} after step {step}");
            }
        }
    }
}
