//! The decision: from what both sides have under one name to what has to be done. Pure.
//!
//! What a record does not show (a symbolic link's target, extended attributes) is compared by the caller afterwards,
//! for [`Verdict::Same`] and [`Verdict::Attributes`].

use crate::tree::{Identity, Kind, Record};

/// What the destination needs under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Contents and attributes agree as far as records show.
    Same,
    /// Contents agree, attributes do not: they are set in place.
    Attributes,
    /// The destination has nothing there: the entry is made.
    Create,
    /// Both are of one kind, with other contents (file, link target, device number): a new one replaces the old.
    Replace,
    /// The destination has another kind there: it goes first, with everything in it.
    ReplaceKind,
}

/// Compares the two sides of one name.
///
/// A regular file's contents are taken as equal if size and time of change (to the nanosecond) are: the quick check of
/// rsync with `--modify-window=-1`.
pub fn compare(source: &Record, destination: Option<&Record>, identity: &Identity) -> Verdict {
    let Some(destination) = destination else { return Verdict::Create };
    if source.kind != destination.kind {
        return Verdict::ReplaceKind;
    }
    let contents_agree = match source.kind {
        Kind::File => source.size == destination.size && source.mtime == destination.mtime,
        // The target is what counts; a length that differs already decides.
        Kind::Symlink => source.size == destination.size,
        Kind::CharDevice | Kind::BlockDevice => source.device_number == destination.device_number,
        Kind::Directory | Kind::Fifo | Kind::Socket => true,
    };
    if !contents_agree {
        Verdict::Replace
    } else if attributes_agree(source, destination, identity) {
        Verdict::Same
    } else {
        Verdict::Attributes
    }
}

/// Whether owner, group, mode and time of change agree, as far as `identity` could set them.
///
/// A symbolic link has no mode of its own.
pub fn attributes_agree(source: &Record, destination: &Record, identity: &Identity) -> bool {
    let owner = identity.settable(source);
    owner.uid.is_none_or(|uid| uid == destination.uid)
        && owner.gid.is_none_or(|gid| gid == destination.gid)
        && (source.kind == Kind::Symlink || source.mode == destination.mode)
        && source.mtime == destination.mtime
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{FileId, Time};

    fn record(kind: Kind) -> Record {
        Record {
            kind,
            mode: 0o644,
            uid: 10,
            gid: 20,
            size: 5,
            mtime: Time { seconds: 1_000, nanoseconds: 7 },
            ctime: Time::default(),
            id: FileId { device: 1, inode: 2 },
            link_count: 1,
            device_number: 0,
            allocated: 4096,
        }
    }

    fn check(kind: Kind, change: impl Fn(&mut Record), as_root: Verdict, as_member_of_20: Verdict) {
        let (source, mut destination) = (record(kind), record(kind));
        change(&mut destination);
        let verdict = |identity| compare(&source, Some(&destination), &identity);
        assert_eq!(verdict(Identity::new(true, &[])), as_root, "{kind:?} as root");
        assert_eq!(verdict(Identity::new(false, &[20])), as_member_of_20, "{kind:?} as a member of group 20");
    }

    #[test]
    fn equal_records_need_nothing_whatever_inode_they_are() {
        for kind in [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice] {
            check(kind, |_| {}, Verdict::Same, Verdict::Same);
            let elsewhere = |r: &mut Record| {
                r.id.inode = 99;
                r.link_count = 3;
                r.ctime.seconds = 5;
                r.allocated = 0;
            };
            check(kind, elsewhere, Verdict::Same, Verdict::Same);
        }
    }

    #[test]
    fn a_file_is_new_if_size_or_time_differ_by_the_smallest_step() {
        check(Kind::File, |r| r.size = 6, Verdict::Replace, Verdict::Replace);
        check(Kind::File, |r| r.mtime.nanoseconds = 8, Verdict::Replace, Verdict::Replace);
        check(Kind::File, |r| r.mtime.seconds = 999, Verdict::Replace, Verdict::Replace);
    }

    #[test]
    fn attributes_are_set_in_place() {
        check(Kind::File, |r| r.mode = 0o4644, Verdict::Attributes, Verdict::Attributes);
        check(Kind::Directory, |r| r.mtime.nanoseconds = 8, Verdict::Attributes, Verdict::Attributes);
        check(Kind::Fifo, |r| r.mtime.seconds = 8, Verdict::Attributes, Verdict::Attributes);
        check(Kind::Directory, |r| r.size = 8192, Verdict::Same, Verdict::Same);
    }

    #[test]
    fn owners_that_cannot_be_set_are_not_compared() {
        check(Kind::File, |r| r.uid = 11, Verdict::Attributes, Verdict::Same);
        check(Kind::File, |r| r.gid = 21, Verdict::Attributes, Verdict::Attributes);
        let mut source = record(Kind::File);
        source.gid = 30;
        let verdict = compare(&source, Some(&record(Kind::File)), &Identity::new(false, &[20]));
        assert_eq!(verdict, Verdict::Same, "we are no member of group 30");
    }

    #[test]
    fn links_and_devices() {
        check(Kind::Symlink, |r| r.size = 6, Verdict::Replace, Verdict::Replace);
        check(Kind::Symlink, |r| r.mode = 0o777, Verdict::Same, Verdict::Same);
        check(Kind::Symlink, |r| r.mtime.seconds = 1, Verdict::Attributes, Verdict::Attributes);
        check(Kind::BlockDevice, |r| r.device_number = 1 << 32, Verdict::Replace, Verdict::Replace);
    }

    #[test]
    fn a_change_of_kind_and_a_missing_entry() {
        let root = Identity::new(true, &[]);
        assert_eq!(compare(&record(Kind::File), Some(&record(Kind::Directory)), &root), Verdict::ReplaceKind);
        assert_eq!(compare(&record(Kind::CharDevice), Some(&record(Kind::BlockDevice)), &root), Verdict::ReplaceKind);
        assert_eq!(compare(&record(Kind::File), None, &root), Verdict::Create);
    }
}
