//! `grange shell getAcl`, `setAcl` and `whoami`.

use clap::Args;
use grange_client::{Acl, ClientError};
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::shell::acl::{self, AclList};
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::units::znodes;
use crate::shell::walk::{Step, Walk};
use crate::shell::{Form, Session, condition, stat_form};

/// Print the ACL of a znode, one entry per line
#[derive(Debug, Args)]
pub(super) struct GetAclArgs {
    /// Print the znode's stat too
    #[arg(short = 's')]
    stat: bool,
    /// The znode
    path: PathArg,
}

pub(super) async fn get(session: &mut Session<'_>, args: &GetAclArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let (acls, stat) = session.client.get_acl(path).await.map_err(|error| refused(path, error))?;
    if session.form == Form::Json {
        let mut object = json!({ "path": path, "acl": texts(&acls) });
        if args.stat {
            object["stat"] = stat_form::object(&stat);
        }
        return session.out.json(&object);
    }
    for entry in &acls {
        session.out.line(&acl::format(entry))?;
    }
    if args.stat { session.print_stat(&stat) } else { Ok(()) }
}

/// Returns the entries as text.
pub(super) fn texts(acls: &[Acl]) -> Value {
    acls.iter().map(acl::format).collect()
}

/// Set the ACL of a znode, or of a subtree
#[derive(Debug, Args)]
pub(super) struct SetAclArgs {
    /// Print the new stat
    #[arg(short = 's', conflicts_with = "recursive")]
    stat: bool,
    /// Only if the ACL has this version
    #[arg(short = 'v', value_name = "VERSION", allow_negative_numbers = true)]
    version: Option<i32>,
    /// Set it on everything below too, children first
    #[arg(short = 'R')]
    recursive: bool,
    /// The znode
    path: PathArg,
    /// The ACL: SCHEME:ID:PERMS[,…] with permissions out of cdrwa
    acl: AclList,
}

pub(super) async fn set(session: &mut Session<'_>, args: &SetAclArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let AclList(acls) = &args.acl;
    let version = condition(args.version);
    if args.recursive {
        return set_below(session, path, acls, version).await;
    }
    let set = session.client.set_acl(path, acls, version).await;
    let stat = set.map_err(|error| refused(path, error))?;
    match session.form {
        Form::Json => session.out.json(&json!({ "path": path, "stat": stat_form::object(&stat) })),
        Form::Text if args.stat => session.print_stat(&stat),
        Form::Text => Ok(()),
    }
}

/// Children come first, so that nobody who loses access to a parent is shut out from what is below.
async fn set_below(
    session: &mut Session<'_>,
    root: &str,
    acls: &[Acl],
    version: Option<i32>,
) -> Result<(), CommandError> {
    let mut paths = Vec::new();
    let mut walk = Walk::new(session.client, root);
    while let Some(Step { path, .. }) = walk.next().await? {
        paths.push(path);
    }
    let mut changed = 0;
    while let Some(path) = paths.pop() {
        match session.client.set_acl(&path, acls, version).await {
            Ok(_) => changed += 1,
            Err(ClientError::NoNode) => {}
            Err(error) => {
                let done = format!("{} have the new ACL already; the command can be repeated", znodes(changed));
                return Err(refused(&path, error).hint(done));
            }
        }
    }
    match session.form {
        Form::Json => session.out.json(&json!({ "path": root, "changed": changed })),
        Form::Text => {
            eprintln!("set the ACL of {}", znodes(changed));
            Ok(())
        }
    }
}

/// Print who the server takes this session for
#[derive(Debug, Args)]
pub(super) struct WhoamiArgs {}

pub(super) async fn who(session: &mut Session<'_>) -> Result<(), CommandError> {
    let users = session.client.list_auth_users().await.map_err(|error| refused("/", error))?;
    for user in users {
        match session.form {
            Form::Json => session.out.json(&json!({ "scheme": user.scheme(), "user": user.user() }))?,
            Form::Text => session.out.line(&format!("{}:{}", user.scheme(), user.user()))?,
        }
    }
    Ok(())
}
