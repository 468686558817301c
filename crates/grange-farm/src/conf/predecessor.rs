//! What a new file takes over from the one that it is to replace: who owns it, and who may do what with it.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, Stat, Uid, XattrFlags};
use rustix::io::Errno;
use tracing::{debug, warn};

use super::folder::{Folder, Links, kind};

/// The attribute in which Linux keeps an access control list.
const ACL: &CStr = c"system.posix_acl_access";

/// Attributes with this beginning are anybody's notes.
const NOTES: &[u8] = b"user.";

/// The label by which SELinux judges.
const LABEL: &[u8] = b"security.selinux";

/// The largest list of names, and the largest value, that Linux has (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// The rights of the group, in a mode. Of a file with an access control list they are the most that anybody in the list has.
const GROUP_RIGHTS: u32 = 0o070;

/// A file that is there: this very one, whatever its name stands for meanwhile.
#[derive(Debug)]
pub(super) struct Predecessor {
    handle: OwnedFd,
    stat: Stat,
}

impl Predecessor {
    /// Looks at what is there by a name; `None` if nothing is.
    pub(super) fn find(folder: &Folder, name: &OsStr, links: Links) -> io::Result<Option<Predecessor>> {
        let Some(handle) = folder.handle(name, links)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Some(Predecessor { handle, stat }))
    }

    /// Returns what it is.
    pub(super) fn kind(&self) -> FileType {
        kind(&self.stat)
    }

    /// Gives a new file, which nobody else may open yet, its permissions, its owner as far as this process may, and its attributes
    /// as far as they are not about its contents.
    pub(super) fn pass_on(&self, file: &File) -> io::Result<()> {
        self.give_owner(file)?;
        // What runs with its owner's rights must not get its contents from elsewhere.
        let mode = self.stat.st_mode & 0o777;
        match self.attribute(ACL) {
            Ok(Some(acl)) => {
                rustix::fs::fchmod(file, Mode::from_raw_mode(mode & !GROUP_RIGHTS))?;
                if let Err(error) = rustix::fs::fsetxattr(file, ACL, &acl, XattrFlags::empty()) {
                    warn!(%error, "an access control list cannot be kept; whoever had rights by it or as the group has none");
                }
            }
            Ok(None) => {
                // The directory may have given it one.
                match rustix::fs::fremovexattr(file, ACL) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
            }
            Err(error) => return Err(error.into()),
        }
        self.give_notes(file);
        Ok(())
    }

    fn give_owner(&self, file: &File) -> io::Result<()> {
        let own = rustix::fs::fstat(file)?;
        if (own.st_uid, own.st_gid) != (self.stat.st_uid, self.stat.st_gid) {
            let (owner, group) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
            match rustix::fs::fchown(file, Some(owner), Some(group)) {
                // Only root may give a file away; others keep the group if they are in it.
                Err(Errno::PERM) => drop(rustix::fs::fchown(file, None, Some(group))),
                other => other?,
            }
        }
        Ok(())
    }

    /// Notes and labels matter less than that there is a file.
    fn give_notes(&self, file: &File) {
        let mut names = Vec::with_capacity(XATTR_BYTES_MAX);
        // An error: there are no attributes here.
        let _ = rustix::fs::listxattr(self.path(), rustix::buffer::spare_capacity(&mut names));
        for name in names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
            if !name.to_bytes().starts_with(NOTES) && name.to_bytes() != LABEL {
                continue;
            }
            let given = self.attribute(name).and_then(|value| match value {
                Some(value) => rustix::fs::fsetxattr(file, name, &value, XattrFlags::empty()),
                None => Ok(()),
            });
            if let Err(error) = given {
                debug!(?name, %error, "an attribute is not kept");
            }
        }
    }

    /// Returns an attribute, if it is there.
    fn attribute(&self, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
        let mut value = Vec::with_capacity(XATTR_BYTES_MAX);
        match rustix::fs::getxattr(self.path(), name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => Ok(Some(value)),
            // The last one: no /proc is mounted here.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The calls about attributes take no handle of a file that is not open for reading.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use super::super::Candidate;
    use super::*;

    const DEFAULT_ACL: &CStr = c"system.posix_acl_default";
    const RIGHTS_READ_WRITE: u16 = 6;

    /// An access control list: the owner and the user 12 may read and write, the group and others nothing.
    fn list() -> Vec<u8> {
        let (owner, user, group, mask, others) = (0x01u16, 0x02, 0x04, 0x10, 0x20);
        let entry = |tag: u16, rights: u16, id: u32| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let entries = [
            entry(owner, RIGHTS_READ_WRITE, u32::MAX),
            entry(user, RIGHTS_READ_WRITE, 12),
            entry(group, 0, u32::MAX),
            entry(mask, RIGHTS_READ_WRITE, u32::MAX),
            entry(others, 0, u32::MAX),
        ];
        [2u32.to_le_bytes().to_vec(), entries.concat()].concat()
    }

    fn get(path: &Path, name: &CStr) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(XATTR_BYTES_MAX);
        rustix::fs::getxattr(path, name, rustix::buffer::spare_capacity(&mut value)).ok()?;
        Some(value)
    }

    /// Sets an attribute; false if this file system has none.
    fn set(path: &Path, name: &CStr, value: &[u8]) -> bool {
        match rustix::fs::setxattr(path, name, value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => {
                eprintln!("skipped: no attributes below {}", path.display());
                false
            }
            set => {
                set.unwrap();
                true
            }
        }
    }

    fn replace(path: &Path) {
        Candidate::new(path, b"new").unwrap().install().unwrap();
        assert_eq!(fs::read(path).unwrap(), b"new");
    }

    #[test]
    fn an_access_control_list_is_kept_and_gives_the_group_nothing_more() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("conf");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if !set(&path, ACL, &list()) {
            return;
        }
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o777,
            0o660,
            "a mode shows the mask where the group's rights are"
        );
        replace(&path);
        assert_eq!(get(&path, ACL), Some(list()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
    }

    #[test]
    fn a_list_of_the_directory_lets_nobody_read_what_they_might_not_before() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("conf");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        if !set(root.path(), DEFAULT_ACL, &list()) {
            return;
        }
        replace(&path);
        assert_eq!((get(&path, ACL), fs::metadata(&path).unwrap().mode() & 0o777), (None, 0o640));
        let new = root.path().join("new");
        replace(&new);
        assert!(get(&new, ACL).is_some(), "a file that replaces none gets what any new file gets");
    }

    #[test]
    fn notes_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("conf");
        fs::write(&path, "old").unwrap();
        if !set(&path, c"user.managed-by", b"somebody") {
            return;
        }
        replace(&path);
        assert_eq!(get(&path, c"user.managed-by"), Some(b"somebody".to_vec()));
    }
}
