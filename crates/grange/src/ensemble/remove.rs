//! `grange ensemble remove`.

use clap::Args;

use super::answer::refused;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

/// Take a server out of the ensemble
///
/// A server that leads hands over first. Two participants must be left.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The number of the server
    #[arg(value_name = "N")]
    id: u8,
}

pub(super) async fn run(cx: &Context, args: &RemoveArgs) -> Result<(), CommandError> {
    let ensemble = super::connect(&args.connection).await?;
    let removed = ensemble.remove(args.id).await;
    ensemble.close().await;
    removed.map_err(refused)?;
    let mut out = Output::new(cx);
    out.line(&format!("server {} is a member no more", args.id))?;
    out.finish()?;
    eprintln!("hint: if its process still runs, stop it; wipe its data before it joins again");
    Ok(())
}
