//! Extended attributes and, as two of them, POSIX ACLs.
//!
//! Linux keeps an ACL in the attributes `system.posix_acl_access` and `system.posix_acl_default`; equal ACLs have
//! equal bytes, because the kernel only accepts one order of entries. So one comparison serves both.
//! Where the calls have no form with a directory handle, `/proc/self/fd/N/name` is that form, and with the `l` variants
//! nothing is followed.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use crate::tree::base::Dir;
use crate::tree::xattr_call::list_names_at;

/// The largest list of names, and the largest value, that Linux has (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// Names of at most this many bytes together are read with one call; longer lists take a second one.
const NAMES_BYTES_USUAL: usize = 512;

/// All attributes of an entry that are to be equal on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xattrs(BTreeMap<CString, Vec<u8>>);

/// Remembers the one device (if any) that was found to have no extended attributes, so that it is not asked again.
#[derive(Debug)]
pub struct XattrSupport {
    device_without: AtomicU64,
    all_namespaces: bool,
    /// The kernel has no call that takes a directory handle.
    by_path: AtomicBool,
}

impl XattrSupport {
    /// `privileged` as rsync has it: with it every namespace counts, without it only `user.` and ACLs.
    pub fn new(privileged: bool) -> Self {
        Self { device_without: AtomicU64::new(u64::MAX), all_namespaces: privileged, by_path: AtomicBool::new(false) }
    }

    /// Whether the file system with this device number is known to have no extended attributes.
    fn is_without(&self, device: u64) -> bool {
        self.device_without.load(Ordering::Relaxed) == device
    }

    /// The names of the attributes of the entry `name` of `dir`, each with a NUL at its end.
    fn list_names(&self, dir: &Dir, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut short = [0; NAMES_BYTES_USUAL];
        match self.list_names_into(dir, name, &mut short) {
            Ok(length) => Ok(short[..length].to_vec()),
            Err(Errno::RANGE) => {
                let mut names = vec![0; XATTR_BYTES_MAX];
                let length = self.list_names_into(dir, name, &mut names)?;
                names.truncate(length);
                Ok(names)
            }
            Err(error) => Err(error),
        }
    }

    fn list_names_into(&self, dir: &Dir, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        if !self.by_path.load(Ordering::Relaxed) {
            let terminated = CString::new(name).map_err(|_| Errno::INVAL)?;
            match list_names_at(dir.as_fd(), &terminated, buffer) {
                // An older kernel, or a sandbox that forbids what it does not know.
                Err(Errno::NOSYS | Errno::PERM) => self.by_path.store(true, Ordering::Relaxed),
                listed => return listed,
            }
        }
        list_names_by_path(&dir.proc_path(if name.is_empty() { b"." } else { name }), buffer)
    }

    /// Which attributes are copied. The rule is rsync's (`-X` and `-A` together): of `system.` only the ACLs, without
    /// privilege only `user.`, and never the notes that `rsync --fake-super` keeps.
    fn is_copied(&self, name: &[u8]) -> bool {
        if name.starts_with(b"system.") {
            return name == b"system.posix_acl_access" || name == b"system.posix_acl_default";
        }
        if name.starts_with(b"user.rsync.%") {
            return false;
        }
        self.all_namespaces || name.starts_with(b"user.")
    }
}

impl Xattrs {
    /// Reads the attributes of the entry `name` of `dir`, or of `dir` itself if `name` is empty.
    ///
    /// `device` is the entry's file system. Empty where that has no extended attributes. Errors: of the system calls,
    /// `EACCES` among them; attributes that vanish meanwhile are left out.
    pub fn read(dir: &Dir, name: &[u8], device: u64, support: &XattrSupport) -> io::Result<Self> {
        if support.is_without(device) {
            return Ok(Self::default());
        }
        let names = match support.list_names(dir, name) {
            Ok(names) if names.is_empty() => return Ok(Self::default()),
            Ok(names) => names,
            Err(Errno::OPNOTSUPP) => {
                support.device_without.store(device, Ordering::Relaxed);
                return Ok(Self::default());
            }
            Err(error) => return Err(error.into()),
        };
        let path = if name.is_empty() { dir.proc_path(b".") } else { dir.proc_path(name) };
        let mut found = BTreeMap::new();
        for name in names.split(|&b| b == 0).filter(|name| !name.is_empty() && support.is_copied(name)) {
            let name = CString::new(name).expect("split at every NUL");
            let mut value = Vec::with_capacity(XATTR_BYTES_MAX);
            match fs::lgetxattr(&path[..], &name, rustix::buffer::spare_capacity(&mut value)) {
                Ok(_) => found.insert(name, value.as_slice().to_vec()),
                Err(Errno::NODATA) => None,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Self(found))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether new entries of this directory inherit an ACL.
    pub fn has_default_acl(&self) -> bool {
        self.0.contains_key(c"system.posix_acl_default")
    }

    /// Makes the attributes of the entry `name` of `dir` (of `dir` itself if `name` is empty), which are `present`,
    /// equal to `self`. Errors: of the system calls; `EPERM` without the privilege, `ENOTSUP`, `ENOSPC`.
    pub fn write(&self, present: &Self, dir: &Dir, name: &[u8]) -> io::Result<()> {
        let path = if name.is_empty() { dir.proc_path(b".") } else { dir.proc_path(name) };
        for name in present.0.keys().filter(|name| !self.0.contains_key(*name)) {
            match fs::lremovexattr(&path[..], name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (name, value) in self.0.iter().filter(|(name, value)| present.0.get(*name) != Some(value)) {
            fs::lsetxattr(&path[..], name, value, XattrFlags::empty())?;
        }
        Ok(())
    }
}

fn list_names_by_path(path: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
    fs::llistxattr(path, buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::base::Base;

    #[test]
    fn both_ways_of_asking_give_the_same() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("many"), "").unwrap();
        std::fs::write(temp.path().join("none"), "").unwrap();
        for number in 0..20 {
            let key = format!("user.a-rather-long-name-of-an-attribute-{number}");
            fs::lsetxattr(temp.path().join("many"), &key, b"value", XattrFlags::empty()).unwrap();
        }
        let base = Base::open(temp.path()).unwrap();
        let (by_handle, by_path) = (XattrSupport::new(true), XattrSupport::new(true));
        by_path.by_path.store(true, Ordering::Relaxed);
        for name in [&b"many"[..], b"none", b""] {
            let read = |support| Xattrs::read(base.root(), name, 0, support).unwrap();
            assert_eq!(read(&by_handle), read(&by_path));
        }
        assert_eq!(Xattrs::read(base.root(), b"many", 0, &by_path).unwrap().0.len(), 20);
        assert!(Xattrs::read(base.root(), b"missing", 0, &by_handle).is_err());
    }
}
