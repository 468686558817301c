//! From the files of a data directory to what the replica starts with.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grange_replica::{HardState, LogEntry, Recovered, RecoveredSnapshot};
use grange_tree::{DecodedChunk, Tree, TreeBuilder};

use crate::storage::dir::DataDir;
use crate::storage::disk::Disk;
use crate::storage::log::{Log, LogError, LogOptions, Recovered as Found};
use crate::storage::snapshot::{
    RestoreError, SnapshotError, SnapshotFile, SnapshotMeta, SnapshotReader, SnapshotStore,
};

/// Why the data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The log cannot be opened or read.
    #[error("the log cannot be used")]
    Log(#[from] LogError),
    /// No snapshot can be used, though there are some.
    #[error("the snapshots cannot be used")]
    Restore(#[from] RestoreError),
    /// The directory of the snapshots cannot be read.
    #[error("the snapshots cannot be read")]
    Snapshots(#[source] SnapshotError),
    /// The system has no random number to give.
    #[error("no random number can be drawn")]
    Random(#[source] io::Error),
}

/// What was found, and the files to go on with.
pub(crate) struct Opened {
    pub(crate) recovered: Recovered,
    pub(crate) log: Log,
    pub(crate) snapshots: SnapshotStore,
}

/// Loads the newest snapshot that can be used and the entries behind it.
pub(crate) fn open(dir: &DataDir, segment_bytes: u64, disk: Arc<dyn Disk>) -> Result<Opened, DataError> {
    let source = Source { snapshot_dir: &dir.snapshot_dir(), log_dir: dir.log_dir(), segment_bytes, disk };
    source.open(Log::open, thread_count())
}

fn thread_count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Where the data is.
pub(crate) struct Source<'a> {
    pub(crate) snapshot_dir: &'a Path,
    pub(crate) log_dir: &'a Path,
    pub(crate) segment_bytes: u64,
    pub(crate) disk: Arc<dyn Disk>,
}

/// [`Log::open`], or what stands in for it in a simulation.
type OpenLog = fn(&Path, LogOptions) -> Result<(Log, Found), LogError>;

impl Source<'_> {
    /// Loads the newest snapshot that can be used, on so many threads, and the entries behind it.
    pub(crate) fn open(self, open_log: OpenLog, thread_count: usize) -> Result<Opened, DataError> {
        let Source { snapshot_dir, log_dir, segment_bytes, disk } = self;
        let snapshots = SnapshotStore::open(snapshot_dir, Arc::clone(&disk)).map_err(DataError::Snapshots)?;
        let name_key = disk.random_u64().map_err(DataError::Random)?;
        let load = |reader: &SnapshotReader| load(reader, name_key, thread_count);
        let newest = snapshots.list().map_err(DataError::Snapshots)?.pop();
        let options =
            |replay_from| LogOptions { replay_from, segment_bytes, disk: Arc::clone(&disk), ..LogOptions::default() };
        // The usual case: the newest snapshot is in order, and the log before it need not be read.
        let loaded = newest.and_then(|file| {
            let snapshot = snapshots.read(&file).and_then(|reader| load(&reader)).ok()?;
            Some((file, snapshot))
        });
        let (log, found, snapshot) = match loaded {
            Some((file, snapshot)) => {
                // From the last entry that the snapshot contains, to see whether the log has the same one.
                let (log, found) = open_log(log_dir, options(file.index))?;
                (log, found, Some((file, snapshot)))
            }
            None => {
                let (log, found) = open_log(log_dir, options(0))?;
                let snapshot = snapshots.restore(|index| found.first_index <= index, load)?;
                (log, found, snapshot)
            }
        };
        // The snapshot's own entry too, if it is there: its term tells whether the log goes on from this snapshot.
        let first = snapshot.as_ref().map_or(1, |(file, _)| file.index).max(log.first_index());
        let entries = read_entries(&log, first)?;
        let state = found.hard_state;
        let hard_state = HardState { term: state.term, vote: state.vote, commit: state.commit };
        let snapshot = snapshot.map(|(file, loaded)| recovered_snapshot(&file, loaded));
        Ok(Opened { recovered: Recovered { snapshot, hard_state, entries }, log, snapshots })
    }
}

/// A snapshot's contents.
struct Loaded {
    meta: Vec<u8>,
    tree: Tree,
}

/// Decodes a snapshot that was received; `name_key` keys the names of its tree.
///
/// Errors: any chunk is damaged.
pub(crate) fn load_snapshot(reader: &SnapshotReader, name_key: u64) -> Result<RecoveredSnapshot, SnapshotError> {
    let Loaded { meta, tree } = load(reader, name_key, thread_count())?;
    let SnapshotMeta { index, term, .. } = *reader.meta();
    Ok(RecoveredSnapshot { index, term, meta, tree })
}

fn recovered_snapshot(file: &SnapshotFile, loaded: Loaded) -> RecoveredSnapshot {
    RecoveredSnapshot { index: file.index, term: file.term, meta: loaded.meta, tree: loaded.tree }
}

/// Reads and decodes a snapshot, on one thread.
#[cfg(feature = "simulation")]
pub(crate) fn load_file(
    store: &SnapshotStore,
    file: &SnapshotFile,
    name_key: u64,
) -> Result<RecoveredSnapshot, SnapshotError> {
    let loaded = load(&store.read(file)?, name_key, 1)?;
    Ok(recovered_snapshot(file, loaded))
}

fn read_entries(log: &Log, first: u64) -> Result<Vec<LogEntry>, LogError> {
    log.entries(first)
        .map(|entry| {
            entry.map(|entry| LogEntry { index: entry.index, term: entry.term, tag: entry.tag, data: entry.data })
        })
        .collect()
}

/// Reads and decodes the chunks on several threads, then puts the tree together.
fn load(reader: &SnapshotReader, name_key: u64, thread_count: usize) -> Result<Loaded, SnapshotError> {
    let mut chunks = decode(reader, thread_count.min(reader.chunk_count()))?;
    chunks.sort_unstable_by_key(|(at, _)| *at);
    let mut builder = TreeBuilder::with_name_key(name_key);
    for (_, chunk) in chunks {
        builder.add(chunk);
    }
    let last = reader.chunk_count().saturating_sub(1);
    let tree = builder.finish().map_err(|_| reader.damaged(last, "the parts of the tree do not fit together"))?;
    Ok(Loaded { meta: reader.meta().extra.to_vec(), tree })
}

fn decode(reader: &SnapshotReader, thread_count: usize) -> Result<Vec<(usize, DecodedChunk)>, SnapshotError> {
    let next = AtomicUsize::new(0);
    if thread_count <= 1 {
        return decode_chunks(reader, &next);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..thread_count).map(|_| scope.spawn(|| decode_chunks(reader, &next))).collect();
        let mut chunks = Vec::with_capacity(reader.chunk_count());
        for thread in threads {
            chunks.extend(thread.join().expect("decoding does not panic on any bytes")?);
        }
        Ok(chunks)
    })
}

