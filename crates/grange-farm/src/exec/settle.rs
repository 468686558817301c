//! Putting fields back, once.

use grange_client::{ClientError, MultiWriteError, is_transient, retry};
use tokio::time::sleep;

use super::record::{ATTEMPTS_MAX, PAUSE, Record, UndoLog};
use super::undo::Applied;
use super::{ExecError, request};
use crate::properties::Properties;

/// Who may settle a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The run that it was made for, or whoever knows that this has ended.
    Ours,
    /// Anybody, if the run has lost its session.
    Orphaned,
}

/// What came of settling a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The fields are back, and the record is gone.
    Restored(Applied),
    /// There is no record: somebody else has done it, or nothing was set.
    Before,
    /// The host is not in the farm. The record stays an orphan, for when it comes back.
    HostGone,
    /// The run goes on; nothing was done.
    Held,
}

impl UndoLog {
    /// Puts the fields of a record back, and removes it, in one transaction. Any number may do that at the same time.
    pub async fn settle(&self, path: &str, whose: Whose) -> Result<Settled, ExecError> {
        let mut is_first = true;
        for attempt in 1..=ATTEMPTS_MAX {
            // What made the record may be on its way still, and so may what we tried ourselves.
            if is_first {
                let root = self.root.as_str();
                match retry(|| self.client.sync(root)).await {
                    Ok(()) => {}
                    Err(ClientError::NoNode) => return Ok(Settled::Before),
                    Err(error) => return Err(request("cannot read", path)(error)),
                }
                is_first = false;
            }
            let Some((record, _)) = self.read(path).await? else { return Ok(Settled::Before) };
            if record.is_held && whose == Whose::Orphaned {
                return Ok(Settled::Held);
            }
            let Some((mut properties, stat)) = self.read_host().await? else {
                return self.leave(&record).await;
            };
            let applied = record.undo.apply(&mut properties);
            match self.commit_settled(&record, &applied, (&properties, stat.version)).await {
                Ok(true) => return Ok(Settled::Restored(applied)),
                Ok(false) => {}
                Err(error) if is_transient(&error) => is_first = true,
                Err(error) => return Err(request("cannot set fields of", self.host.as_str())(error)),
            }
            sleep(PAUSE * attempt).await;
        }
        Err(ExecError::Contended { path: self.host.to_string(), attempts: ATTEMPTS_MAX })
    }

    /// Returns false if something is not as it was.
    async fn commit_settled(
        &self,
        record: &Record,
        applied: &Applied,
        (properties, version): (&Properties, i32),
    ) -> Result<bool, ClientError> {
        let commit = {
            let mut transaction = self.client.new_multi_writer();
            if record.is_held {
                transaction.add_delete(&record.alive(), None)?;
            }
            record.add_removal(&mut transaction)?;
            let host = self.host.as_str();
            if applied.restored.is_empty() {
                transaction.add_check_version(host, version)?;
            } else {
                transaction.add_set_data(host, &properties.encode(), Some(version))?;
            }
            transaction.commit()
        };
        match commit.await {
            Ok(_) => Ok(true),
            Err(MultiWriteError::OperationFailed { source: ClientError::NoAuth, .. }) => Err(ClientError::NoAuth),
            Err(MultiWriteError::OperationFailed { .. }) => Ok(false),
            Err(MultiWriteError::RequestFailed { source }) => Err(source),
        }
    }

    /// Leaves a record to whoever brings the host back.
    async fn leave(&self, record: &Record) -> Result<Settled, ExecError> {
        if record.is_held {
            let alive = record.alive();
            match retry(|| self.client.delete(&alive, None)).await {
                Ok(()) | Err(ClientError::NoNode) => {}
                Err(error) => return Err(request("cannot delete", &alive)(error)),
            }
        }
        Ok(Settled::HostGone)
    }
}
