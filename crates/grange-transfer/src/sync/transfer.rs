//! Batches of files on their way: collected by a worker, moved on a thread of their own while the worker goes on,
//! looked at when they have arrived.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};

use crate::compare::{Verdict, compare};
use crate::mover::{ContentMover, Detail, Messages, MoveError, MoveProgress};
use crate::path::RelPath;
use crate::sync::job::{Job, SyncError};
use crate::sync::report::{Severity, count};
use crate::tree::{Dir, Record, set_attributes};

/// A batch is closed at so many files: large enough that starting a process does not matter (10 ms against 200 ms).
const BATCH_FILES_MAX: usize = 4096;

/// A batch is closed at so many bytes, so that it does not last long.
const BATCH_BYTES_MAX: u64 = 256 << 20;

/// A file of this size goes in a process of its own at once, so that it is not what everybody waits for in the end.
const LARGE_FILE_BYTES: u64 = 64 << 20;

/// Number of a batch of one worker, in the order of their making.
pub(super) type BatchId = u64;

/// A regular file whose contents are to be brought.
#[derive(Clone, Debug)]
pub(super) struct FileMove {
    pub(super) path: RelPath,
    /// As it was when it was compared.
    pub(super) source: Record,
    /// It leads a group of hard links, which has to be told.
    pub(super) leads: bool,
}

/// Files that are moved together.
#[derive(Debug, Default)]
struct Batch {
    plain: Vec<FileMove>,
    full: Vec<FileMove>,
    /// Not for the mover: for the fallback.
    refused: Vec<FileMove>,
    bytes: u64,
}

#[derive(Debug)]
struct Running {
    id: BatchId,
    thread: JoinHandle<Result<(), MoveError>>,
}

/// A worker's batches: one being filled, one under way, and one large file under way.
#[derive(Debug)]
pub(super) struct Transfers {
    job: Arc<Job>,
    loading: Batch,
    loading_id: BatchId,
    last_id: BatchId,
    running: Option<Running>,
    large: Option<Running>,
}

impl Batch {
    fn len(&self) -> usize {
        self.plain.len() + self.full.len() + self.refused.len()
    }

    fn add(&mut self, file: FileMove, detailed: bool, mover: &dyn ContentMover) {
        self.bytes += file.source.size;
        let group = match detailed {
            _ if !mover.takes(&file.path) => &mut self.refused,
            true => &mut self.full,
            false => &mut self.plain,
        };
        group.push(file);
    }
}

impl Transfers {
    pub(super) fn new(job: Arc<Job>) -> Self {
        Self { job, loading: Batch::default(), loading_id: 0, last_id: 0, running: None, large: None }
    }

    /// Adds a file to the batch that is being filled, and sends that off when it is full. `detailed`: it has
    /// extended attributes, an ACL or holes.
    pub(super) fn add(&mut self, file: FileMove, detailed: bool) -> Result<(), SyncError> {
        let progress = &self.job.report.progress;
        count(&progress.files_to_move);
        progress.bytes_to_move.fetch_add(file.source.size, Relaxed);
        if file.source.size >= LARGE_FILE_BYTES {
            reap_if_done(&mut self.large)?;
            if self.large.is_none() {
                let mut batch = Batch::default();
                batch.add(file, detailed, &*self.job.mover);
                self.last_id += 1;
                self.large = Some(self.start(self.last_id, batch)?);
                return Ok(());
            }
        }
        if self.loading.len() == 0 {
            self.last_id += 1;
            self.loading_id = self.last_id;
        }
        self.loading.add(file, detailed, &*self.job.mover);
        if self.loading.len() >= BATCH_FILES_MAX || self.loading.bytes >= BATCH_BYTES_MAX {
            self.send_off()?;
        }
        Ok(())
    }

    /// Counts a file that a dry run does not move.
    pub(super) fn imagine(&self, source: &Record) {
        let progress = &self.job.report.progress;
        count(&progress.files_to_move);
        count(&progress.transferred);
        progress.bytes_to_move.fetch_add(source.size, Relaxed);
    }

    /// The newest batch. What is noted now waits for it and all before it.
    pub(super) fn last_batch(&self) -> BatchId {
        self.last_id
    }

    /// Whether `batch` or one before it has not arrived yet.
    pub(super) fn is_outstanding(&self, batch: BatchId) -> bool {
        let under_way = [&self.running, &self.large].into_iter().flatten().any(|running| running.id <= batch);
        under_way || (self.loading.len() > 0 && self.loading_id <= batch)
    }

    /// Whether anything is being filled or under way.
    pub(super) fn has_work(&self) -> bool {
        self.is_outstanding(BatchId::MAX)
    }

    /// Takes note of batches that have arrived. Returns whether there was one.
    pub(super) fn reap(&mut self) -> Result<bool, SyncError> {
        let running = reap_if_done(&mut self.running)?;
        Ok(reap_if_done(&mut self.large)? || running)
    }

    /// Sends off what there is and waits until all has arrived.
    pub(super) fn finish_all(&mut self) -> Result<(), SyncError> {
        if self.loading.len() > 0 {
            self.send_off()?;
        }
        wait(&mut self.running)?;
        wait(&mut self.large)
    }

    fn send_off(&mut self) -> Result<(), SyncError> {
        wait(&mut self.running)?;
        let batch = std::mem::take(&mut self.loading);
        self.running = Some(self.start(self.loading_id, batch)?);
        Ok(())
    }

