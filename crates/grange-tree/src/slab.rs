//! Numbered slots that are cheap to freeze: the memory of the state machine.
//!
//! Slots live in chunks, chunks in groups, both behind reference counts. [`Slab::freeze`] copies one pointer per group
//! (16,128 slots), so it takes microseconds; a chunk is copied when it is first written while a frozen view shares it.
//!
//! Between [`Slab::begin`] and [`Slab::commit`] or [`Slab::rollback`] every slot's former content is remembered, so
//! that a multi which fails leaves no trace, not even in the order of free slots.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::num::NonZeroU32;

use triomphe::Arc;

/// With its reference count a chunk of znodes is 4,096 bytes, which allocators serve without waste.
const CHUNK_SLOTS: usize = 63;
const GROUP_CHUNKS: usize = 256;
const GROUP_SLOTS: usize = CHUNK_SLOTS * GROUP_CHUNKS;

/// The number of a slot that holds a `T`.
pub(crate) struct Key<T> {
    /// One more than the index, so that `Option<Key>` takes four bytes.
    number: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Names the slot at `index`, `None` if it is out of range.
    pub(crate) fn from_index(index: usize) -> Option<Key<T>> {
        let number = u32::try_from(index).ok()?.checked_add(1)?;
        Some(Key { number: NonZeroU32::new(number)?, of: PhantomData })
    }

    /// Reads a number that [`Key::number`] gave; 0 names no slot.
    pub(crate) fn from_number(number: u32) -> Option<Key<T>> {
        Some(Key { number: NonZeroU32::new(number)?, of: PhantomData })
    }

    /// Returns the number to store; never 0.
    pub(crate) fn number(self) -> u32 {
        self.number.get()
    }

    #[inline]
    pub(crate) fn index(self) -> usize {
        // A u32 fits the usize of every platform that has the memory for a tree.
        self.number.get() as usize - 1
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<T> Eq for Key<T> {}
impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number.cmp(&other.number)
    }
}
impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.index())
    }
}

/// What a slot holds.
#[derive(Debug, Clone)]
pub(crate) enum Slot<T> {
    /// Nothing; the free slot to be used after this one.
    Free(Option<Key<T>>),
    /// A value.
    Full(T),
}

/// Aligned so that a znode lies in one cache line and not across two.
#[derive(Clone)]
#[repr(align(64))]
struct Chunk<T>([Slot<T>; CHUNK_SLOTS]);

type Group<T> = [Option<Arc<Chunk<T>>>; GROUP_CHUNKS];

fn empty_chunk<T>() -> Arc<Chunk<T>> {
    Arc::new(Chunk(std::array::from_fn(|_| Slot::Free(None))))
}

/// Where a slab's slots end and its free ones start: all there is besides the slots.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Extent<T> {
    /// Slots that were ever used.
    pub(crate) slot_count: usize,
    /// Slots that hold a value.
    pub(crate) full_count: usize,
    /// The free slot to be used next.
    pub(crate) free: Option<Key<T>>,
}

impl<T> Clone for Extent<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Extent<T> {}

struct Journal<T> {
    extent: Extent<T>,
    /// What slots held that were in use at the start and have changed since, each once.
    before: BTreeMap<Key<T>, Slot<T>>,
    /// The one remembered last, which is likely to be asked for again: a parent of many new znodes.
    last: Option<Key<T>>,
}

/// The slots.
pub(crate) struct Slab<T> {
    groups: Vec<Arc<Group<T>>>,
    extent: Extent<T>,
    journal: Option<Journal<T>>,
}

