//! A znode of a session's own, by which a change is made once although the reply to it may be lost.
//!
//! When a connection breaks between a request and its reply, nobody knows whether the request was done. A put that is sent
//! again may put twice, and a counter that shows the expected number may owe it to somebody else. So the change goes
//! into one transaction with a write to the marker, on condition of the marker's version: sent again, a transaction
//! that was done fails for that version, and is known to have been done. It costs one small write in a transaction
//! that is made anyway.

use std::sync::atomic::{AtomicBool, Ordering};

use grange_proto::ZnodePath;
use tokio::time::Instant;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError, MultiWriteError, MultiWriter, Stat};

use super::entries;
use super::failure::RecipeError;
use super::held::Held;
use super::own::Own;
use super::parents::child;
use crate::retry::{is_connection_loss, retry};

/// Why a transaction was not done, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// The operation with this index, of those that the caller added, cannot be done; nothing was.
    #[error("operation {index}: {source}")]
    Refused { index: usize, source: ClientError },
    /// The request failed. Whether it was done is unknown if the session was lost meanwhile.
    #[error(transparent)]
    Request(ClientError),
}

impl CommitError {
    /// Drops the index.
    pub(crate) fn into_client(self) -> ClientError {
        match self {
            CommitError::Refused { source, .. } | CommitError::Request(source) => source,
        }
    }
}

/// An ephemeral znode with a name that nobody else takes.
#[derive(Debug)]
pub(crate) struct Marker {
    client: Client,
    parent: ZnodePath,
    name: String,
    path: String,
    version: i32,
    /// False while a write is under way, and for good after one whose future was dropped: the version is then asked for.
    is_settled: bool,
}

impl Marker {
    /// Creates a marker in `parent`, which must exist.
    pub(crate) async fn create(client: &Client, parent: &ZnodePath) -> Result<Marker, ClientError> {
        let name = Uuid::new_v4().simple().to_string();
        let path = child(parent.as_str(), &name);
        create_own(client, &path, b"").await?;
        Ok(Marker { client: client.clone(), parent: parent.clone(), name, path, version: 0, is_settled: true })
    }

    /// Returns the name, which no other marker has.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Watches over the session from now on, by watching over the marker. When the value is dropped, the marker goes.
    pub(crate) async fn hold(&mut self) -> Result<Held, ClientError> {
        let sent_at = Instant::now();
        // The leader takes part in answering this, so it has heard of the session since.
        let stat = retry(|| self.client.set_data(&self.path, b"", None)).await?;
        self.version = stat.version;
        let mut own = Own::named(&self.client, &self.parent, self.name.clone());
        own.found(self.name.clone());
        Ok(Held::new(own, stat.czxid, sent_at))
    }

    /// Does all that `add` adds, or nothing, once, however often the connection breaks meanwhile.
    pub(crate) async fn commit(
        &mut self,
        add: impl Fn(&mut MultiWriter<'_>) -> Result<(), ClientError>,
    ) -> Result<(), CommitError> {
        if !self.is_settled {
            self.server_time().await.map_err(CommitError::Request)?;
        }
        self.is_settled = false;
        let was_lost = AtomicBool::new(false);
        let (client, path, version) = (&self.client, &self.path, self.version);
        let attempt = || async {
            let mut writer = client.new_multi_writer();
            writer.add_set_data(path, b"", Some(version))?;
            add(&mut writer)?;
            match writer.commit().await {
                Ok(results) => Ok(Ok(results)),
                Err(MultiWriteError::OperationFailed { index, source }) => Ok(Err((index, source))),
                Err(MultiWriteError::RequestFailed { source }) => {
                    was_lost.fetch_or(is_connection_loss(&source), Ordering::Relaxed);
                    Err(source)
                }
            }
        };
        match retry(attempt).await.map_err(CommitError::Request)? {
            Ok(_) => {}
            // Done, by an attempt whose reply was lost.
            Err((0, ClientError::BadVersion)) if was_lost.into_inner() => {}
            // Nobody else has business with the marker.
            Err((0, source)) => return Err(CommitError::Request(source)),
            Err((index, source)) => {
                self.is_settled = true;
                return Err(CommitError::Refused { index: index - 1, source });
            }
        }
        self.version += 1;
        self.is_settled = true;
        Ok(())
    }

    /// Returns the time of the server, in milliseconds since 1970: that of a write made now.
    pub(crate) async fn server_time(&mut self) -> Result<i64, ClientError> {
        self.is_settled = false;
        let stat: Stat = retry(|| self.client.set_data(&self.path, b"", None)).await?;
        self.version = stat.version;
        self.is_settled = true;
        Ok(stat.mtime)
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        let mut own = Own::named(&self.client, &self.parent, self.name.clone());
        own.found(self.name.clone());
        // Its drop removes the znode in the background.
        drop(own);
    }
}

/// Returns an error if the items are no single batch.
pub(crate) fn check_batch<T: AsRef<[u8]>>(items: &[T]) -> Result<(), RecipeError> {
    if entries::batches(items).nth(1).is_some() {
        let bytes = items.iter().map(|item| item.as_ref().len()).sum();
        return Err(RecipeError::TooLarge { count: items.len(), bytes });
    }
    Ok(())
}

/// Tells the end of a session from other failures of a change.
pub(crate) fn change_error(doing: &'static str, path: &ZnodePath, error: CommitError) -> RecipeError {
    match error.into_client() {
        ClientError::SessionExpired | ClientError::ClientClosed => RecipeError::Unknown { path: path.to_string() },
        source => RecipeError::Request { doing, path: path.to_string(), source },
    }
}

/// Creates an ephemeral znode with a name that is this caller's alone, so that finding it there is success.
pub(crate) async fn create_own(client: &Client, path: &str, data: &[u8]) -> Result<(), ClientError> {
    let was_lost = AtomicBool::new(false);
    let create = || async {
        let created = client.create(path, data, &CreateMode::Ephemeral.with_acls(Acls::anyone_all())).await;
        if let Err(error) = &created {
            was_lost.fetch_or(is_connection_loss(error), Ordering::Relaxed);
        }
        created
    };
    match retry(create).await {
        Ok(_) => Ok(()),
        Err(ClientError::NodeExists) if was_lost.load(Ordering::Relaxed) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates a znode that lasts, and its parents, unless they are there.
pub(crate) async fn ensure_path(client: &Client, path: &str) -> Result<(), ClientError> {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    match retry(|| client.mkdir(path, &options)).await {
        Ok(()) | Err(ClientError::NodeExists) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes a znode; returns false if it was not there. After a lost reply, "not there" may be this caller's doing, and
/// counts as such.
pub(crate) async fn delete(client: &Client, path: &str) -> Result<bool, ClientError> {
    let was_lost = AtomicBool::new(false);
    let delete = || async {
        let deleted = client.delete(path, None).await;
        if let Err(error) = &deleted {
            was_lost.fetch_or(is_connection_loss(error), Ordering::Relaxed);
        }
        deleted
    };
    match retry(delete).await {
        Ok(()) => Ok(true),
        Err(ClientError::NoNode) => Ok(was_lost.load(Ordering::Relaxed)),
        Err(error) => Err(error),
    }
}

/// Returns a number below `bound`, at random; it only spreads clients, so a slight bias does no harm.
pub(crate) fn random_below(bound: usize) -> usize {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let number = u64::from_ne_bytes(bytes) % u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
    usize::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_below_their_bound() {
        assert!((0..1000).all(|_| random_below(3) < 3));
        assert_eq!((random_below(0), random_below(1)), (0, 0));
    }
}
