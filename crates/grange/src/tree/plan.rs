//! `grange tree plan`.

use clap::Args;
use grange_client::declared::PlanOptions;

use super::print::{Report, print_differences};
use super::session::Session;
use super::{FileArgs, Output, read};
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;

/// Print what would change; never writes
///
/// Exit status: 0 nothing would change, 2 something would, 3 failure or a wrong file.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Include the deletion of what FILE does not name below its topmost znodes
    #[arg(long)]
    prune: bool,
    /// Permit ACLs that leave the caller without admin
    #[arg(long)]
    allow_lockout: bool,
}

pub(super) async fn run(
    cx: &Context,
    connection: ConnectionArgs,
    form: Output,
    args: PlanArgs,
) -> Result<(), CommandError> {
    let declared = read(&args.file.source()).map_err(CommandError::into_failure)?;
    let session = Session::open(connection, &declared).await?;
    let options = PlanOptions { prunes: args.prune, allows_lockout: args.allow_lockout };
    let plan = session.plan(&declared, options, false).await;
    grange_client::close(session.client).await;
    print_differences(cx, form, &Report { plan: &plan?, names_unnamed: false, applied: None })
}
