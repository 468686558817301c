//! One directory: both sides are listed, their names meet, and each pair is handled.

use std::cmp::Ordering;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use crate::compare::attributes_agree;
use crate::path::RelPath;
use crate::sync::job::SyncError;
use crate::sync::part::{Item, Named, Presence};
use crate::sync::queue::WorkQueue;
use crate::sync::report::{Change, Progress, Severity};
use crate::sync::worker::{Task, Worker};
use crate::temporary::is_temporary;
use crate::tree::{Dir, EntryType, Kind, Listing, Position, Record, Xattrs, list, set_attributes};

/// A directory with more entries is cut into pieces of this size, which can be shared out.
const PIECE_NAMES: usize = 2048;

/// A directory with more entries on one side is not even listed at once: it streams through in pieces. Bounds memory
/// to about 50 MiB for each worker.
const LISTING_NAMES_MAX: usize = 1 << 20;

/// Both sides of one directory while it is worked on.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) path: RelPath,
    pub(super) source: Dir,
    /// `None` only in a dry run, below a directory that would be made.
    pub(super) destination: Option<Dir>,
    /// Something of its own entries is still to come: a file, a link.
    pub(super) unfinished: bool,
    pub(super) tally: Tally,
    inherits_acl: Option<bool>,
}

/// Counts of one directory, added to the job's counters at once, because workers would fight for those.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) compared: u64,
    pub(super) directories: u64,
    pub(super) files: u64,
    pub(super) matched: u64,
    pub(super) bytes_total: u64,
}

impl Tally {
    fn add_to(&self, progress: &Progress) {
        progress.compared.fetch_add(self.compared, Relaxed);
        progress.directories.fetch_add(self.directories, Relaxed);
        progress.files.fetch_add(self.files, Relaxed);
        progress.matched.fetch_add(self.matched, Relaxed);
        progress.bytes_total.fetch_add(self.bytes_total, Relaxed);
    }
}

/// A directory that is listed in pieces, first the source's side and then, for deletions, the destination's.
#[derive(Debug)]
pub(super) struct Stream {
    path: RelPath,
    dir: Dir,
    presence: Presence,
    position: Position,
}

impl<Q: WorkQueue> Worker<Q> {
    /// Makes the directory at `path`, which exists on both sides, equal, and puts its subdirectories on the stack.
    pub(super) fn directory(&mut self, path: &RelPath) -> Result<(), SyncError> {
        let Some(pair) = self.open_pair(path) else { return Ok(()) };
        let source = match list(&pair.source, Position::START, LISTING_NAMES_MAX) {
            Ok(listed) => listed,
            Err(error) => {
                // Nothing is known to be missing, so nothing is deleted here.
                self.failed(path, "list the source directory", &error);
                self.finish(path);
                return Ok(());
            }
        };
        let destination = self.list_destination(&pair);
        match (source, destination) {
            ((source, None), Some((destination, None))) => {
                let names = self.meet(&pair, source, destination);
                self.handle_or_cut(pair, names)?;
            }
            ((source, None), None) => {
                let names = self.meet(&pair, source, Listing::default());
                let unknown = |named: Named| Named { presence: Presence::Both, ..named };
                self.handle_or_cut(pair, names.into_iter().map(unknown).collect())?;
            }
            _ => {
                self.late.push(Item::Finish(path.clone()));
                let (path, dir) = (pair.path, pair.source);
                self.stack.push(Task::Stream(Stream {
                    path,
                    dir,
                    presence: Presence::Both,
                    position: Position::START,
                }));
            }
        }
        Ok(())
    }

    /// The destination's names; `None` if they cannot be known, which rules deletions out.
    fn list_destination(&mut self, pair: &Pair) -> Option<(Listing, Option<Position>)> {
        let Some(dir) = &pair.destination else { return Some((Listing::default(), None)) };
        match list(dir, Position::START, LISTING_NAMES_MAX) {
            Ok(listed) => Some(listed),
            Err(error) => {
                self.failed(&pair.path, "list the destination directory", &error);
                None
            }
        }
    }

    fn handle_or_cut(&mut self, mut pair: Pair, names: Vec<Named>) -> Result<(), SyncError> {
        if names.len() > PIECE_NAMES {
            self.late.push(Item::Finish(pair.path.clone()));
            let pieces = names.chunks(PIECE_NAMES);
            let item = |piece: &[Named]| Item::Names { directory: pair.path.clone(), names: piece.to_vec() };
            self.stack.extend(pieces.map(|piece| Task::Item(item(piece))));
            return Ok(());
        }
        self.handle(&mut pair, &names)?;
        self.conclude(pair);
        Ok(())
    }

