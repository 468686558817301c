//! `grange shell getAllChildrenNumber`, `getEphemerals`, `sync` and `version`.

use clap::Args;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::{Form, Session};

/// Print how many znodes are below a znode
#[derive(Debug, Args)]
pub(super) struct CountArgs {
    /// The znode [default: /, or where cd went]
    path: Option<PathArg>,
}

pub(super) async fn count(session: &mut Session<'_>, args: &CountArgs) -> Result<(), CommandError> {
    let path = &session.path_or_here(args.path.as_ref())?;
    let count = session.client.count_descendants_number(path).await.map_err(|error| refused(path, error))?;
    match session.form {
        Form::Json => session.out.json(&json!({ "path": path, "descendants": count })),
        Form::Text => session.out.line(&count.to_string()),
    }
}

/// Print the ephemeral znodes of this session
#[derive(Debug, Args)]
pub(super) struct EphemeralsArgs {
    /// Only those whose paths begin like this
    path: Option<PathArg>,
}

pub(super) async fn ephemerals(session: &mut Session<'_>, args: &EphemeralsArgs) -> Result<(), CommandError> {
    let path = match &args.path {
        Some(path) => session.path(path)?,
        None => "/".to_owned(),
    };
    let mut paths = session.client.list_ephemerals(&path).await.map_err(|error| refused(&path, error))?;
    paths.sort_unstable();
    if session.form == Form::Json {
        return session.out.json(&json!({ "ephemerals": paths }));
    }
    paths.iter().try_for_each(|path| session.out.line(path))
}

/// Wait until this server has every change that was made before
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// The znode [default: /, or where cd went]
    path: Option<PathArg>,
}

pub(super) async fn sync(session: &mut Session<'_>, args: &SyncArgs) -> Result<(), CommandError> {
    let path = &session.path_or_here(args.path.as_ref())?;
    session.client.sync(path).await.map_err(|error| refused(path, error))?;
    match session.form {
        Form::Json => session.out.json(&json!({ "path": path, "synced": true })),
        Form::Text => Ok(()),
    }
}

/// Print the version of this program
#[derive(Debug, Args)]
pub(super) struct VersionArgs {}

pub(super) fn version(session: &mut Session<'_>) -> Result<(), CommandError> {
    let version = env!("CARGO_PKG_VERSION");
    match session.form {
        Form::Json => session.out.json(&json!({ "version": version })),
        Form::Text => session.out.line(&format!("grange {version}")),
    }
}
