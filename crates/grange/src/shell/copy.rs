//! `grange shell cp` and `mv`.

use std::collections::HashMap;

use anyhow::anyhow;
use clap::Args;
use grange_client::{Acl, Acls, ClientError};
use serde_json::json;

use crate::error::CommandError;
use crate::output::harmless_line;
use crate::shell::answer::{creation_refused, refused};
use crate::shell::batch::{self, Batches, Change};
use crate::shell::path::{PathArg, is_at_or_below};
use crate::shell::progress::Progress;
use crate::shell::units::{size, znodes};
use crate::shell::walk::{Contents, Walk, Wanted, Znode};
use crate::shell::{Form, Session};

/// What fits into one transaction: so many znodes…
const TRANSACTION_ZNODES_MAX: usize = 500;

/// … with so many bytes of paths and data, where each path counts twice.
const TRANSACTION_BYTES_MAX: usize = 512 * 1024;

/// Copy a znode and everything below it to a place where nothing is
#[derive(Debug, Args)]
#[command(after_help = "Ephemeral znodes are left out, and told. A small subtree is copied in one transaction. The \
                        copy of a container or of a znode with a time to live is neither: servers do not show which are.")]
pub(super) struct CpArgs {
    /// Copy the ACLs too; else the copy is open to everyone
    #[arg(long)]
    acl: bool,
    /// The znode
    from: PathArg,
    /// The new znode; its parent must exist
    to: PathArg,
}

/// Move a znode and everything below it to a place where nothing is
#[derive(Debug, Args)]
#[command(
    after_help = "A small subtree is moved in one transaction. A larger one is copied, the copy is compared, and then \
                        the original is deleted, each znode only if nobody has changed it since; if somebody has, both stay."
)]
pub(super) struct MvArgs {
    /// The znode
    from: PathArg,
    /// The new znode; its parent must exist
    to: PathArg,
}

/// What a first look at a subtree shows.
#[derive(Debug, Default)]
struct Survey {
    znodes: usize,
    data_bytes: u64,
    transaction_bytes: usize,
    ephemerals: Vec<String>,
}

impl Survey {
    fn fits_into_a_transaction(&self) -> bool {
        self.znodes <= TRANSACTION_ZNODES_MAX && self.transaction_bytes <= TRANSACTION_BYTES_MAX
    }
}

pub(super) async fn cp(session: &mut Session<'_>, args: &CpArgs) -> Result<(), CommandError> {
    let (from, to) = places(session, &args.from, &args.to)?;
    let survey = survey(session, &from, &to).await?;
    let wanted = if args.acl { Wanted::All } else { Wanted::Data };
    let copied = if survey.fits_into_a_transaction() {
        let found = collect(session, &from, wanted).await?;
        transact(session, &found, &from, &to, false).await?;
        found.len()
    } else {
        copy(session, &from, &to, wanted).await?.len()
    };
    for path in &survey.ephemerals {
        eprintln!("note: {} is ephemeral and was left out", harmless_line(path));
    }
    report(session, "copied", &from, &to, copied, survey.data_bytes)
}

pub(super) async fn mv(session: &mut Session<'_>, args: &MvArgs) -> Result<(), CommandError> {
    let (from, to) = places(session, &args.from, &args.to)?;
    let survey = survey(session, &from, &to).await?;
    if let Some(path) = survey.ephemerals.first() {
        let shown = harmless_line(path);
        return Err(CommandError::negative(anyhow!("{shown} is ephemeral, and belongs to another session")));
    }
    let moved = if survey.fits_into_a_transaction() {
        let found = collect(session, &from, Wanted::All).await?;
        transact(session, &found, &from, &to, true).await?;
        found.len()
    } else {
        let versions = copy(session, &from, &to, Wanted::All).await?;
        verify(session, &from, &to, &versions).await?;
        delete(session, versions, &from, &to).await?
    };
    report(session, "moved", &from, &to, moved, survey.data_bytes)
}