/// Decodes chunks that no other thread has taken yet, until there are none.
fn decode_chunks(reader: &SnapshotReader, next: &AtomicUsize) -> Result<Vec<(usize, DecodedChunk)>, SnapshotError> {
    let mut decoded = Vec::new();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= reader.chunk_count() {
            return Ok(decoded);
        }
        let bytes = reader.chunk(at)?;
        let chunk = TreeBuilder::decode_chunk(&bytes).map_err(|_| reader.damaged(at, "this is no part of a tree"))?;
        decoded.push((at, chunk));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use grange_tree::Tree;

    use super::*;
    use crate::storage::disk::RealDisk;
    use crate::storage::log::{self, Batch, Entry};

    /// A directory whose log has entries 1 to `last` of term 1, and a snapshot at entry 9 of `term`.
    fn directory(last: u64, term: u64) -> (DataDir, tempfile::TempDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let (mut log, _) = Log::open(dir.log_dir(), LogOptions::default()).unwrap();
        let mut batch = Batch::new();
        (1..=last).for_each(|index| batch.push(Entry { index, term: 1, tag: 0, data: Bytes::from_static(b"x") }));
        batch.set_hard_state(log::HardState { term: 1, vote: 7, commit: last.min(5) });
        log.append(&batch).unwrap();
        log.close().unwrap();
        let store = SnapshotStore::open(&dir.snapshot_dir(), Arc::new(RealDisk)).unwrap();
        let meta = SnapshotMeta { index: 9, term, zxid: 0, extra: Bytes::from_static(b"meta") };
        let mut writer = store.create(&meta).unwrap();
        let tree = Tree::with_name_key(1).snapshot();
        for at in 0..tree.chunk_count() {
            let mut chunk = Vec::new();
            tree.encode_chunk(at, &mut chunk);
            writer.chunk(&chunk).unwrap();
        }
        writer.finish().unwrap();
        (dir, temp)
    }

    #[test]
    fn the_entry_of_the_snapshot_is_read_too() {
        // The replica has to see whether it has the snapshot's term.
        for (last, expected) in [(12, vec![9, 10, 11, 12]), (5, vec![])] {
            let (dir, _temp) = directory(last, 2);
            let opened = open(&dir, 8 << 20, Arc::new(RealDisk)).unwrap();
            let entries = &opened.recovered.entries;
            assert_eq!(entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), expected);
            assert_eq!(opened.recovered.snapshot.as_ref().unwrap().term, 2);
        }
    }
}
