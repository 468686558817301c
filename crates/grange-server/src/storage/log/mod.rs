//! The write-ahead log: batches of entries and hard state, durable in the order of their append.
//!
//! # Shape
//!
//! The log is a row of segment files, `<16 digits>.wal`, numbered without gaps. A segment is made ahead of its use by
//! a thread (blocks reserved and zero-filled, so that a sync writes data only) and recycled after it was purged. It
//! holds frames one after the other; a frame is one batch under a checksum. The first frame of each segment repeats
//! what is needed from the segments before it (hard state, last index), so that those can be purged at any time.
//!
//! # What is damage, and what is a torn tail
//!
//! A batch counts once [`Log::sync`] has returned. A power loss may leave any mixture of old and new sectors of what
//! was written since the last sync: a batch may be missing from its middle, or a later batch may be whole while an
//! earlier one is not. None of that was acknowledged, so all of it is cut, from the first frame that is not intact.
//! Damage to what was acknowledged can look the same at the place where it happened. It is told apart by evidence
//! from later frames:
//!
//! - Each frame carries the number of the last frame known to be durable when it was encoded (`synced`). If frame `k`
//!   is not intact and a later frame says `synced >= k`, then `k` was acknowledged: the log refuses to open, with file
//!   and offset. If all later frames say less, none of them was acknowledged either.
//! - A segment is synced before the next one gets its first frame. So a segment whose first frame continues exactly
//!   where the one before it ends shows that nothing is missing there.
//! - [`Log::close`] ends the log with an empty frame, so that after a clean stop the last batch has evidence too.
//!   Without it, damage to the very last batch cannot be told from a torn write by anyone.
//!
//! Sectors that hold the end of one synced frame and the beginning of the next are written twice, with equal bytes for
//! the first, so a mixture of old and new sectors leaves it intact. Frames from an earlier life of a recycled file
//! never count: their checksums start from another seed. Frames that were cut are erased before the log is written on.
//! What was found intact but unproven is written again and synced before it is reported, since it may have been in
//! the page cache only.
//!
//! # When the disk fails
//!
//! A failed write or sync is final ([`LogError::Io`]): the kernel may have dropped the dirty pages, so a second sync
//! that succeeds proves nothing. A full disk is not: it shows when a segment is made, before a batch is touched, and
//! gives [`LogError::Full`].
//!
//! Synchronous writes (`RWF_DSYNC`, `O_DSYNC`) measured the same as write and `fdatasync` here (9,000 to 11,000 per
//! second of 200 bytes, within the noise); the two calls are kept because they tell a full disk from a lost write.

mod batch;
mod error;
mod frame;
mod read;
mod recover;
mod segment;
mod supply;
mod view;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use batch::{Batch, Entry, HardState, Mark};
pub use error::LogError;
pub use read::Entries;
pub use recover::Cut;

use super::disk::{self, Disk, RealDisk};
use batch::CARRY_BYTES;
use frame::FrameReader;
use read::Checkpoints;
use recover::{Found, Listing};
use segment::{SEGMENT_HEADER_BYTES, Segment};
use supply::{Supply, SupplyConfig};
use view::{Applied, View};

/// Size of the first segment of a new log: small, because it is made while the server waits for it.
const FIRST_SEGMENT_BYTES_MAX: u64 = 4 << 20;
/// Memory that an empty write buffer may keep.
const PENDING_KEPT_BYTES: usize = 4 << 20;

/// Settings of a log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Size of a segment file in bytes; default 64 MiB, at least 64 KiB. A batch must fit one segment.
    pub segment_bytes: u64,
    /// Purged segments kept to be used again; default 2. Others are removed.
    pub recycled_max: usize,
    /// Index of the first entry that will be needed: segments that end before it are not read at the start, and
    /// their entries cannot be read later. Default 0: all. After a snapshot at index `i` this is `i + 1`.
    pub replay_from: u64,
    /// Where the files are; default [`RealDisk`].
    pub disk: Arc<dyn Disk>,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_bytes: 64 << 20, recycled_max: 2, replay_from: 0, disk: Arc::new(RealDisk) }
    }
}

/// What a log held when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The last hard state, all zero if there was none.
    pub hard_state: HardState,
    /// Index of the oldest readable entry; `last.index + 1` if there is none. Read them with [`Log::entries`].
    pub first_index: u64,
    /// The newest entry, or the mark of the last reset.
    pub last: Mark,
    /// What was cut off the end, if a batch had been torn.
    pub cut: Option<Cut>,
}

