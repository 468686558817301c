//! `grange ensemble promote`.

use clap::Args;

use super::answer::refused;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

/// Give an observer a vote
#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The number of the server
    #[arg(value_name = "N")]
    id: u8,
}

pub(super) async fn run(cx: &Context, args: &PromoteArgs) -> Result<(), CommandError> {
    let ensemble = super::connect(&args.connection).await?;
    let promoted = ensemble.promote(args.id).await;
    ensemble.close().await;
    promoted.map_err(refused)?;
    let mut out = Output::new(cx);
    out.line(&format!("server {} votes", args.id))?;
    out.finish()
}
