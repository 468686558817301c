//! What is to happen, in the order of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Microseconds since the beginning of the run.
pub type Micros = u64;

/// A millisecond.
pub const MS: Micros = 1_000;
/// A second.
pub const SECOND: Micros = 1_000_000;

/// Things to do, each at its time; those of one time in the order in which they were put in.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Item<T>>,
    next: u64,
}

#[derive(Debug)]
struct Item<T> {
    key: Reverse<(Micros, u64)>,
    task: T,
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<T> Queue<T> {
    /// Starts empty.
    pub(crate) fn new() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), next: 0 }
    }

    /// Adds something to do.
    pub(crate) fn push(&mut self, at: Micros, task: T) {
        self.heap.push(Item { key: Reverse((at, self.next)), task });
        self.next += 1;
    }

    /// Takes out what comes next.
    pub(crate) fn pop(&mut self) -> Option<(Micros, T)> {
        self.heap.pop().map(|item| (item.key.0.0, item.task))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue::new()
    }
}