/// A segment and how far it is filled.
#[derive(Debug)]
struct TrackedSegment {
    segment: Segment,
    /// End of the durable frames.
    written: u64,
    /// Highest index in this segment and those before it; for the last one, see the view.
    index_max: u64,
    /// Sequence number of its first frame; 0 if it was not read.
    first_seq: u64,
}

impl TrackedSegment {
    fn reader(&self) -> FrameReader<'_> {
        FrameReader::from_offset(&self.segment, SEGMENT_HEADER_BYTES, self.written)
    }
}

/// An open log. One owner, usually one thread; at most one per directory (see `DataDir`, which holds the lock).
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    options: LogOptions,
    supply: Supply,
    /// Never empty; the last one is written.
    segments: VecDeque<TrackedSegment>,
    view: View,
    checkpoints: Checkpoints,
    /// Encoded frames that are not yet written.
    pending: Vec<u8>,
    /// Sequence number of the last encoded frame.
    seq: u64,
    /// Sequence number of the last durable frame.
    synced: u64,
    /// Whether the last frame is an empty one that proves the one before it.
    proven: bool,
    failed: bool,
}

impl Log {
    /// Opens the log in the existing directory `dir`, or starts one if it is empty.
    ///
    /// Reads and checks everything from `options.replay_from` on. A torn tail is cut, with a warning in the log.
    /// Errors: [`LogError::Damaged`], [`LogError::Missing`] and [`LogError::Version`] refuse, and change nothing.
    pub fn open(dir: &Path, options: LogOptions) -> Result<(Log, Recovered), LogError> {
        Log::open_with(dir, options, Supply::start)
    }

    /// As [`Log::open`], but without a thread: segments are made and taken back within the calls that need it, so that
    /// the same calls always do the same.
    #[cfg(any(test, feature = "simulation"))]
    pub fn open_inline(dir: &Path, options: LogOptions) -> Result<(Log, Recovered), LogError> {
        Log::open_with(dir, options, |config, ready, free| Ok(Supply::inline(config, ready, free)))
    }

    /// Tells whether the log in `dir`, which nobody has open, holds every entry from `index` on.
    ///
    /// This is the question that `SnapshotStore::restore` asks before it falls back to an older snapshot.
    pub fn holds_from(dir: &Path, options: &LogOptions, index: u64) -> Result<bool, LogError> {
        let options = LogOptions { replay_from: index, ..options.clone() };
        let (_, recovered) = Log::open(dir, options)?;
        Ok((recovered.first_index..=recovered.last.index.saturating_add(1)).contains(&index))
    }

    fn open_with(
        dir: &Path,
        options: LogOptions,
        start_supply: impl FnOnce(SupplyConfig, VecDeque<Segment>, Vec<PathBuf>) -> std::io::Result<Supply>,
    ) -> Result<(Log, Recovered), LogError> {
        assert!(options.segment_bytes >= 64 << 10, "a segment has at least 64 KiB");
        let disk = &*options.disk;
        let Listing { numbers, free } = Listing::read(disk, dir)?;
        let mut opened =
            numbers.iter().map(|number| Segment::open(disk, dir, *number)).collect::<Result<VecDeque<_>, _>>()?;
        if opened.is_empty() {
            let bytes = options.segment_bytes.min(FIRST_SEGMENT_BYTES_MAX);
            let first = Segment::make(disk, dir, 1, bytes, None, &AtomicBool::new(false));
            opened.push_back(first.map_err(|source| write_error("create", dir, source))?);
        }
        let Found { view, checkpoints, segments, unused, seq, cut } = recover::recover(opened, options.replay_from)?;
        if let Some(Cut { path, offset, batch_count }) = &cut {
            tracing::warn!(
                path = %path.display(),
                offset,
                batch_count,
                "the end of the log was torn by a crash; batches that were never acknowledged are cut"
            );
        }
        let config = SupplyConfig {
            disk: Arc::clone(&options.disk),
            dir: dir.to_owned(),
            segment_bytes: options.segment_bytes,
            recycled_max: options.recycled_max,
        };
        let supply = start_supply(config, unused, free).map_err(|source| LogError::Io {
            action: "start the thread for",
            path: dir.to_owned(),
            source,
        })?;
        let recovered = Recovered { hard_state: view.hard_state, first_index: view.first, last: view.last, cut };
        let log = Log {
            dir: dir.to_owned(),
            options,
            supply,
            segments,
            view,
            checkpoints,
            pending: Vec::new(),
            seq,
            synced: seq,
            proven: false,
            failed: false,
        };
        log.supply.request(log.tail().segment.number + 1);
        Ok((log, recovered))
    }

