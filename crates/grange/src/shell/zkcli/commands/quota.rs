//! listquota, setquota and delquota. A quota is znodes below `/zookeeper/quota`, which clients write themselves.

use grange_proto::request::{Create, PathVersion, SetData, Watchable};
use grange_proto::response::Response;
use grange_proto::{Acl, ErrorCode, Op, Reader, Request};

use super::Call;
use super::access::with_acl;
use crate::shell::quota_figures::{BYTES, BYTES_HARD, COUNT, COUNT_HARD, Figures, LIMITS, ROOT, STATS};
use crate::shell::zkcli::failure::Failure;
use crate::shell::zkcli::options::not_a_number;
use crate::shell::zkcli::path;
use crate::shell::zkcli::zk::{Interrupted, Lookahead, Zk, texts};

pub(super) async fn list(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.words.plain[1].clone();
    let zk = call.zk;
    let limits = format!("{ROOT}{path}/{LIMITS}");
    zk.printer.message(&format!("absolute path is {limits}"))?;
    let shown = async {
        let limits = figures(&data(zk, &limits).await?)?;
        let used = figures(&data(zk, &format!("{ROOT}{path}/{STATS}")).await?)?;
        zk.printer.line(&format!("Output quota for {path} {}", limits.text()))?;
        Ok(zk.printer.line(&format!("Output stat for {path} {}", used.text()))?)
    }
    .await;
    missing_is_told(zk, &path, shown)
}

pub(super) async fn delete(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.words.plain[1].clone();
    let chosen: Vec<_> = KINDS.into_iter().filter(|(option, ..)| call.words.has(option)).collect();
    let zk = call.zk;
    let deleted = remove(zk, &path, &chosen).await;
    missing_is_told(zk, &path, deleted)
}

/// A quota that is not there is no failure.
fn missing_is_told(zk: &mut Zk, path: &str, result: Result<(), Interrupted>) -> Result<(), Interrupted> {
    match result {
        Err(refusal) if refusal.is(ErrorCode::NoNode) => {
            Ok(zk.printer.message(&format!("quota for {path} does not exist."))?)
        }
        other => other,
    }
}

async fn remove(zk: &mut Zk, path: &str, chosen: &[Kind]) -> Result<(), Interrupted> {
    let limits = format!("{ROOT}{path}/{LIMITS}");
    if !exists(zk, &limits).await? {
        return Ok(zk.printer.line(&format!("Quota does not exist for {path}"))?);
    }
    let mut kept = figures(&data(zk, &limits).await?)?;
    if !chosen.is_empty() {
        for (_, name, _) in chosen {
            kept.set(name, -1);
        }
        return set_data(zk, &limits, &kept).await;
    }
    let mut parent = format!("{ROOT}{path}");
    for name in children(zk, &parent).await? {
        let child = format!("{parent}/{name}");
        delete_one(zk, &child).await?;
    }
    // Up to the first one that has other children.
    while parent != ROOT && children(zk, &parent).await?.is_empty() {
        delete_one(zk, &parent).await?;
        let Some((above, _)) = parent.rsplit_once('/') else { break };
        parent = above.to_owned();
    }
    Ok(())
}

/// An option, the figure it stands for, and whether that counts znodes.
type Kind = (&'static str, &'static str, bool);

const KINDS: [Kind; 4] = [("n", COUNT, true), ("b", BYTES, false), ("N", COUNT_HARD, true), ("B", BYTES_HARD, false)];

pub(super) async fn set(call: Call<'_>) -> Result<(), Interrupted> {
    let path = call.words.plain[1].clone();
    let zk = call.zk;
    if path.starts_with(ROOT) {
        return Ok(zk.printer.message(&format!("cannot set a quota under the path: {ROOT}"))?);
    }
    let mut wished = Figures::unlimited();
    for (option, name, is_count) in KINDS {
        let Some(text) = call.words.value(option) else { continue };
        let value = if is_count { text.parse::<i32>().map(i64::from) } else { text.parse::<i64>() };
        let complaint = match value {
            Ok(value) if value > 0 || (value == 0 && !is_count) => {
                wished.set(name, value);
                continue;
            }
            Ok(_) if is_count => "the num quota must be greater than zero",
            Ok(_) => "the bytes quota must be greater than or equal to zero",
            Err(_) => "NumberFormatException happens when parsing the option value",
        };
        return Ok(zk.printer.message(complaint)?);
    }
    path::check(&path)?;
    create(zk, &path, &wished).await.map_err(|refusal| refusal.about(&path))
}

async fn create(zk: &mut Zk, path: &str, wished: &Figures) -> Result<(), Interrupted> {
    if !exists(zk, path).await? {
        return Err(Failure::plain(format!("{path} does not exist.")).into());
    }
    no_quota_below(zk, path).await?;
    no_quota_above(zk, path).await?;
    let mut at = ROOT.to_owned();
    for component in path.split('/').filter(|component| !component.is_empty()) {
        at = format!("{at}/{component}");
        if !exists(zk, &at).await? {
            create_one(zk, &at, None).await?;
        }
    }
    let (limits, stats) = (format!("{at}/{LIMITS}"), format!("{at}/{STATS}"));
    let is_new = !exists(zk, &limits).await?;
    let mut now = wished.clone();
    if is_new {
        create_one(zk, &limits, Some(wished)).await?;
        create_one(zk, &stats, Some(&Figures::new(&[(COUNT, 0), (BYTES, 0)]))).await?;
    } else {
        now = figures(&data(zk, &limits).await?)?;
        now.merge(wished);
    }
    let used = figures(&data(zk, &stats).await?)?;
    warn(zk, &now, &used)?;
    if is_new { Ok(()) } else { set_data(zk, &limits, &now).await }
}

