//! Setting owner, mode, times, ACLs and extended attributes, in the one order that works.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};

use crate::tree::base::Dir;
use crate::tree::record::{Kind, Record, Time};
use crate::tree::xattrs::Xattrs;

/// Who we are, and so which owners we can give away.
#[derive(Clone, Debug)]
pub struct Identity {
    privileged: bool,
    groups: Vec<u32>,
}

/// Owner and group that an entry is to have; `None` where we may not set it and so do not compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
}

impl Identity {
    /// Of this process. Errors: of `getgroups`.
    pub fn of_process() -> io::Result<Self> {
        let mut groups: Vec<u32> = rustix::process::getgroups()?.into_iter().map(|gid| gid.as_raw()).collect();
        groups.push(rustix::process::getegid().as_raw());
        Ok(Self { privileged: rustix::process::geteuid().is_root(), groups })
    }

    /// An identity that may set everything, or one that is only a member of `groups`.
    pub fn new(privileged: bool, groups: &[u32]) -> Self {
        Self { privileged, groups: groups.to_vec() }
    }

    /// Whether it is root, who may give files away.
    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// What of `source`'s ownership we can set. The rule is rsync's: only root sets owners, and others only set groups
    /// that they belong to.
    pub fn settable(&self, source: &Record) -> Ownership {
        let group = self.privileged || self.groups.contains(&source.gid);
        Ownership { uid: self.privileged.then_some(source.uid), gid: group.then_some(source.gid) }
    }
}

/// Gives the entry `name` of `dir` (`dir` itself if `name` is empty), which is as `present`, the attributes of `wanted`.
///
/// The order matters: an ACL goes before the mode is set (else the mode would set the ACL's mask), the owner before the
/// mode (changing it clears setuid and capabilities), and times last. Only what differs is set.
/// `xattrs` holds the wanted and the present attributes. Errors: of the system calls; what came before stays done.
pub fn set_attributes(
    dir: &Dir,
    name: &[u8],
    wanted: &Record,
    present: &Record,
    identity: &Identity,
    xattrs: Option<(&Xattrs, &Xattrs)>,
) -> io::Result<()> {
    let owner = identity.settable(wanted);
    let uid = owner.uid.filter(|&uid| uid != present.uid);
    let gid = owner.gid.filter(|&gid| gid != present.gid);
    if uid.is_some() || gid.is_some() {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        fs::chownat(dir, name_or_dot(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let differing = xattrs.filter(|(wanted, present)| wanted != present);
    if let Some((_, present)) = differing {
        // Everything is written anew below, because a change of owner may have dropped some of it.
        Xattrs::default().write(present, dir, name)?;
    }
    let chowned = uid.is_some() || gid.is_some();
    if wanted.kind != Kind::Symlink && (wanted.mode != present.mode || chowned || differing.is_some()) {
        set_mode(dir, name, wanted.permissions())?;
    }
    if let Some((wanted, _)) = differing {
        wanted.write(&Xattrs::default(), dir, name)?;
    } else if let Some((wanted, _)) = xattrs.filter(|(wanted, _)| chowned && !wanted.is_empty()) {
        wanted.write(&Xattrs::default(), dir, name)?;
    }
    // The last change of a directory's attributes does not touch its mtime, so it is only set where it differs.
    if wanted.mtime != present.mtime { set_times(dir, name, wanted.mtime) } else { Ok(()) }
}

/// Sets the time of the last change of the entry `name` of `dir`, or of `dir` itself; the time of access stays.
pub fn set_times(dir: &Dir, name: &[u8], mtime: Time) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    };
    Ok(fs::utimensat(dir, name_or_dot(name), &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the mode without following a link, which Linux before 6.6 only does for a handle, by way of `/proc`.
fn set_mode(dir: &Dir, name: &[u8], mode: Mode) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = fs::openat(dir, name_or_dot(name), flags, Mode::empty())?;
    if fs::FileType::from_raw_mode(fs::fstat(&handle)?.st_mode) == fs::FileType::Symlink {
        return Err(io::Error::other("the entry was replaced by a symbolic link"));
    }
    Ok(fs::chmod(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()), mode)?)
}

fn name_or_dot(name: &[u8]) -> &[u8] {
    if name.is_empty() { b"." } else { name }
}
