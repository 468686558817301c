//! Reading and changing single fields of a host, of `common` or of the farm itself.
//!
//! A change is a compare-and-set: what was read is written with the field changed, on the condition that nobody has changed
//! it meanwhile; else it is read and tried again. When the reply to a write is lost with its connection, the znode is
//! asked: a field that is as it was to be has been changed.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use grange_client::{Client, ClientError, Stat, ZnodePath, is_transient, retry};
use serde_json::Value;

use crate::properties::{FieldPath, Properties, PropertiesError};

/// How often a change is tried again, while others change the same znode or connections break; then it fails.
const RETRIES_MAX: usize = 100;

/// The pause before the second attempt. It grows, and up to as much again is added at random, so that contenders get out of
/// step.
const PAUSE_FIRST: Duration = Duration::from_millis(2);

/// The longest pause between two attempts, before the random part.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The most bytes of an object: servers refuse requests above 1 MiB, and a request needs some for itself.
pub const DATA_BYTES_MAX: usize = 1_000_000;

/// Why fields were not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FieldsError {
    /// There is no such znode.
    #[error("there is no znode {0}")]
    NoZnode(ZnodePath),
    /// There is no such field.
    #[error("there is no field {field} in {path}")]
    NoField {
        /// The znode.
        path: ZnodePath,
        /// The field.
        field: FieldPath,
    },
    /// The data of the znode are no properties. They are left as they are.
    #[error("{path} holds no properties")]
    Data {
        /// The znode.
        path: ZnodePath,
        /// What is wrong with the data.
        #[source]
        source: PropertiesError,
    },
    /// The object would become too large for a server.
    #[error("{path} would have {bytes} bytes; the most is {DATA_BYTES_MAX}")]
    TooLarge {
        /// The znode.
        path: ZnodePath,
        /// How many bytes it would have.
        bytes: usize,
    },
    /// Others kept changing it.
    #[error("{path} was changed by others each of {attempts} times that it was tried")]
    Contended {
        /// The znode.
        path: ZnodePath,
        /// How often it was tried.
        attempts: usize,
    },
    /// The session ended between the write and its reply.
    #[error("the session with the servers was lost during the change of {0}; whether it was made is not known")]
    Unknown(ZnodePath),
    /// A request failed.
    #[error("cannot {doing} {path}")]
    Request {
        /// `read` or `change`.
        doing: &'static str,
        /// The znode.
        path: ZnodePath,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// Returns the properties of a host, or of a farm.
pub async fn get(client: &Client, path: &ZnodePath) -> Result<Properties, FieldsError> {
    Ok(read(client, path).await?.0)
}

/// Gives a field a value.
pub async fn set(client: &Client, path: &ZnodePath, field: &FieldPath, value: &Value) -> Result<(), FieldsError> {
    change(client, path, |properties| properties.set(field, value.clone())).await?;
    Ok(())
}

/// Removes a field.
///
/// Errors: [`FieldsError::NoField`] if it is not there, not even as `null`.
pub async fn unset(client: &Client, path: &ZnodePath, field: &FieldPath) -> Result<(), FieldsError> {
    if get(client, path).await?.unset(field).is_none() {
        return Err(FieldsError::NoField { path: path.clone(), field: field.clone() });
    }
    change(client, path, |properties| {
        properties.unset(field);
    })
    .await?;
    Ok(())
}

/// Changes properties, whatever others change meanwhile, and returns them as they were written.
///
/// `edit` makes the change on properties as they are, maybe several times on newer ones, so it must be one that may be
/// done twice: to set a field, not to add to it.
pub async fn change(
    client: &Client,
    path: &ZnodePath,
    mut edit: impl FnMut(&mut Properties),
) -> Result<Properties, FieldsError> {
    let request = |source| FieldsError::Request { doing: "change", path: path.clone(), source };
    let pauses = ExponentialBuilder::new()
        .with_min_delay(PAUSE_FIRST)
        .with_max_delay(PAUSE_MAX)
        .with_max_times(RETRIES_MAX)
        .with_jitter()
        .build();
    let (mut is_first, mut error) = (true, ClientError::BadVersion);
    for pause in std::iter::once(Duration::ZERO).chain(pauses) {
        tokio::time::sleep(pause).await;
        let (before, stat) = read(client, path).await?;
        let mut after = before.clone();
        edit(&mut after);
        // At first it is written all the same: what was read may be older than what another server knows.
        if after == before && !is_first {
            return Ok(after);
        }
        is_first = false;
        let data = after.encode();
        if data.len() > DATA_BYTES_MAX {
            return Err(FieldsError::TooLarge { path: path.clone(), bytes: data.len() });
        }
        error = match client.set_data(path.as_str(), &data, Some(stat.version)).await {
            Ok(_) => return Ok(after),
            Err(ClientError::NoNode) => return Err(FieldsError::NoZnode(path.clone())),
            Err(ClientError::SessionExpired) => return Err(FieldsError::Unknown(path.clone())),
            Err(error @ ClientError::BadVersion) => error,
            Err(error) if is_transient(&error) => {
                // What is read next is to be no older than whatever became of the write.
                retry(|| client.sync(path.as_str())).await.map_err(request)?;
                error
            }
            Err(error) => return Err(request(error)),
        };
    }
    Err(match error {
        ClientError::BadVersion => FieldsError::Contended { path: path.clone(), attempts: RETRIES_MAX + 1 },
        error => request(error),
    })
}

async fn read(client: &Client, path: &ZnodePath) -> Result<(Properties, Stat), FieldsError> {
    match retry(|| client.get_data(path.as_str())).await {
        Ok((data, stat)) => match Properties::decode(&data) {
            Ok(properties) => Ok((properties, stat)),
            Err(source) => Err(FieldsError::Data { path: path.clone(), source }),
        },
        Err(ClientError::NoNode) => Err(FieldsError::NoZnode(path.clone())),
        Err(source) => Err(FieldsError::Request { doing: "read", path: path.clone(), source }),
    }
}
