//! One name: what both sides have there is looked at, compared, and made equal.

use std::io;

use rustix::fs::{self, AtFlags};

use crate::compare::{Verdict, compare};
use crate::links::Role;
use crate::path::RelPath;
use crate::sync::directory::Pair;
use crate::sync::job::SyncError;
use crate::sync::namespace::{NamespaceError, OrDoing};
use crate::sync::part::{Item, Named, Presence};
use crate::sync::queue::WorkQueue;
use crate::sync::report::{Change, Severity, count};
use crate::sync::transfer::FileMove;
use crate::sync::worker::{Task, Worker};
use crate::temporary::{is_temporary, temporary_name};
use crate::tree::{Dir, FileId, Kind, Record, Xattrs, set_attributes};

/// What became of a name that stands for its group of hard links.
enum Arrival {
    /// It is at the destination now, as this inode.
    There(FileId),
    /// It goes with a batch; the batch tells the group.
    UnderWay,
    /// Only looked at, in a dry run.
    Imagined,
}

/// The inode that a dry run lets a leader have that does not exist yet.
const IMAGINED: FileId = FileId { device: u64::MAX, inode: 0 };

/// One name with what the source has there.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a [u8],
    source: Record,
    destination: Option<Record>,
}

impl<Q: WorkQueue> Worker<Q> {
    /// Makes one name equal on both sides. What fails is reported and does not stop the others.
    pub(super) fn entry(&mut self, pair: &mut Pair, named: &Named) -> Result<(), SyncError> {
        match self.try_entry(pair, named) {
            Ok(()) => Ok(()),
            Err(NamespaceError::Stop(error)) => Err(*error),
            Err(NamespaceError::At { doing, source }) => {
                let path = pair.path.join(&named.name);
                let is_gone = source.kind() == io::ErrorKind::NotFound;
                if is_gone && pair.source.find(&named.name).is_ok_and(|found| found.is_none()) {
                    self.vanished(&path);
                } else {
                    self.failed(&path, doing, &source);
                }
                Ok(())
            }
        }
    }

    fn vanished(&self, path: &RelPath) {
        self.job.report.problem(Severity::Vanished, path, "it vanished from the source".to_owned());
    }

    fn try_entry(&mut self, pair: &mut Pair, named: &Named) -> Result<(), NamespaceError> {
        let name = &named.name[..];
        let source = pair.source.find(name).or_doing("look at the source")?;
        let destination = match (&pair.destination, named.presence) {
            (None, _) | (_, Presence::Source) => None,
            (Some(dir), _) => dir.find(name).or_doing("look at the destination")?,
        };
        let Some(source) = source else {
            return self.missing_at_source(pair, named, destination.as_ref());
        };
        if named.presence == Presence::Destination {
            return Ok(());
        }
        pair.tally.compared += 1;
        let entry = Entry { name, source, destination };
        match source.kind {
            Kind::Directory => self.directory_entry(pair, entry),
            _ if source.link_count > 1 => self.linked_entry(pair, entry),
            _ => self.single_entry(pair, entry).map(|_| ()),
        }
    }

    fn missing_at_source(
        &mut self,
        pair: &mut Pair,
        named: &Named,
        destination: Option<&Record>,
    ) -> Result<(), NamespaceError> {
        let path = pair.path.join(&named.name);
        if named.presence != Presence::Destination {
            self.vanished(&path);
        }
        let (Some(dir), Some(record)) = (&pair.destination, destination) else { return Ok(()) };
        let unwanted = self.job.options.delete && pair.source_is_alive();
        if unwanted || (named.presence == Presence::Destination && is_temporary(&named.name)) {
            self.job.remove(dir, &named.name, &path, record)?;
        }
        Ok(())
    }

    fn directory_entry(&mut self, pair: &mut Pair, entry: Entry<'_>) -> Result<(), NamespaceError> {
        pair.tally.directories += 1;
        let path = pair.path.join(entry.name);
        if Some(entry.source.id) == self.job.destination_id {
            return Err(io::Error::other("it is the destination itself")).or_doing("copy the directory");
        }
        let verdict = compare(&entry.source, entry.destination.as_ref(), &self.job.identity);
        match (verdict, &pair.destination) {
            (Verdict::Create | Verdict::ReplaceKind, destination) => {
                self.job.report.change(Change::Create, &path);
                count(&self.job.report.progress.created);
                if !self.job.options.dry_run
                    && let Some(dir) = destination
                {
                    if let Some(there) = &entry.destination {
                        self.job.remove(dir, entry.name, &path, there)?;
                    }
                    self.job.make_directory(dir, entry.name).or_doing("create the directory")?;
                }
            }
            (_, Some(dir)) => {
                pair.tally.matched += 1;
                self.job.open_up(dir, entry.name, entry.destination.as_ref()).or_doing("open up the directory")?;
            }
            (_, None) => {}
        }
        self.stack.push(Task::Item(Item::Directory(path)));
        Ok(())
    }

