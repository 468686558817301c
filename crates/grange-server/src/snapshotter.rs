//! The snapshot thread: encodes the tree as it was at one entry, while the replica goes on.

use std::sync::Arc;
use std::time::Instant;

use grange_replica::{Event, SnapshotImage};

use crate::mailbox::{Mailbox, Taken};
use crate::stats::EdgeStats;
use crate::storage::snapshot::{SnapshotError, SnapshotFile, SnapshotMeta, SnapshotStore};

/// Something the snapshot thread is to do.
#[derive(Debug)]
pub(crate) enum SnapshotJob {
    /// Encode and save.
    Save(Box<SnapshotImage>),
    /// Remove files that nothing needs any more.
    Remove(Vec<SnapshotFile>),
}

/// What the snapshot thread is made of.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    pub(crate) store: Arc<SnapshotStore>,
    pub(crate) jobs: Arc<Mailbox<SnapshotJob>>,
    pub(crate) inbox: Arc<Mailbox<Event>>,
    pub(crate) stats: Arc<EdgeStats>,
}

impl Snapshotter {
    /// Works until the jobs end.
    pub(crate) fn run(self) {
        let mut jobs = Vec::new();
        while self.jobs.take(&mut jobs, None) != Taken::Closed {
            for job in jobs.drain(..) {
                match job {
                    SnapshotJob::Save(image) => self.save(*image),
                    SnapshotJob::Remove(files) => self.remove(&files),
                }
            }
        }
    }

    fn save(&self, image: SnapshotImage) {
        let index = image.index;
        let started = Instant::now();
        match write(&self.store, image) {
            Ok(file) => {
                self.stats.snapshots.add(started.elapsed());
                tracing::debug!(index, bytes = file.bytes, "a snapshot is saved");
                self.inbox.push(Event::SnapshotSaved { index });
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(index, error, "a snapshot cannot be saved; the log is kept and a later one is tried");
                self.inbox.push(Event::SnapshotFailed);
            }
        }
    }

    fn remove(&self, files: &[SnapshotFile]) {
        for file in files {
            if let Err(error) = self.store.remove(file) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(path = %file.path.display(), error, "an old snapshot cannot be removed");
            }
        }
    }
}

/// Encodes and saves a snapshot; it is durable when this returns.
pub(crate) fn write(store: &SnapshotStore, image: SnapshotImage) -> Result<SnapshotFile, SnapshotError> {
    let SnapshotImage { index, term, meta, tree } = image;
    let zxid = tree.zxid().0.cast_unsigned();
    let mut writer = store.create(&SnapshotMeta { index, term, zxid, extra: meta.into() })?;
    let mut chunk = Vec::new();
    for at in 0..tree.chunk_count() {
        chunk.clear();
        tree.encode_chunk(at, &mut chunk);
        writer.chunk(&chunk)?;
    }
    // What the tree shares with this image need not be copied any more while the file is synced.
    drop(tree);
    writer.finish()
}
