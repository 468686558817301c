//! A file that takes the place of another one: whole, with the other's permissions, and only when it is wanted.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tracing::warn;

use super::FILE_BYTES_MAX;
use super::folder::{Folder, Links, name_of_kind, name_of_type};
use super::predecessor::Predecessor;
use super::temporary::Temporary;

/// How many links may lie on the way to a file, as in the system's own look-ups.
const LINKS_MAX: usize = 40;

/// Why a file cannot be replaced.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is something else by that name.
    #[error("{} is {found}, not a file", super::shown(.path))]
    NotAFile {
        /// The name.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The directory for the file is missing.
    #[error("there is no directory {}", super::shown(.path))]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Links lead in a circle.
    #[error("{} is a link through more than {LINKS_MAX} others", super::shown(.path))]
    Links {
        /// The first of them.
        path: PathBuf,
    },
    /// It was replaced, and what it was before cannot be looked at or removed.
    #[error("{} was replaced, but its old contents cannot be checked", super::shown(.path))]
    Unchecked {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot {action} {}", super::shown(.path))]
    Io {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl InstallError {
    /// Returns what to do about it, if there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            InstallError::NotAFile { found: "a directory", .. } => {
                Some("name a file in that directory, or give '-f dir' to write one file per field")
            }
            InstallError::NotAFile { .. } => Some("name a file that does not exist yet, or a regular one"),
            InstallError::NoDirectory { .. } => Some("make it first, with the owner that it is to have"),
            InstallError::Links { .. } | InstallError::Unchecked { .. } => None,
            InstallError::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("the old file is unchanged; make room, and try again")
                }
                io::ErrorKind::ResourceBusy => {
                    Some("a file that is mounted by itself cannot be replaced; mount its directory instead")
                }
                io::ErrorKind::PermissionDenied => {
                    Some("a file is replaced by a new one, so its directory must be writable")
                }
                _ => None,
            },
        }
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
        move |source| InstallError::Io { action, path: path.to_owned(), source }
    }
}

/// A file beside the one that it may replace. Unless it is installed, it goes when this is dropped.
///
/// It has the permissions of the old file, with its access control list, and, as far as this process may, its owner, group
/// and label; without an old file, those that any new file gets. A target that is a link stands for what it points to.
#[derive(Debug)]
pub struct Candidate {
    temporary: Temporary,
    folder: Folder,
    path: PathBuf,
    target: PathBuf,
}

impl Candidate {
    /// Writes the file, under a hidden name in the target's directory that has the target's extension, up to the disk.
    pub fn new(target: &Path, bytes: &[u8]) -> Result<Candidate, InstallError> {
        let target = followed(target)?;
        let directory = directory_of(&target);
        let folder = Folder::open(directory).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                InstallError::NoDirectory { path: directory.to_owned() }
            }
            _ => InstallError::io("open", directory)(error),
        })?;
        let old = replaceable(&folder, &target)?;
        folder.remove_leftovers().map_err(InstallError::io("list", directory))?;
        let io = || InstallError::io("write a file beside", &target);
        let mut temporary = Temporary::file(&folder, &extension(&target), old.as_ref()).map_err(io())?;
        temporary.fill(bytes).map_err(io())?;
        let path = directory.join(temporary.name());
        Ok(Candidate { temporary, folder, path, target })
    }

    /// Returns where the file is until it is installed, for whoever is to check it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in place, in one step: whoever opens the target gets the old or the new file, and whole.
    pub fn install(self) -> Result<(), InstallError> {
        let name = file_name(&self.target)?;
        self.temporary.put(name).map_err(InstallError::io("replace", &self.target))?;
        sync(&self.folder, &self.target);
        Ok(())
    }
}

