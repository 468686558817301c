use bytes::Bytes;

use super::super::sim_disk::{Faults, SimDisk};
use super::*;

mod crash;
mod real;

const DIR: &str = "/log";
const SEGMENT_BYTES: u64 = 64 << 10;

fn options(disk: &SimDisk) -> LogOptions {
    LogOptions { segment_bytes: SEGMENT_BYTES, recycled_max: 1, replay_from: 0, disk: Arc::new(disk.clone()) }
}

fn open(disk: &SimDisk) -> Result<(Log, Recovered), LogError> {
    open_from(disk, 0)
}

fn open_from(disk: &SimDisk, replay_from: u64) -> Result<(Log, Recovered), LogError> {
    Log::open_inline(Path::new(DIR), LogOptions { replay_from, ..options(disk) })
}

fn entry(index: u64, term: u64, len: usize) -> Entry {
    let byte = u8::try_from((index * 31 + term) % 251).unwrap();
    Entry { index, term, tag: 7, data: Bytes::from(vec![byte; len]) }
}

fn batch(entries: impl IntoIterator<Item = Entry>) -> Batch {
    let mut batch = Batch::new();
    entries.into_iter().for_each(|entry| batch.push(entry));
    batch
}

fn write(log: &mut Log, batch: &Batch) {
    log.append(batch).unwrap();
    log.sync().unwrap();
}

fn all(log: &Log) -> Vec<Entry> {
    log.entries(log.first_index()).collect::<Result<_, _>>().unwrap()
}

/// Appends entries of `len` bytes, each synced, until the log has `segments` segments with frames.
fn fill(log: &mut Log, segments: usize, len: usize) -> u64 {
    let mut index = log.last().index;
    while log.segments.len() < segments {
        index += 1;
        write(log, &batch([entry(index, 1, len)]));
    }
    index
}

#[test]
fn what_was_synced_is_there_after_reopening() {
    let disk = SimDisk::new(1);
    let (mut log, recovered) = open(&disk).unwrap();
    assert_eq!((recovered.first_index, recovered.last.index), (1, 0));
    let mut first = batch([entry(1, 1, 10), entry(2, 1, 0)]);
    let hard_state = HardState { term: 1, vote: 3, commit: 2 };
    first.set_hard_state(hard_state);
    write(&mut log, &first);
    write(&mut log, &batch([entry(3, 1, 5000)]));
    drop(log);
    disk.crash();
    let (log, recovered) = open(&disk).unwrap();
    let last = Mark { index: 3, term: 1 };
    assert_eq!(recovered, Recovered { hard_state, first_index: 1, last, cut: None });
    assert_eq!(all(&log), [entry(1, 1, 10), entry(2, 1, 0), entry(3, 1, 5000)]);
}

#[test]
fn a_conflicting_entry_voids_all_after_it() {
    let disk = SimDisk::new(2);
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &batch((1..=9).map(|index| entry(index, 1, 100))));
    write(&mut log, &batch([entry(4, 2, 100), entry(5, 2, 100)]));
    let expected: Vec<_> = (1..=3).map(|i| entry(i, 1, 100)).chain((4..=5).map(|i| entry(i, 2, 100))).collect();
    assert_eq!(all(&log), expected);
    drop(log);
    let (mut log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last, Mark { index: 5, term: 2 });
    assert_eq!(all(&log), expected);
    let mut reset = batch([entry(101, 3, 1)]);
    reset.reset_to(Mark { index: 100, term: 3 });
    write(&mut log, &reset);
    drop(log);
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.first_index, 101);
    assert_eq!(all(&log), [entry(101, 3, 1)]);
    assert_eq!(log.entries(5).count(), 0);
}

