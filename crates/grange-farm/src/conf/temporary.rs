//! Files and directories that are made under a temporary name.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsFd;

use rustix::fs::Mode;

use super::folder::{Folder, Links, NAME_TRIES_MAX, temporary_name};
use super::predecessor::Predecessor;

/// A file or directory under a temporary name, which goes when this is dropped.
///
/// It is locked, so that others know that it is no leftover.
#[derive(Debug)]
pub(super) struct Temporary {
    folder: Folder,
    name: OsString,
    file: File,
    is_done: bool,
}

impl Temporary {
    /// Makes a file that is to replace another one, or none.
    pub(super) fn file(folder: &Folder, extension: &str, old: Option<&Predecessor>) -> io::Result<Temporary> {
        // Nobody may read what only the old file's readers might, not even for a moment.
        let mode = Mode::from_raw_mode(if old.is_some() { 0o600 } else { 0o666 });
        let temporary = Temporary::make(folder, extension, |name| folder.new_file(name, mode))?;
        if let Some(old) = old {
            old.pass_on(&temporary.file)?;
        }
        Ok(temporary)
    }

    /// Makes a directory.
    pub(super) fn folder(folder: &Folder) -> io::Result<Temporary> {
        Temporary::make(folder, "", |name| {
            folder.make_folder(name)?;
            folder.open_file(name, Links::Keep)
        })
    }

    fn make(folder: &Folder, extension: &str, make: impl Fn(&OsStr) -> io::Result<File>) -> io::Result<Temporary> {
        for _ in 0..NAME_TRIES_MAX {
            let name = temporary_name(extension);
            let file = match make(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            };
            // Who removes leftovers may have come between; then this one is going, and another is made. A file system
            // without locks has no such removers either.
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                continue;
            }
            let made = rustix::fs::fstat(file.as_fd())?;
            let is_there = folder.stat(&name, Links::Keep)?.is_some_and(|there| there.st_ino == made.st_ino);
            if is_there {
                return Ok(Temporary { folder: folder.clone(), name, file, is_done: false });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Writes the file, up to the disk.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.file, bytes)?;
        self.file.sync_all()
    }

    /// Returns the directory that this is.
    pub(super) fn as_folder(&self) -> io::Result<Folder> {
        self.folder.open_folder(&self.name, Links::Keep)
    }

    /// Gives it its name, in place of what is no directory.
    pub(super) fn put(mut self, name: &OsStr) -> io::Result<()> {
        self.folder.rename(&self.name, name)?;
        self.is_done = true;
        Ok(())
    }

    /// Lets it change places with what has its name, and returns the name which that has now.
    pub(super) fn swap(mut self, name: &OsStr) -> io::Result<OsString> {
        self.folder.exchange(&self.name, name)?;
        self.is_done = true;
        Ok(std::mem::take(&mut self.name))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let is_folder = self.file.metadata().is_ok_and(|metadata| metadata.is_dir());
        let removed =
            if is_folder { self.folder.dispose(&self.name, None).map(|_| ()) } else { self.folder.remove(&self.name) };
        if let Err(error) = removed {
            tracing::debug!(name = %self.name.display(), %error, "a temporary file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_living_process_has_put_aside_stays() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let making = Temporary::file(&folder, "", None).unwrap();
        std::fs::write(temp.path().join("conf"), "old").unwrap();
        let old = making.swap(OsStr::new("conf")).unwrap();
        folder.remove_leftovers().unwrap();
        assert_eq!(std::fs::read(temp.path().join(old)).unwrap(), b"old", "it may be what somebody has just saved");
    }

    #[test]
    fn leftovers_go_and_files_in_the_making_stay() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        std::fs::write(path(".grange-9999999-1.json"), "").unwrap();
        std::fs::create_dir_all(path(".grange-9999999-2/a/b")).unwrap();
        std::fs::write(path(".grange-9999999-2/a/c"), "").unwrap();
        std::fs::create_dir_all(path(".grange-9999999-3/a/.git")).unwrap();
        std::os::unix::fs::symlink("/etc", path(".grange-9999999-4")).unwrap();
        std::fs::write(path(".grange-notes"), "").unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let making = Temporary::file(&folder, "", None).unwrap();
        folder.remove_leftovers().unwrap();
        let names = folder.names().unwrap();
        let mut expected = vec![".kept-1", ".grange-9999999-4", ".grange-notes", making.name().to_str().unwrap()];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(path(".kept-1/a/.git").is_dir());
        drop(making);
        assert_eq!(folder.names().unwrap(), [".grange-9999999-4", ".grange-notes", ".kept-1"]);
    }
}
