//! That a command is still to be run for a file that has changed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use tracing::warn;

use crate::beside;

/// A mark beside a file: the command for its changes has not been run for the last one. It outlives this process, so that the
/// next one runs the command though the file does not change any more.
///
/// It need not outlive the machine, whose programs all read the file anew, so nothing waits for the disk.
#[derive(Debug)]
pub struct DueMark {
    /// `None` if the file has no name that one could be made of.
    mark: Option<PathBuf>,
    /// How many changes there were. Also held while the mark comes and goes.
    changes: Mutex<u64>,
}

impl DueMark {
    /// Returns the mark for the file or directory at `path`, set or not.
    pub fn of(path: &Path) -> DueMark {
        DueMark { mark: beside::hidden(path, "due"), changes: Mutex::new(0) }
    }

    /// Tells whether the command is still to be run.
    pub fn is_set(&self) -> bool {
        self.mark.as_ref().is_some_and(|mark| fs::symlink_metadata(mark).is_ok())
    }

    /// Sets the mark; to be called before a change. Returns the number of the change.
    pub fn set(&self) -> u64 {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        if let Some(mark) = &self.mark
            && let Err(error) = make(mark)
        {
            warn!(%error, "cannot make {}: the command for changes is not run again if this is killed", mark.display());
        }
        *changes
    }

    /// Returns the number of the last change.
    pub fn last(&self) -> u64 {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the mark, unless there was a change after number `change`.
    pub fn clear(&self, change: u64) {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = &self.mark
            && *changes == change
            && let Err(error) = fs::remove_file(mark)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(%error, "cannot remove {}: the command for changes is run once more at the next start", mark.display());
        }
    }
}

fn make(mark: &Path) -> io::Result<()> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).expect("the flags of open are an int");
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(mark).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_by_the_next_process_until_it_is_cleared() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("farm.cfg");
        let mark = DueMark::of(&path);
        assert!(!mark.is_set());
        mark.set();
        assert!(DueMark::of(&path).is_set());
        let next = DueMark::of(&path);
        next.clear(next.last());
        assert!(!mark.is_set());
    }

    #[test]
    fn a_mark_stays_for_a_later_change() {
        let root = tempfile::tempdir().unwrap();
        let mark = DueMark::of(&root.path().join("farm.cfg"));
        let first = mark.set();
        let second = mark.set();
        mark.clear(first);
        assert!(mark.is_set());
        mark.clear(second);
        assert!(!mark.is_set());
    }

    #[test]
    fn a_mark_is_made_through_no_link() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        std::os::unix::fs::symlink(&victim, root.path().join(".farm.cfg.grange-due")).unwrap();
        DueMark::of(&root.path().join("farm.cfg")).set();
        assert!(!victim.exists());
    }
}
