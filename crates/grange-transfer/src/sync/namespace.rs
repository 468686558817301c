//! Making, linking and removing entries of the destination.

use std::io;

use rustix::fs::{self, AtFlags, Mode, OFlags};

use crate::path::RelPath;
use crate::sync::job::{Job, SyncError};
use crate::sync::report::{Change, count};
use crate::temporary::temporary_name;
use crate::tree::{Dir, EntryType, Kind, Position, Record, list};

/// Names of a directory that is being deleted which are listed at once.
const DELETE_NAMES: usize = 8192;

/// Why one entry could not be made equal.
#[derive(Debug)]
pub(super) enum NamespaceError {
    /// A system call failed; the others go on.
    At { doing: &'static str, source: io::Error },
    /// The whole job cannot go on.
    Stop(Box<SyncError>),
}

/// Names what was being done when a system call failed.
pub(super) trait OrDoing<T> {
    fn or_doing(self, doing: &'static str) -> Result<T, NamespaceError>;
}

impl<T> OrDoing<T> for io::Result<T> {
    fn or_doing(self, doing: &'static str) -> Result<T, NamespaceError> {
        self.map_err(|source| NamespaceError::At { doing, source })
    }
}

/// A step of deleting a directory: children first, then itself.
enum Removal {
    Enter(RelPath),
    Leave(RelPath),
}

impl Job {
    /// Makes a directory that only we may enter until its attributes are set.
    pub(super) fn make_directory(&self, dir: &Dir, name: &[u8]) -> io::Result<()> {
        match fs::mkdirat(dir, name, Mode::RWXU) {
            // Another worker has done the same part before, or is doing it.
            Err(rustix::io::Errno::EXIST) if dir.look(name)?.kind == Kind::Directory => Ok(()),
            made => Ok(made?),
        }
    }

    /// Makes sure that we may list and change a directory of the destination that is ours. Its final mode comes later.
    pub(super) fn open_up(&self, dir: &Dir, name: &[u8], there: Option<&Record>) -> io::Result<()> {
        let closed = there.filter(|there| there.mode & 0o700 != 0o700);
        let Some(there) = closed.filter(|_| !self.identity.is_privileged() && !self.options.dry_run) else {
            return Ok(());
        };
        let handle = fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
        Ok(fs::chmod(path, there.permissions() | Mode::RWXU)?)
    }

    /// Removes a directory that stands where something else is to be.
    ///
    /// Other kinds stay until the new entry takes their place by renaming. Errors: a directory that is not empty is
    /// only removed with `--delete`, as rsync does.
    pub(super) fn make_way(
        &self,
        dir: &Dir,
        name: &[u8],
        path: &RelPath,
        there: Option<&Record>,
    ) -> Result<(), NamespaceError> {
        match there {
            Some(there) if there.kind == Kind::Directory && !self.options.delete => {
                count(&self.report.progress.deleted);
                self.report.change(Change::Delete, path);
                fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
                    .map_err(io::Error::from)
                    .or_doing("replace the directory at the destination (a directory that is not empty needs --delete)")
            }
            Some(there) if there.kind == Kind::Directory => {
                if self.remove(dir, name, path, there)? {
                    return Ok(());
                }
                Err(io::ErrorKind::DirectoryNotEmpty.into()).or_doing("replace the directory at the destination")
            }
            _ => Ok(()),
        }
    }

    /// Removes the entry `name` of `dir`, a directory with everything in it but what the filter protects.
    ///
    /// Returns whether it is gone. Errors: what failed first inside is reported there; only the rest comes back.
    pub(super) fn remove(
        &self,
        dir: &Dir,
        name: &[u8],
        path: &RelPath,
        there: &Record,
    ) -> Result<bool, NamespaceError> {
        if there.kind != Kind::Directory {
            self.remove_name(dir, name, path, AtFlags::empty()).or_doing("delete")?;
            return Ok(true);
        }
        let mut steps = vec![Removal::Enter(path.clone())];
        let mut whole = true;
        while let Some(step) = steps.pop() {
            match step {
                Removal::Enter(path) => {
                    steps.push(Removal::Leave(path.clone()));
                    self.remove_contents(&path, &mut steps, &mut whole).or_doing("delete the directory's contents")?;
                }
                Removal::Leave(path) => {
                    let Some((parent, name)) = path.split() else { continue };
                    if self.options.dry_run {
                        self.remove_name(dir, name, &path, AtFlags::REMOVEDIR).or_doing("delete the directory")?;
                        continue;
                    }
                    let parent = self.ends.destination.open_dir(&parent).or_doing("delete the directory")?;
                    match self.remove_name(&parent, name, &path, AtFlags::REMOVEDIR) {
                        // Something in it is protected by the filter: rsync leaves it, too.
                        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && !whole => {}
                        removed => removed.or_doing("delete the directory")?,
                    }
                }
            }
        }
        Ok(whole)
    }

    /// Removes what is no directory and puts the directories among `steps`.
    fn remove_contents(&self, path: &RelPath, steps: &mut Vec<Removal>, whole: &mut bool) -> io::Result<()> {
        let dir = self.ends.destination.open_dir(path)?;
        let record = dir.record()?;
        if record.mode & 0o700 != 0o700 && !self.identity.is_privileged() && !self.options.dry_run {
            fs::fchmod(&dir, record.permissions() | Mode::RWXU)?;
        }
        let mut position = Some(Position::START);
        while let Some(from) = position {
            let (listing, next) = list(&dir, from, DELETE_NAMES)?;
            position = next;
            for (name, entry_type) in listing.iter() {
                let path = path.join(name);
                let is_directory = match entry_type {
                    EntryType::Unknown => dir.look(name)?.kind == Kind::Directory,
                    known => known == EntryType::Directory,
                };
                if self.options.filter.excludes(path.as_bytes(), is_directory) {
                    *whole = false;
                } else if is_directory {
                    steps.push(Removal::Enter(path));
                } else {
                    self.remove_name(&dir, name, &path, AtFlags::empty())?;
                }
            }
        }
        Ok(())
    }

    fn remove_name(&self, dir: &Dir, name: &[u8], path: &RelPath, flags: AtFlags) -> io::Result<()> {
        self.report.change(Change::Delete, path);
        if !self.options.dry_run {
            match fs::unlinkat(dir, name, flags) {
                Ok(()) => {}
                // Somebody was faster.
                Err(rustix::io::Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        count(&self.report.progress.deleted);
        Ok(())
    }

    /// Makes `name` in `dir` another name of the destination's `leader`, in place of what is not a directory.
    pub(super) fn link(&self, leader: &RelPath, dir: &Dir, name: &[u8]) -> io::Result<()> {
        let (parent, leader_name) = leader.split().ok_or(io::ErrorKind::IsADirectory)?;
        let leader_dir = self.ends.destination.open_dir(&parent)?;
        let made = temporary_name();
        fs::linkat(&leader_dir, leader_name, dir, &made[..], AtFlags::empty())?;
        let placed = fs::renameat(dir, &made[..], dir, name);
        // Renaming one name of an inode to another name of it does nothing and leaves both.
        let _ = fs::unlinkat(dir, &made[..], AtFlags::empty());
        Ok(placed?)
    }
}
