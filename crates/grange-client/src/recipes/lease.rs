//! A right for a limited time, which nobody has to give back: judged by the server's clock, never by a client's.
//!
//! The lease is a znode that lasts: whose it is and for how long are its data, and it began when the server says that the data
//! was written (`mtime`). Whoever wants it asks the server for the time too, by a write to a znode of its own. So
//! it does not matter what the clients' clocks say, and a holder that was killed, or whose session has ended, keeps the lease
//! until its time is over. The clock is that of the ensemble's leader; a step of that clock, or a new leader whose
//! clock differs, moves the end by as much.

use std::time::Duration;

use grange_proto::ZnodePath;
use tokio::sync::Mutex;
use zookeeper_client::{Client, Error as ClientError, Stat};

use super::failure::{RecipeError, request};
use super::marker::{CommitError, Marker, change_error, ensure_path};
use crate::retry::retry;

/// What failed requests were for.
const DOING: &str = "cannot take the lease";

/// Whose a lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// This handle's, for so much longer.
    Ours(Duration),
    /// Somebody else's, for so much longer.
    Theirs {
        /// The id of the holder.
        holder: String,
        /// How much longer.
        remaining: Duration,
    },
    /// Nobody's.
    Free,
}

/// A handle on a lease.
#[derive(Debug)]
pub struct Lease {
    client: Client,
    path: ZnodePath,
    id: String,
    marker: Mutex<Marker>,
}

/// What is in the data: the length in milliseconds, a blank, the holder's id. Empty: nobody's.
struct Record {
    holder: String,
    length_ms: i64,
}

impl Record {
    fn decode(data: &[u8]) -> Option<Record> {
        let (length, holder) = std::str::from_utf8(data).ok()?.split_once(' ')?;
        Some(Record { holder: holder.to_owned(), length_ms: length.parse().ok()? })
    }

    fn encode(&self) -> Vec<u8> {
        format!("{} {}", self.length_ms, self.holder).into_bytes()
    }

    /// How much is left at a time of the server's.
    fn remaining(&self, stat: &Stat, now_ms: i64) -> Option<Duration> {
        let left = stat.mtime.saturating_add(self.length_ms).saturating_sub(now_ms);
        u64::try_from(left).ok().filter(|&left| left > 0).map(Duration::from_millis)
    }
}

impl Lease {
    /// Opens the lease at `path`; `id` is what makes a holder known, also after it was started again.
    pub async fn open(client: Client, path: ZnodePath, id: &str) -> Result<Lease, RecipeError> {
        let failed = request(DOING, &path);
        ensure_path(&client, path.as_str()).await.map_err(&failed)?;
        let marker = Marker::create(&client, &path).await.map_err(&failed)?;
        Ok(Lease { client, path, id: id.to_owned(), marker: Mutex::new(marker) })
    }

    /// Takes the lease for so long from now on, if it is nobody's or this id's already.
    pub async fn obtain(&self, length: Duration) -> Result<LeaseState, RecipeError> {
        let length_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let record = Record { holder: self.id.clone(), length_ms };
        loop {
            let (state, version) = self.look().await?;
            if let LeaseState::Theirs { .. } = state {
                return Ok(state);
            }
            if self.write(&record.encode(), version).await? {
                return Ok(LeaseState::Ours(length));
            }
        }
    }

    /// Gives the lease back if it is this id's; returns whether it was.
    pub async fn release(&self) -> Result<bool, RecipeError> {
        loop {
            let (state, version) = self.look().await?;
            if !matches!(state, LeaseState::Ours(_)) {
                return Ok(false);
            }
            if self.write(b"", version).await? {
                return Ok(true);
            }
        }
    }

    /// Returns whose it is.
    pub async fn state(&self) -> Result<LeaseState, RecipeError> {
        Ok(self.look().await?.0)
    }

    async fn look(&self) -> Result<(LeaseState, i32), RecipeError> {
        let failed = request(DOING, &self.path);
        // The time first: what is read then was written before it, or makes the lease longer.
        let now_ms = self.marker.lock().await.server_time().await.map_err(&failed)?;
        let (data, stat) = retry(|| self.client.get_data(self.path.as_str())).await.map_err(&failed)?;
        let record = Record::decode(&data);
        let held = record.and_then(|record| Some((record.remaining(&stat, now_ms)?, record.holder)));
        let state = match held {
            None => LeaseState::Free,
            Some((remaining, holder)) if holder == self.id => LeaseState::Ours(remaining),
            Some((remaining, holder)) => LeaseState::Theirs { holder, remaining },
        };
        Ok((state, stat.version))
    }

    /// Returns false if somebody else has written meanwhile.
    async fn write(&self, data: &[u8], version: i32) -> Result<bool, RecipeError> {
        let add = |writer: &mut zookeeper_client::MultiWriter<'_>| {
            writer.add_set_data(self.path.as_str(), data, Some(version))
        };
        match self.marker.lock().await.commit(add).await {
            Ok(_) => Ok(true),
            Err(CommitError::Refused { source: ClientError::BadVersion, .. }) => Ok(false),
            Err(error) => Err(change_error(DOING, &self.path, error)),
        }
    }
}
