//! What is known about one entry of a directory: the compact record that the comparison works on.

use rustix::fs::{FileType, Mode, Statx, StatxTimestamp};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket in the file system.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// The type for `mknodat`; `None` for kinds that are made by other calls.
    pub fn node_type(self) -> Option<FileType> {
        match self {
            Kind::Fifo => Some(FileType::Fifo),
            Kind::Socket => Some(FileType::Socket),
            Kind::CharDevice => Some(FileType::CharacterDevice),
            Kind::BlockDevice => Some(FileType::BlockDevice),
            Kind::File | Kind::Directory | Kind::Symlink => None,
        }
    }

    /// Whether the entry carries a device number.
    pub fn is_device(self) -> bool {
        matches!(self, Kind::CharDevice | Kind::BlockDevice)
    }
}

/// A point in time as the file system keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// Which inode: the device number and the inode number on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The device, as `statx` gives it, major in the high half.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
}

/// One entry as `statx` describes it, without following a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes; for a symbolic link the length of its target.
    pub size: u64,
    /// Time of the last change of contents.
    pub mtime: Time,
    /// Time of the last change of the inode.
    pub ctime: Time,
    /// Which inode it is.
    pub id: FileId,
    /// Number of names of the inode.
    pub link_count: u32,
    /// Device number of a device, 0 for everything else.
    pub device_number: u64,
    /// Bytes that are allocated for it.
    pub allocated: u64,
}

impl Record {
    /// Whether the file has holes: less is allocated than its size.
    pub fn is_sparse(&self) -> bool {
        self.kind == Kind::File && self.allocated < self.size
    }

    /// The permission bits as the system calls take them.
    pub fn permissions(&self) -> Mode {
        Mode::from_raw_mode(u32::from(self.mode))
    }

    /// Whether `other`, a later look at the same name, shows the same unchanged inode.
    pub fn is_unchanged_in(&self, other: &Record) -> bool {
        (self.id, self.size, self.mtime, self.ctime) == (other.id, other.size, other.mtime, other.ctime)
    }
}

impl From<&Statx> for Record {
    fn from(stat: &Statx) -> Self {
        let mode = u32::from(stat.stx_mode);
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::RegularFile | FileType::Unknown => Kind::File,
        };
        let number = |major: u32, minor: u32| u64::from(major) << 32 | u64::from(minor);
        Self {
            kind,
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime: Time::from(&stat.stx_mtime),
            ctime: Time::from(&stat.stx_ctime),
            id: FileId { device: number(stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino },
            link_count: stat.stx_nlink,
            device_number: if kind.is_device() { number(stat.stx_rdev_major, stat.stx_rdev_minor) } else { 0 },
            allocated: stat.stx_blocks.saturating_mul(512),
        }
    }
}

impl From<&StatxTimestamp> for Time {
    fn from(time: &StatxTimestamp) -> Self {
        Self { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
    }
}
