//! Base directories and the directories below them, as open handles.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::path::RelPath;
use crate::tree::record::Record;

/// Longest relative path that is given to one system call; a longer one is walked in pieces. The kernel's limit is
/// 4,096 with the terminating NUL.
const PATH_PIECE_BYTES_MAX: usize = 4000;

/// An open directory.
pub struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Looks at the directory itself. Errors: whatever `statx` returns.
    pub fn record(&self) -> io::Result<Record> {
        Ok(Record::from(&fs::statx(&self.fd, c"", AtFlags::EMPTY_PATH, STATX_FIELDS)?))
    }

    /// Looks at the entry `name` without following it. Errors: [`io::ErrorKind::NotFound`] if there is none.
    pub fn look(&self, name: &[u8]) -> io::Result<Record> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Ok(Record::from(&fs::statx(&self.fd, name, flags, STATX_FIELDS)?))
    }

    /// As [`Dir::look`], with `None` if there is no such entry.
    pub fn find(&self, name: &[u8]) -> io::Result<Option<Record>> {
        match self.look(name) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the subdirectory `name`. Errors: `ELOOP` or `ENOTDIR` if it is something else.
    pub fn open_dir(&self, name: &[u8]) -> io::Result<Dir> {
        Ok(Dir { fd: fs::openat(&self.fd, name, DIRECTORY, Mode::empty())? })
    }

    /// Opens the directory above this one.
    pub fn parent(&self) -> io::Result<Dir> {
        Ok(Dir { fd: fs::openat(&self.fd, c"..", DIRECTORY, Mode::empty())? })
    }

    /// A second, independent handle of the directory.
    pub fn reopen(&self) -> io::Result<OwnedFd> {
        Ok(fs::openat(&self.fd, c".", DIRECTORY, Mode::empty())?)
    }

    /// The target of the symbolic link `name`.
    pub fn read_link(&self, name: &[u8]) -> io::Result<CString> {
        Ok(fs::readlinkat(&self.fd, name, Vec::new())?)
    }

    /// A path of the entry `name` that leads through this handle and not through names that may change: for system
    /// calls that have no form with a handle. With an empty `name`, the directory itself (which is a magic link: only
    /// for calls that follow).
    pub fn proc_path(&self, name: &[u8]) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into_bytes();
        if !name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Dir({})", self.fd.as_raw_fd())
    }
}

/// Flags for every directory that is opened: never through a link.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is asked of `statx`: the fields of [`Record`].
const STATX_FIELDS: StatxFlags = StatxFlags::BASIC_STATS;

/// A base directory: the source or the destination as a whole.
#[derive(Debug)]
pub struct Base {
    root: Dir,
    path: PathBuf,
}

impl Base {
    /// Opens `path`, which may be or contain symbolic links: here, and only here, the user's own path is resolved.
    ///
    /// Errors: [`io::ErrorKind::NotFound`] or `ENOTDIR` among others.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(CWD, &path, flags, Mode::empty())?;
        Ok(Self { root: Dir { fd }, path })
    }

    /// The base directory's handle.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The absolute path without symbolic links that the base had when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory at `path` below the base, of any length, without following a link or leaving the base.
    ///
    /// Errors: `ELOOP` or `ENOTDIR` if a component is not a directory, `ENOENT` if it is gone.
    pub fn open_dir(&self, path: &RelPath) -> io::Result<Dir> {
        let mut rest = path.as_bytes();
        if rest.is_empty() {
            return Ok(Dir { fd: fs::openat(&self.root, c".", DIRECTORY, Mode::empty())? });
        }
        let mut held: Option<Dir> = None;
        loop {
            let (piece, tail) = split_piece(rest);
            let next = open_beneath(held.as_ref().unwrap_or(&self.root), piece)?;
            if tail.is_empty() {
                return Ok(next);
            }
            held = Some(next);
            rest = tail;
        }
    }
}

/// Cuts `path` at a `/` so that the first piece is at most [`PATH_PIECE_BYTES_MAX`] long (a name is at most 255).
fn split_piece(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= PATH_PIECE_BYTES_MAX {
        return (path, &[]);
    }
    match path[..PATH_PIECE_BYTES_MAX].iter().rposition(|&b| b == b'/') {
        Some(cut) => (&path[..cut], &path[cut + 1..]),
        None => (path, &[]),
    }
}

fn open_beneath(dir: &Dir, path: &[u8]) -> io::Result<Dir> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(dir, path, DIRECTORY, Mode::empty(), resolve) {
            Ok(fd) => return Ok(Dir { fd }),
            // A rename somewhere made the kernel unsure whether we stayed beneath: it asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Kernels before 5.6, and sandboxes that forbid what they do not know.
            Err(Errno::NOSYS | Errno::PERM) => return open_by_component(dir, path),
            Err(error) => return Err(error.into()),
        }
    }
}

fn open_by_component(dir: &Dir, path: &[u8]) -> io::Result<Dir> {
    let mut names = path.split(|&b| b == b'/');
    let first = names.next().expect("split returns at least one piece");
    names.try_fold(dir.open_dir(first)?, |dir, name| dir.open_dir(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_never_followed_below_the_base() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("base/real")).unwrap();
        std::fs::create_dir(temp.path().join("outside")).unwrap();
        symlink("../outside", temp.path().join("base/link")).unwrap();
        symlink("real", temp.path().join("base/inner")).unwrap();
        let base = Base::open(&temp.path().join("base")).unwrap();
        assert!(base.open_dir(&RelPath::root().join(b"real")).is_ok());
        assert!(base.open_dir(&RelPath::root().join(b"link")).is_err());
        assert!(base.open_dir(&RelPath::root().join(b"inner")).is_err());
        assert!(base.root().open_dir(b"link").is_err());
        assert!(open_by_component(base.root(), b"inner").is_err());
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_opens_in_pieces() {
        let temp = tempfile::tempdir().unwrap();
        let base = Base::open(temp.path()).unwrap();
        let name = [b'n'; 250];
        let mut path = RelPath::root();
        for _ in 0..40 {
            fs::mkdirat(base.open_dir(&path).unwrap(), &name[..], Mode::RWXU).unwrap();
            path = path.join(&name);
        }
        assert!(path.as_bytes().len() > 10_000);
        assert!(base.open_dir(&path).is_ok());
        assert_eq!(
            open_by_component(base.root(), &path.as_bytes()[..250 * 2 + 1]).unwrap().record().unwrap().link_count,
            3
        );
    }
}
