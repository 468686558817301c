//! `grange ensemble transfer`.

use clap::Args;
use grange_client::ensemble::HandOver;

use super::answer::refused;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

/// Make another server lead
#[derive(Debug, Args)]
pub(super) struct TransferArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The number of the server [default: the follower that has got furthest]
    #[arg(value_name = "N")]
    to: Option<u8>,
}

pub(super) async fn run(cx: &Context, args: &TransferArgs) -> Result<(), CommandError> {
    let ensemble = super::connect(&args.connection).await?;
    let handed_over = ensemble.hand_over(args.to).await;
    ensemble.close().await;
    let HandOver { leader } = handed_over.map_err(refused)?;
    let mut out = Output::new(cx);
    out.line(&format!("server {leader} leads"))?;
    out.finish()
}