fn figures(data: &[u8]) -> Result<Figures, Failure> {
    Figures::parse(data).map_err(|text| not_a_number(&text))
}

/// Says when more is used than is allowed.
fn warn(zk: &mut Zk, limits: &Figures, used: &Figures) -> Result<(), Interrupted> {
    let is_less = |name: &str, used: i64| (0..used).contains(&limits.get(name));
    for (soft, hard, what) in [(COUNT, COUNT_HARD, "count"), (BYTES, BYTES_HARD, "bytes")] {
        let used = used.get(soft);
        if is_less(soft, used) || is_less(hard, used) {
            let text = format!("[Warning]: the {what} quota you create is less than the existing {what}:{used}");
            zk.printer.line(&text)?;
        }
    }
    Ok(())
}

async fn no_quota_below(zk: &mut Zk, path: &str) -> Result<(), Interrupted> {
    let root = format!("{ROOT}{path}");
    // The root cannot have a quota.
    path::check(&root)?;
    if !exists(zk, &root).await? {
        return Ok(());
    }
    let whole = path.to_owned();
    let own = format!("{root}/{LIMITS}");
    let visit = async |_: &mut Zk, found: &str| match found.strip_suffix(&format!("/{LIMITS}")) {
        Some(quota) if found != own => {
            let below = &quota[ROOT.len()..];
            Err(Failure::plain(format!("{whole} has a child {below} which has a quota")).into())
        }
        _ => Ok(()),
    };
    zk.walk(&root, false, visit, Lookahead::Many).await
}

async fn no_quota_above(zk: &mut Zk, path: &str) -> Result<(), Interrupted> {
    for (end, _) in path.char_indices().filter(|&(at, c)| c == '/' && at > 0) {
        let above = &path[..end];
        if exists(zk, &format!("{ROOT}{above}/{LIMITS}")).await? {
            return Err(Failure::plain(format!("{path} has a parent {above} which has a quota")).into());
        }
    }
    Ok(())
}

async fn exists(zk: &mut Zk, path: &str) -> Result<bool, Interrupted> {
    let server_path = zk.server_path(path);
    match zk.call(&Request::Exists(Watchable { path: &server_path, watch: false })).await {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.is(ErrorCode::NoNode) => Ok(false),
        Err(refusal) => Err(refusal.about(path)),
    }
}

async fn data(zk: &mut Zk, path: &str) -> Result<Vec<u8>, Interrupted> {
    let server_path = zk.server_path(path);
    let reply = zk.call(&Request::GetData(Watchable { path: &server_path, watch: false })).await?;
    match reply.response()? {
        Response::Data(data, _) => Ok(data.unwrap_or_default().to_vec()),
        _ => Ok(Vec::new()),
    }
}

async fn children(zk: &mut Zk, path: &str) -> Result<Vec<String>, Interrupted> {
    let server_path = zk.server_path(path);
    let reply = zk.call(&Request::GetChildren(Watchable { path: &server_path, watch: false })).await;
    Ok(texts(&reply.map_err(|refusal| refusal.about(path))?)?)
}

async fn delete_one(zk: &mut Zk, path: &str) -> Result<(), Interrupted> {
    let server_path = zk.server_path(path);
    let request = Request::Delete(PathVersion { path: &server_path, version: -1 });
    zk.call(&request).await.map(drop).map_err(|refusal| refusal.about(path))
}

async fn set_data(zk: &mut Zk, path: &str, figures: &Figures) -> Result<(), Interrupted> {
    let server_path = zk.server_path(path);
    let text = figures.text();
    let request = Request::SetData(SetData { path: &server_path, data: Some(text.as_bytes()), version: -1 });
    zk.call(&request).await.map(drop).map_err(|refusal| refusal.about(path))
}

/// Creates a znode unless it is there.
async fn create_one(zk: &mut Zk, path: &str, figures: Option<&Figures>) -> Result<(), Interrupted> {
    let server_path = zk.server_path(path);
    let text = figures.map(Figures::text);
    let body = with_acl(&Acl::open(), |acl| {
        let mut bytes = Vec::new();
        let data = text.as_ref().map(String::as_bytes);
        let create = Create { op: Op::Create, path: &server_path, data, acl, flags: 0, ttl_ms: None };
        Request::Create(create).encode(&mut bytes);
        bytes
    });
    match zk.call(&Request::decode(Op::Create, &mut Reader::new(&body))?).await {
        Err(refusal) if refusal.is(ErrorCode::NodeExists) => Ok(()),
        Err(refusal) => Err(refusal.about(path)),
        Ok(_) => Ok(()),
    }
}
