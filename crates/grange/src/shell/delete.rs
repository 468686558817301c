//! `grange shell delete`.

use clap::Args;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::{Form, Session, condition};

/// Delete a znode that has no children
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// Only if the data has this version
    #[arg(short = 'v', value_name = "VERSION", allow_negative_numbers = true)]
    version: Option<i32>,
    /// The znode
    path: PathArg,
}

pub(super) async fn run(session: &mut Session<'_>, args: &DeleteArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let version = condition(args.version);
    session.client.delete(path, version).await.map_err(|error| refused(path, error))?;
    match session.form {
        Form::Text => Ok(()),
        Form::Json => session.out.json(&json!({ "path": path, "deleted": 1 })),
    }
}
