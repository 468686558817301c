//! Many changes, sent as a row of transactions without waiting for each.

use std::collections::VecDeque;
use std::pin::Pin;

use grange_client::{Acls, Client, ClientError, CreateMode, MultiWriteError, MultiWriteResult, MultiWriter};

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::units::znodes;

/// How many changes make a transaction: few enough not to keep other clients of the server waiting.
const CHANGES_MAX: usize = 200;

/// How many bytes of paths and data make a transaction; a server takes 1 MiB by default.
const BYTES_MAX: usize = 256 * 1024;

/// How many transactions are under way at once; with [`BYTES_MAX`], it bounds the memory that they take.
const IN_FLIGHT_MAX: usize = 8;

type Reply<'a> = Pin<Box<dyn Future<Output = Result<Vec<MultiWriteResult>, MultiWriteError>> + Send + 'a>>;

/// The changes. Those of a session are carried out in order, so a parent is there before its children.
pub(super) struct Batches<'a> {
    client: &'a Client,
    writer: MultiWriter<'a>,
    paths: Vec<String>,
    bytes: usize,
    in_flight: VecDeque<(Vec<String>, Reply<'a>)>,
    done: usize,
}

/// What becomes of a znode.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'c> {
    /// It is created.
    Create { data: &'c [u8], acls: Acls<'c> },
    /// It gets data.
    Set { data: &'c [u8] },
    /// It is deleted if it has this version.
    Delete { version: i32 },
}

impl<'a> Batches<'a> {
    pub(super) fn new(client: &'a Client) -> Batches<'a> {
        Batches {
            client,
            writer: client.new_multi_writer(),
            paths: Vec::new(),
            bytes: 0,
            in_flight: VecDeque::new(),
            done: 0,
        }
    }

    /// Adds a change.
    pub(super) async fn add(&mut self, path: &str, change: Change<'_>) -> Result<(), CommandError> {
        let bytes = path.len() + change.data_bytes();
        if !self.paths.is_empty() && (self.paths.len() >= CHANGES_MAX || self.bytes + bytes > BYTES_MAX) {
            self.send();
            while self.in_flight.len() >= IN_FLIGHT_MAX {
                self.settle_one().await?;
            }
        }
        add(&mut self.writer, path, change).map_err(|error| refused(path, error))?;
        self.paths.push(path.to_owned());
        self.bytes += bytes;
        Ok(())
    }

    /// Waits until everything was done; returns how many changes that were.
    pub(super) async fn finish(mut self) -> Result<usize, CommandError> {
        self.send();
        while !self.in_flight.is_empty() {
            self.settle_one().await?;
        }
        Ok(self.done)
    }

    fn send(&mut self) {
        if self.paths.is_empty() {
            return;
        }
        let mut writer = std::mem::replace(&mut self.writer, self.client.new_multi_writer());
        self.in_flight.push_back((std::mem::take(&mut self.paths), Box::pin(writer.commit())));
        self.bytes = 0;
    }

    async fn settle_one(&mut self) -> Result<(), CommandError> {
        let Some((paths, reply)) = self.in_flight.pop_front() else { return Ok(()) };
        let failure = match reply.await {
            Ok(_) => {
                self.done += paths.len();
                return Ok(());
            }
            Err(error) => failed(&paths, error),
        };
        // Those behind it are on their way all the same: what was done must be counted.
        while let Some((paths, reply)) = self.in_flight.pop_front() {
            if reply.await.is_ok() {
                self.done += paths.len();
            }
        }
        Err(failure.hint(format!("{} were done", znodes(self.done))))
    }
}

/// Turns the failure of a transaction into the end of the command.
pub(super) fn failed(paths: &[String], error: MultiWriteError) -> CommandError {
    match error {
        MultiWriteError::OperationFailed { index, source } => {
            refused(paths.get(index).map_or("/", String::as_str), source)
        }
        MultiWriteError::RequestFailed { source } => refused(paths.first().map_or("/", String::as_str), source),
    }
}

/// Adds a change to a transaction.
pub(super) fn add(writer: &mut MultiWriter<'_>, path: &str, change: Change<'_>) -> Result<(), ClientError> {
    match change {
        Change::Create { data, acls } => writer.add_create(path, data, &CreateMode::Persistent.with_acls(acls)),
        Change::Set { data } => writer.add_set_data(path, data, None),
        Change::Delete { version } => writer.add_delete(path, Some(version)),
    }
}

impl Change<'_> {
    fn data_bytes(&self) -> usize {
        match self {
            Change::Create { data, .. } | Change::Set { data } => data.len(),
            Change::Delete { .. } => 0,
        }
    }
}
