//! Names of entries that exist only between their creation and a rename.
//!
//! They are recognisable, so that a run removes what a killed one has left, with or without `--delete`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &[u8] = b".grange~";
const DIGITS: usize = 16;

/// A fresh name; collisions with other processes are as unlikely as equal 64-bit random numbers.
pub(crate) fn temporary_name() -> Vec<u8> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // `RandomState` is seeded by the system; hashing a counter with a fresh one gives a fresh number.
    let number = RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed));
    [PREFIX, format!("{number:0DIGITS$x}").as_bytes()].concat()
}

/// Whether `name` is one of ours.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    let digits = name.strip_prefix(PREFIX);
    digits.is_some_and(|rest| rest.len() == DIGITS && rest.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_recognised_and_others_are_not() {
        let name = temporary_name();
        assert!(is_temporary(&name));
        assert_ne!(name, temporary_name());
        for other in [&b".grange~"[..], b".grange~0123", b".grange~000000000000000g", b"grange~0000000000000000"] {
            assert!(!is_temporary(other));
        }
    }
}
