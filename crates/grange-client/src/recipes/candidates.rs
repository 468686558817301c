//! What a taker of a locking queue believes to be there: which entries, and which of them are taken.
//!
//! A value without I/O. It may be behind: choosing an entry that is taken or gone costs one refused request.

use std::collections::{BTreeSet, HashSet};

use super::entries::class;

/// The most entries that are kept; with more, those at the end are listed when the others are used up.
const ENTRIES_MAX: usize = 200_000;

/// From how many entries at the head one is chosen while nobody else wants the same ones.
const WINDOW_MIN: usize = 4;

/// From how many when somebody always does. Items of one priority overtake each other by about so many.
const WINDOW_MAX: usize = 256;

/// The entries of a queue in their order, and who may be tried.
#[derive(Debug)]
pub(crate) struct Candidates {
    entries: BTreeSet<String>,
    /// Entries that somebody has taken, in this process or another one.
    taken: HashSet<String>,
    /// Entries that this process has taken, or is about to.
    reserved: HashSet<String>,
    /// There are entries behind the last one that is kept.
    is_cut: bool,
    window: usize,
}

impl Default for Candidates {
    fn default() -> Candidates {
        Candidates {
            entries: BTreeSet::new(),
            taken: HashSet::new(),
            reserved: HashSet::new(),
            is_cut: false,
            window: WINDOW_MIN,
        }
    }
}

impl Candidates {
    /// Starts anew from what was listed.
    pub(crate) fn replace(&mut self, entries: Vec<String>, taken: Vec<String>) {
        self.entries = entries.into_iter().collect();
        self.taken = taken.into_iter().collect();
        self.is_cut = false;
        self.cut();
    }

    /// How many entries there are, taken ones included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// An entry was put.
    pub(crate) fn put(&mut self, name: &str) {
        if !self.is_cut || self.entries.last().is_some_and(|last| name < last.as_str()) {
            self.entries.insert(name.to_owned());
            self.cut();
        }
    }

    /// An entry is gone.
    pub(crate) fn gone(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// An entry was taken by somebody.
    pub(crate) fn taken(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    /// An entry is not taken any more.
    pub(crate) fn freed(&mut self, name: &str) {
        self.taken.remove(name);
    }

    /// Returns true if entries were left out, and those that are known are used up.
    pub(crate) fn needs_listing(&self) -> bool {
        self.is_cut && self.entries.is_empty()
    }

    /// Chooses an entry to try, and reserves it: by `random` (which returns a number below its argument) one of the
    /// first ones of the best priority, but none in `tried`.
    pub(crate) fn choose(&mut self, tried: &HashSet<String>, random: impl Fn(usize) -> usize) -> Option<String> {
        let free =
            |name: &&String| !self.taken.contains(*name) && !self.reserved.contains(*name) && !tried.contains(*name);
        let mut window: Vec<&String> = Vec::with_capacity(self.window);
        for name in self.entries.iter().filter(free).take(self.window) {
            match window.first() {
                Some(first) if class(first) != class(name) => break,
                _ => window.push(name),
            }
        }
        let name = window.get(random(window.len().max(1)))?.to_string();
        self.reserved.insert(name.clone());
        Some(name)
    }

    /// Ends a reservation whose entry this process does not have.
    pub(crate) fn unreserve(&mut self, name: &str) {
        self.reserved.remove(name);
    }

    /// Somebody else was quicker: the next ones are chosen from more.
    pub(crate) fn collided(&mut self) {
        self.window = (self.window * 2).min(WINDOW_MAX);
    }

    /// Nobody else was: from fewer, so that the oldest go first.
    pub(crate) fn succeeded(&mut self) {
        self.window = (self.window - 1).max(WINDOW_MIN);
    }

    fn cut(&mut self) {
        while self.entries.len() > ENTRIES_MAX {
            self.entries.pop_last();
            self.is_cut = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn candidates(entries: &[&str], taken: &[&str]) -> Candidates {
        let mut candidates = Candidates::default();
        candidates.replace(names(entries), names(taken));
        candidates
    }

    const NONE: fn(usize) -> usize = |_| 0;
    const LAST: fn(usize) -> usize = |bound| bound - 1;

    #[test]
    fn the_best_priority_goes_first_and_then_the_oldest() {
        let mut candidates = candidates(&["entry-100-2", "entry-100-1", "entry-050-3"], &[]);
        let tried = HashSet::new();
        assert_eq!(candidates.choose(&tried, LAST).unwrap(), "entry-050-3", "a window has one priority");
        candidates.put("entry-100-0");
        assert_eq!(candidates.choose(&tried, NONE).unwrap(), "entry-100-0");
        assert_eq!(candidates.choose(&tried, NONE).unwrap(), "entry-100-1");
    }

    #[test]
    fn an_entry_is_chosen_again_only_when_it_came_back() {
        let mut candidates = candidates(&["entry-100-1", "entry-100-2"], &["entry-100-1"]);
        let tried = HashSet::new();
        assert_eq!(candidates.choose(&tried, NONE).unwrap(), "entry-100-2");
        assert_eq!(candidates.choose(&tried, NONE), None);
        candidates.freed("entry-100-1");
        assert_eq!(candidates.choose(&HashSet::from(["entry-100-1".to_owned()]), NONE), None);
        assert_eq!(candidates.choose(&tried, NONE).unwrap(), "entry-100-1");
        candidates.unreserve("entry-100-1");
        candidates.taken("entry-100-1");
        assert_eq!(candidates.choose(&tried, NONE), None);
        candidates.freed("entry-100-1");
        candidates.gone("entry-100-1");
        assert_eq!(candidates.choose(&tried, NONE), None);
    }

    #[test]
    fn the_window_grows_with_collisions_and_shrinks_without() {
        let all: Vec<String> = (0..1000).map(|number| format!("entry-100-{number:04}")).collect();
        let mut candidates = Candidates::default();
        candidates.replace(all, Vec::new());
        let tried = HashSet::new();
        let furthest = |candidates: &mut Candidates| {
            let name = candidates.choose(&tried, LAST).unwrap();
            candidates.unreserve(&name);
            name
        };
        assert_eq!(furthest(&mut candidates), "entry-100-0003");
        (0..20).for_each(|_| candidates.collided());
        assert_eq!(furthest(&mut candidates), "entry-100-0255");
        (0..1000).for_each(|_| candidates.succeeded());
        assert_eq!(furthest(&mut candidates), "entry-100-0003");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut candidates = Candidates::default();
        candidates.replace((0..ENTRIES_MAX + 5).map(|number| format!("entry-100-{number:010}")).collect(), Vec::new());
        assert_eq!(candidates.len(), ENTRIES_MAX);
        candidates.put("entry-999-0000000000");
        assert_eq!(candidates.len(), ENTRIES_MAX, "the end is known to be missing");
        candidates.put("entry-000-0000000000");
        assert_eq!(candidates.choose(&HashSet::new(), NONE).unwrap(), "entry-000-0000000000");
        assert!(!candidates.needs_listing());
        candidates.entries.clear();
        assert!(candidates.needs_listing());
    }
}
