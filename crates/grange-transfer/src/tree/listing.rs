//! Listing a directory: names only, in one growing buffer, so that 10^6 names cost their bytes and 12 more each.

use std::io;
use std::mem::MaybeUninit;

use rustix::fs::{FileType, RawDir};

use crate::tree::base::Dir;
use crate::tree::record::Kind;

/// Bytes asked of the kernel at once.
const DIRENT_BUFFER_BYTES: usize = 64 * 1024;

/// The type that the directory itself notes for an entry; some file systems do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType {
    /// A directory.
    Directory,
    /// Anything else.
    Other,
    /// The file system does not say: look at the entry.
    Unknown,
}

impl From<Kind> for EntryType {
    fn from(kind: Kind) -> Self {
        if kind == Kind::Directory { EntryType::Directory } else { EntryType::Other }
    }
}

/// The names in a directory, without `.` and `..`.
#[derive(Debug, Default)]
pub struct Listing {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    length: u16,
    entry_type: EntryType,
}

impl Listing {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in the order of [`Listing::sort`], or in the directory's own.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], EntryType)> {
        self.entries.iter().map(|entry| (self.name(entry), entry.entry_type))
    }

    /// Sorts by the bytes of the names.
    pub fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| self.name(a).cmp(self.name(b)));
        self.entries = entries;
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.start..entry.start + usize::from(entry.length)]
    }

    fn push(&mut self, name: &[u8], entry_type: EntryType) -> io::Result<()> {
        let length = u16::try_from(name.len()).map_err(|_| io::Error::other("a name longer than 65,535 bytes"))?;
        self.entries.push(Entry { start: self.bytes.len(), length, entry_type });
        self.bytes.extend_from_slice(name);
        Ok(())
    }
}

/// Where a listing goes on: the kernel's cookie, valid for the very handle that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u64);

impl Position {
    /// Before the first entry.
    pub const START: Self = Self(0);
}

/// Lists up to `names_max` entries of `dir` from `position` on, unsorted, and where to go on if that was not all.
///
/// Errors: of `getdents64`. What had been read until then is lost on purpose: half a listing must never be taken for
/// a whole one, because names that are missing from it would be deleted on the other side.
pub fn list(dir: &Dir, position: Position, names_max: usize) -> io::Result<(Listing, Option<Position>)> {
    let mut buffer = vec![MaybeUninit::uninit(); DIRENT_BUFFER_BYTES];
    let mut listing = Listing::default();
    rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(position.0))?;
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        // A name with a slash would be a lie of the file system: such a name could lead anywhere.
        if name.is_empty() || name.contains(&b'/') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the directory lists a name with a slash"));
        }
        let entry_type = match entry.file_type() {
            FileType::Directory => EntryType::Directory,
            FileType::Unknown => EntryType::Unknown,
            _ => EntryType::Other,
        };
        listing.push(name, entry_type)?;
        if listing.len() >= names_max {
            return Ok((listing, Some(Position(entry.next_entry_cookie()))));
        }
    }
    Ok((listing, None))
}