    /// Adds a batch to those that the next [`Log::sync`] writes and makes durable, together and in order.
    ///
    /// An empty batch does nothing. The batch counts in [`Log::last`] and [`Log::hard_state`] at once.
    /// Errors: [`LogError::Full`] and [`LogError::TooLarge`] leave the log as it was; the call can be repeated.
    /// Panics if the entries leave a gap after the last one: the caller has lost track of the log.
    pub fn append(&mut self, batch: &Batch) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.encoded_bytes();
        let bytes_max = self.batch_bytes_max();
        if bytes > bytes_max {
            return Err(LogError::TooLarge { bytes, bytes_max });
        }
        while !self.fits(bytes) {
            self.rotate()?;
        }
        self.encode(batch);
        Ok(())
    }

    /// Writes all appended batches with one write and makes them durable with one sync.
    ///
    /// Errors: [`LogError::Full`] (only on file systems that cannot reserve space) keeps the batches: nothing is lost
    /// by calling again. After [`LogError::Io`] it is unknown which of them are durable, and the log takes no more.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let tail = self.segments.back_mut().expect("the log always has a segment");
        let file = &tail.segment.file;
        if let Err(source) = file.write_all_at(&self.pending, tail.written) {
            let error = write_error("write", &tail.segment.path, source);
            self.failed = error.is_fatal();
            return Err(error);
        }
        if let Err(source) = file.sync_data() {
            self.failed = true;
            return Err(LogError::Io { action: "sync", path: tail.segment.path.clone(), source });
        }
        tail.written += self.pending.len() as u64;
        self.synced = self.seq;
        self.pending.clear();
        self.pending.shrink_to(PENDING_KEPT_BYTES);
        Ok(())
    }

    /// Streams the durable entries from `from` on, oldest first; none if `from` is outside of what the log holds.
    ///
    /// Entries appended since the last sync are not among them.
    pub fn entries(&self, from: u64) -> Entries<'_> {
        Entries::new(&self.view, &self.segments, &self.checkpoints, from)
    }

    /// Reads the durable entries of `range`, as many as fit `bytes_max` bytes of data, but at least one if there is one.
    pub fn read(&self, range: std::ops::Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        let mut bytes = 0_usize;
        for entry in self.entries(range.start) {
            let entry = entry?;
            bytes = bytes.saturating_add(entry.data.len());
            if entry.index >= range.end || (bytes > bytes_max && !entries.is_empty()) {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Gives up the entries before `index`: they cannot be read any more, and segments without others are released.
    ///
    /// The segments are recycled or removed in the background. An index past the end gives up all entries.
    pub fn purge_before(&mut self, index: u64) {
        // What the oldest segment carries must be durable, so one that has only pending frames cannot be the oldest.
        let tail_has_frames = self.tail().written > SEGMENT_HEADER_BYTES;
        let keep_min = if tail_has_frames { 1 } else { 2 };
        let mut released = Vec::new();
        while self.segments.len() > keep_min && self.segments[0].index_max < index {
            released.extend(self.segments.pop_front().map(|tracked| tracked.segment.number));
        }
        self.view.purged(index.min(self.view.last.index + 1), self.segments[0].first_seq);
        self.checkpoints.purge(self.segments[0].segment.number);
        if !released.is_empty() {
            self.supply.release(released.into_iter());
        }
    }

    /// Ends the log so that damage to its last batch would be noticed, and stops the background thread.
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()?;
        if !self.proven && self.seq > 0 && self.fits(0) {
            self.encode(&Batch::new());
            self.sync()?;
        }
        Ok(())
    }

    /// Returns the index of the oldest readable entry; `last().index + 1` if there is none.
    pub fn first_index(&self) -> u64 {
        self.view.first
    }

    /// Returns the newest entry, appended ones included, or the mark of the last reset if there is none since.
    pub fn last(&self) -> Mark {
        self.view.last
    }

    /// Returns the newest hard state, appended ones included.
    pub fn hard_state(&self) -> HardState {
        self.view.hard_state
    }

    /// Returns the size of all files of the log in bytes, those made ahead or kept for recycling included.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments.iter().map(|tracked| tracked.segment.bytes).sum::<u64>() + self.supply.bytes()
    }

    /// Returns the bytes that [`Log::purge_before`] with this index would release.
    pub fn bytes_before(&self, index: u64) -> u64 {
        let older = self.segments.iter().take(self.segments.len() - 1);
        older.take_while(|tracked| tracked.index_max < index).map(|tracked| tracked.segment.bytes).sum()
    }

    /// Returns the bytes that the disk has to give before the log can go on behind the segment that it writes now.
    pub fn missing_bytes(&self) -> u64 {
        self.supply.missing_bytes(self.tail().segment.number + 1)
    }

    /// Returns the error that an append would meet behind the segment that is written now: the next one could not be
    /// made because the disk is full. Until then there is room for what is on its way.
    pub fn lacks_room(&self) -> Option<LogError> {
        self.supply.full().map(|source| LogError::Full { path: self.dir.clone(), source })
    }

    /// Has the next segment made, after [`Log::lacks_room`]. Does not wait for it.
    pub fn request_room(&self) {
        self.supply.request(self.tail().segment.number + 1);
    }

    /// Returns the largest encoded size of a batch: its data, and at most 25 bytes for each entry and the hard state.
    pub fn batch_bytes_max(&self) -> usize {
        let head = SEGMENT_HEADER_BYTES + frame::frame_bytes(CARRY_BYTES) as u64;
        usize::try_from(self.options.segment_bytes - head).unwrap_or(usize::MAX).min(u32::MAX as usize)
    }

    fn tail(&self) -> &TrackedSegment {
        self.segments.back().expect("the log always has a segment")
    }

    fn tail_end(&self) -> u64 {
        self.tail().written + self.pending.len() as u64
    }

    fn fits(&self, body_bytes: usize) -> bool {
        self.tail_end() + frame::frame_bytes(body_bytes + CARRY_BYTES) as u64 <= self.tail().segment.bytes
    }

    /// Goes on to the next segment. On [`LogError::Full`] nothing has changed.
    fn rotate(&mut self) -> Result<(), LogError> {
        let number = self.tail().segment.number + 1;
        let next = self.supply.take(number).map_err(|source| write_error("create a segment in", &self.dir, source))?;
        if self.tail_end() == SEGMENT_HEADER_BYTES {
            // Recovery takes a segment without frames for the end of the log, so none may be left behind empty.
            self.encode(&Batch::new());
        }
        // Everything in this segment must be durable before the next one has a frame: see the module documentation.
        if let Err(error) = self.sync() {
            self.supply.put_back(next);
            return Err(error);
        }
        let index_max = self.view.index_max;
        self.segments.back_mut().expect("the log always has a segment").index_max = index_max;
        let first_seq = self.seq + 1;
        self.segments.push_back(TrackedSegment { segment: next, written: SEGMENT_HEADER_BYTES, index_max, first_seq });
        self.supply.request(number + 1);
        Ok(())
    }

    fn encode(&mut self, batch: &Batch) {
        let offset = self.tail_end();
        let (number, seed) = (self.tail().segment.number, self.tail().segment.seed);
        let carry = (offset == SEGMENT_HEADER_BYTES).then(|| self.view.carry());
        self.seq += 1;
        frame::encode(&mut self.pending, seed, self.seq, self.synced, |body| {
            if let Some(carry) = carry {
                carry.encode(body);
            }
            batch.encode(body);
        });
        self.proven = batch.is_empty();
        if let Some(mark) = batch.reset() {
            self.view.reset(mark, self.seq);
        }
        for entry in batch.entries() {
            let applied = self.view.entry(Mark { index: entry.index, term: entry.term }, self.seq);
            assert_ne!(applied, Applied::Gap, "entry {} leaves a gap in the log", entry.index);
        }
        if let Some(entry) = batch.entries().first() {
            self.checkpoints.note(entry.index, number, offset);
        }
        if let Some(hard_state) = batch.hard_state() {
            self.view.hard_state = hard_state;
        }
        let index_max = self.view.index_max;
        self.segments.back_mut().expect("the log always has a segment").index_max = index_max;
    }
}

fn write_error(action: &'static str, path: &Path, source: std::io::Error) -> LogError {
    let path = path.to_owned();
    if disk::is_full(&source) { LogError::Full { path, source } } else { LogError::Io { action, path, source } }
}