    /// A name of an inode that has several: the first one leads, the others are linked to it.
    fn linked_entry(&mut self, pair: &mut Pair, entry: Entry<'_>) -> Result<(), NamespaceError> {
        match self.job.links.join(&entry.source) {
            Role::Leader => {
                let arrival = self.single_entry(pair, entry);
                let path = || pair.path.join(entry.name);
                match &arrival {
                    Ok(Arrival::There(id)) => self.job.links.settle(entry.source.id, path(), *id),
                    Ok(Arrival::Imagined) => self.job.links.settle(entry.source.id, path(), IMAGINED),
                    Ok(Arrival::UnderWay) => {}
                    Err(_) => self.job.links.abandon(entry.source.id),
                }
                arrival.map(|_| ())
            }
            Role::Waiting => {
                pair.tally.compared -= 1;
                pair.unfinished = true;
                self.link_when_moved(pair.path.join(entry.name), entry.source);
                Ok(())
            }
            Role::Follower { leader, id } => self.follow(pair, entry, &leader, id),
        }
    }

    /// Takes up a name that had to wait for its leader. `false` if it still has to.
    pub(super) fn link_later(&mut self, path: &RelPath, source: &Record) -> Result<bool, SyncError> {
        let result = self.try_link_later(path, source);
        match result {
            Ok(done) => Ok(done),
            Err(NamespaceError::Stop(error)) => Err(*error),
            Err(NamespaceError::At { doing, source }) => {
                self.failed(path, doing, &source);
                Ok(true)
            }
        }
    }

    fn try_link_later(&mut self, path: &RelPath, source: &Record) -> Result<bool, NamespaceError> {
        if self.job.links.is_waiting(source.id) {
            return Ok(false);
        }
        let Some((parent, name)) = path.split() else { return Ok(true) };
        let Some(mut pair) = self.open_pair(&parent) else { return Ok(true) };
        let named = Named { name: name.into(), presence: Presence::Both };
        self.try_entry(&mut pair, &named)?;
        let unfinished = pair.unfinished;
        self.count_tally(&pair);
        if unfinished {
            self.finish_when_moved(parent);
        }
        Ok(true)
    }

    fn follow(
        &mut self,
        pair: &mut Pair,
        entry: Entry<'_>,
        leader: &RelPath,
        id: FileId,
    ) -> Result<(), NamespaceError> {
        self.count_kind(pair, &entry.source);
        if let Some(there) = entry.destination.filter(|there| there.id == id) {
            // The same inode: whatever it needs, its leader does.
            self.job.links.adopt(&there, entry.source.id);
            pair.tally.matched += 1;
            return Ok(());
        }
        let path = pair.path.join(entry.name);
        self.job.report.change(Change::Link, &path);
        count(&self.job.report.progress.linked);
        let Some(dir) = pair.destination.as_ref().filter(|_| !self.job.options.dry_run) else { return Ok(()) };
        self.job.make_way(dir, entry.name, &path, entry.destination.as_ref())?;
        match self.job.link(leader, dir, entry.name) {
            // Too many names, or another file system mounted inside the destination: a copy of its own is the next best.
            Err(error) if matches!(error.kind(), io::ErrorKind::TooManyLinks | io::ErrorKind::CrossesDevices) => {
                self.single_entry(pair, Entry { destination: None, ..entry }).map(|_| ())
            }
            linked => linked.or_doing("link the file"),
        }
    }

    /// A name that stands for itself (or for its group).
    fn single_entry(&mut self, pair: &mut Pair, entry: Entry<'_>) -> Result<Arrival, NamespaceError> {
        self.count_kind(pair, &entry.source);
        let mut verdict = compare(&entry.source, entry.destination.as_ref(), &self.job.identity);
        if let (Verdict::Same | Verdict::Attributes, Some(there)) = (verdict, &entry.destination) {
            let own = self.job.links.adopt(there, entry.source.id);
            let is_link = entry.source.kind == Kind::Symlink;
            if own && (!is_link || targets_agree(pair, entry.name).or_doing("read the link")?) {
                return self.same_contents(pair, entry, there, verdict);
            }
            verdict = Verdict::Replace;
        }
        let path = pair.path.join(entry.name);
        match (entry.source.kind, verdict) {
            (Kind::File, _) => self.file_to_move(pair, entry, path),
            (_, _) => {
                self.job.report.change(Change::Create, &path);
                count(&self.job.report.progress.created);
                let Some(dir) = pair.destination.as_ref().filter(|_| !self.job.options.dry_run) else {
                    return Ok(Arrival::Imagined);
                };
                self.job.make_way(dir, entry.name, &path, entry.destination.as_ref())?;
                self.make_special(&pair.source, dir, entry).or_doing("create the entry").map(Arrival::There)
            }
        }
    }

    fn count_kind(&self, pair: &mut Pair, source: &Record) {
        if source.kind == Kind::File {
            pair.tally.files += 1;
            pair.tally.bytes_total += source.size;
        }
    }

