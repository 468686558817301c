//! Setting fields for a while.

use grange_client::recipes::Held;
use grange_client::{
    Acls, ClientError, CreateMode, MultiWriteError, MultiWriteResult, Stat, ZnodePath, is_transient, retry,
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::record::{ALIVE, ATTEMPTS_MAX, PAUSE, Record, UndoLog, alive};
use super::settle::Whose;
use super::undo::Undo;
use super::{ExecError, request};
use crate::fields::DATA_BYTES_MAX;
use crate::properties::{FieldPath, Properties};

/// Fields that are set for a while.
#[derive(Debug)]
pub struct Setting {
    /// What puts them back.
    pub undo: Undo,
    /// The ephemeral child of the record. When this is [lost](Held::lost), anybody may put the fields back.
    pub alive: Held,
}

/// What came of setting fields.
#[derive(Debug)]
pub enum SetOutcome {
    /// They are set.
    Set(Box<Setting>),
    /// Another run has set one of them.
    Busy(Box<Record>),
    /// The host is not in the farm.
    NoHost,
}

/// What came of one attempt.
enum Attempt {
    Done(SetOutcome),
    /// Somebody else was faster.
    Again,
}

impl UndoLog {
    /// Sets fields, none of which is inside another one, and puts back before what runs that have ended without it have left.
    ///
    /// `name` is that of the record, which no other one has; `by` is for people. If this fails, whether the fields are set may
    /// be unknown: [`UndoLog::settle`] is then safe to call.
    pub async fn set(&self, name: &str, wants: &[(FieldPath, Value)], by: &str) -> Result<SetOutcome, ExecError> {
        for attempt in 1..=ATTEMPTS_MAX {
            match self.try_set(name, wants, by).await? {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Again => sleep(PAUSE * attempt).await,
            }
        }
        Err(ExecError::Contended { path: self.host.to_string(), attempts: ATTEMPTS_MAX })
    }

    async fn try_set(&self, name: &str, wants: &[(FieldPath, Value)], by: &str) -> Result<Attempt, ExecError> {
        // Nothing is made for a host that is not there.
        if !self.has_host().await? {
            return Ok(Attempt::Done(SetOutcome::NoHost));
        }
        // Whoever makes a record after this makes the version another one.
        let guard = self.guard().await?;
        let Some((mut properties, host)) = self.read_host().await? else {
            return Ok(Attempt::Done(SetOutcome::NoHost));
        };
        let path = self.record_path(name);
        for record in self.records().await? {
            if record.path == path {
                // An earlier attempt was done after all.
                let sent_at = Instant::now();
                return Ok(self.done(&path, record.undo, self.made(&path).await?, sent_at));
            }
            if !record.is_held() {
                self.settle(&record.path, Whose::Orphaned).await?;
                return Ok(Attempt::Again);
            }
            if wants.iter().any(|(field, _)| record.undo.touches(field)) {
                return Ok(Attempt::Done(SetOutcome::Busy(Box::new(record))));
            }
        }
        let undo = Undo::set(&mut properties, wants, by, Timestamp::now())
            .map_err(|source| ExecError::InTheWay { path: self.host.to_string(), source })?;
        let bytes = properties.encode().len() + undo.encode().len();
        if bytes > DATA_BYTES_MAX {
            return Err(ExecError::TooLarge { path: self.host.to_string(), bytes });
        }
        let sent_at = Instant::now();
        let made = match self.commit(&path, &undo, guard.version, (&properties, host.version)).await {
            Ok(Some(czxid)) => Some(czxid),
            Ok(None) => self.made(&path).await?,
            // Either the transaction was lost before it was done, or its reply was: then the record is there.
            Err(error) if is_transient(&error) => self.made(&path).await?,
            Err(error) => return Err(request("cannot set fields of", self.host.as_str())(error)),
        };
        Ok(self.done(&path, undo, made, sent_at))
    }

    /// Watches over a record that was made, if it was.
    fn done(&self, path: &str, undo: Undo, made: Option<i64>, sent_at: Instant) -> Attempt {
        let Some(czxid) = made else { return Attempt::Again };
        let record = ZnodePath::parse(path).expect("a record's path is one");
        let alive = Held::over(&self.client, &record, ALIVE, czxid, sent_at);
        Attempt::Done(SetOutcome::Set(Box::new(Setting { undo, alive })))
    }

    /// Sets the fields and makes the record; returns when its child was made, or `None` if something is not as it was.
    async fn commit(
        &self,
        path: &str,
        undo: &Undo,
        guard: i32,
        (properties, version): (&Properties, i32),
    ) -> Result<Option<i64>, ClientError> {
        let commit = {
            let mut transaction = self.client.new_multi_writer();
            transaction.add_set_data(self.root.as_str(), b"", Some(guard))?;
            transaction.add_set_data(self.host.as_str(), &properties.encode(), Some(version))?;
            transaction.add_create(path, &undo.encode(), &CreateMode::Persistent.with_acls(Acls::anyone_all()))?;
            transaction.add_create(&alive(path), b"", &CreateMode::Ephemeral.with_acls(Acls::anyone_all()))?;
            transaction.commit()
        };
        match commit.await {
            Ok(results) => Ok(results.into_iter().rev().find_map(|result| match result {
                MultiWriteResult::Create { stat, .. } if !stat.is_invalid() => Some(stat.czxid),
                _ => None,
            })),
            Err(MultiWriteError::OperationFailed { source: ClientError::NoAuth, .. }) => Err(ClientError::NoAuth),
            Err(MultiWriteError::OperationFailed { .. }) => Ok(None),
            Err(MultiWriteError::RequestFailed { source }) => Err(source),
        }
    }

    /// Returns when the child of a record of ours was made, if it is there.
    async fn made(&self, path: &str) -> Result<Option<i64>, ExecError> {
        let child = alive(path);
        // A transaction on its way comes before the sync.
        retry(|| self.client.sync(self.root.as_str())).await.map_err(request("cannot read", path))?;
        let stat = retry(|| self.client.check_stat(&child)).await.map_err(request("cannot read", path))?;
        Ok(stat.map(|stat| stat.czxid))
    }

    /// Makes the parent of the records, unless it is there, and returns its stat.
    async fn guard(&self) -> Result<Stat, ExecError> {
        let root = self.root.as_str();
        let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
        loop {
            match retry(|| self.client.get_data(root)).await {
                Ok((_, stat)) => return Ok(stat),
                Err(ClientError::NoNode) => {}
                Err(error) => return Err(request("cannot read", root)(error)),
            }
            match retry(|| self.client.mkdir(root, &persistent)).await {
                Ok(()) | Err(ClientError::NodeExists) => {}
                Err(error) => return Err(request("cannot make", root)(error)),
            }
        }
    }

    /// Reads the host; `None` if it is not in the farm.
    pub(super) async fn read_host(&self) -> Result<Option<(Properties, Stat)>, ExecError> {
        let host = self.host.as_str();
        let (data, stat) = match retry(|| self.client.get_data(host)).await {
            Err(ClientError::NoNode) => return Ok(None),
            read => read.map_err(request("cannot read", host))?,
        };
        let properties =
            Properties::decode(&data).map_err(|source| ExecError::Properties { path: host.to_owned(), source })?;
        Ok(Some((properties, stat)))
    }

    /// Returns the path of a record.
    pub fn record_path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }
}
