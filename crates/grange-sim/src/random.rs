//! The one source of chance: everything that differs between two seeds comes out of here.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// A generator whose numbers depend on its seed alone, on every machine and in every version.
#[derive(Debug, Clone)]
pub(crate) struct Random(Xoshiro256PlusPlus);

impl Random {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64) -> Random {
        Random(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Starts another generator, so that what one part of the world draws does not move what others draw.
    pub(crate) fn fork(&mut self) -> Random {
        Random::new(self.next())
    }

    /// Returns 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Returns a number from `low` to before `high`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// Returns a place in a list of `len` items, which is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("a place in a list is a usize")
    }

    /// Returns true so many times out of a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Returns one of the items.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())]
    }

    /// Returns a time around `usual`: mostly less than twice as much, now and then up to twenty times.
    pub(crate) fn around(&mut self, usual: u64) -> u64 {
        let bound = if self.chance(30) { usual * 20 } else { usual * 2 };
        self.below(bound.max(1))
    }

    /// Returns one of the items by its weight.
    pub(crate) fn weighted<T: Copy>(&mut self, items: &[(T, u32)]) -> T {
        let total: u64 = items.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut at = self.below(total);
        for &(item, weight) in items {
            if at < u64::from(weight) {
                return item;
            }
            at -= u64::from(weight);
        }
        unreachable!("the weights add up to the total")
    }
}
