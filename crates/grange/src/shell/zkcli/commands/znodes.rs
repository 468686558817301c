//! Commands on znodes: create, delete, deleteall, get, set, ls, stat, sync and the counters.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grange_proto::multi::{MultiOp, MultiResult, put_ops};
use grange_proto::request::{Create, PathVersion, SetData, Watchable};
use grange_proto::response::Response;
use grange_proto::{Acl, ErrorCode, Op, Reader, Request};

use super::access::{parse_acl, with_acl};
use super::{Call, Entry};
use crate::output::hex_dump;
use crate::shell::zkcli::failure::{Failure, keeper_message};
use crate::shell::zkcli::path;
use crate::shell::zkcli::stat::print_stat;
use crate::shell::zkcli::zk::{Interrupted, Lookahead, Zk, texts};

/// How many multis of a deleteall are under way at once.
const BATCHES_IN_FLIGHT_MAX: usize = 10;

/// The most bytes of one multi: half of what a server takes, since `deleteall -b` counts znodes and not bytes.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Bytes that a deletion takes in a multi besides its path.
const DELETION_BYTES: usize = 17;

/// The longest time to live, in milliseconds.
const TTL_MS_MAX: i64 = grange_proto::lifetime::TTL_MS_MAX;

pub(super) async fn create(call: Call<'_>) -> Result<(), Interrupted> {
    let words = &call.words;
    let mode = create_mode(words)?;
    let path = words.plain[1].clone();
    let data = words.plain.get(2).map(|text| text.clone().into_bytes());
    let acl = match words.plain.get(3) {
        Some(text) => parse_acl(&mut call.zk.printer, text)?,
        None => Acl::open(),
    };
    path::check(&if mode.is_sequential() { format!("{path}1") } else { path.clone() })?;
    if acl.is_empty() {
        call.zk.printer.message(&keeper_message(ErrorCode::InvalidAcl.code(), None))?;
        return Err(Failure::refused(ErrorCode::InvalidAcl.into(), None).into());
    }
    let server_path = call.zk.server_path(&path);
    let body = with_acl(&acl, |acl| {
        let mut bytes = Vec::new();
        let create = Create {
            op: mode.op,
            path: &server_path,
            data: data.as_deref(),
            acl,
            flags: mode.flags,
            ttl_ms: mode.ttl_ms,
        };
        Request::Create(create).encode(&mut bytes);
        bytes
    });
    let request = Request::decode(mode.op, &mut Reader::new(&body))?;
    let reply = match call.zk.call(&request).await {
        Ok(reply) => reply,
        Err(refusal) => {
            if refusal.is(ErrorCode::InvalidAcl) {
                call.zk.printer.message(&keeper_message(ErrorCode::InvalidAcl.code(), Some(&path)))?;
            } else if refusal.is(ErrorCode::EphemeralOnLocalSession) {
                call.zk.printer.message("Unable to create ephemeral node on a local session")?;
            }
            return Err(refusal.about(&path));
        }
    };
    let created = match reply.response()? {
        Response::Path(created) | Response::PathStat(created, _) => created.to_owned(),
        _ => return Err(Interrupted::from(grange_proto::DecodeError::Truncated).about(&path)),
    };
    let created = call.zk.client_path(created);
    Ok(call.zk.printer.message(&format!("Created {created}"))?)
}

/// The operation, flags and time to live that create the wished kind of znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    op: Op,
    flags: i32,
    ttl_ms: Option<i64>,
}

impl Mode {
    fn is_sequential(self) -> bool {
        matches!(self.flags, 2 | 3 | 6)
    }
}

fn create_mode(words: &super::Words) -> Result<Mode, Failure> {
    let (ephemeral, sequential, container) = (words.has("e"), words.has("s"), words.has("c"));
    if container && (ephemeral || sequential) {
        return Err(Failure::plain(
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
        ));
    }
    let ttl_ms = match words.value("t") {
        Some(text) => Some(text.parse().map_err(|_| Failure::plain("-t argument must be a long value"))?),
        None => None,
    };
    if ttl_ms.is_some() && ephemeral {
        return Err(Failure::plain("TTLs cannot be used with Ephemeral znodes"));
    }
    if ttl_ms.is_some() && container {
        return Err(Failure::plain("TTLs cannot be used with Container znodes"));
    }
    if ttl_ms.is_some_and(|ttl_ms| !(1..=TTL_MS_MAX).contains(&ttl_ms)) {
        return Err(Failure::plain(format!("ttl must be positive and cannot be larger than: {TTL_MS_MAX}")));
    }
    let (op, flags) = match (ephemeral, sequential, container, ttl_ms.is_some()) {
        (_, _, true, _) => (Op::CreateContainer, 4),
        (_, true, _, true) => (Op::CreateTtl, 6),
        (_, false, _, true) => (Op::CreateTtl, 5),
        (true, true, _, _) => (Op::Create, 3),
        (true, false, _, _) => (Op::Create, 1),
        (false, true, _, _) => (Op::Create, 2),
        (false, false, _, _) => (Op::Create, 0),
    };
    Ok(Mode { op, flags, ttl_ms })
}

