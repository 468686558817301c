//! That a command is still to be run for a file that has changed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

use crate::beside;

/// What the mark is called in a directory, and after what beside a file.
const INSIDE: &str = ".grange-due";
const WHAT: &str = "due";

/// A mark that the command for changes of a file has not been run for the last one. It outlives this process, so that the next
/// one runs the command though the file does not change any more.
///
/// It need not outlive the machine, whose programs all read the file anew, so nothing waits for the disk.
#[derive(Debug)]
pub struct DueMark {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many changes there were.
    changes: u64,
    /// For how many of them a command has come to its end.
    followed: u64,
    /// The file is being written: a command that runs now may see less than the next change.
    is_writing: bool,
    /// Where the mark is.
    mark: Option<PathBuf>,
}

impl DueMark {
    /// Returns the mark for the file or directory at `path`, with what an earlier process has left.
    pub fn of(path: &Path) -> DueMark {
        let mark = places(path).into_iter().find(|place| fs::symlink_metadata(place).is_ok());
        let state = State { changes: u64::from(mark.is_some()), followed: 0, is_writing: false, mark };
        DueMark { path: path.to_owned(), state: Mutex::new(state) }
    }

    /// Tells whether the command is still to be run for a change.
    pub fn is_set(&self) -> bool {
        let state = self.lock();
        state.changes != state.followed
    }

    /// Does what may change the file, under the mark; it stays if the result says that the file has changed.
    pub fn around<T>(&self, write: impl FnOnce() -> T, is_changed: impl FnOnce(&T) -> bool) -> T {
        {
            let mut state = self.lock();
            state.is_writing = true;
            self.make(&mut state);
        }
        let written = write();
        let mut state = self.lock();
        state.is_writing = false;
        state.changes += u64::from(is_changed(&written));
        state.settle();
        written
    }

    /// Returns the number of the last change, for [`followed`](DueMark::followed).
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Notes that a command which began after so many changes has come to its end.
    pub fn followed(&self, changes: u64) {
        let mut state = self.lock();
        state.followed = state.followed.max(changes);
        state.settle();
    }

    fn make(&self, state: &mut State) {
        if state.mark.is_some() {
            return;
        }
        let mut failure = None;
        for place in places(&self.path) {
            // What is there by that name is a mark already, whatever it is; nothing is opened or followed.
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => failure = Some(error),
                _ => {
                    state.mark = Some(place);
                    return;
                }
            }
        }
        if let Some(error) = failure {
            let path = self.path.display();
            warn!(%error, "cannot mark that {path} changes: the command for that is not run again if this is killed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes the mark if nothing is to be done.
    fn settle(&mut self) {
        if self.is_writing || self.changes != self.followed {
            return;
        }
        if let Some(mark) = self.mark.take()
            && let Err(error) = fs::remove_file(&mark)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(%error, "cannot remove {}: the command for changes is run at the next start", mark.display());
        }
    }
}

/// Returns where the mark may be, the best place first: in a directory, whose parent may be somebody else's, else beside
/// the file.
fn places(path: &Path) -> Vec<PathBuf> {
    let inside = path.is_dir().then(|| path.join(INSIDE));
    inside.into_iter().chain(beside::hidden(path, WHAT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(mark: &DueMark) {
        mark.around(|| (), |()| true);
    }

    #[test]
    fn a_mark_is_found_by_the_next_process_until_a_command_has_followed() {
        let root = tempfile::tempdir().unwrap();
        for name in ["farm.cfg", "."] {
            let path = root.path().join(name);
            let mark = DueMark::of(&path);
            assert!(!mark.is_set());
            change(&mark);
            let next = DueMark::of(&path);
            assert!(next.is_set());
            next.followed(next.changes());
            assert!(!next.is_set() && !DueMark::of(&path).is_set());
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_mark_stays_for_a_change_that_the_command_may_not_have_seen() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("farm.cfg");
        let mark = DueMark::of(&path);
        change(&mark);
        let first = mark.changes();
        change(&mark);
        mark.followed(first);
        assert!(DueMark::of(&path).is_set(), "one began before the second change");
        let began_while_writing = mark.around(|| mark.changes(), |_| true);
        mark.followed(began_while_writing);
        assert!(DueMark::of(&path).is_set(), "one began while the file was written");
        mark.followed(mark.changes());
        assert!(!DueMark::of(&path).is_set());
    }

    #[test]
    fn what_changes_nothing_leaves_no_mark() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("farm.cfg");
        let mark = DueMark::of(&path);
        mark.around(|| assert!(DueMark::of(&path).is_set()), |()| false);
        assert!(!DueMark::of(&path).is_set());
        change(&mark);
        // A command comes to its end while nothing is changed.
        mark.around(|| mark.followed(mark.changes()), |()| false);
        assert!(!DueMark::of(&path).is_set());
    }

    #[test]
    fn a_mark_is_made_through_no_link() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        std::os::unix::fs::symlink(&victim, root.path().join(".farm.cfg.grange-due")).unwrap();
        change(&DueMark::of(&root.path().join("farm.cfg")));
        assert!(!victim.exists());
    }
}
