//! addWatch and removewatches.

use grange_proto::Request;
use grange_proto::watch::{AddWatchMode, WatcherType};

use super::{Call, Entry};
use crate::shell::zkcli::zk::Interrupted;

pub(super) async fn add(call: Call<'_>, entry: &Entry) -> Result<(), Interrupted> {
    if call.words.plain.len() != 2 {
        return Err(entry.usage().into());
    }
    let mode = match call.words.value("m").map(str::to_uppercase).as_deref() {
        None | Some("PERSISTENT_RECURSIVE") => AddWatchMode::PersistentRecursive,
        Some("PERSISTENT") => AddWatchMode::Persistent,
        Some(_) => return Err(entry.usage().into()),
    };
    let path = call.path()?;
    let server_path = call.zk.server_path(&path);
    let request = Request::AddWatch(&server_path, mode as i32);
    call.zk.call(&request).await.map(drop).map_err(|refusal| refusal.about(&path))
}

pub(super) async fn remove(call: Call<'_>) -> Result<(), Interrupted> {
    let kinds = [
        ("c", WatcherType::Children),
        ("d", WatcherType::Data),
        ("p", WatcherType::Persistent),
        ("r", WatcherType::PersistentRecursive),
    ];
    let kind = kinds.into_iter().find(|(option, _)| call.words.has(option)).map_or(WatcherType::Any, |(_, kind)| kind);
    let path = call.path()?;
    let removed = call.zk.remove_watches(&path, kind, call.words.has("l")).await;
    removed.map_err(|refusal| refusal.about(&path))
}
