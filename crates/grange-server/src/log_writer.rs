//! The log thread: makes batches durable, in order, as many with one sync as have come together.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grange_replica::{Event, LogBatch};

use crate::failure::ServerFailure;
use crate::mailbox::{Mailbox, Taken};
use crate::snapshotter::SnapshotJob;
use crate::stats::EdgeStats;
use crate::storage::log::{Batch, Entry, HardState, Log, LogError};
use crate::storage::retention::Retention;
use crate::storage::snapshot::SnapshotStore;
use crate::storage::space::DiskGuard;

/// How often the disk is looked at while it is full.
const SPACE_POLL: Duration = Duration::from_millis(250);
/// Bytes of batches after which the free space is looked at again; far below the reserve of [`DiskGuard`].
const SPACE_CHECK_BYTES: u64 = 8 << 20;

const _: () = assert!(SPACE_CHECK_BYTES < DiskGuard::RESERVE_BYTES_DEFAULT, "the reserve is not overrun unnoticed");

/// Something the log thread is to do.
#[derive(Debug)]
pub(crate) enum LogRequest {
    /// Write a batch, and report it durable.
    Append(LogBatch),
    /// Entries below this index are no longer needed by the replica.
    Purge {
        /// The first index to keep.
        first_kept: u64,
    },
}

/// What the log thread is made of.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pub(crate) log: Log,
    pub(crate) requests: Arc<Mailbox<LogRequest>>,
    pub(crate) inbox: Arc<Mailbox<Event>>,
    pub(crate) guard: DiskGuard,
    /// What is kept; `None` keeps everything.
    pub(crate) retention: Option<Retention>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) snapshot_jobs: Arc<Mailbox<SnapshotJob>>,
    pub(crate) stats: Arc<EdgeStats>,
}

/// What a round of appends has come to.
#[derive(Debug, Default)]
struct Round {
    /// The last batch that was appended.
    last: Option<u64>,
    must_sync: bool,
}

/// Batches on their way, and whether the disk has room for them.
#[derive(Debug)]
struct Intake {
    /// Batches that the log had no room for, in order; at most what the replica keeps in flight.
    held: VecDeque<LogBatch>,
    /// Whether the replica was told that the disk is full.
    full: bool,
    /// Bytes appended since the free space was looked at.
    unchecked_bytes: u64,
}

impl LogWriter {
    /// Works until the requests end, then closes the log.
    ///
    /// Errors: the log failed, so nothing may be acknowledged any more.
    pub(crate) fn run(mut self) -> Result<(), ServerFailure> {
        let mut requests = Vec::new();
        let mut intake = Intake { held: VecDeque::new(), full: false, unchecked_bytes: SPACE_CHECK_BYTES };
        loop {
            let deadline = intake.full.then(|| Instant::now() + SPACE_POLL);
            if self.requests.take(&mut requests, deadline) == Taken::Closed {
                return self.log.close().map_err(ServerFailure::Log);
            }
            let mut first_kept = None;
            for request in requests.drain(..) {
                match request {
                    LogRequest::Append(batch) => intake.held.push_back(batch),
                    LogRequest::Purge { first_kept: index } => first_kept = Some(index),
                }
            }
            let round = self.append_held(&mut intake)?;
            self.report(&round)?;
            self.watch_space(&mut intake);
            if let Some(first_kept) = first_kept {
                self.purge(first_kept);
            }
        }
    }

    /// Appends batches until there are none, or no room.
    fn append_held(&mut self, intake: &mut Intake) -> Result<Round, ServerFailure> {
        let mut round = Round::default();
        while let Some(batch) = intake.held.front() {
            match self.log.append(&stored(batch)) {
                Ok(()) => {
                    round.last = Some(batch.number);
                    round.must_sync |= batch.must_sync;
                    intake.unchecked_bytes += batch.entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
                    intake.held.pop_front();
                }
                Err(error) if is_full(&error) => {
                    self.tell_full(intake, &error);
                    break;
                }
                Err(error) => return Err(ServerFailure::Log(error)),
            }
        }
        Ok(round)
    }

    /// Makes durable what was appended, and tells the replica.
    fn report(&mut self, round: &Round) -> Result<(), ServerFailure> {
        let Some(last) = round.last else { return Ok(()) };
        if round.must_sync {
            let started = Instant::now();
            while let Err(error) = self.log.sync() {
                if !is_full(&error) {
                    return Err(ServerFailure::Log(error));
                }
                // Only where space cannot be reserved: the log has taken the batches, so there is only waiting.
                tracing::warn!(error = &error as &dyn Error, "the log waits for room on the disk");
                std::thread::sleep(SPACE_POLL);
            }
            self.stats.synced(started.elapsed());
        }
        self.inbox.push(Event::LogSynced(last));
        Ok(())
    }

    /// Compares the free space with the reserve now and then, and all the time while the disk is full.
    fn watch_space(&self, intake: &mut Intake) {
        if !intake.full && intake.unchecked_bytes < SPACE_CHECK_BYTES {
            return;
        }
        intake.unchecked_bytes = 0;
        // Before writes are taken again there must be room for the segment that a full log has been waiting for.
        let needed = if intake.full { self.log.batch_bytes_max() as u64 } else { 0 };
        match self.guard.ensure_space(needed) {
            Ok(()) if intake.full && intake.held.is_empty() => {
                intake.full = false;
                tracing::info!("the disk has room again: writes are taken");
                self.inbox.push(Event::LogHasRoom);
            }
            Ok(()) => {}
            Err(error) => self.tell_full(intake, &error),
        }
    }

    fn tell_full(&self, intake: &mut Intake, error: &(dyn Error + 'static)) {
        if !intake.full {
            intake.full = true;
            tracing::error!(error, "the disk is full: writes are refused, reads go on");
            self.inbox.push(Event::LogFull);
        }
    }

    /// Gives up log and snapshots that neither the replica nor the retention asks for.
    fn purge(&mut self, first_kept: u64) {
        let Some(retention) = self.retention else { return };
        let files = match self.snapshots.list() {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "snapshots cannot be listed; nothing is purged");
                return;
            }
        };
        let plan = retention.plan(&files, self.log.bytes_on_disk(), |index| self.log.bytes_before(index));
        self.log.purge_before(plan.log_before.min(first_kept));
        if !plan.snapshots.is_empty() {
            self.snapshot_jobs.push(SnapshotJob::Remove(plan.snapshots));
        }
    }
}

/// The batch as the log stores it.
fn stored(batch: &LogBatch) -> Batch {
    let mut stored = Batch::new();
    for entry in &batch.entries {
        stored.push(Entry { index: entry.index, term: entry.term, tag: 0, data: entry.data.clone() });
    }
    if let Some(state) = batch.hard_state {
        stored.set_hard_state(HardState { term: state.term, vote: state.vote, commit: state.commit });
    }
    stored
}

fn is_full(error: &LogError) -> bool {
    matches!(error, LogError::Full { .. })
}