    /// Handles some entries of a large directory.
    pub(super) fn names(&mut self, path: &RelPath, names: &[Named]) -> Result<(), SyncError> {
        let Some(mut pair) = self.open_pair(path) else { return Ok(()) };
        self.handle(&mut pair, names)?;
        pair.tally.add_to(&self.job.report.progress);
        Ok(())
    }

    fn handle(&mut self, pair: &mut Pair, names: &[Named]) -> Result<(), SyncError> {
        // Deletions first: they make room, and they free inodes that new names would otherwise seem to share.
        for named in names.iter().filter(|named| named.presence == Presence::Destination) {
            self.entry(pair, named)?;
        }
        for named in names.iter().filter(|named| named.presence != Presence::Destination) {
            self.entry(pair, named)?;
        }
        Ok(())
    }

    /// Lists the next piece of a huge directory and puts it, and what follows it, on the stack.
    pub(super) fn stream(&mut self, mut stream: Stream) {
        let listed = list(&stream.dir, stream.position, PIECE_NAMES);
        let (listing, next) = match listed {
            Ok(listed) => listed,
            Err(error) => return self.failed(&stream.path, "list a large directory", &error),
        };
        let none = Listing::default();
        let (source, destination) = if stream.presence == Presence::Both { (listing, none) } else { (none, listing) };
        let mut names = self.join_names(&stream.path, &stream.dir, source, Some(&stream.dir), destination);
        for named in &mut names {
            named.presence = stream.presence;
        }
        if stream.presence == Presence::Both {
            self.discovered(names.len());
        }
        let directory = stream.path.clone();
        match next {
            Some(position) => {
                stream.position = position;
                self.stack.push(Task::Stream(stream));
            }
            None if stream.presence == Presence::Both => self.stream_destination(&directory),
            None => {}
        }
        self.stack.push(Task::Item(Item::Names { directory, names }));
    }

    fn stream_destination(&mut self, path: &RelPath) {
        match self.job.ends.destination.open_dir(path) {
            Ok(dir) => {
                let (path, presence) = (path.clone(), Presence::Destination);
                self.stack.push(Task::Stream(Stream { path, dir, presence, position: Position::START }));
            }
            Err(error) => self.failed(path, "open the destination directory", &error),
        }
    }

    /// Opens both sides; `None` if there is nothing (more) to do.
    pub(super) fn open_pair(&mut self, path: &RelPath) -> Option<Pair> {
        let job = &self.job;
        let destination = match job.ends.destination.open_dir(path) {
            Ok(dir) => Some(dir),
            Err(_) if job.options.dry_run => None,
            Err(error) => {
                self.failed(path, "open the destination directory", &error);
                return None;
            }
        };
        match job.ends.source.open_dir(path) {
            Ok(source) => {
                let tally = Tally::default();
                Some(Pair { path: path.clone(), source, destination, unfinished: false, tally, inherits_acl: None })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                job.report.problem(Severity::Vanished, path, "the directory vanished from the source".into());
                None
            }
            Err(error) => {
                self.failed(path, "open the source directory", &error);
                self.finish(path);
                None
            }
        }
    }

    fn meet(&self, pair: &Pair, source: Listing, destination: Listing) -> Vec<Named> {
        let names = self.join_names(&pair.path, &pair.source, source, pair.destination.as_ref(), destination);
        let discovered = names.iter().filter(|named| named.presence != Presence::Destination).count();
        self.discovered(discovered);
        names
    }

