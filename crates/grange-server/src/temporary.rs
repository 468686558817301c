//! The directory of a server that is embedded in a tool: it goes with the process, or with the next one.
//!
//! A process that is killed cannot tidy up, so every embedded server first removes what others of the same user have
//! left behind: directories of this name whose lock nobody holds.

use std::fs::{self, DirEntry, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;
use tempfile::TempDir;

use crate::storage::dir::LOCK_FILE;

const PREFIX: &str = "grange-embedded-";
/// A directory may be so old before its owner has locked it.
const GRACE: Duration = Duration::from_secs(60);

/// Makes an empty directory for the data of an embedded server, after removing what is left of dead ones.
pub(crate) fn make() -> io::Result<TempDir> {
    make_in(&std::env::temp_dir())
}

fn make_in(place: &Path) -> io::Result<TempDir> {
    sweep(place, GRACE);
    tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)
}

/// Removes leftovers as far as it can: what stays is only untidy.
fn sweep(place: &Path, grace: Duration) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && is_abandoned(&entry, grace).unwrap_or(false) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(entry: &DirEntry, grace: Duration) -> io::Result<bool> {
    // Not followed if it is a link.
    let metadata = entry.metadata()?;
    let is_own = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
    if !is_own || metadata.modified()?.elapsed().unwrap_or_default() < grace {
        return Ok(false);
    }
    match File::open(entry.path().join(LOCK_FILE)) {
        Ok(lock) => Ok(rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()),
        Err(error) => Ok(error.kind() == io::ErrorKind::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::dir::DataDir;

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let alive = make_in(place.path()).unwrap();
        let held = DataDir::open(alive.path()).unwrap();
        let dead = make_in(place.path()).unwrap().keep();
        drop(DataDir::open(&dead).unwrap());
        sweep(place.path(), GRACE);
        assert!(dead.exists(), "it may be about to be locked");
        sweep(place.path(), Duration::ZERO);
        assert!(!dead.exists());
        assert!(alive.path().exists());
        drop(held);
    }
}