#[test]
fn reading_is_bounded_by_range_and_bytes() {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk).unwrap();
    let last = fill(&mut log, 4, 1000);
    let indexes = |entries: Vec<Entry>| entries.iter().map(|entry| entry.index).collect::<Vec<_>>();
    assert_eq!(indexes(log.read(100..104, usize::MAX).unwrap()), [100, 101, 102, 103]);
    assert_eq!(indexes(log.read(100..200, 2500).unwrap()), [100, 101]);
    assert_eq!(indexes(log.read(100..200, 0).unwrap()), [100], "progress even if one entry is larger than the bound");
    assert_eq!(indexes(log.read(last..last + 5, 9999).unwrap()), [last]);
    assert!(log.read(last + 1..last + 5, 9999).unwrap().is_empty());
}

#[test]
fn purging_recycles_segments_and_keeps_the_hard_state() {
    let disk = SimDisk::new(4);
    let (mut log, _) = open(&disk).unwrap();
    let hard_state = HardState { term: 5, vote: 2, commit: 1 };
    let mut first = batch([entry(1, 1, 10)]);
    first.set_hard_state(hard_state);
    write(&mut log, &first);
    let mut bytes_max = 0;
    for _ in 0..8 {
        let segments = log.segments.len() + 3;
        let last = fill(&mut log, segments, 1000);
        assert!(log.bytes_before(last) >= 2 * SEGMENT_BYTES);
        log.purge_before(last);
        assert_eq!(log.first_index(), last);
        assert_eq!(log.bytes_before(last), 0);
        assert_eq!(all(&log), [entry(last, 1, 1000)]);
        bytes_max = bytes_max.max(log.bytes_on_disk());
    }
    assert!(bytes_max <= 4 * SEGMENT_BYTES, "{bytes_max} bytes are still there after purging");
    let last = log.last();
    log.close().unwrap();
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!((recovered.hard_state, recovered.last, recovered.cut), (hard_state, last, None));
    assert_eq!(all(&log).last(), Some(&entry(last.index, 1, 1000)));
}

#[test]
fn segments_before_the_replay_start_are_not_read() {
    let disk = SimDisk::new(5);
    let (mut log, _) = open(&disk).unwrap();
    let last = fill(&mut log, 5, 1000);
    drop(log);
    // A flipped bit there is not even noticed: the segment only waits to be purged.
    disk.flip_bit(&segment::live_path(Path::new(DIR), 2), 9000, 3);
    let from = last - 10;
    let (mut log, recovered) = open_from(&disk, from).unwrap();
    assert!(recovered.first_index > 1 && recovered.first_index <= from);
    assert_eq!(all(&log).last(), Some(&entry(last, 1, 1000)));
    log.purge_before(from);
    drop(log);
    let (log, _) = open(&disk).unwrap();
    assert!(log.first_index() > 60);
    assert_eq!(all(&log).last(), Some(&entry(last, 1, 1000)));
}

#[test]
fn a_missing_segment_is_named() {
    let disk = SimDisk::new(6);
    let (mut log, _) = open(&disk).unwrap();
    fill(&mut log, 4, 1000);
    drop(log);
    let path = segment::live_path(Path::new(DIR), 2);
    disk.remove(&path).unwrap();
    let error = open(&disk).unwrap_err();
    assert!(matches!(&error, LogError::Missing { path: missing } if *missing == path), "{error}");
}

#[test]
fn a_full_disk_refuses_the_batch_and_later_takes_it() {
    let disk = SimDisk::new(7);
    let (mut log, _) = open(&disk).unwrap();
    disk.set_faults(Faults { capacity_bytes: Some(2 * SEGMENT_BYTES + SEGMENT_BYTES / 2), ..Faults::default() });
    let mut index = 0;
    let error = loop {
        match log.append(&batch([entry(index + 1, 1, 1000)])) {
            Ok(()) => log.sync().unwrap(),
            Err(error) => break error,
        }
        index += 1;
    };
    assert!(matches!(error, LogError::Full { .. }) && !error.is_fatal(), "{error}");
    assert!(index > 60, "the space that was reserved can be used");
    assert_eq!(log.last().index, index);
    assert!(matches!(log.append(&batch([entry(index + 1, 1, 1000)])), Err(LogError::Full { .. })));
    // A small batch still fits the segment, and purging makes room without any new space.
    log.purge_before(index);
    write(&mut log, &batch([entry(index + 1, 1, 1000)]));
    drop(log);
    disk.crash();
    let (log, _) = open(&disk).unwrap();
    assert_eq!(all(&log).last(), Some(&entry(index + 1, 1, 1000)));
}