impl<T: Clone> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { groups: Vec::new(), extent: Extent { slot_count: 0, full_count: 0, free: None }, journal: None }
    }

    /// Adds slots of a snapshot behind those there are; [`Slab::set_extent`] must follow the last of them.
    pub(crate) fn append(&mut self, slots: Vec<Slot<T>>) {
        for slot in slots {
            let key = Key::from_index(self.extent.slot_count).expect("blocks have numbers of 32 bits, 256 slots each");
            self.reach(key);
            self.extent.full_count += usize::from(matches!(slot, Slot::Full(_)));
            self.extent.slot_count += 1;
            *self.slot_mut(key) = slot;
        }
    }

    /// Takes over the extent that belongs to appended slots; false if the counts are not theirs or if the free slots
    /// are not one list.
    pub(crate) fn set_extent(&mut self, extent: Extent<T>) -> bool {
        if (self.extent.slot_count, self.extent.full_count) != (extent.slot_count, extent.full_count) {
            return false;
        }
        let mut next = extent.free;
        for _ in extent.full_count..extent.slot_count {
            match next.and_then(|key| self.slot(key)) {
                Some(Slot::Free(following)) => next = *following,
                _ => return false,
            }
        }
        self.extent = extent;
        next.is_none()
    }

    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        self.extent.full_count
    }

    /// Returns the content of a slot, `None` beyond the end.
    #[inline]
    fn slot(&self, key: Key<T>) -> Option<&Slot<T>> {
        let index = key.index();
        let chunk = self.groups.get(index / GROUP_SLOTS)?[index / CHUNK_SLOTS % GROUP_CHUNKS].as_ref()?;
        Some(&chunk.0[index % CHUNK_SLOTS])
    }

    /// Returns the value of a slot, `None` if it holds none.
    #[inline]
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        match self.slot(key)? {
            Slot::Full(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    #[inline]
    fn slot_mut(&mut self, key: Key<T>) -> &mut Slot<T> {
        let index = key.index();
        let group = Arc::make_mut(&mut self.groups[index / GROUP_SLOTS]);
        let chunk = group[index / CHUNK_SLOTS % GROUP_CHUNKS].as_mut().expect("the slot was reached before");
        &mut Arc::make_mut(chunk).0[index % CHUNK_SLOTS]
    }

    /// As [`Slab::slot_mut`], and remembers what the slot holds if a multi is under way.
    #[inline]
    fn slot_to_change(&mut self, key: Key<T>) -> &mut Slot<T> {
        // Slots behind the old end held nothing: a large multi that creates many znodes remembers few.
        if self.journal.as_ref().is_some_and(|journal| key.index() < journal.extent.slot_count) {
            self.remember(key);
        }
        self.slot_mut(key)
    }

    /// Keeps what a slot held when the multi began.
    fn remember(&mut self, key: Key<T>) {
        let Some(mut journal) = self.journal.take() else { return };
        if journal.last != Some(key) {
            let before = || self.slot(key).expect("the slot was reached before").clone();
            journal.before.entry(key).or_insert_with(before);
            journal.last = Some(key);
        }
        self.journal = Some(journal);
    }

    /// Makes room up to the slot `key`.
    fn reach(&mut self, key: Key<T>) {
        let index = key.index();
        if index / GROUP_SLOTS == self.groups.len() {
            self.groups.push(Arc::new(std::array::from_fn(|_| None)));
        }
        let group = &mut self.groups[index / GROUP_SLOTS];
        let place = index / CHUNK_SLOTS % GROUP_CHUNKS;
        if group[place].is_none() {
            Arc::make_mut(group)[place] = Some(empty_chunk());
        }
    }

    /// Puts a value into a free slot.
    ///
    /// # Panics
    /// After 2^32 - 2 slots, which take more memory than a snapshot could ever bring in.
    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        let key = match self.extent.free {
            Some(key) => key,
            None => {
                let key = Key::from_index(self.extent.slot_count).expect("memory ends long before the keys do");
                self.reach(key);
                self.extent.slot_count += 1;
                key
            }
        };
        if let Slot::Free(next) = std::mem::replace(self.slot_to_change(key), Slot::Full(value)) {
            self.extent.free = next;
        }
        self.extent.full_count += 1;
        key
    }

    /// Takes the value out of a slot.
    ///
    /// # Panics
    /// If the slot holds none: a key outlived its value.
    pub(crate) fn remove(&mut self, key: Key<T>) -> T {
        let free = self.extent.free;
        match std::mem::replace(self.slot_to_change(key), Slot::Free(free)) {
            Slot::Full(value) => {
                self.extent.free = Some(key);
                self.extent.full_count -= 1;
                value
            }
            Slot::Free(_) => panic!("slot {key:?} holds no value"),
        }
    }

    /// Returns the value of a slot to change it.
    ///
    /// # Panics
    /// If the slot holds none: a key outlived its value.
    #[inline]
    pub(crate) fn change(&mut self, key: Key<T>) -> &mut T {
        match self.slot_to_change(key) {
            Slot::Full(value) => value,
            Slot::Free(_) => panic!("slot {key:?} holds no value"),
        }
    }

    /// Walks the values in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        (0..self.extent.slot_count).filter_map(|index| {
            let key = Key::from_index(index)?;
            Some((key, self.get(key)?))
        })
    }

    /// Starts to remember.
    pub(crate) fn begin(&mut self) {
        self.journal = Some(Journal { extent: self.extent, before: BTreeMap::new(), last: None });
    }

    /// Keeps what was done since [`Slab::begin`].
    pub(crate) fn commit(&mut self) {
        self.journal = None;
    }

    /// Undoes what was done since [`Slab::begin`].
    pub(crate) fn rollback(&mut self) {
        if let Some(journal) = self.journal.take() {
            for index in journal.extent.slot_count..self.extent.slot_count {
                let key = Key::from_index(index).expect("the slot has been given out");
                *self.slot_mut(key) = Slot::Free(None);
            }
            for (key, slot) in journal.before {
                *self.slot_mut(key) = slot;
            }
            self.extent = journal.extent;
        }
    }

    /// Returns the slots as they are now; later changes do not show in it.
    pub(crate) fn freeze(&self) -> Frozen<T> {
        Frozen { groups: self.groups.clone(), extent: self.extent }
    }
}

