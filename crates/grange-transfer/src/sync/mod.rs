//! Makes one tree equal to another with many workers.
//!
//! [`run`] puts the root into a queue of parts; each worker takes a part, compares both sides of it directory by
//! directory, changes the destination's namespace itself, collects files whose contents differ into batches for a
//! [`crate::mover::ContentMover`], and gives work away when others have none. The walk and the copy overlap.
//! A killed run leaves nothing to clean up: the next one compares anew.

mod directory;
mod entry;
mod job;
mod memory_queue;
mod namespace;
mod part;
mod queue;
mod report;
mod transfer;
mod worker;
mod znode_queue;

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::watch;

pub use job::{Options, SyncError};
pub use memory_queue::MemoryQueue;
pub use part::{DamagedPart, Item, Named, Part, Phase, Presence};
pub use queue::{Claim, ClaimId, QueueError, Take, WorkQueue};
pub use report::{Change, Figures, Observer, PROBLEMS_KEPT_MAX, Problem, Progress, Severity, Unobserved};
pub use znode_queue::ZnodeQueue;

use crate::mover::ContentMover;
use crate::path::RelPath;
use job::Job;
use report::Report;
use worker::Worker;

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The final figures.
    pub figures: Figures,
    /// What the user must know, by path; at most [`PROBLEMS_KEPT_MAX`].
    pub problems: Vec<Problem>,
}

impl Summary {
    /// Whether all that the source has is at the destination.
    pub fn is_complete(&self) -> bool {
        self.figures.failed == 0 && self.figures.changed == 0
    }
}

/// Where a job reports to while it runs.
#[derive(Clone)]
pub struct Reporting {
    /// Counted into; may be read at any time.
    pub progress: Arc<Progress>,
    /// Told of changes and problems.
    pub observer: Arc<dyn Observer>,
}

impl Default for Reporting {
    fn default() -> Self {
        Self { progress: Arc::default(), observer: Arc::new(Unobserved) }
    }
}

/// A job: what is to be made equal to what, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The directory whose contents and attributes are wanted.
    pub source: &'a Path,
    /// The directory that is made equal to it; its last component is made if it is missing.
    pub destination: &'a Path,
    /// What to do and what to leave out.
    pub options: Options,
    /// Workers in this process.
    pub worker_count: NonZero<usize>,
}

/// Does the job with workers in this process.
///
/// `queue` must be empty and be used for this job only. Blocks until the job is over; must not be called on a thread
/// that runs tasks of `runtime`. Errors: what stopped the job as a whole; entries that failed are in the [`Summary`].
pub fn run(
    request: Request<'_>,
    mover: Arc<dyn ContentMover>,
    queue: &impl WorkQueue,
    runtime: &Handle,
    reporting: Reporting,
) -> Result<Summary, SyncError> {
    let report = Report::new(reporting.progress, reporting.observer);
    let Request { source, destination, options, worker_count } = request;
    let job = Arc::new(Job::open(source, destination, options, mover, report)?);
    runtime.block_on(queue.put(Phase::Main, vec![Part::of(Item::Directory(RelPath::root()))]))?;
    let (stop, stopped) = watch::channel(false);
    let worked = thread::scope(|scope| {
        let start = |number: usize| {
            let worker = Worker::new(Arc::clone(&job), queue.clone(), runtime.clone(), stopped.clone());
            let stop = &stop;
            let work = move || {
                let guard = StopOthers(stop);
                let worked = worker.run();
                if worked.is_ok() {
                    std::mem::forget(guard);
                }
                worked
            };
            thread::Builder::new().name(format!("worker-{number}")).spawn_scoped(scope, work).map_err(SyncError::Spawn)
        };
        let threads: Vec<_> = (0..worker_count.get()).map(start).collect();
        let join = |thread: Result<thread::ScopedJoinHandle<'_, _>, _>| match thread?.join() {
            Ok(worked) => worked,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        first_cause(threads.into_iter().map(join).collect())
    });
    worked?;
    Ok(Summary { figures: job.report.progress.figures(), problems: job.report.take_problems() })
}

/// Tells the other workers to stop, when dropped: also when its worker panics.
struct StopOthers<'a>(&'a watch::Sender<bool>);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// The error of the worker that failed first; the others only say that they were told to stop.
fn first_cause(results: Vec<Result<(), SyncError>>) -> Result<(), SyncError> {
    let mut errors: Vec<SyncError> = results.into_iter().filter_map(Result::err).collect();
    let cause = errors.iter().position(|error| !matches!(error, SyncError::Queue(QueueError::Abandoned))).unwrap_or(0);
    if errors.is_empty() { Ok(()) } else { Err(errors.swap_remove(cause)) }
}
