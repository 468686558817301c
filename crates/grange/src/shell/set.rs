//! `grange shell set`.

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::{Form, Session, condition, data, stat_form};

/// Set the data of a znode
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// Print the new stat
    #[arg(short = 's')]
    stat: bool,
    /// Only if the data has this version
    #[arg(short = 'v', value_name = "VERSION", allow_negative_numbers = true)]
    version: Option<i32>,
    /// The znode
    path: PathArg,
    /// Its data; - reads standard input
    #[arg(allow_negative_numbers = true)]
    data: Option<String>,
    #[command(flatten)]
    file: data::FileArgs,
}

pub(super) async fn run(session: &mut Session<'_>, args: &SetArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let Some(data) = data::read(session, args.data.as_deref(), &args.file)? else {
        return Err(CommandError::usage(anyhow!("there is no data to set"))
            .hint("give it as an argument, as - for standard input, or with --file; '' empties the znode"));
    };
    let version = condition(args.version);
    let set = session.client.set_data(path, &data, version).await;
    let stat = set.map_err(|error| refused(path, error))?;
    match session.form {
        Form::Json => session.out.json(&json!({ "path": path, "stat": stat_form::object(&stat) })),
        Form::Text if args.stat => session.print_stat(&stat),
        Form::Text => Ok(()),
    }
}
