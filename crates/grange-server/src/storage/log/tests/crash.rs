//! Property: whatever is lost in a crash, what a sync covered is there, in order, and nothing else is.

use std::collections::BTreeMap;

use super::super::super::sim_disk::Random;
use super::*;

const SEED_COUNT: u64 = 2000;
const STEP_COUNT: u64 = 60;

/// What the log should hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    hard_state: HardState,
    last: Mark,
    /// Entries from here on must be readable.
    first: u64,
}

impl Model {
    fn apply(&mut self, batch: &Batch) {
        if let Some(mark) = batch.reset() {
            self.entries.clear();
            self.last = mark;
            self.first = mark.index + 1;
        }
        for entry in batch.entries() {
            self.entries.split_off(&entry.index);
            self.entries.insert(entry.index, entry.clone());
            self.last = Mark { index: entry.index, term: entry.term };
        }
        self.hard_state = batch.hard_state().unwrap_or(self.hard_state);
    }

    fn matches(&self, log: &Log) -> bool {
        let first = log.first_index();
        let expected: Vec<_> = self.entries.range(first..).map(|(_, entry)| entry.clone()).collect();
        first <= self.first
            && (self.hard_state, self.last) == (log.hard_state(), log.last())
            && (self.entries.is_empty() || first > *self.entries.first_key_value().unwrap().0 - 1)
            && expected == all(log)
    }
}

struct World {
    seed: u64,
    random: Random,
    disk: SimDisk,
    log: Log,
    /// The state after the last sync, and after each batch appended since.
    states: Vec<Model>,
    replay_from: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let disk = SimDisk::new(seed ^ 0xd15c);
        let (log, _) = open(&disk).unwrap();
        let states = vec![Model { first: 1, ..Model::default() }];
        World { seed, random: Random(seed), disk, log, states, replay_from: 0 }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::new();
        let state = self.states.last().unwrap().clone();
        let mut next = state.last.index + 1;
        let mut term = state.last.term.max(1);
        match self.random.below(20) {
            0 if next > state.first => {
                next = state.first + self.random.below(next - state.first);
                term += 1;
            }
            1 if self.random.below(4) == 0 => {
                next += self.random.below(50);
                term += 1;
                batch.reset_to(Mark { index: next - 1, term });
            }
            _ => {}
        }
        for index in next..next + self.random.below(4) {
            let len = match self.random.below(12) {
                0 => self.random.below(20_000),
                1..4 => self.random.below(3_000),
                _ => self.random.below(100),
            };
            batch.push(entry(index, term, usize::try_from(len).unwrap()));
        }
        if batch.is_empty() || self.random.below(3) == 0 {
            batch.set_hard_state(HardState { term, vote: self.random.below(5), commit: next - 1 });
        }
        batch
    }

    fn synced(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..60 => {
                let batch = self.batch();
                if self.log.append(&batch).is_err() {
                    return self.restart();
                }
                let mut state = self.states.last().unwrap().clone();
                state.apply(&batch);
                self.states.push(state);
            }
            60..85 => match self.log.sync() {
                Ok(()) => self.synced(),
                Err(_) => self.restart(),
            },
            85..90 => self.purge(),
            90..94 => self.lose_power(),
            94..96 => self.reopen(),
            96..98 => {
                let countdown = Some(self.random.below(6));
                let faults = match self.random.below(4) {
                    0 => Faults { write_fails_in: countdown, ..Faults::default() },
                    1 => Faults { sync_fails_in: countdown, short_writes: true, ..Faults::default() },
                    _ => Faults { dies_in: Some(self.random.below(60)), ..Faults::default() },
                };
                self.disk.set_faults(faults);
            }
            _ => self.close(),
        }
    }

    fn purge(&mut self) {
        if self.log.sync().is_err() {
            return self.lose_power();
        }
        self.synced();
        let state = self.states.last_mut().unwrap();
        let span = state.last.index + 2 - state.first.min(state.last.index + 1);
        state.first = state.first.min(state.last.index + 1) + self.random.below(span);
        self.log.purge_before(state.first);
        self.replay_from = state.first;
    }

    fn close(&mut self) {
        let (spare, _) = open(&SimDisk::new(0)).unwrap();
        match std::mem::replace(&mut self.log, spare).close() {
            Ok(()) => {
                self.synced();
                self.disk.crash();
                self.reopen();
            }
            Err(_) => self.lose_power(),
        }
    }

    /// What follows an error: the process starts again, and the page cache may or may not survive.
    fn restart(&mut self) {
        if self.random.below(2) == 0 { self.lose_power() } else { self.reopen() }
    }

    fn lose_power(&mut self) {
        self.disk.crash();
        self.reopen();
    }

    fn reopen(&mut self) {
        self.disk.set_faults(Faults::default());
        let replay_from = if self.random.below(2) == 0 { self.replay_from } else { 0 };
        let opened = open_from(&self.disk, replay_from);
        self.log = opened.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)).0;
        let found = self.states.iter().position(|state| state.matches(&self.log));
        let found = found.unwrap_or_else(|| {
            let ends: Vec<_> = self.states.iter().map(|state| (state.last, state.hard_state)).collect();
            panic!("seed {}: found {:?}, expected one of {ends:?}", self.seed, self.log.view)
        });
        self.states = vec![self.states.swap_remove(found)];
    }
}

#[test]
fn what_was_synced_survives_any_crash() {
    for seed in 0..SEED_COUNT {
        let mut world = World::new(seed);
        for _ in 0..STEP_COUNT {
            world.step();
        }
        world.lose_power();
    }
}

