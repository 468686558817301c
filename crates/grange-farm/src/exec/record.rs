//! The records of a host: what has been set in it for a while, by whom, and whether they are still there.

use std::time::Duration;

use grange_client::{Client, ClientError, EventType, MultiWriter, ZnodePath, retry};
use tracing::warn;

use super::place::{Place, PlaceError};
use super::undo::Undo;
use super::{ExecError, request};
use crate::properties::FieldPath;

/// How often it is tried while others change the host's znode at the same time.
pub(super) const ATTEMPTS_MAX: u32 = 50;

/// The pause after an attempt; each one is longer by as much.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// The ephemeral child of a record of which the session is alive.
pub(super) const ALIVE: &str = "alive";

/// The records of one host of a farm.
///
/// They are the children of a znode that lasts, and whose version grows with each of them: so two who set fields at the same
/// time cannot both believe to be alone.
#[derive(Debug, Clone)]
pub struct UndoLog {
    pub(super) client: Client,
    pub(super) host: ZnodePath,
    pub(super) root: ZnodePath,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub(super) path: String,
    pub(super) version: i32,
    pub(super) undo: Undo,
    pub(super) is_held: bool,
}

impl Record {
    /// Returns the znode's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what puts the fields back.
    pub fn undo(&self) -> &Undo {
        &self.undo
    }

    /// Tells whether the run that it was made for still has its session; otherwise it is an orphan.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Adds the removal of the record, which must be an orphan, to a transaction that puts the fields back.
    ///
    /// That fails with `NoNode` if somebody else has done it already.
    pub fn add_removal(&self, transaction: &mut MultiWriter<'_>) -> Result<(), ClientError> {
        transaction.add_delete(&self.path, Some(self.version))
    }

    pub(super) fn alive(&self) -> String {
        alive(&self.path)
    }
}

/// Returns the path of the ephemeral child of a record.
pub(super) fn alive(record: &str) -> String {
    format!("{record}/{ALIVE}")
}

/// Returns the record that a path below the records of a host belongs to, and whether it is that of its ephemeral child.
pub(super) fn part_of<'a>(root: &str, path: &'a str) -> Option<(&'a str, bool)> {
    let inside = path.strip_prefix(root)?.strip_prefix('/')?;
    match inside.split_once('/') {
        None => Some((path, false)),
        Some((_, ALIVE)) => Some((&path[..path.len() - ALIVE.len() - 1], true)),
        Some(_) => None,
    }
}

impl UndoLog {
    /// Returns the records of a host of a farm, which need not be there.
    pub fn new(client: &Client, place: &Place, host: &str) -> Result<UndoLog, PlaceError> {
        Ok(UndoLog { client: client.clone(), host: place.host(host)?, root: place.undo(host)? })
    }

    /// Returns every record, in the order in which they were made.
    pub async fn records(&self) -> Result<Vec<Record>, ExecError> {
        let root = self.root.as_str();
        let names = match retry(|| self.client.list_children(root)).await {
            Err(ClientError::NoNode) => return Ok(Vec::new()),
            listed => listed.map_err(request("cannot list", root))?,
        };
        let mut records = Vec::new();
        for name in names {
            if let Some((record, czxid)) = self.read(&format!("{root}/{name}")).await? {
                records.push((czxid, record));
            }
        }
        records.sort_by_key(|(czxid, _)| *czxid);
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    /// Returns the records whose runs have ended without putting the fields back.
    pub async fn orphans(&self) -> Result<Vec<Record>, ExecError> {
        let mut records = self.records().await?;
        records.retain(|record| !record.is_held);
        Ok(records)
    }

    /// Returns a record that sets one of these fields, if its run goes on.
    pub async fn holder(&self, fields: &[FieldPath]) -> Result<Option<Record>, ExecError> {
        let touches = |record: &Record| record.is_held && fields.iter().any(|field| record.undo.touches(field));
        Ok(self.records().await?.into_iter().find(touches))
    }

    /// Reads a record and when it was made; `None` if it is not there, or is none.
    pub(super) async fn read(&self, path: &str) -> Result<Option<(Record, i64)>, ExecError> {
        let (data, stat) = match retry(|| self.client.get_data(path)).await {
            Err(ClientError::NoNode) => return Ok(None),
            read => read.map_err(request("cannot read", path))?,
        };
        // In this order: they come together, and the child never comes again.
        let child = alive(path);
        let is_held = retry(|| self.client.check_stat(&child)).await.map_err(request("cannot read", path))?.is_some();
        match Undo::decode(&data) {
            Ok(undo) => {
                let record = Record { path: path.to_owned(), version: stat.version, undo, is_held };
                Ok(Some((record, stat.czxid)))
            }
            Err(error) => {
                warn!(%path, %error, "this is no record of what was set for a run, and left alone");
                Ok(None)
            }
        }
    }

    /// Tells whether the host is in the farm.
    pub async fn has_host(&self) -> Result<bool, ExecError> {
        let host = self.host.as_str();
        Ok(retry(|| self.client.check_stat(host)).await.map_err(request("cannot read", host))?.is_some())
    }

    /// Waits until a run has ended, in whatever way.
    pub async fn wait_for_end(&self, record: &Record) -> Result<(), ExecError> {
        let path = record.alive();
        self.wait_until(&path, false).await
    }

    /// Waits until the host is in the farm.
    pub async fn wait_for_host(&self) -> Result<(), ExecError> {
        self.wait_until(self.host.as_str(), true).await
    }

    async fn wait_until(&self, path: &str, is_there: bool) -> Result<(), ExecError> {
        loop {
            let watched = retry(|| self.client.check_and_watch_stat(path)).await;
            let (stat, watcher) = watched.map_err(request("cannot watch", path))?;
            if stat.is_some() == is_there {
                return Ok(());
            }
            let event = watcher.changed().await;
            if event.event_type == EventType::Session && event.session_state.is_terminated() {
                return Err(request("cannot watch", path)(ClientError::SessionExpired));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_and_its_child_are_told_apart() {
        for (path, expected) in [
            ("/undo/h/r", Some(("/undo/h/r", false))),
            ("/undo/h/r/alive", Some(("/undo/h/r", true))),
            ("/undo/h", None),
            ("/undo/h/r/other", None),
            ("/undo/h/r/alive/x", None),
            ("/undo/host/r", None),
        ] {
            assert_eq!(part_of("/undo/h", path), expected, "{path}");
        }
    }
}
