//! The znode of a host: made, replaced, changed and removed, each only if it is still as it was seen.

use grange_client::recipes::RecipeError;
use grange_client::{Acls, Client, ClientError, CreateMode, MultiWriteError, MultiWriter, Stat, ZnodePath, retry};

/// How often a farm is made again that somebody deletes meanwhile.
const ATTEMPTS_MAX: usize = 10;

/// The highest version that a znode begins with: each one costs an operation. So many changes may happen between somebody's
/// reading and writing before that one can overwrite a znode which it has not read.
const FIRST_VERSION_MAX: i32 = 16;

/// Makes the farm unless it is there.
pub(super) async fn ensure_farm(client: &Client, farm: &ZnodePath) -> Result<(), RecipeError> {
    let failed = failed("cannot look for the farm", farm.as_str());
    if retry(|| client.check_stat(farm.as_str())).await.map_err(&failed)?.is_some() {
        return Ok(());
    }
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    retry(|| client.mkdir(farm.as_str(), &options)).await.map_err(failed)
}

/// Returns the version that a znode begins with in place of one that was last seen with version `before`, after which it may
/// have got `unseen` more.
///
/// A znode that is made anew would begin with 0, and whoever has read the old one with that version, and writes on the
/// condition that it still has it, would overwrite the new one with what the old one was. So it begins after the old
/// one's, or, where that is high, far before it.
pub(super) fn first_version(before: i32, unseen: i32) -> i32 {
    let after = before.saturating_add(unseen).saturating_add(1);
    if (1..=FIRST_VERSION_MAX).contains(&after) { after } else { 0 }
}

/// Makes a znode, of this session or for good, that has this version; false if there is one.
pub(super) async fn create(
    client: &Client,
    path: &str,
    data: &[u8],
    version: i32,
    is_ephemeral: bool,
) -> Result<bool, RecipeError> {
    let mode = if is_ephemeral { CreateMode::Ephemeral } else { CreateMode::Persistent };
    let attempt = || async {
        let mut writer = client.new_multi_writer();
        add_create(&mut writer, path, data, version, mode)?;
        writer.commit().await.map(drop).map_err(cause)
    };
    for _ in 0..ATTEMPTS_MAX {
        match retry(attempt).await {
            Ok(()) => return Ok(true),
            Err(ClientError::NodeExists) => return Ok(false),
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

/// Replaces the znode of another session, with version `before`, by one of this session with version `version`, in one
/// transaction; false if it has changed.
pub(super) async fn replace(
    client: &Client,
    path: &str,
    before: i32,
    data: &[u8],
    version: i32,
) -> Result<bool, RecipeError> {
    let attempt = || async {
        let mut writer = client.new_multi_writer();
        writer.add_delete(path, Some(before))?;
        add_create(&mut writer, path, data, version, CreateMode::Ephemeral)?;
        match writer.commit().await.map_err(cause) {
            Ok(_) => Ok(true),
            Err(ClientError::BadVersion | ClientError::NoNode) => Ok(false),
            Err(error) => Err(error),
        }
    };
    retry(attempt).await.map_err(failed("cannot replace", path))
}

/// Adds what makes a znode with a version. Nobody sees it between the steps of a transaction, so only the last one needs
/// the data.
fn add_create(
    writer: &mut MultiWriter<'_>,
    path: &str,
    data: &[u8],
    version: i32,
    mode: CreateMode,
) -> Result<(), ClientError> {
    let options = mode.with_acls(Acls::anyone_all());
    let data_at = |step| if step == version { data } else { &[] };
    writer.add_create(path, data_at(0), &options)?;
    (1..=version).try_for_each(|step| writer.add_set_data(path, data_at(step), None))
}

fn cause(error: MultiWriteError) -> ClientError {
    match error {
        MultiWriteError::OperationFailed { source, .. } | MultiWriteError::RequestFailed { source } => source,
    }
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