fn report(
    session: &mut Session<'_>,
    verb: &str,
    from: &str,
    to: &str,
    count: usize,
    bytes: u64,
) -> Result<(), CommandError> {
    match session.form {
        Form::Json => session.out.json(&json!({ "from": from, "path": to, verb: count })),
        Form::Text => {
            let bytes = size(bytes);
            eprintln!("{verb} {} ({bytes}) to {}", znodes(count), harmless_line(to));
            Ok(())
        }
    }
}

fn places(session: &Session<'_>, from: &PathArg, to: &PathArg) -> Result<(String, String), CommandError> {
    let (from, to) = (session.path(from)?, session.path(to)?);
    if is_at_or_below(&to, &from) || from == "/" {
        let (from, to) = (harmless_line(&from), harmless_line(&to));
        return Err(CommandError::usage(anyhow!("{to} is inside of {from}")));
    }
    if is_at_or_below(&from, &to) {
        return Err(refused(&to, ClientError::NodeExists));
    }
    Ok((from, to))
}

async fn survey(session: &Session<'_>, from: &str, to: &str) -> Result<Survey, CommandError> {
    if session.client.check_stat(to).await.map_err(|error| refused(to, error))?.is_some() {
        return Err(refused(to, ClientError::NodeExists));
    }
    let mut survey = Survey::default();
    let mut contents = Contents::new(Walk::new(session.client, from), Wanted::Stat);
    let progress = Progress::start(session.cx, "looked at");
    while let Some(Znode { step, stat, .. }) = contents.next().await? {
        progress.count();
        if stat.ephemeral_owner != 0 {
            survey.ephemerals.push(step.path);
            continue;
        }
        survey.znodes += 1;
        let length = u32::try_from(stat.data_length).unwrap_or(0);
        survey.data_bytes += u64::from(length);
        survey.transaction_bytes += usize::try_from(length).unwrap_or(usize::MAX / 2) + 2 * step.path.len() + to.len();
    }
    Ok(survey)
}

fn is_ephemeral(znode: &Znode) -> bool {
    znode.stat.ephemeral_owner != 0
}

async fn collect(session: &Session<'_>, from: &str, wanted: Wanted) -> Result<Vec<Znode>, CommandError> {
    let mut found = Vec::new();
    let mut contents = Contents::new(Walk::new(session.client, from), wanted);
    while let Some(znode) = contents.next().await? {
        found.push(znode);
    }
    found.retain(|znode| !is_ephemeral(znode));
    Ok(found)
}

/// Copies in one transaction, which fails if anything was changed since it was read; a move deletes in it too.
async fn transact(
    session: &Session<'_>,
    found: &[Znode],
    from: &str,
    to: &str,
    moves: bool,
) -> Result<(), CommandError> {
    let mut writer = session.client.new_multi_writer();
    let mut paths = Vec::new();
    for znode in found {
        let path = there(&znode.step.path, from, to);
        let change = creation(znode)?;
        batch::add(&mut writer, &path, change).map_err(|error| refused(&path, error))?;
        paths.push(path);
    }
    for znode in found.iter().rev() {
        let (path, version) = (&znode.step.path, znode.stat.version);
        let added = match moves {
            true => writer.add_delete(path, Some(version)),
            false => writer.add_check_version(path, version),
        };
        added.map_err(|error| refused(path, error))?;
        paths.push(path.clone());
    }
    match writer.commit().await {
        Ok(_) => Ok(()),
        Err(grange_client::MultiWriteError::OperationFailed { index: 0, source }) => Err(creation_refused(to, source)),
        Err(error) => Err(batch::failed(&paths, error).hint("nothing was changed")),
    }
}

