//! What a job counts and what it has to say: figures, failures, warnings.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::path::RelPath;

/// Most problems that are kept for the summary; further ones are only counted (and still shown as they happen).
pub const PROBLEMS_KEPT_MAX: usize = 10_000;

/// What happened at one path that the user must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which entry.
    pub path: RelPath,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, harmless for a terminal; rsync's own message where rsync said something.
    pub message: String,
}

/// What a problem means for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The entry did not arrive as it is at the source.
    Failed,
    /// The entry kept changing while it was copied; what arrived may be between two states.
    Changed,
    /// The entry was gone from the source before it could be copied: there was nothing to bring.
    Vanished,
}

impl fmt::Display for Severity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Severity::Failed => "failed",
            Severity::Changed => "changed",
            Severity::Vanished => "vanished",
        })
    }
}

/// Something that is done to the destination, or would be in a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A directory, link, pipe, device or socket is made.
    Create,
    /// A regular file's contents are brought.
    Copy,
    /// A name is linked to a file that is there.
    Link,
    /// Attributes are set.
    Attributes,
    /// An entry is removed.
    Delete,
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Change::Create => "create",
            Change::Copy => "copy",
            Change::Link => "link",
            Change::Attributes => "attributes",
            Change::Delete => "delete",
        })
    }
}

/// Is told what happens while it happens. Called from worker threads: must be quick.
pub trait Observer: Send + Sync {
    /// A change of the destination is about to be made (in a dry run: would be).
    fn change(&self, _change: Change, _path: &RelPath) {}

    /// Something went wrong at one path.
    fn problem(&self, _problem: &Problem) {}
}

/// Observes nothing.
#[derive(Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// The counters of a job, of all its workers in this process.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) discovered: AtomicU64,
    pub(crate) compared: AtomicU64,
    pub(crate) directories: AtomicU64,
    pub(crate) files: AtomicU64,
    pub(crate) matched: AtomicU64,
    pub(crate) transferred: AtomicU64,
    pub(crate) created: AtomicU64,
    pub(crate) linked: AtomicU64,
    pub(crate) attributes: AtomicU64,
    pub(crate) deleted: AtomicU64,
    pub(crate) excluded: AtomicU64,
    pub(crate) bytes_total: AtomicU64,
    pub(crate) bytes_to_move: AtomicU64,
    pub(crate) bytes_moved: Arc<AtomicU64>,
    pub(crate) files_to_move: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) changed: AtomicU64,
    pub(crate) vanished: AtomicU64,
    pub(crate) parts_shared: AtomicU64,
    pub(crate) movers_started: AtomicU64,
}

/// The figures of a job at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Entries of the source that listings have shown so far.
    pub discovered: u64,
    /// Entries of the source that have been compared.
    pub compared: u64,
    /// Directories among them.
    pub directories: u64,
    /// Regular files among them.
    pub files: u64,
    /// Entries that were equal on both sides.
    pub matched: u64,
    /// Regular files whose contents were brought.
    pub transferred: u64,
    /// Directories, symbolic links, pipes, sockets and devices that were made.
    pub created: u64,
    /// Names that were hard-linked.
    pub linked: u64,
    /// Entries of which only attributes were set.
    pub attributes: u64,
    /// Entries that were deleted at the destination, with those inside deleted directories.
    pub deleted: u64,
    /// Entries of the source left out by patterns; what is below them is not counted.
    pub excluded: u64,
    /// Bytes of all regular files compared.
    pub bytes_total: u64,
    /// Bytes of the files found to differ so far.
    pub bytes_to_move: u64,
    /// Bytes of contents that have arrived.
    pub bytes_moved: u64,
    /// Files found to differ so far.
    pub files_to_move: u64,
    /// Entries that failed.
    pub failed: u64,
    /// Files that kept changing.
    pub changed: u64,
    /// Entries that vanished.
    pub vanished: u64,
    /// Parts that went through the queue.
    pub parts_shared: u64,
    /// Processes that were started to move contents.
    pub movers_started: u64,
}

impl Progress {
    /// The figures as they are now. Each is exact; together they may be of slightly different moments.
    pub fn figures(&self) -> Figures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            discovered: get(&self.discovered),
            compared: get(&self.compared),
            directories: get(&self.directories),
            files: get(&self.files),
            matched: get(&self.matched),
            transferred: get(&self.transferred),
            created: get(&self.created),
            linked: get(&self.linked),
            attributes: get(&self.attributes),
            deleted: get(&self.deleted),
            excluded: get(&self.excluded),
            bytes_total: get(&self.bytes_total),
            bytes_to_move: get(&self.bytes_to_move),
            bytes_moved: get(&self.bytes_moved),
            files_to_move: get(&self.files_to_move),
            failed: get(&self.failed),
            changed: get(&self.changed),
            vanished: get(&self.vanished),
            parts_shared: get(&self.parts_shared),
            movers_started: get(&self.movers_started),
        }
    }
}

/// Adds one to a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Collects counters and problems of a job.
pub(crate) struct Report {
    pub(crate) progress: Arc<Progress>,
    observer: Arc<dyn Observer>,
    problems: Mutex<Vec<Problem>>,
}

impl Report {
    pub(crate) fn new(progress: Arc<Progress>, observer: Arc<dyn Observer>) -> Self {
        Self { progress, observer, problems: Mutex::default() }
    }

    pub(crate) fn change(&self, change: Change, path: &RelPath) {
        self.observer.change(change, path);
    }

    pub(crate) fn problem(&self, severity: Severity, path: &RelPath, message: String) {
        count(match severity {
            Severity::Failed => &self.progress.failed,
            Severity::Changed => &self.progress.changed,
            Severity::Vanished => &self.progress.vanished,
        });
        let problem = Problem { path: path.clone(), severity, message };
        self.observer.problem(&problem);
        let mut kept = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < PROBLEMS_KEPT_MAX {
            kept.push(problem);
        }
    }

    /// The problems in the order of their paths.
    pub(crate) fn take_problems(&self) -> Vec<Problem> {
        let mut problems = std::mem::take(&mut *self.problems.lock().unwrap_or_else(PoisonError::into_inner));
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        problems
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Report").field("figures", &self.progress.figures()).finish_non_exhaustive()
    }
}
