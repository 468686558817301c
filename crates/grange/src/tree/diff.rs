//! `grange tree diff`.

use clap::Args;
use grange_client::declared::PlanOptions;

use super::apply::carry_out;
use super::confirm::Confirmation;
use super::print::{Report, print_differences};
use super::session::Session;
use super::{FileArgs, Output, read};
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;

/// Print how the live tree differs from the file, with what the file does not name
///
/// Never writes without --prune, and with it only deletes what FILE does not name below its topmost znodes: never
/// /zookeeper, nor ephemeral znodes. Exit status: 0 no difference (--prune: done), 2 differences, 3 failure or a wrong
/// file.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Delete what FILE does not name
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

pub(super) async fn run(
    cx: &Context,
    connection: ConnectionArgs,
    form: Output,
    args: DiffArgs,
) -> Result<(), CommandError> {
    let declared = read(&args.file.source()).map_err(CommandError::into_failure)?;
    let session = Session::open(connection, &declared).await?;
    // Nothing but deletions is done, and those lock nobody out.
    let options = PlanOptions { prunes: args.prune, allows_lockout: true };
    let result = match session.plan(&declared, options, true).await {
        Err(error) => Err(error),
        Ok(mut plan) if args.prune => {
            plan.keep_deletions();
            carry_out(cx, form, &session, &plan, &args.confirmation).await
        }
        Ok(plan) => print_differences(cx, form, &Report { plan: &plan, names_unnamed: true, applied: None }),
    };
    grange_client::close(session.client).await;
    result
}