    fn discovered(&self, count: usize) {
        self.job.report.progress.discovered.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Relaxed);
    }

    /// Joins two listings by name, without what the filter leaves out on its side.
    fn join_names(
        &self,
        path: &RelPath,
        source_dir: &Dir,
        mut source: Listing,
        destination_dir: Option<&Dir>,
        mut destination: Listing,
    ) -> Vec<Named> {
        source.sort();
        destination.sort();
        let progress = &self.job.report.progress;
        let keeps_source = |name: &[u8], entry_type| {
            let keeps = !self.excludes(path, Some(source_dir), name, entry_type);
            if !keeps {
                progress.excluded.fetch_add(1, Relaxed);
            }
            keeps
        };
        let keeps_destination = |name: &[u8], entry_type| !self.excludes(path, destination_dir, name, entry_type);
        let mut left = source.iter().filter(|&(name, entry_type)| keeps_source(name, entry_type)).peekable();
        let mut right = destination.iter().filter(|&(name, entry_type)| keeps_destination(name, entry_type)).peekable();
        let mut names = Vec::with_capacity(source.len().max(destination.len()));
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some((left, _)), Some((right, _))) => left.cmp(right),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return names,
            };
            let (presence, taken) = match order {
                Ordering::Less => (Presence::Source, left.next()),
                Ordering::Greater => (Presence::Destination, right.next()),
                Ordering::Equal => (Presence::Both, left.next().and(right.next())),
            };
            let (name, _) = taken.expect("it was peeked at");
            // Without --delete only our own leftovers go.
            if presence != Presence::Destination || self.job.options.delete || is_temporary(name) {
                names.push(Named { name: name.into(), presence });
            }
        }
    }

    fn excludes(&self, path: &RelPath, dir: Option<&Dir>, name: &[u8], entry_type: EntryType) -> bool {
        let filter = &self.job.options.filter;
        if filter.is_empty() {
            return false;
        }
        let is_directory = match entry_type {
            EntryType::Directory => true,
            EntryType::Other => false,
            EntryType::Unknown => {
                dir.and_then(|dir| dir.look(name).ok()).is_some_and(|record| record.kind == Kind::Directory)
            }
        };
        filter.excludes(path.join(name).as_bytes(), is_directory)
    }

    /// All entries have been handled; sets the directory's attributes as soon as nothing more disturbs them.
    fn conclude(&mut self, pair: Pair) {
        pair.tally.add_to(&self.job.report.progress);
        if pair.unfinished {
            return self.finish_when_moved(pair.path);
        }
        let restricts = |record: Record| record.mode & 0o700 != 0o700;
        if !self.job.identity.is_privileged() && pair.source.record().is_ok_and(restricts) {
            // Once set, we could not work below it any more.
            return self.late.push(Item::Finish(pair.path));
        }
        let Some(destination) = &pair.destination else { return };
        if let Err(error) = self.equalise(&pair.path, &pair.source, destination) {
            self.failed(&pair.path, "set the attributes of the directory", &error);
        }
    }

    /// Adds what was counted outside of a whole directory.
    pub(super) fn count_tally(&self, pair: &Pair) {
        pair.tally.add_to(&self.job.report.progress);
    }

    /// Sets the attributes of the directory at `path`.
    pub(super) fn finish(&mut self, path: &RelPath) {
        if self.job.options.dry_run {
            return;
        }
        if let Err(error) = self.try_finish(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.failed(path, "set the attributes of the directory", &error);
        }
    }

    fn try_finish(&mut self, path: &RelPath) -> io::Result<()> {
        let ends = &self.job.ends;
        let destination = ends.destination.open_dir(path)?;
        match ends.source.open_dir(path) {
            Ok(source) => self.equalise(path, &source, &destination),
            // Unreadable: what its parent shows of it is all there is.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let (parent, name) = path.split().ok_or(error)?;
                let wanted = ends.source.open_dir(&parent)?.look(name)?;
                set_attributes(&destination, b"", &wanted, &destination.record()?, &self.job.identity, None)
            }
            Err(error) => Err(error),
        }
    }

    fn equalise(&self, path: &RelPath, source: &Dir, destination: &Dir) -> io::Result<()> {
        let (wanted, present) = (source.record()?, destination.record()?);
        let job = &self.job;
        let wanted_xattrs = Xattrs::read(source, b"", wanted.id.device, &job.source_xattrs)?;
        let present_xattrs = Xattrs::read(destination, b"", present.id.device, &job.destination_xattrs)?;
        if attributes_agree(&wanted, &present, &job.identity) && wanted_xattrs == present_xattrs {
            return Ok(());
        }
        job.report.change(Change::Attributes, path);
        if job.options.dry_run {
            return Ok(());
        }
        let xattrs = Some((&wanted_xattrs, &present_xattrs));
        set_attributes(destination, b"", &wanted, &present, &job.identity, xattrs)
    }
}

impl Pair {
    /// Whether new files in the destination's directory inherit an ACL.
    pub(super) fn inherits_acl(&mut self, support: &crate::tree::XattrSupport) -> io::Result<bool> {
        if let Some(known) = self.inherits_acl {
            return Ok(known);
        }
        let Some(dir) = &self.destination else { return Ok(false) };
        let inherits = Xattrs::read(dir, b"", dir.record()?.id.device, support)?.has_default_acl();
        self.inherits_acl = Some(inherits);
        Ok(inherits)
    }

    /// Whether the source's directory still exists. One that was removed lists as empty, which must not be mistaken
    /// for a wish to delete.
    pub(super) fn source_is_alive(&self) -> bool {
        self.source.record().is_ok_and(|record| record.link_count > 0)
    }
}
