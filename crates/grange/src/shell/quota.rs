//! `grange shell setquota`, `listquota` and `delquota`.

use anyhow::anyhow;
use clap::Args;
use grange_client::{Acls, ClientError, CreateMode};
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::output::harmless_line;
use crate::shell::answer::refused;
use crate::shell::path::{PathArg, is_at_or_below};
use crate::shell::quota_figures::{BYTES, BYTES_HARD, COUNT, COUNT_HARD, Figures, LIMITS, ROOT, STATS};
use crate::shell::walk::{Step, Walk};
use crate::shell::{Form, Session};

/// Limit how many znodes and bytes of data a subtree may have
#[derive(Debug, Args)]
#[command(after_help = "A server refuses what goes over a hard limit only if its zoo.cfg says enforceQuota=true.")]
pub(super) struct SetquotaArgs {
    /// Znodes, itself included; going over it is logged
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(i64).range(1..))]
    #[arg(required_unless_present_any = ["bytes", "count_hard", "bytes_hard"])]
    count: Option<i64>,
    /// Bytes of data; going over it is logged
    #[arg(short = 'b', value_name = "BYTES", value_parser = clap::value_parser!(i64).range(0..))]
    bytes: Option<i64>,
    /// Znodes; going over it is refused
    #[arg(short = 'N', value_name = "COUNT", value_parser = clap::value_parser!(i64).range(1..))]
    count_hard: Option<i64>,
    /// Bytes of data; going over it is refused
    #[arg(short = 'B', value_name = "BYTES", value_parser = clap::value_parser!(i64).range(0..))]
    bytes_hard: Option<i64>,
    /// The znode
    path: PathArg,
}

pub(super) async fn set(session: &mut Session<'_>, args: &SetquotaArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    if path == "/" || is_at_or_below(path, "/zookeeper") {
        return Err(CommandError::usage(anyhow!("{} cannot have a quota", harmless_line(path))));
    }
    let mut wished = Figures::unlimited();
    let limits =
        [(COUNT, args.count), (BYTES, args.bytes), (COUNT_HARD, args.count_hard), (BYTES_HARD, args.bytes_hard)];
    for (name, limit) in limits {
        limit.into_iter().for_each(|limit| wished.set(name, limit));
    }
    if session.client.check_stat(path).await.map_err(|error| refused(path, error))?.is_none() {
        return Err(refused(path, ClientError::NoNode));
    }
    no_quota_elsewhere(session, path).await?;
    let limits_path = format!("{ROOT}{path}/{LIMITS}");
    let now = match session.client.get_data(&limits_path).await {
        Ok((data, stat)) => {
            let mut now = figures(&data)?;
            now.merge(&wished);
            let text = now.text();
            let set = session.client.set_data(&limits_path, text.as_bytes(), Some(stat.version)).await;
            set.map_err(|error| refused(&limits_path, error))?;
            now
        }
        Err(ClientError::NoNode) => {
            make(session, path, &wished).await?;
            wished
        }
        Err(error) => return Err(refused(&limits_path, error)),
    };
    let used = read(session, &format!("{ROOT}{path}/{STATS}")).await?;
    tell_excess(&now, &used);
    match session.form {
        Form::Json => session.out.json(&object(path, &now, &used)),
        Form::Text => Ok(()),
    }
}

/// Servers look for the quota of a znode at one place above it only.
async fn no_quota_elsewhere(session: &Session<'_>, path: &str) -> Result<(), CommandError> {
    let taken = |other: &str| {
        let other = harmless_line(other);
        CommandError::negative(anyhow!("{other} has a quota, and quotas cannot be nested"))
            .hint(format!("to take it away: grange shell delquota {other}"))
    };
    for (end, _) in path.char_indices().filter(|&(at, c)| c == '/' && at > 0) {
        let above = &path[..end];
        let limits = format!("{ROOT}{above}/{LIMITS}");
        if session.client.check_stat(&limits).await.map_err(|error| refused(&limits, error))?.is_some() {
            return Err(taken(above));
        }
    }
    let own = format!("{ROOT}{path}");
    if session.client.check_stat(&own).await.map_err(|error| refused(&own, error))?.is_none() {
        return Ok(());
    }
    let mut walk = Walk::new(session.client, &own);
    while let Some(Step { path: found, depth, .. }) = walk.next().await? {
        match found.strip_suffix(&format!("/{LIMITS}")) {
            Some(quota) if depth > 1 => return Err(taken(&quota[ROOT.len()..])),
            _ => {}
        }
    }
    Ok(())
}

async fn make(session: &Session<'_>, path: &str, limits: &Figures) -> Result<(), CommandError> {
    let own = format!("{ROOT}{path}");
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    session.client.mkdir(&own, &options).await.map_err(|error| refused(&own, error))?;
    let none_used = Figures::new(&[(COUNT, 0), (BYTES, 0)]);
    for (name, figures) in [(LIMITS, limits), (STATS, &none_used)] {
        let znode = format!("{own}/{name}");
        match session.client.create(&znode, figures.text().as_bytes(), &options).await {
            Ok(_) | Err(ClientError::NodeExists) => {}
            Err(error) => return Err(refused(&znode, error)),
        }
    }
    Ok(())
}