#[test]
fn a_full_disk_at_the_write_keeps_the_batch() {
    let disk = SimDisk::new(8);
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &batch([entry(1, 1, 1000)]));
    disk.set_faults(Faults { full: true, ..Faults::default() });
    log.append(&batch([entry(2, 1, 1000)])).unwrap();
    assert!(matches!(log.sync(), Err(LogError::Full { .. })));
    assert_eq!(all(&log), [entry(1, 1, 1000)]);
    disk.set_faults(Faults { short_writes: true, ..Faults::default() });
    log.sync().unwrap();
    assert_eq!(all(&log), [entry(1, 1, 1000), entry(2, 1, 1000)]);
}

#[test]
fn a_failed_sync_is_final() {
    for faults in [
        Faults { sync_fails_in: Some(0), ..Faults::default() },
        Faults { write_fails_in: Some(0), ..Faults::default() },
    ] {
        let disk = SimDisk::new(9);
        let (mut log, _) = open(&disk).unwrap();
        disk.set_faults(faults);
        log.append(&batch([entry(1, 1, 10)])).unwrap();
        let error = log.sync().unwrap_err();
        assert!(matches!(error, LogError::Io { .. }) && error.is_fatal(), "{error}");
        disk.set_faults(Faults::default());
        assert!(matches!(log.sync(), Err(LogError::Failed)));
        assert!(matches!(log.append(&batch([entry(1, 1, 10)])), Err(LogError::Failed)));
    }
}

#[test]
fn a_batch_that_skips_small_segments_is_found_again() {
    let disk = SimDisk::new(11);
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &batch([entry(1, 1, 10)]));
    fill(&mut log, 2, 1000);
    drop(log);
    // Segments grow by configuration; the one made ahead is still small when a large batch comes.
    let open_large = || {
        let options = LogOptions { segment_bytes: 8 * SEGMENT_BYTES, ..options(&disk) };
        Log::open_inline(Path::new(DIR), options).unwrap()
    };
    Segment::make(&disk, Path::new(DIR), 3, SEGMENT_BYTES, None, &AtomicBool::new(false)).unwrap();
    let (mut log, recovered) = open_large();
    let large = entry(recovered.last.index + 1, 1, 300_000);
    write(&mut log, &batch([large.clone()]));
    assert!(log.tail().segment.number >= 4);
    drop(log);
    disk.crash();
    let (mut log, recovered) = open_large();
    assert_eq!((recovered.last.index, recovered.cut), (large.index, None));
    assert_eq!(all(&log).last(), Some(&large));
    log.purge_before(large.index);
    drop(log);
    disk.crash();
    assert_eq!(all(&open_large().0), [large]);
}

#[test]
fn a_batch_larger_than_a_segment_is_refused() {
    let disk = SimDisk::new(10);
    let (mut log, _) = open(&disk).unwrap();
    let bytes_max = log.batch_bytes_max();
    let fitting = entry(1, 1, bytes_max - 22);
    write(&mut log, &batch([fitting.clone()]));
    assert!(matches!(log.append(&batch([entry(2, 1, bytes_max - 21)])), Err(LogError::TooLarge { .. })));
    write(&mut log, &batch([entry(2, 1, bytes_max - 22)]));
    assert_eq!(all(&log), [fitting, entry(2, 1, bytes_max - 22)]);
}