impl Candidate {
    /// Puts it in place of a file that is still what its writer knows, or of none if it knows of none (`is_known` gets
    /// `None` then). Returns false if somebody has changed that meanwhile; then their file is there as it was.
    ///
    /// Between a look at a file and its replacement somebody may save it, however short that is. So both change places, and
    /// what has been there is looked at when nobody can replace it any more.
    pub(super) fn install_over(self, is_known: impl Fn(Option<&[u8]>) -> bool) -> Result<bool, InstallError> {
        let name = file_name(&self.target)?.to_owned();
        let io = || InstallError::io("replace", &self.target);
        if self.folder.stat(&name, Links::Keep).map_err(io())?.is_none() {
            if !is_known(None) {
                return Ok(false);
            }
            match self.folder.rename_new(self.temporary.name(), &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                other => other.map_err(io())?,
            }
            sync(&self.folder, &self.target);
            return Ok(true);
        }
        let (folder, target) = (self.folder, self.target);
        let old = self.temporary.swap(&name).map_err(InstallError::io("replace", &target))?;
        let unchecked = |source| InstallError::Unchecked { path: target.clone(), source };
        let there = contents(&folder, &old).map_err(unchecked)?;
        let is_known = is_known(there.as_deref());
        if !is_known {
            folder.exchange(&old, &name).map_err(unchecked)?;
        }
        folder.remove(&old).map_err(unchecked)?;
        sync(&folder, &target);
        Ok(is_known)
    }
}

/// Waits until the disk has the file's new name. The file is in place for everybody, so a failure is none of its replacement.
fn sync(folder: &Folder, target: &Path) {
    if let Err(error) = folder.sync() {
        warn!(%error, "{} is in place, but maybe not on the disk", super::shown(target));
    }
}

/// Reads a file that was one of configuration; `None` if it is none or too large.
fn contents(folder: &Folder, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let file = folder.open_file(name, Links::Keep)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    super::bounded(&file, FILE_BYTES_MAX)
}

/// Tells whether a file has other contents, or is missing.
pub fn differs(target: &Path, bytes: &[u8]) -> Result<bool, InstallError> {
    let io = || InstallError::io("read", target);
    let metadata = match fs::metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        found => found.map_err(io())?,
    };
    if let Some(found) = name_of_type(metadata.file_type()) {
        return Err(InstallError::NotAFile { path: target.to_owned(), found });
    }
    if !u64::try_from(bytes.len()).is_ok_and(|length| length == metadata.len()) {
        return Ok(true);
    }
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("the flags of open are an int");
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        opened => opened.map_err(io())?,
    };
    let there = super::bounded(&file, metadata.len()).map_err(io())?;
    Ok(there.is_none_or(|there| there != bytes))
}

/// Returns the path behind links, whether something is there or not.
fn followed(target: &Path) -> Result<PathBuf, InstallError> {
    let mut path = target.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(link) => path = directory_of(&path).join(link),
            // It is no link, or not there.
            Err(_) => return Ok(path),
        }
    }
    Err(InstallError::Links { path: target.to_owned() })
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn file_name(target: &Path) -> Result<&OsStr, InstallError> {
    target.file_name().ok_or_else(|| InstallError::NotAFile { path: target.to_owned(), found: "a directory" })
}

/// Looks at what is to be replaced: a file, or nothing.
fn replaceable(folder: &Folder, target: &Path) -> Result<Option<Predecessor>, InstallError> {
    let old = Predecessor::find(folder, file_name(target)?, Links::Keep);
    let old = old.map_err(InstallError::io("look at", target))?;
    match old.as_ref().map(Predecessor::kind).and_then(name_of_kind) {
        Some(found) => Err(InstallError::NotAFile { path: target.to_owned(), found }),
        None => Ok(old),
    }
}