/// Where a frame lies.
struct Place {
    path: PathBuf,
    offset: u64,
    /// End of the bytes that its checksums cover.
    end: u64,
}

/// Writes a log of `segments` segments, each batch synced alone, and returns the places of all its frames.
fn written(disk: &SimDisk, segments: usize) -> Vec<Place> {
    let (mut log, _) = open(disk).unwrap();
    fill(&mut log, segments, 777);
    let last = log.last().index;
    write(&mut log, &batch([entry(last + 1, 1, 300)]));
    let mut places = Vec::new();
    for tracked in &log.segments {
        let mut reader = tracked.reader();
        while let Some(frame) = reader.next(None).unwrap() {
            let end = frame.offset + (frame::FRAME_HEADER_BYTES + frame.body.len()) as u64;
            places.push(Place { path: tracked.segment.path.clone(), offset: frame.offset, end });
        }
    }
    places
}

#[test]
fn a_flipped_bit_in_acknowledged_data_is_refused_with_file_and_offset() {
    let mut random = Random(1);
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let places = written(&disk, 3);
        let at = usize::try_from(random.below(places.len() as u64 - 1)).unwrap();
        let Place { path, offset, end } = &places[at];
        disk.flip_bit(path, offset + random.below(end - offset), u32::try_from(random.below(8)).unwrap());
        match open(&disk) {
            Err(LogError::Damaged { path: named, offset: at, .. }) => assert_eq!((&named, at), (path, *offset)),
            other => panic!("seed {seed}, {} byte {offset}: {other:?}", path.display()),
        }
    }
}

#[test]
fn a_flipped_bit_in_the_unproven_tail_is_cut() {
    let mut random = Random(2);
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let places = written(&disk, 2);
        let Place { path, offset, end } = places.last().unwrap();
        disk.flip_bit(path, offset + random.below(end - offset), u32::try_from(random.below(8)).unwrap());
        let (mut log, recovered) = open(&disk).unwrap();
        let last = recovered.last.index;
        assert_eq!(last + 1, places.len() as u64, "seed {seed}");
        assert_eq!(all(&log).len() as u64, last);
        if let Some(cut) = recovered.cut {
            assert_eq!((&cut.path, cut.offset, cut.batch_count), (path, *offset, 1));
        }
        write(&mut log, &batch([entry(last + 1, 2, 40)]));
        drop(log);
        assert_eq!(open(&disk).unwrap().1.last, Mark { index: last + 1, term: 2 });
    }
}

#[test]
fn a_batch_that_was_cut_does_not_come_back_behind_a_new_one() {
    let disk = SimDisk::new(5);
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &batch([entry(1, 1, 100)]));
    let offset = log.tail().written;
    log.append(&batch([entry(2, 1, 100)])).unwrap();
    log.append(&batch([entry(3, 1, 100)])).unwrap();
    log.sync().unwrap();
    drop(log);
    // As if the crash had come before the sync, and only the second batch had reached the disk.
    disk.flip_bit(&segment::live_path(Path::new(DIR), 1), offset + 40, 0);
    let (mut log, recovered) = open(&disk).unwrap();
    let cut = recovered.cut.unwrap();
    assert_eq!((recovered.last.index, cut.offset, cut.batch_count), (1, offset, 2));
    write(&mut log, &batch([entry(2, 2, 100)]));
    drop(log);
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!((recovered.last, recovered.cut), (Mark { index: 2, term: 2 }, None));
    assert_eq!(all(&log), [entry(1, 1, 100), entry(2, 2, 100)]);
}

#[test]
fn purging_before_the_new_segment_is_synced_keeps_what_it_will_carry() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk).unwrap();
        let mut with_state = batch([entry(1, 1, 100)]);
        let hard_state = HardState { term: 1, vote: 4, commit: 1 };
        with_state.set_hard_state(hard_state);
        write(&mut log, &with_state);
        let last = fill(&mut log, 3, 1000) - 1;
        let segments = log.segments.len();
        let mut index = last + 1;
        while log.segments.len() == segments {
            index += 1;
            log.append(&batch([entry(index, 1, 1000)])).unwrap();
        }
        log.purge_before(index);
        drop(log);
        disk.crash();
        let (_, recovered) = open(&disk).unwrap();
        assert_eq!(recovered.hard_state, hard_state, "seed {seed}");
        assert_eq!(recovered.last.index, index - 1, "going on to the next segment has synced this one");
    }
}

#[test]
fn a_crash_during_recycling_leaves_no_old_name_on_a_new_segment() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk).unwrap();
        let last = fill(&mut log, 4, 1000);
        disk.set_faults(Faults { dies_in: Some(seed % 12), ..Faults::default() });
        log.purge_before(last);
        drop(log);
        disk.crash();
        let recovered = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}")).1;
        assert_eq!(recovered.last.index, last);
    }
}

#[test]
fn after_a_clean_stop_damage_to_the_last_batch_is_refused() {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &batch([entry(1, 1, 100)]));
    let offset = log.tail().written;
    write(&mut log, &batch([entry(2, 1, 100)]));
    log.close().unwrap();
    disk.flip_bit(&segment::live_path(Path::new(DIR), 1), offset + 50, 0);
    assert!(matches!(open(&disk), Err(LogError::Damaged { offset: at, .. }) if at == offset));
}

#[test]
fn a_damaged_segment_header_is_refused() {
    let disk = SimDisk::new(4);
    written(&disk, 3);
    let path = segment::live_path(Path::new(DIR), 2);
    disk.flip_bit(&path, 20, 0);
    assert!(matches!(open(&disk), Err(LogError::Damaged { path: named, offset: 0, .. }) if named == path));
}