/// Copies step by step; returns what was copied, parents first, with versions.
async fn copy(session: &Session<'_>, from: &str, to: &str, wanted: Wanted) -> Result<Vec<(String, i32)>, CommandError> {
    let progress = Progress::start(session.cx, "copied");
    let mut batches = Batches::new(session.client);
    let mut copied = Vec::new();
    let mut contents = Contents::new(Walk::new(session.client, from), wanted);
    while let Some(znode) = contents.next().await? {
        if is_ephemeral(&znode) {
            continue;
        }
        let path = there(&znode.step.path, from, to);
        let added = batches.add(&path, creation(&znode)?).await;
        added.map_err(|error| error.hint(half_done(to)))?;
        progress.count();
        copied.push((znode.step.path, znode.stat.version));
    }
    batches.finish().await.map_err(|error| error.hint(half_done(to)))?;
    Ok(copied)
}

fn half_done(to: &str) -> String {
    let to = harmless_line(to);
    format!("the original is whole; to delete the part that was copied: grange shell deleteall {to}")
}

fn there(path: &str, from: &str, to: &str) -> String {
    format!("{to}{}", &path[from.len()..])
}

fn creation(znode: &Znode) -> Result<Change<'_>, CommandError> {
    if let Some(acl) = znode.acls.iter().find(|acl| is_masked(acl)) {
        let (path, scheme) = (harmless_line(&znode.step.path), harmless_line(acl.scheme()));
        return Err(CommandError::failure(anyhow!("the ACL of {path} has a {scheme} entry whose hash is hidden"))
            .hint("only who has the permission a (admin) may read it: see --auth-file"));
    }
    let acls = if znode.acls.is_empty() { Acls::anyone_all() } else { Acls::new(&znode.acls) };
    Ok(Change::Create { data: &znode.data, acls })
}

/// Servers show the hash of a digest as `x` to who has no right to see it.
fn is_masked(acl: &Acl) -> bool {
    acl.scheme() == "digest" && acl.id().ends_with(":x")
}

/// Compares a copy with its original, znode by znode, and the original with what it was.
async fn verify(session: &Session<'_>, from: &str, to: &str, versions: &[(String, i32)]) -> Result<(), CommandError> {
    let progress = Progress::start(session.cx, "compared");
    let versions: HashMap<&str, i32> = versions.iter().map(|(path, version)| (path.as_str(), *version)).collect();
    let mut originals = Contents::new(Walk::new(session.client, from), Wanted::Data);
    let mut copies = Contents::new(Walk::new(session.client, to), Wanted::Data);
    let mut count = 0;
    loop {
        let (original, copy) = (originals.next().await?, copies.next().await?);
        let (Some(original), Some(copy)) = (&original, &copy) else {
            let is_whole = original.is_none() && copy.is_none() && count == versions.len();
            return if is_whole { Ok(()) } else { Err(changed(from, to)) };
        };
        let path = original.step.path.as_str();
        let is_same = copy.step.path == there(path, from, to)
            && copy.data == original.data
            && versions.get(path) == Some(&original.stat.version);
        if !is_same {
            return Err(changed(from, to));
        }
        progress.count();
        count += 1;
    }
}

fn changed(from: &str, to: &str) -> CommandError {
    let (from, to) = (harmless_line(from), harmless_line(to));
    CommandError::negative(anyhow!("somebody changes {from} or {to} at the same time; {from} is as they left it"))
        .hint(format!("to delete the copy and to try again: grange shell deleteall {to}"))
}

/// Deletes the original, children first, each znode only in the version that was copied.
async fn delete(
    session: &Session<'_>,
    versions: Vec<(String, i32)>,
    from: &str,
    to: &str,
) -> Result<usize, CommandError> {
    let progress = Progress::start(session.cx, "deleted");
    let mut batches = Batches::new(session.client);
    for (path, version) in versions.into_iter().rev() {
        progress.count();
        let added = batches.add(&path, Change::Delete { version }).await;
        added.map_err(|error| error.hint(copy_is_whole(from, to)))?;
    }
    batches.finish().await.map_err(|error| error.hint(copy_is_whole(from, to)))
}

fn copy_is_whole(from: &str, to: &str) -> String {
    let (from, to) = (harmless_line(from), harmless_line(to));
    format!("{to} is whole; somebody changes {from}, and what is left of it was not deleted")
}
