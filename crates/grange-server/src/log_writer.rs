//! The write-ahead log at work: batches become durable in order, as many with one sync as have come together.
//!
//! A batch goes to the log thread, so that the replica thread can take in requests while the disk is busy. When nothing
//! else is waiting there is nothing to overlap with, and the replica thread syncs by itself: on a fast disk two
//! wake-ups of threads cost as much as the sync. [`LogHandle`] decides, and keeps the order.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
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
/// The replica thread syncs by itself only while syncs take less than this on average: reads wait for it meanwhile.
const OWN_SYNC_TIME_MAX: Duration = Duration::from_micros(500);
/// Syncs over which that average goes, roughly.
const SYNC_AVERAGE_COUNT: u32 = 8;

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
    /// The disk is full: go on trying.
    AwaitRoom,
}

/// What the log is written by.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: Log,
    guard: DiskGuard,
    /// What is kept; `None` keeps everything.
    retention: Option<Retention>,
    snapshots: Arc<SnapshotStore>,
    snapshot_jobs: Arc<Mailbox<SnapshotJob>>,
    stats: Arc<EdgeStats>,
    /// Batches that are not in the log yet, in order; at most what the replica keeps in flight.
    held: VecDeque<LogBatch>,
    /// Whether the replica was told that the disk is full.
    full: bool,
    /// Bytes appended since the free space was looked at.
    unchecked_bytes: u64,
    sync_time_average: Duration,
}

impl LogWriter {
    pub(crate) fn new(
        log: Log,
        guard: DiskGuard,
        retention: Option<Retention>,
        snapshots: Arc<SnapshotStore>,
        snapshot_jobs: Arc<Mailbox<SnapshotJob>>,
        stats: Arc<EdgeStats>,
    ) -> LogWriter {
        LogWriter {
            log,
            guard,
            retention,
            snapshots,
            snapshot_jobs,
            stats,
            held: VecDeque::new(),
            full: false,
            unchecked_bytes: SPACE_CHECK_BYTES,
            sync_time_average: Duration::ZERO,
        }
    }

    /// Makes durable what is held, as far as there is room, and adds what the replica has to know to `events`.
    ///
    /// Errors: the log failed, so nothing may be acknowledged any more.
    fn flush(&mut self, events: &mut Vec<Event>) -> Result<(), ServerFailure> {
        let mut last = None;
        let mut must_sync = false;
        while let Some(batch) = self.held.front() {
            match self.log.append(&stored(batch)) {
                Ok(()) => {
                    last = Some(batch.number);
                    must_sync |= batch.must_sync;
                    self.unchecked_bytes += batch.entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
                    self.held.pop_front();
                }
                Err(error) if is_full(&error) => {
                    self.tell_full(&error, events);
                    break;
                }
                Err(error) => return Err(ServerFailure::Log(error)),
            }
        }
        if must_sync {
            self.sync()?;
        }
        events.extend(last.map(Event::LogSynced));
        self.watch_space(events);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), ServerFailure> {
        let started = Instant::now();
        while let Err(error) = self.log.sync() {
            if !is_full(&error) {
                return Err(ServerFailure::Log(error));
            }
            // Only where space cannot be reserved: the log has taken the batches, so there is only waiting.
            tracing::warn!(error = &error as &dyn Error, "the log waits for room on the disk");
            std::thread::sleep(SPACE_POLL);
        }
        let took = started.elapsed();
        self.sync_time_average = (self.sync_time_average * (SYNC_AVERAGE_COUNT - 1) + took) / SYNC_AVERAGE_COUNT;
        self.stats.syncs.add(took);
        Ok(())
    }

    /// Compares the free space with the reserve now and then, and all the time while the disk is full.
    fn watch_space(&mut self, events: &mut Vec<Event>) {
        if !self.full && self.unchecked_bytes < SPACE_CHECK_BYTES {
            return;
        }
        self.unchecked_bytes = 0;
        // Before writes are taken again there must be room for the segment that a full log has been waiting for.
        let needed = if self.full { self.log.batch_bytes_max() as u64 } else { 0 };
        match self.guard.ensure_space(needed) {
            Ok(()) if self.full && self.held.is_empty() => {
                self.full = false;
                tracing::info!("the disk has room again: writes are taken");
                events.push(Event::LogHasRoom);
            }
            Ok(()) => {}
            Err(error) => self.tell_full(&error, events),
        }
    }