pub(super) async fn delete(call: Call<'_>) -> Result<(), Interrupted> {
    let version = call.words.number("v")?.unwrap_or(-1);
    let path = call.path()?;
    let server_path = call.zk.server_path(&path);
    let request = Request::Delete(PathVersion { path: &server_path, version });
    call.zk.call(&request).await.map(drop).map_err(|refusal| refusal.about(&path))
}

pub(super) async fn delete_all(call: Call<'_>) -> Result<(), Interrupted> {
    let batch: usize = match call.words.value("b") {
        Some(text) => match text.parse::<i32>() {
            // Apache's hangs at none at all, and takes a negative number for all in one.
            Ok(count) => usize::try_from(count).unwrap_or(0).max(1),
            Err(_) => return Err(Failure::plain("-b argument must be an int value").into()),
        },
        None => 1000,
    };
    let path = call.path()?;
    let zk = call.zk;
    // Apache's deletes what it can until it meets /zookeeper, which nobody can mean.
    let is_everything = path == "/" && !zk.has_chroot();
    if is_everything || !delete_tree(zk, &path, batch).await? {
        zk.printer.message("Failed to delete some node(s) in the subtree!")?;
    }
    Ok(())
}

/// Deletes a subtree in multis of `batch` znodes; false if one of them failed.
async fn delete_tree(zk: &mut Zk, root: &str, batch: usize) -> Result<bool, Interrupted> {
    let mut tree = zk.list_levels(root).await?;
    let mut in_flight = VecDeque::new();
    let mut succeeded = true;
    while succeeded && !tree.is_empty() {
        let mut paths = Vec::new();
        let mut bytes = 0;
        while paths.len() < batch && bytes < BATCH_BYTES_MAX {
            let Some(path) = tree.pop() else { break };
            bytes += path.len() + DELETION_BYTES;
            paths.push(zk.server_path(&path));
        }
        let mut body = Vec::new();
        put_ops(&mut body, paths.iter().map(|path| MultiOp::Delete(PathVersion { path, version: -1 })));
        let request = Request::decode(Op::Multi, &mut Reader::new(&body))?;
        in_flight.push_back(zk.send(&request).await?);
        if in_flight.len() >= BATCHES_IN_FLIGHT_MAX
            && let Some(call) = in_flight.pop_front()
        {
            succeeded = is_done(zk.settle(call).await)?;
        }
    }
    for call in in_flight {
        succeeded &= is_done(zk.settle(call).await)?;
    }
    Ok(succeeded)
}

fn is_done(reply: Result<grange_client::wire::WireReply, Interrupted>) -> Result<bool, Interrupted> {
    match reply {
        Ok(reply) => match reply.response()? {
            Response::Multi(results) => Ok(!results.iter().any(|result| matches!(result, MultiResult::Error(_)))),
            _ => Ok(false),
        },
        Err(Interrupted::Refused(_)) => Ok(false),
        Err(other) => Err(other),
    }
}

pub(super) async fn get(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.path()?;
    let server_path = call.zk.server_path(&path);
    let request = Request::GetData(Watchable { path: &server_path, watch: call.words.has("w") });
    let reply = call.zk.call(&request).await.map_err(|refusal| refusal.about(&path))?;
    let Response::Data(data, stat) = reply.response()? else { return Ok(()) };
    let data = data.unwrap_or(b"null");
    let text = if call.words.has("x") {
        hex_dump(data)
    } else if call.words.has("b") {
        STANDARD.encode(data)
    } else {
        String::from_utf8_lossy(data).into_owned()
    };
    call.zk.printer.text(&text)?;
    if call.words.has("s") {
        print_stat(&mut call.zk.printer, &stat)?;
    }
    Ok(())
}

