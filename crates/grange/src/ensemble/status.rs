//! `grange ensemble status`.

use anyhow::anyhow;
use clap::Args;
use grange_client::ensemble::{Health, status};

use super::table;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};

/// Show every server, and whether all is well
///
/// Works on Apache's ensembles too, and needs nothing but the port for clients.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 all is well, 1 there is a leader but a server is missing, 2 wrong usage, 3 there is \
                        no quorum."
)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(cx: &Context, args: &StatusArgs) -> Result<(), CommandError> {
    let status = status(&args.connection.options()?).await;
    let mut out = Output::new(cx);
    if args.json {
        out.json(&table::object(&status))?;
    } else {
        for line in table::lines(&status) {
            out.line(&line)?;
        }
    }
    out.finish()?;
    if let Some(why) = &status.members_unknown {
        eprintln!("the members are not known ({}); these are the servers that were named", harmless_line(why));
    }
    let complaints = harmless_line(&status.complaints().join("; "));
    match status.health() {
        Health::Good => Ok(()),
        Health::Missing => Err(CommandError::negative(anyhow!("{complaints}"))),
        Health::NoQuorum => Err(CommandError::failure(anyhow!("{complaints}")).hint(
            "start the servers that are down; if a majority's data is lost for good: grange ensemble recover -h",
        )),
    }
}