    fn start(&self, id: BatchId, batch: Batch) -> Result<Running, SyncError> {
        let job = Arc::clone(&self.job);
        let builder = thread::Builder::new().name(format!("batch-{id}"));
        let thread = builder.spawn(move || batch.run(&job)).map_err(SyncError::Spawn)?;
        Ok(Running { id, thread })
    }
}

fn reap_if_done(slot: &mut Option<Running>) -> Result<bool, SyncError> {
    let done = slot.as_ref().is_some_and(|running| running.thread.is_finished());
    if done {
        wait(slot)?;
    }
    Ok(done)
}

fn wait(slot: &mut Option<Running>) -> Result<(), SyncError> {
    match slot.take().map(|running| running.thread.join()) {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(error.into()),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    }
}

impl Batch {
    /// Moves all files, looks at each, and moves those a second time that changed under way.
    fn run(self, job: &Job) -> Result<(), MoveError> {
        let groups: [(Vec<FileMove>, Detail, &dyn ContentMover); 3] = [
            (self.plain, Detail::Plain, &*job.mover),
            (self.full, Detail::Full, &*job.mover),
            (self.refused, Detail::Full, &job.native),
        ];
        for (files, detail, mover) in groups {
            let messages = move_group(job, mover, &files, detail)?;
            let again: Vec<FileMove> = files
                .into_iter()
                .filter_map(|file| Arrived::look(job, &file, &messages).conclude(job, file, true))
                .collect();
            let messages = move_group(job, mover, &again, detail)?;
            for file in again {
                Arrived::look(job, &file, &messages).conclude(job, file, false);
            }
        }
        Ok(())
    }
}

fn move_group(job: &Job, mover: &dyn ContentMover, files: &[FileMove], detail: Detail) -> Result<Messages, MoveError> {
    if files.is_empty() {
        return Ok(Messages::default());
    }
    count(&job.report.progress.movers_started);
    let paths: Vec<RelPath> = files.iter().map(|file| file.path.clone()).collect();
    let progress = MoveProgress::counting_into(Arc::clone(&job.report.progress.bytes_moved));
    mover.move_files(&job.ends, &paths, detail, &progress)
}

/// What is found after a file was moved.
#[derive(Debug)]
enum Arrived {
    /// It is there, as this record.
    Whole(Record),
    /// It is gone from the source.
    Vanished,
    /// The source is not what it was when it was compared.
    Changed,
    /// It did not arrive, for this reason.
    Not(String),
}

impl Arrived {
    fn look(job: &Job, file: &FileMove, messages: &Messages) -> Self {
        let Some((parent, name)) = file.path.split() else { return Arrived::Not("it has no name".into()) };
        let source = job.ends.source.open_dir(&parent).and_then(|dir| dir.find(name));
        let source = match source {
            Ok(Some(source)) => source,
            Ok(None) => return Arrived::Vanished,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Arrived::Vanished,
            Err(error) => return Arrived::Not(format!("cannot look at the source: {error}")),
        };
        let destination = job.ends.destination.open_dir(&parent).and_then(|dir| Ok((dir.find(name)?, dir)));
        let explained = || explain(&file.path, messages);
        match destination {
            Ok((Some(there), dir)) => match compare(&source, Some(&there), &job.identity) {
                Verdict::Same if there.link_count == 1 => Arrived::Whole(there),
                Verdict::Same | Verdict::Attributes => Self::with_attributes(job, &dir, name, &source, there),
                _ if !file.source.is_unchanged_in(&source) => Arrived::Changed,
                _ => Arrived::Not(explained()),
            },
            Ok((None, _)) if !file.source.is_unchanged_in(&source) => Arrived::Changed,
            Ok((None, _)) => Arrived::Not(explained()),
            Err(error) => Arrived::Not(format!("cannot look at the destination: {error}")),
        }
    }

    /// The contents are there; sets what the mover could not set, or what changed at the source meanwhile.
    fn with_attributes(job: &Job, dir: &Dir, name: &[u8], source: &Record, there: Record) -> Self {
        match set_attributes(dir, name, source, &there, &job.identity, None) {
            Ok(()) => Arrived::Whole(there),
            Err(error) => Arrived::Not(format!("cannot set attributes: {error}")),
        }
    }

    /// Reports, and tells the group of hard links. Returns the file if it is to be moved once more.
    fn conclude(self, job: &Job, file: FileMove, may_retry: bool) -> Option<FileMove> {
        match self {
            Arrived::Whole(there) => {
                count(&job.report.progress.transferred);
                if file.leads {
                    job.links.settle(file.source.id, file.path, there.id);
                }
                return None;
            }
            Arrived::Changed if may_retry => return Some(file),
            Arrived::Changed => {
                let message = "it changed at the source while it was copied, twice".to_owned();
                job.report.problem(Severity::Changed, &file.path, message);
            }
            Arrived::Vanished => {
                job.report.problem(Severity::Vanished, &file.path, "it vanished from the source".to_owned());
            }
            Arrived::Not(message) => job.report.problem(Severity::Failed, &file.path, message),
        }
        if file.leads {
            job.links.abandon(file.source.id);
        }
        None
    }
}

/// The mover's own message for a file, or else its judgement of the batch.
fn explain(path: &RelPath, messages: &Messages) -> String {
    let general = || {
        messages.verdict.clone().map(|verdict| match messages.lines.first() {
            Some(line) => format!("{verdict} (first message: {})", crate::path::escape(line)),
            None => verdict,
        })
    };
    messages.about(path).or_else(general).unwrap_or_else(|| "it is not equal after it was copied".to_owned())
}
