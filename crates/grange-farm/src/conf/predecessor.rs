//! What a new file takes over from the one that it is to replace: who owns it, and who may do what with it.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, Stat, Uid, XattrFlags};
use rustix::io::Errno;
use tracing::{debug, warn};

use super::folder::{Folder, Links, kind};

/// The attribute in which Linux keeps a POSIX access control list.
const ACL: &CStr = c"system.posix_acl_access";

/// Attributes with this beginning are anybody's notes.
const NOTES: &[u8] = b"user.";

/// The label by which SELinux judges.
const LABEL: &[u8] = b"security.selinux";

/// The largest list of names, and the largest value, that Linux has (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// The attributes of access control lists, POSIX's and that of a server that speaks NFSv4. A mode has in place of the group's
/// rights the most that anybody in such a list has, so it says nothing without it.
const LISTS: [&CStr; 2] = [ACL, NFS4_ACL];
const NFS4_ACL: &CStr = c"system.nfs4_acl";

/// A file that is there: this very one, whatever its name stands for meanwhile.
#[derive(Debug)]
pub(super) struct Predecessor {
    handle: OwnedFd,
    stat: Stat,
    /// The same, if it may be read.
    readable: Option<File>,
}

impl Predecessor {
    /// Looks at what is there by a name; `None` if nothing is.
    pub(super) fn find(folder: &Folder, name: &OsStr, links: Links) -> io::Result<Option<Predecessor>> {
        let Some(handle) = folder.handle(name, links)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&handle)?;
        let mut readable = None;
        // To open anything else may do something.
        if kind(&stat) == FileType::RegularFile
            && let Ok(file) = folder.open_file(name, links)
        {
            let opened = rustix::fs::fstat(&file)?;
            readable = ((opened.st_dev, opened.st_ino) == (stat.st_dev, stat.st_ino)).then_some(file);
        }
        Ok(Some(Predecessor { handle, stat, readable }))
    }

    /// Returns what it is.
    pub(super) fn kind(&self) -> FileType {
        kind(&self.stat)
    }

    /// Gives a new file, which nobody else may open yet, its attributes as far as they are not about its contents, its owner
    /// as far as this process may, and last its permissions. Nobody gets any that they had not, not even for a moment.
    pub(super) fn pass_on(&self, file: &File) -> io::Result<()> {
        // While the file is ours: one that may not be written takes no notes.
        self.give_notes(file);
        let has_group = self.give_owner(file)?;
        // What runs with its owner's rights must not get its contents from elsewhere.
        let mode = self.stat.st_mode & 0o777;
        for name in LISTS {
            let list = match self.attribute(name) {
                Ok(None) => continue,
                Ok(Some(list)) if has_group => rustix::fs::fsetxattr(file, name, &list, XattrFlags::empty()),
                // Such a server makes a list of every mode.
                Ok(Some(list)) if name == NFS4_ACL && names_nobody(&list) => continue,
                // It would mean another group.
                Ok(Some(_)) => Err(Errno::PERM),
                Err(error) => Err(error),
            };
            // It sets all bits of the mode.
            let Err(error) = list else { return Ok(()) };
            warn!(%error, "an access control list cannot be kept; only the owner has rights now");
            return Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o700))?);
        }
        // The directory may have given it one.
        match rustix::fs::fremovexattr(file, ACL) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let mode = if has_group { mode } else { as_others(mode) };
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
    }

    /// Returns whether the file has the old one's group now.
    fn give_owner(&self, file: &File) -> io::Result<bool> {
        let own = rustix::fs::fstat(file)?;
        if (own.st_uid, own.st_gid) != (self.stat.st_uid, self.stat.st_gid) {
            let (owner, group) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
            match rustix::fs::fchown(file, Some(owner), Some(group)) {
                // Only root may give a file away; others keep the group if they are in it.
                Err(Errno::PERM) => drop(rustix::fs::fchown(file, None, Some(group))),
                other => other?,
            }
        }
        Ok(rustix::fs::fstat(file)?.st_gid == self.stat.st_gid)
    }

    /// Notes and labels matter less than that there is a file.
    fn give_notes(&self, file: &File) {
        let mut names = Vec::with_capacity(XATTR_BYTES_MAX);
        let room = rustix::buffer::spare_capacity(&mut names);
        // An error: there are no attributes here.
        let _ = match &self.readable {
            Some(file) => rustix::fs::flistxattr(file, room),
            None => rustix::fs::listxattr(self.path(), room),
        };
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
        let room = rustix::buffer::spare_capacity(&mut value);
        let got = match &self.readable {
            Some(file) => rustix::fs::fgetxattr(file, name, room),
            // Without a /proc it is an error: what there is cannot be known.
            None => rustix::fs::getxattr(self.path(), name, room),
        };
        match got {
            Ok(_) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The calls about attributes take no handle of a file that is not open for reading.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd())
    }
}

