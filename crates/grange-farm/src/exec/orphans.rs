//! Being told of records that nobody will settle.

use std::collections::BTreeSet;

use grange_client::Client;
use grange_client::recipes::{RecipeError, TreeCache, TreeChange};

use super::ExecError;
use super::record::{Record, UndoLog, alive, part_of};

/// Tells which records of a host have become orphans, those of before among them. Costs one watch.
///
/// Whoever has the host's configuration puts the fields back there too ([`Undo::apply`](super::Undo::apply)), and adds
/// [`Record::add_removal`] to the transaction that writes the host's znode.
#[derive(Debug)]
pub struct Orphans {
    log: UndoLog,
    cache: TreeCache,
    /// Records whose state may have changed.
    suspects: BTreeSet<String>,
    told: BTreeSet<String>,
}

impl Orphans {
    /// Starts to watch over the records of a host.
    pub async fn open(log: UndoLog) -> Result<Orphans, RecipeError> {
        let cache = TreeCache::open(log.client.clone(), log.root.clone()).await?;
        Ok(Orphans { log, cache, suspects: BTreeSet::new(), told: BTreeSet::new() })
    }

    /// Goes on with another session, after the first one has ended.
    pub async fn with_client(&mut self, client: Client) -> Result<(), RecipeError> {
        self.log.client = client.clone();
        self.cache.reopen(client).await
    }

    /// Returns the next orphan, each once; waits for one. Dropping the future loses nothing.
    ///
    /// Errors: the session has ended, or the records may not be read.
    pub async fn next(&mut self) -> Result<Record, ExecError> {
        loop {
            while let Some(path) = self.suspects.first().cloned() {
                // The copy may be behind what the record came with.
                let read = self.log.read(&path).await?;
                self.suspects.remove(&path);
                if let Some((record, _)) = read
                    && !record.is_held()
                    && self.told.insert(path)
                {
                    return Ok(record);
                }
            }
            let change = self.cache.next().await?;
            self.learn(&change);
        }
    }

    fn learn(&mut self, change: &TreeChange) {
        let path = match change {
            TreeChange::Created(path) | TreeChange::Changed(path) | TreeChange::Deleted(path) => path,
            TreeChange::Ready => return,
        };
        let Some((record, _)) = part_of(self.log.root.as_str(), path) else { return };
        if self.cache.get(record).is_none() {
            self.told.remove(record);
            self.suspects.remove(record);
        } else if self.cache.get(&alive(record)).is_none() {
            self.suspects.insert(record.to_owned());
        }
    }
}