    fn tell_full(&mut self, error: &(dyn Error + 'static), events: &mut Vec<Event>) {
        if !self.full {
            self.full = true;
            tracing::error!(error, "the disk is full: writes are refused, reads go on");
            events.push(Event::LogFull);
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

/// The log thread.
#[derive(Debug)]
pub(crate) struct LogThread {
    pub(crate) writer: Arc<Mutex<LogWriter>>,
    pub(crate) requests: Arc<Mailbox<LogRequest>>,
    pub(crate) inbox: Arc<Mailbox<Event>>,
}

impl LogThread {
    /// Works until the requests end, then closes the log.
    ///
    /// Errors: as [`LogWriter::flush`].
    pub(crate) fn run(self) -> Result<(), ServerFailure> {
        let mut requests = Vec::new();
        let mut events = Vec::new();
        let mut full = false;
        while self.requests.take(&mut requests, full.then(|| Instant::now() + SPACE_POLL)) != Taken::Closed {
            let mut writer = lock(&self.writer);
            let mut first_kept = None;
            for request in requests.drain(..) {
                match request {
                    LogRequest::Append(batch) => writer.held.push_back(batch),
                    LogRequest::Purge { first_kept: index } => first_kept = Some(index),
                    LogRequest::AwaitRoom => {}
                }
            }
            writer.flush(&mut events)?;
            self.inbox.append(&mut events);
            if let Some(first_kept) = first_kept {
                writer.purge(first_kept);
            }
            full = writer.full;
        }
        // The replica thread has ended by now, unless something failed.
        match Arc::into_inner(self.writer).map(Mutex::into_inner) {
            Some(Ok(writer)) => writer.log.close().map_err(ServerFailure::Log),
            _ => Ok(()),
        }
    }
}

/// The replica thread's end of the log.
#[derive(Debug)]
pub(crate) struct LogHandle {
    writer: Arc<Mutex<LogWriter>>,
    requests: Arc<Mailbox<LogRequest>>,
    /// The newest batch that the log thread was given and has not reported.
    handed_over: Option<u64>,
}

impl LogHandle {
    pub(crate) fn new(writer: Arc<Mutex<LogWriter>>, requests: Arc<Mailbox<LogRequest>>) -> LogHandle {
        LogHandle { writer, requests, handed_over: None }
    }

    /// Takes note of [`Event::LogSynced`].
    pub(crate) fn synced(&mut self, number: u64) {
        self.handed_over = self.handed_over.filter(|handed_over| *handed_over > number);
    }

    /// Tells whether the replica thread may write by itself: no earlier batch is on its way, and the disk is fast.
    pub(crate) fn may_write(&self) -> bool {
        // The log thread may still be purging.
        let Some(writer) = self.handed_over.is_none().then(|| self.writer.try_lock().ok()).flatten() else {
            return false;
        };
        !writer.full && writer.sync_time_average < OWN_SYNC_TIME_MAX
    }

    /// Lets the log thread write a batch.
    pub(crate) fn hand_over(&mut self, batch: LogBatch) {
        self.handed_over = Some(batch.number);
        self.requests.push(LogRequest::Append(batch));
    }

    /// Writes batches here and now, after [`LogHandle::may_write`]; what came of it is added to `events`.
    ///
    /// Errors: as [`LogWriter::flush`].
    pub(crate) fn write(&mut self, batches: &mut Vec<LogBatch>, events: &mut Vec<Event>) -> Result<(), ServerFailure> {
        let mut writer = lock(&self.writer);
        writer.held.extend(batches.drain(..));
        writer.flush(events)?;
        self.handed_over = writer.held.back().map(|batch| batch.number);
        if writer.full {
            self.requests.push(LogRequest::AwaitRoom);
        }
        Ok(())
    }

    /// Gives up entries that the replica no longer needs.
    pub(crate) fn purge(&self, first_kept: u64) {
        self.requests.push(LogRequest::Purge { first_kept });
    }
}

fn lock(writer: &Mutex<LogWriter>) -> MutexGuard<'_, LogWriter> {
    writer.lock().expect("a panic while the log is written ends the server")
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
