//! The znode of a host: made, replaced, changed and removed, each only if it is still as it was seen.

use grange_client::recipes::RecipeError;
use grange_client::{Acls, Client, ClientError, CreateMode, MultiWriteError, Stat, ZnodePath, retry};

/// How often a farm is made again that somebody deletes meanwhile.
const ATTEMPTS_MAX: usize = 10;

/// Makes the farm unless it is there.
pub(super) async fn ensure_farm(client: &Client, farm: &ZnodePath) -> Result<(), RecipeError> {
    let failed = failed("cannot look for the farm", farm.as_str());
    if retry(|| client.check_stat(farm.as_str())).await.map_err(&failed)?.is_some() {
        return Ok(());
    }
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    retry(|| client.mkdir(farm.as_str(), &options)).await.map_err(failed)
}

/// Makes a znode, of this session or for good; `None` if there is one.
pub(super) async fn create(
    client: &Client,
    path: &str,
    data: &[u8],
    is_ephemeral: bool,
) -> Result<Option<Stat>, RecipeError> {
    let mode = if is_ephemeral { CreateMode::Ephemeral } else { CreateMode::Persistent };
    let options = mode.with_acls(Acls::anyone_all());
    for _ in 0..ATTEMPTS_MAX {
        match retry(|| client.create(path, data, &options)).await {
            Ok((stat, _)) => return Ok(Some(stat)),
            Err(ClientError::NodeExists) => return Ok(None),
            Err(ClientError::NoNode) => {
                let farm = path.rsplit_once('/').map_or("", |(farm, _)| farm);
                let farm = if farm.is_empty() { "/" } else { farm };
                ensure_farm(client, &farm.parse().expect("what is above a path is one")).await?;
            }
            Err(error) => return Err(failed("cannot register", path)(error)),
        }
    }
    Err(failed("cannot register", path)(ClientError::NoNode))
}

/// Replaces the znode of another session by one of this session, in one transaction; false if it has changed.
///
/// The new one's stat is not among what servers answer to a transaction.
pub(super) async fn replace(client: &Client, path: &str, version: i32, data: &[u8]) -> Result<bool, RecipeError> {
    let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let attempt = || async {
        let mut writer = client.new_multi_writer();
        writer.add_delete(path, Some(version))?;
        writer.add_create(path, data, &options)?;
        match writer.commit().await {
            Ok(_) => Ok(true),
            Err(MultiWriteError::OperationFailed { source: ClientError::BadVersion | ClientError::NoNode, .. }) => {
                Ok(false)
            }
            Err(MultiWriteError::OperationFailed { source, .. } | MultiWriteError::RequestFailed { source }) => {
                Err(source)
            }
        }
    };
    retry(attempt).await.map_err(failed("cannot replace", path))
}

/// Gives a znode other data; `None` if it has changed.
pub(super) async fn write(client: &Client, path: &str, data: &[u8], version: i32) -> Result<Option<Stat>, RecipeError> {
    match retry(|| client.set_data(path, data, Some(version))).await {
        Ok(stat) => Ok(Some(stat)),
        Err(ClientError::BadVersion | ClientError::NoNode) => Ok(None),
        Err(error) => Err(failed("cannot change", path)(error)),
    }
}

/// Removes a znode, unless it has changed.
pub(super) async fn remove(client: &Client, path: &str, version: i32) -> Result<(), RecipeError> {
    match retry(|| client.delete(path, Some(version))).await {
        Ok(()) | Err(ClientError::NoNode | ClientError::BadVersion) => Ok(()),
        Err(error) => Err(failed("cannot remove", path)(error)),
    }
}

fn failed(doing: &'static str, path: &str) -> impl Fn(ClientError) -> RecipeError + use<> {
    let path = path.to_owned();
    move |source| RecipeError::Request { doing, path: path.clone(), source }
}
