//! `grange shell stat`.

use clap::Args;
use grange_client::ClientError;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::{Form, Session, stat_form};

/// Print the stat of a znode: versions, transaction numbers, times, sizes
#[derive(Debug, Args)]
pub(super) struct StatArgs {
    /// The znode
    path: PathArg,
}

pub(super) async fn run(session: &mut Session<'_>, args: &StatArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let found = session.client.check_stat(path).await.map_err(|error| refused(path, error))?;
    let stat = found.ok_or_else(|| refused(path, ClientError::NoNode))?;
    match session.form {
        Form::Text => session.print_stat(&stat),
        Form::Json => session.out.json(&json!({ "path": path, "stat": stat_form::object(&stat) })),
    }
}