pub(super) async fn set(call: Call<'_>) -> Result<(), Interrupted> {
    let text = &call.words.plain[2];
    let data = if call.words.has("b") {
        STANDARD.decode(text).map_err(|error| Failure::plain(format!("not base64: {error}")))?
    } else {
        text.clone().into_bytes()
    };
    let version = call.words.number("v")?.unwrap_or(-1);
    let path = call.path()?;
    let server_path = call.zk.server_path(&path);
    let request = Request::SetData(SetData { path: &server_path, data: Some(&data), version });
    let reply = call.zk.call(&request).await.map_err(|refusal| refusal.about(&path))?;
    match reply.response()? {
        Response::Stat(stat) if call.words.has("s") => Ok(print_stat(&mut call.zk.printer, &stat)?),
        _ => Ok(()),
    }
}

pub(super) fn print_ls_help(zk: &mut Zk) -> Result<(), Interrupted> {
    let help = "usage: ls [options] path\n -?   help\n -R   recurse\n -s   stat\n -w   watch";
    Ok(zk.printer.text(help)?)
}

pub(super) async fn ls(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.path()?;
    let watch = call.words.has("w");
    let server_path = call.zk.server_path(&path);
    if call.words.has("R") {
        let root = Request::GetData(Watchable { path: &server_path, watch });
        call.zk.call(&root).await.map_err(|refusal| refusal.about(&path))?;
        call.zk.printer.line(&path)?;
        let print = async |zk: &mut Zk, path: &str| Ok(zk.printer.line(path)?);
        return call.zk.walk(&path, watch, print, Lookahead::Many).await;
    }
    let request = Request::GetChildren2(Watchable { path: &server_path, watch });
    let reply = call.zk.call(&request).await.map_err(|refusal| refusal.about(&path))?;
    let mut names = texts(&reply)?;
    names.sort_unstable();
    call.zk.printer.line(&format!("[{}]", names.join(", ")))?;
    match reply.response()? {
        Response::TextsStat(_, stat) if call.words.has("s") => Ok(print_stat(&mut call.zk.printer, &stat)?),
        _ => Ok(()),
    }
}

pub(super) async fn stat(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.path()?;
    let server_path = call.zk.server_path(&path);
    let request = Request::Exists(Watchable { path: &server_path, watch: call.words.has("w") });
    let reply = call.zk.call(&request).await.map_err(|refusal| refusal.about(&path))?;
    match reply.response()? {
        Response::Stat(stat) => Ok(print_stat(&mut call.zk.printer, &stat)?),
        _ => Ok(()),
    }
}

pub(super) async fn sync(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.path()?;
    let server_path = call.zk.server_path(&path);
    match call.zk.call(&Request::Sync(&server_path)).await {
        Ok(_) => Ok(call.zk.printer.line("Sync is OK")?),
        Err(Interrupted::Refused(error)) => Ok(call.zk.printer.line(&format!("Sync has failed. rc={}", error.0))?),
        Err(other) => Err(other),
    }
}

pub(super) async fn count(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.path()?;
    let server_path = call.zk.server_path(&path);
    let reply = call.zk.call(&Request::GetAllChildrenNumber(&server_path)).await;
    match reply.map_err(|refusal| refusal.about(&path))?.response()? {
        Response::Number(number) => Ok(call.zk.printer.line(&number.to_string())?),
        _ => Ok(()),
    }
}

pub(super) async fn ephemerals(call: Call<'_>) -> Result<(), Interrupted> {
    let path = match call.words.plain.get(1) {
        Some(_) => call.path()?,
        None => "/".to_owned(),
    };
    let prefix = call.zk.server_path(&path);
    let reply = call.zk.call(&Request::GetEphemerals(&prefix)).await;
    let names = texts(&reply.map_err(unnamed)?)?;
    Ok(call.zk.printer.line(&format!("[{}]", names.join(", ")))?)
}

/// A refusal in which zkCli names no path.
pub(super) fn unnamed(refusal: Interrupted) -> Interrupted {
    match refusal {
        Interrupted::Refused(error) => Interrupted::Failed(Failure::refused(error, None)),
        other => other,
    }
}

pub(super) fn version(call: Call<'_>, entry: &Entry) -> Result<(), Interrupted> {
    if call.words.plain.len() > 1 {
        return Err(entry.usage().into());
    }
    let version = concat!("3.8.0-grange-", env!("CARGO_PKG_VERSION"), ", built on Linux");
    Ok(call.zk.printer.line(&format!("ZooKeeper CLI version: {version}"))?)
}
