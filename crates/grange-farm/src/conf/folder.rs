//! A directory by its handle.
//!
//! Whoever may write to a directory may exchange anything in it at any time, so names are single components and are
//! resolved from the handle, and links are followed only where that is asked for.

use std::ffi::{OsStr, OsString};
use std::fs::{File, FileType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType as Kind, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::DEPTH_MAX;

/// What the names of temporary files begin with.
pub(super) const TEMPORARY_PREFIX: &str = ".grange-";

/// How many names are tried for a temporary file before its creation fails.
pub(super) const NAME_TRIES_MAX: usize = 1000;

/// A directory.
#[derive(Debug, Clone)]
pub(super) struct Folder(Arc<OwnedFd>);

/// Whether a link stands for what it points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Follow,
    Keep,
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(Arc::new(rustix::fs::open(path, flags, Mode::empty())?)))
    }

    pub(super) fn open_folder(&self, name: &OsStr, links: Links) -> io::Result<Folder> {
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, links == Links::Keep);
        Ok(Folder(Arc::new(rustix::fs::openat(&self.0, name, flags, Mode::empty())?)))
    }

    /// Opens a file without waiting for anybody, as a FIFO would.
    pub(super) fn open_file(&self, name: &OsStr, links: Links) -> io::Result<File> {
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, links == Links::Keep);
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Returns a handle by which a file cannot be read, so that whoever sees its name gets one; `None` if nothing is there.
    pub(super) fn handle(&self, name: &OsStr, links: Links) -> io::Result<Option<OwnedFd>> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, links == Links::Keep);
        match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(handle)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn own_stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.0)?)
    }

    /// Returns what is there by a name.
    pub(super) fn stat(&self, name: &OsStr, links: Links) -> io::Result<Option<Stat>> {
        let flags = if links == Links::Keep { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
        match rustix::fs::statat(&self.0, name, flags) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns all names but `.` and `..`, sorted.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn make_folder(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o777))?)
    }

    /// Makes an empty file, unless there is something by that name.
    pub(super) fn make_file(&self, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(0o666))?;
        Ok(())
    }

    /// Makes a file and opens it for writing.
    ///
    /// Errors: `AlreadyExists`, and those of the system.
    pub(super) fn new_file(&self, name: &OsStr, mode: Mode) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, mode)?))
    }

    /// Gives what is there by a name another one, in place of what has that one.
    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Renames unless there is something by the new name.
    pub(super) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.0, from, &self.0, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) if self.stat(to, Links::Keep)?.is_none() => self.rename(from, to),
            other => Ok(other?),
        }
    }

    /// Lets two names change places: at once, or where the file system cannot, so that `old` is missing for a moment.
    pub(super) fn exchange(&self, new: &OsStr, old: &OsStr) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.0, new, &self.0, old, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                let aside = temporary_name("");
                self.rename(old, &aside)?;
                if let Err(error) = self.rename(new, old) {
                    self.rename_new(&aside, old)?;
                    return Err(error);
                }
                self.rename(&aside, new)
            }
            other => Ok(other?),
        }
    }

    /// Removes what is not a directory; a link, not what it points to.
    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    pub(super) fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Removes everything in this directory but hidden names, and whatever holds those. Returns whether nothing is left.
    pub(super) fn clear(&self, depth: usize) -> io::Result<bool> {
        let mut is_empty = true;
        for name in self.names()? {
            let is_hidden = name.as_bytes().starts_with(b".") && !is_temporary(&name);
            if is_hidden || depth > 2 * DEPTH_MAX {
                is_empty = false;
                continue;
            }
            match self.stat(&name, Links::Keep)? {
                None => {}
                Some(stat) if kind(&stat) == Kind::Directory => {
                    if self.open_folder(&name, Links::Keep)?.clear(depth + 1)? {
                        self.remove_folder(&name)?;
                    } else {
                        is_empty = false;
                    }
                }
                Some(_) => self.remove(&name)?,
            }
        }
        Ok(is_empty)
    }

    /// Removes what writers that were killed have left behind. What cannot be removed stays.
    pub(super) fn remove_leftovers(&self) -> io::Result<()> {
        for name in self.names()?.iter().filter(|name| maker(name).is_some_and(|maker| !is_alive(maker))) {
            // Its maker has it locked for as long as it lives.
            let Ok(file) = self.open_file(name, Links::Keep) else { continue };
            if file.try_lock().is_err() {
                continue;
            }
            let is_folder = file.metadata().is_ok_and(|metadata| metadata.is_dir());
            let removed = if is_folder { self.dispose(name, None).map(|_| ()) } else { self.remove(name) };
            if let Err(error) = removed {
                tracing::debug!(name = %name.display(), %error, "a leftover stays");
            }
        }
        Ok(())
    }

    /// Removes a directory that has a temporary name, except what is hidden in it: that is kept, under a hidden name that
    /// tells where it was. Returns that name.
    pub(super) fn dispose(&self, name: &OsStr, was: Option<&OsStr>) -> io::Result<Option<OsString>> {
        if self.open_folder(name, Links::Keep)?.clear(0)? {
            self.remove_folder(name)?;
            return Ok(None);
        }
        // A name has 255 bytes at most.
        let was = was.map_or_else(Vec::new, |was| [b".", &was.as_bytes()[..was.len().min(200)]].concat());
        for number in 1..=NAME_TRIES_MAX {
            let kept = [&was[..], format!(".kept-{number}").as_bytes()].concat();
            let kept = OsStr::from_bytes(&kept).to_owned();
            match self.rename_new(name, &kept) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|()| Some(kept)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Waits until the disk has which names there are.
    pub(super) fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.0) {
            // Some file systems cannot sync a directory.
            Err(Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Returns the type of what was looked at.
pub(super) fn kind(stat: &Stat) -> Kind {
    Kind::from_raw_mode(stat.st_mode)
}

/// Names whatever is no regular file.
pub(super) fn name_of_kind(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::RegularFile => None,
        Kind::Directory => Some("a directory"),
        Kind::Symlink => Some("a symbolic link"),
        Kind::Fifo => Some("a FIFO"),
        Kind::Socket => Some("a socket"),
        Kind::CharacterDevice | Kind::BlockDevice => Some("a device"),
        _ => Some("no file"),
    }
}

/// Names whatever is no regular file.
pub(super) fn name_of_type(kind: FileType) -> Option<&'static str> {
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => Some("a directory"),
        _ if kind.is_fifo() => Some("a FIFO"),
        _ if kind.is_socket() => Some("a socket"),
        _ if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        _ => Some("no file"),
    }
}

