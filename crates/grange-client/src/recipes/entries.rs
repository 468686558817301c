//! What queues have in common: the names of entries and their priorities.

use std::fmt;
use std::str::FromStr;

/// The bytes of a transaction that adds entries; servers refuse requests above `jute.maxbuffer`, 1 MiB by default.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;

/// The entries of a transaction that adds some; a larger one would keep other clients waiting.
pub const BATCH_ITEMS_MAX: usize = 1000;

/// What an entry costs in a transaction besides its data and the path of the queue.
const ITEM_BYTES: usize = 128;

/// Which entry is taken first: one with a smaller number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u16);

/// Why a number is not a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 0 (first) to {} (last)", Priority::LAST)]
pub struct PriorityError;

impl Priority {
    /// The largest number: names have three digits for it.
    const LAST: u16 = 999;

    /// Returns the priority with this number.
    pub fn new(number: u16) -> Result<Priority, PriorityError> {
        if number <= Priority::LAST { Ok(Priority(number)) } else { Err(PriorityError) }
    }

    /// Returns the path of an entry in `parent`, which the server completes with a number.
    pub(crate) fn prefix(self, parent: &str) -> String {
        format!("{parent}/entry-{:03}-", self.0)
    }
}

impl Default for Priority {
    /// The one that kazoo's queues have by default.
    fn default() -> Priority {
        Priority(100)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Priority, PriorityError> {
        text.parse().map_err(|_| PriorityError).and_then(Priority::new)
    }
}

/// Returns the part of an entry's name in which all entries of one priority agree.
pub(crate) fn class(name: &str) -> &str {
    name.rfind('-').map_or(name, |dash| &name[..dash])
}

/// Splits items into batches that fit a transaction each; an item that is too large is alone in its batch.
pub fn batches<T: AsRef<[u8]>>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(BATCH_ITEMS_MAX).take_while(|item| {
            bytes += item.as_ref().len() + ITEM_BYTES;
            bytes <= BATCH_BYTES_MAX
        });
        let count = fits.count().max(usize::from(!rest.is_empty()));
        let (batch, after) = rest.split_at(count);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_priority_and_then_by_age() {
        let prefix = |number| Priority::new(number).unwrap().prefix("/q");
        assert_eq!(prefix(7), "/q/entry-007-");
        assert_eq!(Priority::default().prefix("/q"), "/q/entry-100-");
        assert_eq!(Priority::new(1000), Err(PriorityError));
        assert_eq!("12".parse(), Priority::new(12));
        assert_eq!(class("entry-100-0000000012"), class("entry-100-0000000013"));
        assert_ne!(class("entry-100-0000000012"), class("entry-099-0000000012"));
    }

    #[test]
    fn batches_hold_all_items_in_order_within_the_bounds() {
        let sizes = |items: &[Vec<u8>]| batches(items).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec![vec![0; 10]; 2500]), [1000, 1000, 500]);
        let huge = vec![0; BATCH_BYTES_MAX];
        assert_eq!(sizes(&[vec![1], huge, vec![2], vec![3]]), [1, 1, 2]);
    }
}