impl<T: Clone> std::ops::Index<Key<T>> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, key: Key<T>) -> &T {
        self.get(key).expect("a key is dropped with its value")
    }
}

/// A slab at one point in time.
pub(crate) struct Frozen<T> {
    groups: Vec<Arc<Group<T>>>,
    extent: Extent<T>,
}

impl<T> Frozen<T> {
    pub(crate) fn extent(&self) -> Extent<T> {
        self.extent
    }

    /// Walks the slots of a range of indices, as far as there are any.
    pub(crate) fn slots(&self, range: std::ops::Range<usize>) -> impl ExactSizeIterator<Item = &Slot<T>> {
        let end = range.end.min(self.extent.slot_count);
        (range.start.min(end)..end).map(|index| {
            let chunk = self.groups[index / GROUP_SLOTS][index / CHUNK_SLOTS % GROUP_CHUNKS].as_ref();
            &chunk.expect("slots are reached in order").0[index % CHUNK_SLOTS]
        })
    }

    /// Returns a value.
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        let index = key.index();
        let chunk = self.groups.get(index / GROUP_SLOTS)?[index / CHUNK_SLOTS % GROUP_CHUNKS].as_ref()?;
        match &chunk.0[index % CHUNK_SLOTS] {
            Slot::Full(value) => Some(value),
            Slot::Free(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_slab_does_not_change() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..GROUP_SLOTS + 70).map(|n| slab.insert(n)).collect();
        let frozen = slab.freeze();
        *slab.change(keys[5]) = 0;
        slab.remove(keys[GROUP_SLOTS + 1]);
        slab.insert(77);
        slab.insert(78);
        assert_eq!(frozen.slots(0..usize::MAX).len(), GROUP_SLOTS + 70);
        for (n, slot) in frozen.slots(0..usize::MAX).enumerate() {
            assert!(matches!(slot, Slot::Full(value) if *value == n));
        }
        assert_eq!((slab[keys[5]], slab[keys[GROUP_SLOTS + 1]], slab.len()), (0, 77, GROUP_SLOTS + 71));
    }

    #[test]
    fn a_rollback_restores_slots_and_the_order_of_free_ones() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..4).map(|n| slab.insert(n)).collect();
        slab.remove(keys[1]);
        slab.remove(keys[2]);
        let extent = slab.freeze().extent();
        slab.begin();
        for n in 10..20 {
            slab.insert(n);
        }
        slab.remove(keys[0]);
        *slab.change(keys[3]) = 9;
        slab.rollback();
        assert_eq!(slab.freeze().extent(), extent);
        assert_eq!(slab.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [0, 3]);
        assert_eq!((slab.insert(5), slab.insert(6)), (keys[2], keys[1]));
    }
}