/// Returns a name for something temporary that nothing else in this process has.
pub(super) fn temporary_name(extension: &str) -> OsString {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    OsString::from(format!("{TEMPORARY_PREFIX}{}-{number}{extension}", std::process::id()))
}

/// Tells whether [`temporary_name`] made a name.
fn is_temporary(name: &OsStr) -> bool {
    maker(name).is_some()
}

/// Returns which process made a name with [`temporary_name`]; `None` if none did.
fn maker(name: &OsStr) -> Option<&str> {
    let numbers = name.to_str()?.strip_prefix(TEMPORARY_PREFIX)?;
    let numbers = numbers.split_once('.').map_or(numbers, |(numbers, _)| numbers);
    let (process, number) = numbers.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(process) && is_number(number)).then_some(process)
}

/// Tells whether a process of this machine runs. A file that has changed places with a new one has a temporary name, and no
/// lock, until its maker has looked at it.
fn is_alive(process: &str) -> bool {
    Path::new("/proc").join(process).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_temporary_files_are_such() {
        assert!(is_temporary(&temporary_name("")));
        assert!(is_temporary(&temporary_name(".php")));
        for name in [".grange-", ".grange-1", ".grange-1-", ".grange-x-1", ".grange-1-x", "grange-1-1", ".grange-1-1x"]
        {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }
}