    /// Contents agree: compares what records do not show, and sets attributes in place.
    fn same_contents(
        &mut self,
        pair: &mut Pair,
        entry: Entry<'_>,
        there: &Record,
        verdict: Verdict,
    ) -> Result<Arrival, NamespaceError> {
        let job = &self.job;
        let arrival = Arrival::There(there.id);
        let Some(dir) = &pair.destination else { return Ok(arrival) };
        let read = |dir: &Dir, record: &Record, support| Xattrs::read(dir, entry.name, record.id.device, support);
        let wanted = read(&pair.source, &entry.source, &job.source_xattrs).or_doing("read extended attributes")?;
        let present = read(dir, there, &job.destination_xattrs).or_doing("read extended attributes")?;
        if verdict == Verdict::Same && wanted == present {
            pair.tally.matched += 1;
            return Ok(arrival);
        }
        job.report.change(Change::Attributes, &pair.path.join(entry.name));
        count(&job.report.progress.attributes);
        if !job.options.dry_run {
            let xattrs = Some((&wanted, &present));
            set_attributes(dir, entry.name, &entry.source, there, &job.identity, xattrs).or_doing("set attributes")?;
        }
        Ok(arrival)
    }

    /// Puts a file into a batch.
    fn file_to_move(&mut self, pair: &mut Pair, entry: Entry<'_>, path: RelPath) -> Result<Arrival, NamespaceError> {
        self.job.report.change(Change::Copy, &path);
        let Some(dir) = pair.destination.as_ref().filter(|_| !self.job.options.dry_run) else {
            self.transfers.imagine(&entry.source);
            return Ok(Arrival::Imagined);
        };
        if entry.destination.is_some_and(|there| there.kind != Kind::File) {
            // rsync's own way of replacing other kinds differs by version, so they go first.
            self.job.make_way(dir, entry.name, &path, entry.destination.as_ref())?;
            if let Some(there) = entry.destination.filter(|there| there.kind != Kind::Directory) {
                self.job.remove(dir, entry.name, &path, &there)?;
            }
        }
        let has_detail = self.has_detail(pair, &entry).or_doing("read extended attributes")?;
        pair.unfinished = true;
        let leads = entry.source.link_count > 1;
        let file = FileMove { path, source: entry.source, leads };
        self.transfers.add(file, has_detail).map_err(|error| NamespaceError::Stop(Box::new(error)))?;
        Ok(Arrival::UnderWay)
    }

    /// Whether moving the file must take care of more than contents, owner, mode and time.
    fn has_detail(&self, pair: &mut Pair, entry: &Entry<'_>) -> io::Result<bool> {
        let job = &self.job;
        if entry.source.is_sparse() || pair.inherits_acl(&job.destination_xattrs)? {
            return Ok(true);
        }
        let device = entry.source.id.device;
        if !Xattrs::read(&pair.source, entry.name, device, &job.source_xattrs)?.is_empty() {
            return Ok(true);
        }
        let (Some(there), Some(dir)) = (entry.destination, &pair.destination) else { return Ok(false) };
        Ok(there.kind == Kind::File
            && !Xattrs::read(dir, entry.name, there.id.device, &job.destination_xattrs)?.is_empty())
    }

    /// Makes a symbolic link, pipe, socket or device, complete with attributes, in place of whatever is not a directory.
    fn make_special(&self, source: &Dir, dir: &Dir, entry: Entry<'_>) -> io::Result<FileId> {
        let made = temporary_name();
        let placed = self.make_special_as(source, dir, entry, &made).and_then(|id| {
            fs::renameat(dir, &made[..], dir, entry.name)?;
            Ok(id)
        });
        if placed.is_err() {
            // Best effort: it may not have been made at all, and the next run removes it too.
            let _ = fs::unlinkat(dir, &made[..], AtFlags::empty());
        }
        placed
    }

    fn make_special_as(&self, source: &Dir, dir: &Dir, entry: Entry<'_>, made: &[u8]) -> io::Result<FileId> {
        match entry.source.kind.node_type() {
            None => fs::symlinkat(source.read_link(entry.name)?, dir, made)?,
            Some(node_type) => {
                let number = entry.source.device_number;
                let major = u32::try_from(number >> 32).expect("half of 64 bits");
                let minor = u32::try_from(number & u64::from(u32::MAX)).expect("half of 64 bits");
                let mode = entry.source.permissions() & (fs::Mode::RUSR | fs::Mode::WUSR);
                fs::mknodat(dir, made, node_type, mode, fs::makedev(major, minor))?;
            }
        }
        let present = dir.look(made)?;
        let wanted = Xattrs::read(source, entry.name, entry.source.id.device, &self.job.source_xattrs)?;
        let has = Xattrs::read(dir, made, present.id.device, &self.job.destination_xattrs)?;
        set_attributes(dir, made, &entry.source, &present, &self.job.identity, Some((&wanted, &has)))?;
        Ok(present.id)
    }
}

fn targets_agree(pair: &Pair, name: &[u8]) -> io::Result<bool> {
    let Some(dir) = &pair.destination else { return Ok(false) };
    Ok(pair.source.read_link(name)? == dir.read_link(name)?)
}