/// Tells whether an access control list of NFSv4 (RFC 8881, 6.2.1: a count, then for each entry its type, flags, rights and
/// whom it is for) says no more than a mode does.
fn names_nobody(list: &[u8]) -> bool {
    const ENTRY_BYTES: usize = 12;
    let number = |bytes: &[u8]| usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok();
    let check = || {
        let (count, mut rest) = list.split_at_checked(4)?;
        for _ in 0..number(count)? {
            let (length, behind) = rest.get(ENTRY_BYTES..)?.split_at_checked(4)?;
            let length = number(length)?;
            let who = behind.get(..length)?;
            if ![&b"OWNER@"[..], b"GROUP@", b"EVERYONE@"].contains(&who) {
                return None;
            }
            rest = behind.get(length.next_multiple_of(4)..)?;
        }
        Some(())
    };
    check().is_some()
}

/// Returns a mode in which another group and everybody else may do what both the old group and everybody else might.
fn as_others(mode: u32) -> u32 {
    let both = (mode >> 3) & mode & 0o007;
    (mode & 0o700) | both << 3 | both
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
    fn another_group_gets_no_more_than_everybody() {
        for (mode, expected) in [(0o640, 0o600), (0o664, 0o644), (0o604, 0o600), (0o677, 0o677)] {
            assert_eq!(as_others(mode), expected, "{mode:o}");
        }
    }

    #[test]
    fn a_list_of_nfs_names_somebody_or_says_what_a_mode_does() {
        let list = |whos: &[&str]| {
            let mut list = u32::try_from(whos.len()).unwrap().to_be_bytes().to_vec();
            for who in whos {
                list.extend([0; 12]);
                list.extend(u32::try_from(who.len()).unwrap().to_be_bytes());
                list.extend(who.bytes().chain(std::iter::repeat(0)).take(who.len().next_multiple_of(4)));
            }
            list
        };
        let usual = list(&["OWNER@", "GROUP@", "EVERYONE@"]);
        assert!(names_nobody(&usual));
        assert!(!names_nobody(&list(&["OWNER@", "alice@example.com", "EVERYONE@"])));
        assert!((0..usual.len()).all(|length| !names_nobody(&usual[..length])), "half a list says nothing");
    }

    #[test]
    fn whoever_a_list_shuts_out_stays_out() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("conf");
        fs::write(&path, "old").unwrap();
        let mut shut_out = list();
        // The second entry's rights, behind the version and one entry.
        shut_out[4 + 8 + 2] = 0;
        // Others may read.
        let length = shut_out.len();
        shut_out[length - 6] = 4;
        if !set(&path, ACL, &shut_out) {
            return;
        }
        let old =
            Predecessor::find(&Folder::open(root.path()).unwrap(), OsStr::new("conf"), Links::Keep).unwrap().unwrap();
        let new = fs::OpenOptions::new().write(true).create_new(true).open(root.path().join("new")).unwrap();
        old.pass_on(&new).unwrap();
        assert_eq!(get(&root.path().join("new"), ACL), Some(shut_out));
        assert_eq!(new.metadata().unwrap().mode() & 0o777, 0o664);
    }

    #[test]
    fn notes_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("conf");
        fs::write(&path, "old").unwrap();
        if !set(&path, c"user.managed-by", b"somebody") {
            return;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        replace(&path);
        assert_eq!(get(&path, c"user.managed-by"), Some(b"somebody".to_vec()));
    }
}