/// Returns the extension of a path with its dot, if it is a plain one: programs that check a file may go by it.
fn extension(target: &Path) -> String {
    let extension = target.extension().and_then(OsStr::to_str).unwrap_or_default();
    let is_plain =
        !extension.is_empty() && extension.len() <= 16 && extension.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_plain { format!(".{extension}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_that_somebody_saved_meanwhile_is_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("conf.json");
        let install = |known: Option<&[u8]>, saved: Option<&[u8]>| {
            let candidate = Candidate::new(&target, b"new").unwrap();
            if let Some(saved) = saved {
                // As editors do.
                fs::write(root.path().join("saved"), saved).unwrap();
                fs::rename(root.path().join("saved"), &target).unwrap();
            }
            let installed = candidate.install_over(|there| there == known).unwrap();
            assert_eq!(names(root.path()), ["conf.json"], "nothing is left over");
            (installed, fs::read(&target).unwrap())
        };
        assert_eq!(install(None, Some(b"made")), (false, b"made".to_vec()));
        assert_eq!(install(Some(b"old"), Some(b"saved")), (false, b"saved".to_vec()));
        assert_eq!(install(Some(b"saved"), None), (true, b"new".to_vec()));
        fs::remove_file(&target).unwrap();
        assert_eq!(install(None, None), (true, b"new".to_vec()));
        let known = Candidate::new(&target, b"newer").unwrap().install_over(|there| there == Some(b"other"));
        assert!(!known.unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn a_candidate_is_beside_its_target_until_it_is_installed() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("farm.php");
        fs::write(&target, "old").unwrap();
        let candidate = Candidate::new(&target, b"new").unwrap();
        assert_eq!(candidate.path().parent(), Some(temp.path()));
        assert_eq!(candidate.path().extension(), Some(OsStr::new("php")));
        assert_eq!(fs::read(candidate.path()).unwrap(), b"new");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        candidate.install().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(temp.path()), ["farm.php"]);
    }

    #[test]
    fn a_candidate_that_is_refused_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("farm.php");
        drop(Candidate::new(&target, b"new").unwrap());
        assert_eq!(names(temp.path()), [""; 0]);
    }

    #[test]
    fn permissions_are_those_of_the_old_file() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("secret");
        for mode in [0o600, 0o640, 0o444, 0o755] {
            fs::write(&target, "old").unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
            let candidate = Candidate::new(&target, b"new").unwrap();
            assert_eq!(fs::metadata(candidate.path()).unwrap().mode() & 0o7777, mode);
            candidate.install().unwrap();
            assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, mode);
            fs::remove_file(&target).unwrap();
        }
        let new = temp.path().join("new");
        let usual = temp.path().join("usual");
        fs::write(&usual, "").unwrap();
        Candidate::new(&new, b"").unwrap().install().unwrap();
        assert_eq!(fs::metadata(&new).unwrap().mode(), fs::metadata(&usual).unwrap().mode());
    }

    #[test]
    fn root_keeps_the_owner() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root may give files away");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("farm");
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::chown(&target, Some(12), Some(34)).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        Candidate::new(&target, b"new").unwrap().install().unwrap();
        let metadata = fs::metadata(&target).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (12, 34, 0o640));
    }

    #[test]
    fn what_a_link_points_to_is_replaced_and_the_link_stays() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fs::create_dir(path("real")).unwrap();
        fs::write(path("real/farm"), "old").unwrap();
        symlink("real/farm", path("second")).unwrap();
        symlink(path("second"), path("first")).unwrap();
        Candidate::new(&path("first"), b"new").unwrap().install().unwrap();
        assert_eq!(fs::read(path("real/farm")).unwrap(), b"new");
        assert!(path("first").is_symlink() && path("second").is_symlink());
        symlink("real/later", path("dangling")).unwrap();
        Candidate::new(&path("dangling"), b"new").unwrap().install().unwrap();
        assert_eq!(fs::read(path("real/later")).unwrap(), b"new");
        symlink("circle", path("circle")).unwrap();
        let error = Candidate::new(&path("circle"), b"").unwrap_err();
        assert!(matches!(error, InstallError::Links { .. }), "{error}");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let temp = tempfile::tempdir().unwrap();
        for target in [temp.path(), Path::new("/dev/null"), Path::new("/")] {
            let error = Candidate::new(target, b"").unwrap_err();
            assert!(matches!(error, InstallError::NotAFile { .. }) && error.hint().is_some(), "{error}");
        }
        let error = Candidate::new(&temp.path().join("no/farm"), b"").unwrap_err();
        assert_eq!(error.to_string(), format!("there is no directory {}", temp.path().join("no").display()));
    }

    #[test]
    fn a_file_differs_if_a_byte_does() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("farm");
        assert!(differs(&target, b"").unwrap());
        fs::write(&target, "abc").unwrap();
        assert!(!differs(&target, b"abc").unwrap());
        for bytes in [&b""[..], b"abd", b"ab", b"abcd"] {
            assert!(differs(&target, bytes).unwrap());
        }
        assert!(differs(temp.path(), b"").is_err());
    }
}
