//! The write-ahead log at work: batches become durable in order, as many with one sync as have come together.
//!
//! A batch goes to the log thread, so that the replica thread can take in requests while the disk is busy. When nothing
//! else is waiting there is nothing to overlap with, and the replica thread syncs by itself: on a fast disk two
//! wake-ups of threads cost as much as the sync. [`LogHandle`] decides, and keeps the order.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use grange_replica::{Event, LogBatch, LogEntry};

use crate::failure::ServerFailure;
use crate::mailbox::{Mailbox, Taken};
use crate::snapshotter::SnapshotJob;
use crate::stats::EdgeStats;
use crate::storage::log::{Batch, Entry, HardState, Log, LogError, Mark};
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
    /// Read entries back, and report them.
    Read(LogRange),
    /// The disk is full: go on trying.
    AwaitRoom,
}

/// Entries that the replica asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogRange {
    /// The first one.
    pub(crate) first: u64,
    /// The one behind the last.
    pub(crate) end: u64,
    /// Bytes of data; at least one entry is read.
    pub(crate) bytes_max: usize,
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
            let bytes_max = self.log.batch_bytes_max();
            match stored(batch, bytes_max).iter().try_for_each(|piece| self.log.append(piece)) {
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
        if !self.full
            && let Some(error) = self.log.lacks_room()
        {
            // Now, and not when this segment is full: a client whose write waits for room waits with all it has sent.
            return self.tell_full(&error, events);
        }
        if !self.full && self.unchecked_bytes < SPACE_CHECK_BYTES {
            return;
        }
        self.unchecked_bytes = 0;
        let missing = if self.full { self.log.missing_bytes() } else { 0 };
        match self.guard.ensure_space(missing) {
            // There must be room for the next segment, and only one that is made proves that: a quota may be full too.
            Ok(()) if missing > 0 => self.log.request_room(),
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

    /// Reads entries for a member that lacks them; what cannot be read is treated like what was purged.
    fn read(&self, range: LogRange) -> Event {
        let LogRange { first, end, bytes_max } = range;
        let read = self.log.read(first..end, bytes_max).unwrap_or_else(|error| {
            tracing::error!(
                first,
                error = &error as &dyn Error,
                "the log cannot be read: a member gets a snapshot instead"
            );
            Vec::new()
        });
        let entry = |entry: Entry| LogEntry { index: entry.index, term: entry.term, tag: entry.tag, data: entry.data };
        Event::LogRead { first, entries: (!read.is_empty()).then(|| read.into_iter().map(entry).collect()) }
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
            let mut reads = Vec::new();
            for request in requests.drain(..) {
                match request {
                    LogRequest::Append(batch) => writer.held.push_back(batch),
                    LogRequest::Purge { first_kept: index } => first_kept = Some(index),
                    LogRequest::Read(range) => reads.push(range),
                    LogRequest::AwaitRoom => {}
                }
            }
            writer.flush(&mut events)?;
            self.inbox.append(&mut events);
            events.extend(reads.into_iter().map(|range| writer.read(range)));
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

    /// Has entries read back.
    pub(crate) fn read(&self, range: LogRange) {
        self.requests.push(LogRequest::Read(range));
    }

    /// Gives up entries that the replica no longer needs.
    pub(crate) fn purge(&self, first_kept: u64) {
        self.requests.push(LogRequest::Purge { first_kept });
    }
}

fn lock(writer: &Mutex<LogWriter>) -> MutexGuard<'_, LogWriter> {
    writer.lock().expect("a panic while the log is written ends the server")
}

/// Bytes that a batch in the log has besides the data of its entries: a reset, a hard state, and the heads of entries.
const BATCH_HEAD_BYTES: usize = 64;
const ENTRY_HEAD_BYTES: usize = 32;

/// The batch as the log stores it: in one piece, or in several if it does not fit a segment.
///
/// A member that is far behind may get more at once than a segment holds. The term comes with the first piece: no entry
/// may be there without it. What is said to be committed is there, whatever the number of pieces that are.
pub(crate) fn stored(batch: &LogBatch, bytes_max: usize) -> Vec<Batch> {
    let mut pieces = Vec::new();
    let mut piece = Batch::new();
    let mut bytes = BATCH_HEAD_BYTES;
    if let Some((index, term)) = batch.reset_to {
        piece.reset_to(Mark { index, term });
    }
    let first = batch.entries.first().map_or(u64::MAX, |entry| entry.index);
    let hard_state =
        batch.hard_state.map(|state| HardState { term: state.term, vote: state.vote, commit: state.commit });
    for entry in &batch.entries {
        let entry_bytes = ENTRY_HEAD_BYTES + entry.data.len();
        if bytes + entry_bytes > bytes_max && bytes > BATCH_HEAD_BYTES {
            if let Some(state) = hard_state.filter(|_| pieces.is_empty()) {
                piece.set_hard_state(HardState { commit: state.commit.min(first - 1), ..state });
            }
            pieces.push(std::mem::take(&mut piece));
            bytes = BATCH_HEAD_BYTES;
        }
        piece.push(Entry { index: entry.index, term: entry.term, tag: entry.tag, data: entry.data.clone() });
        bytes += entry_bytes;
    }
    if let Some(state) = hard_state {
        piece.set_hard_state(state);
    }
    pieces.push(piece);
    pieces
}

fn is_full(error: &LogError) -> bool {
    matches!(error, LogError::Full { .. })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;

    use super::*;
    use crate::storage::log::LogOptions;
    use crate::storage::sim_disk::{Faults, SimDisk};

    const SEGMENT_BYTES: u64 = 64 << 10;

    struct Fixture {
        disk: SimDisk,
        handle: LogHandle,
        inbox: Arc<Mailbox<Event>>,
        thread: std::thread::JoinHandle<Result<(), ServerFailure>>,
    }

    impl Fixture {
        /// A log thread on a disk that has `reserve_bytes` too few bytes free unless that is 0.
        fn start(reserve_bytes: u64) -> Fixture {
            let disk = SimDisk::new(1);
            let options =
                LogOptions { segment_bytes: SEGMENT_BYTES, disk: Arc::new(disk.clone()), ..Default::default() };
            let (log, _) = Log::open(Path::new("/log"), options).unwrap();
            let store = SnapshotStore::open(Path::new("/snapshot"), Arc::new(disk.clone())).unwrap();
            let guard = DiskGuard::new(&std::env::temp_dir(), reserve_bytes);
            let writer =
                LogWriter::new(log, guard, None, Arc::new(store), Arc::default(), Arc::new(EdgeStats::default()));
            let (writer, requests, inbox) = (Arc::new(Mutex::new(writer)), Arc::default(), Arc::default());
            let thread =
                LogThread { writer: Arc::clone(&writer), requests: Arc::clone(&requests), inbox: Arc::clone(&inbox) };
            let thread = std::thread::spawn(move || thread.run());
            Fixture { disk, handle: LogHandle::new(writer, requests), inbox, thread }
        }

        /// Waits for the next events and describes them.
        fn events(&mut self) -> Vec<String> {
            let mut events = Vec::new();
            let taken = self.inbox.take(&mut events, Some(Instant::now() + Duration::from_secs(20)));
            assert_eq!(taken, Taken::Items, "nothing was reported");
            for event in &events {
                if let Event::LogSynced(number) = event {
                    self.handle.synced(*number);
                }
            }
            events.iter().map(|event| format!("{event:?}")).collect()
        }

        fn end(self) -> Result<(), ServerFailure> {
            self.handle.requests.close();
            drop(self.handle);
            self.thread.join().unwrap()
        }
    }

    fn batch(number: u64) -> LogBatch {
        let entry = LogEntry { index: number, term: 1, tag: 0, data: Bytes::from(vec![1; 1000]) };
        LogBatch { number, entries: vec![entry], hard_state: None, reset_to: None, must_sync: true }
    }

    #[test]
    fn batches_stay_in_order_whoever_writes_them() {
        let mut fixture = Fixture::start(0);
        fixture.handle.hand_over(batch(1));
        assert!(!fixture.handle.may_write(), "an earlier batch is on its way");
        assert_eq!(fixture.events(), ["LogSynced(1)"]);
        // The thread lets go of the log a moment after it has reported; and a disk that seemed slow, because this process
        // had to wait for a processor, seems fast again after some batches.
        let mut number = 1;
        while !fixture.handle.may_write() {
            number += 1;
            fixture.handle.hand_over(batch(number));
            assert_eq!(fixture.events(), [format!("LogSynced({number})")]);
        }
        let mut events = Vec::new();
        fixture.handle.write(&mut vec![batch(number + 1)], &mut events).unwrap();
        assert_eq!(format!("{events:?}"), format!("[LogSynced({})]", number + 1));
        fixture.handle.hand_over(batch(number + 2));
        assert_eq!(fixture.events(), [format!("LogSynced({})", number + 2)]);
        fixture.end().unwrap();
    }

    #[test]
    fn entries_are_read_back_until_they_are_purged_or_replaced_by_a_snapshot() {
        let mut fixture = Fixture::start(0);
        (1..=3).for_each(|number| fixture.handle.hand_over(batch(number)));
        fixture.handle.read(LogRange { first: 2, end: 4, bytes_max: 1000 });
        let mut seen = Vec::new();
        while !seen.iter().any(|event: &String| event.starts_with("LogRead")) {
            seen.extend(fixture.events());
        }
        let read = seen.iter().find(|event| event.starts_with("LogRead")).unwrap();
        assert!(read.starts_with("LogRead { first: 2, entries: Some([LogEntry { index: 2, term: 1"), "{read}");
        assert!(!read.contains("index: 3"), "one entry has as many bytes as were asked for: {read}");
        let reset = LogBatch { reset_to: Some((9, 2)), entries: Vec::new(), ..batch(4) };
        fixture.handle.hand_over(reset);
        fixture.handle.read(LogRange { first: 2, end: 4, bytes_max: 1000 });
        let mut seen = Vec::new();
        while !seen.iter().any(|event: &String| event.starts_with("LogRead")) {
            seen.extend(fixture.events());
        }
        assert_eq!(seen, ["LogSynced(4)", "LogRead { first: 2, entries: None }"]);
        fixture.handle.hand_over(batch(10));
        assert_eq!(fixture.events(), ["LogSynced(10)"], "the log goes on behind the snapshot");
        fixture.end().unwrap();
    }

    #[test]
    fn a_full_disk_is_told_of_early_and_holds_back_what_does_not_fit() {
        let mut fixture = Fixture::start(0);
        fixture.disk.set_faults(Faults { capacity_bytes: Some(SEGMENT_BYTES * 3), ..Faults::default() });
        let mut number = 0;
        loop {
            number += 1;
            fixture.handle.hand_over(batch(number));
            let events = fixture.events();
            assert_eq!(events[0], format!("LogSynced({number})"), "nobody has to wait before it is told");
            if events.len() > 1 {
                assert_eq!(events[1..], ["LogFull"]);
                break;
            }
        }
        assert!(!fixture.handle.may_write());
        // More than the rest of a segment has room for.
        let last = number + SEGMENT_BYTES / 1000;
        (number + 1..=last).for_each(|number| fixture.handle.hand_over(batch(number)));
        let deadline = Instant::now() + Duration::from_secs(20);
        while lock(&fixture.handle.writer).held.back().is_none_or(|batch| batch.number < last) {
            assert!(Instant::now() < deadline, "nothing is held back");
            std::thread::yield_now();
        }
        fixture.disk.set_faults(Faults::default());
        let mut seen = Vec::new();
        while seen.last().is_none_or(|event| event != "LogHasRoom") {
            seen.extend(fixture.events());
        }
        assert_eq!(seen[seen.len() - 2..], [format!("LogSynced({last})"), "LogHasRoom".to_owned()]);
        fixture.end().unwrap();
    }

    #[test]
    fn a_batch_that_does_not_fit_a_segment_is_stored_in_pieces() {
        let disk = SimDisk::new(1);
        let open = || {
            let options =
                LogOptions { segment_bytes: SEGMENT_BYTES, disk: Arc::new(disk.clone()), ..Default::default() };
            Log::open_inline(Path::new("/log"), options).unwrap()
        };
        let entry = |index| LogEntry { index, term: 7, tag: 0, data: Bytes::from(vec![1; 20_000]) };
        let hard_state = Some(grange_replica::HardState { term: 7, vote: 3, commit: 12 });
        let entries: Vec<LogEntry> = (11..=20).map(entry).collect();
        let batch = LogBatch { number: 1, entries, hard_state, reset_to: Some((10, 6)), must_sync: true };
        let (mut log, _) = open();
        let pieces = stored(&batch, log.batch_bytes_max());
        assert_eq!(pieces.len(), 4);
        for (count, piece) in pieces.iter().enumerate() {
            log.append(piece).unwrap();
            log.sync().unwrap();
            let found = log.hard_state();
            assert!(found.term == 7 && found.commit <= log.last().index, "after piece {count}: {found:?}");
        }
        drop(log);
        let (log, found) = open();
        assert_eq!((found.first_index, found.last.index, found.hard_state.commit), (11, 20, 12));
        assert_eq!(log.entries(11).count(), 10);
    }

    #[test]
    fn a_disk_below_its_reserve_still_takes_what_is_in_flight() {
        let mut fixture = Fixture::start(u64::MAX);
        fixture.handle.hand_over(batch(1));
        assert_eq!(fixture.events(), ["LogSynced(1)", "LogFull"]);
        fixture.handle.hand_over(batch(2));
        assert_eq!(fixture.events(), ["LogSynced(2)"]);
        fixture.end().unwrap();
    }

    #[test]
    fn a_failed_sync_is_final() {
        let fixture = Fixture::start(0);
        fixture.disk.set_faults(Faults { sync_fails_in: Some(0), ..Faults::default() });
        let Fixture { mut handle, inbox, thread, .. } = fixture;
        handle.hand_over(batch(1));
        assert!(matches!(thread.join().unwrap(), Err(ServerFailure::Log(LogError::Io { .. }))));
        let mut events = Vec::new();
        inbox.take(&mut events, Some(Instant::now()));
        assert!(events.is_empty(), "nothing is acknowledged: {events:?}");
    }
}