fn tell_excess(limits: &Figures, used: &Figures) {
    for (soft, hard, what) in [(COUNT, COUNT_HARD, "znodes"), (BYTES, BYTES_HARD, "bytes")] {
        let used = used.get(soft);
        if [soft, hard].iter().any(|name| (0..used).contains(&limits.get(name))) {
            eprintln!("note: it has {used} {what} already, more than it may have");
        }
    }
}

/// Print the limits of a subtree, and what it has
#[derive(Debug, Args)]
pub(super) struct ListquotaArgs {
    /// The znode
    path: PathArg,
}

pub(super) async fn list(session: &mut Session<'_>, args: &ListquotaArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let limits = read(session, &format!("{ROOT}{path}/{LIMITS}")).await.map_err(|error| missing(path, error))?;
    let used = read(session, &format!("{ROOT}{path}/{STATS}")).await?;
    if session.form == Form::Json {
        return session.out.json(&object(path, &limits, &used));
    }
    let limit = |name| match limits.get(name) {
        -1 => "no limit".to_owned(),
        limit => limit.to_string(),
    };
    let rows = [("znodes", COUNT, COUNT_HARD), ("bytes", BYTES, BYTES_HARD)];
    for (what, soft, hard) in rows {
        let line = format!("{what}: {} used, limit {}, hard limit {}", used.get(soft), limit(soft), limit(hard));
        session.out.line(&line)?;
    }
    Ok(())
}

fn missing(path: &str, error: CommandError) -> CommandError {
    if error.is_negative() {
        return CommandError::negative(anyhow!("{} has no quota", harmless_line(path)));
    }
    error
}

fn object(path: &str, limits: &Figures, used: &Figures) -> Value {
    let limit = |name| Some(limits.get(name)).filter(|&limit| limit >= 0);
    json!({
        "path": path,
        "count": limit(COUNT), "bytes": limit(BYTES), "countHard": limit(COUNT_HARD), "bytesHard": limit(BYTES_HARD),
        "used": { "count": used.get(COUNT), "bytes": used.get(BYTES) },
    })
}

/// Take limits away from a subtree: those named, else all
#[derive(Debug, Args)]
pub(super) struct DelquotaArgs {
    /// The limit of znodes that is logged
    #[arg(short = 'n')]
    count: bool,
    /// The limit of bytes that is logged
    #[arg(short = 'b')]
    bytes: bool,
    /// The limit of znodes that is enforced
    #[arg(short = 'N')]
    count_hard: bool,
    /// The limit of bytes that is enforced
    #[arg(short = 'B')]
    bytes_hard: bool,
    /// The znode
    path: PathArg,
}

pub(super) async fn delete(session: &mut Session<'_>, args: &DelquotaArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let limits_path = format!("{ROOT}{path}/{LIMITS}");
    let (data, stat) = match session.client.get_data(&limits_path).await {
        Ok(found) => found,
        Err(error) => return Err(missing(path, refused(&limits_path, error))),
    };
    let chosen =
        [(COUNT, args.count), (BYTES, args.bytes), (COUNT_HARD, args.count_hard), (BYTES_HARD, args.bytes_hard)];
    if chosen.iter().any(|(_, is_chosen)| *is_chosen) {
        let mut limits = figures(&data)?;
        chosen.iter().filter(|(_, is_chosen)| *is_chosen).for_each(|(name, _)| limits.set(name, -1));
        let set = session.client.set_data(&limits_path, limits.text().as_bytes(), Some(stat.version)).await;
        set.map_err(|error| refused(&limits_path, error))?;
    } else {
        remove(session, path).await?;
    }
    match session.form {
        Form::Json => session.out.json(&json!({ "path": path, "deleted": true })),
        Form::Text => Ok(()),
    }
}

/// Deletes the znodes of a quota, and those above that are there for it alone.
async fn remove(session: &Session<'_>, path: &str) -> Result<(), CommandError> {
    let own = format!("{ROOT}{path}");
    for name in [LIMITS, STATS] {
        let znode = format!("{own}/{name}");
        match session.client.delete(&znode, None).await {
            Ok(()) | Err(ClientError::NoNode) => {}
            Err(error) => return Err(refused(&znode, error)),
        }
    }
    let mut parent = own.as_str();
    while parent.len() > ROOT.len() {
        match session.client.delete(parent, None).await {
            Ok(()) | Err(ClientError::NoNode) => {}
            Err(ClientError::NotEmpty) => break,
            Err(error) => return Err(refused(parent, error)),
        }
        parent = parent.rsplit_once('/').map_or(ROOT, |(above, _)| above);
    }
    Ok(())
}

async fn read(session: &Session<'_>, path: &str) -> Result<Figures, CommandError> {
    let (data, _) = session.client.get_data(path).await.map_err(|error| refused(path, error))?;
    figures(&data)
}

fn figures(data: &[u8]) -> Result<Figures, CommandError> {
    Figures::parse(data).map_err(|text| CommandError::failure(anyhow!("'{}' is no quota", harmless_line(&text))))
}
