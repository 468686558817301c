use super::super::disk::RealDisk;
use super::super::sim_disk::{Faults, Random, SimDisk};
use super::*;

const DIR: &str = "/snapshot";

fn store(disk: &SimDisk) -> SnapshotStore {
    SnapshotStore::open(Path::new(DIR), Arc::new(disk.clone())).unwrap()
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta { index, term: 2, zxid: index + 7, extra: Bytes::from_static(b"members") }
}

fn chunks(index: u64) -> Vec<Bytes> {
    let byte = u8::try_from(index % 256).unwrap();
    [0, 1, 3000, 70_000].map(|len| Bytes::from(vec![byte; len])).to_vec()
}

fn write(store: &SnapshotStore, index: u64) -> Result<SnapshotFile, SnapshotError> {
    let mut writer = store.create(&meta(index))?;
    for chunk in chunks(index) {
        writer.chunk(&chunk)?;
    }
    writer.finish()
}

fn load(reader: &SnapshotReader) -> Result<Vec<Bytes>, SnapshotError> {
    assert_eq!(*reader.meta(), meta(reader.meta().index));
    (0..reader.chunk_count()).map(|at| reader.chunk(at)).collect()
}

fn restore(store: &SnapshotStore, log_from: u64) -> Result<Option<u64>, RestoreError> {
    let restored = store.restore(|index| index >= log_from, load)?;
    Ok(restored.map(|(file, state)| {
        assert_eq!(state, chunks(file.index));
        file.index
    }))
}

#[test]
fn the_newest_snapshot_is_restored() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    assert_eq!(restore(&store, 0).unwrap(), None);
    for index in [5, 1_000_000, 70] {
        write(&store, index).unwrap();
    }
    disk.crash();
    assert_eq!(restore(&store, 0).unwrap(), Some(1_000_000));
    let files = store.list().unwrap();
    assert_eq!(files.iter().map(|file| file.index).collect::<Vec<_>>(), [5, 70, 1_000_000]);
    store.remove(&files[2]).unwrap();
    assert_eq!(restore(&store, 0).unwrap(), Some(70));
}

#[test]
fn a_snapshot_is_whole_or_absent_after_any_crash() {
    for seed in 0..500 {
        let disk = SimDisk::new(seed);
        let store_before = store(&disk);
        write(&store_before, 10).unwrap();
        let mut random = Random(seed);
        let faults = Faults { sync_fails_in: Some(random.below(3)), short_writes: true, ..Faults::default() };
        disk.set_faults(faults);
        let mut writer = store_before.create(&meta(20)).unwrap();
        let stop_at = usize::try_from(random.below(6)).unwrap();
        for chunk in chunks(20).iter().take(stop_at) {
            writer.chunk(chunk).unwrap();
        }
        let done = stop_at > 4 && writer.finish().is_ok();
        disk.crash();
        let store = store(&disk);
        let found = restore(&store, u64::MAX).unwrap();
        assert!(found == Some(20) || (!done && found == Some(10)), "seed {seed}: {found:?}");
        assert!(disk.list(Path::new(DIR)).unwrap().iter().all(|name| name.ends_with(".snap")));
    }
}

#[test]
fn a_damaged_newest_snapshot_needs_an_older_one_and_the_log() {
    let mut random = Random(3);
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let store = store(&disk);
        write(&store, 10).unwrap();
        let newest = write(&store, 20).unwrap();
        disk.flip_bit(&newest.path, random.below(newest.bytes), u32::try_from(random.below(8)).unwrap());
        match restore(&store, 11) {
            Ok(found) => assert_eq!(found, Some(10), "seed {seed}"),
            Err(error) => panic!("seed {seed}: {error}"),
        }
        let refused = restore(&store, 12).unwrap_err();
        assert!(matches!(&refused, RestoreError::NoneUsable { newest: SnapshotError::Damaged { path, .. } }
            if *path == newest.path));
    }
}

#[test]
fn a_snapshot_cut_short_is_damaged() {
    let temp = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(temp.path(), Arc::new(RealDisk)).unwrap();
    let file = write(&store, 20).unwrap();
    assert_eq!(restore(&store, 0).unwrap(), Some(20));
    let whole = std::fs::read(&file.path).unwrap();
    for len in [0, 10, 60, 5000, whole.len() - 40, whole.len() - 1] {
        std::fs::write(&file.path, &whole[..len]).unwrap();
        assert!(matches!(store.read(&file), Err(SnapshotError::Damaged { .. })), "{len}");
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let disk = SimDisk::new(4);
    let store = store(&disk);
    write(&store, 10).unwrap();
    let mut writer = store.create(&meta(20)).unwrap();
    disk.set_faults(Faults { full: true, ..Faults::default() });
    assert!(matches!(writer.chunk(b"x"), Err(SnapshotError::Full { .. })));
    drop(writer);
    assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 1);
    disk.set_faults(Faults::default());
    write(&store, 20).unwrap();
    assert_eq!(restore(&store, 0).unwrap(), Some(20));
}

#[test]
fn chunks_can_be_read_by_several_threads() {
    let disk = SimDisk::new(5);
    let store = store(&disk);
    let reader = store.read(&write(&store, 9).unwrap()).unwrap();
    let reader = &reader;
    let read: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..reader.chunk_count()).map(|at| scope.spawn(move || reader.chunk(at))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap().unwrap()).collect()
    });
    assert_eq!(read, chunks(9));
}
