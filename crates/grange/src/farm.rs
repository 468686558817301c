//! `grange farm`: hosts that register themselves with their properties, as ZkFarmer lays them out, and who follows them.

mod ls;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use grange_client::ClientError;
use grange_farm::hosts::ReadError;

use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::harmless_line;

/// Let hosts register themselves with their properties, and follow them
#[derive(Debug, Args)]
#[command(
    after_help = "A farm is a znode whose children are hosts, each with one JSON object as its data. ZkFarmer's \
                        processes may work in the same farm.\n\n\
                        Exit status: 0 success, 1 no such farm, host or field, 2 wrong usage, 3 failure."
)]
pub(crate) struct FarmArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: FarmCommand,
}

#[derive(Debug, Subcommand)]
enum FarmCommand {
    Ls(ls::LsArgs),
}

pub(crate) async fn run(cx: &Context, args: FarmArgs) -> Result<(), CommandError> {
    match args.command {
        FarmCommand::Ls(command) => ls::run(cx, &args.connection, &command).await,
    }
}

/// Ends a command that could not read a farm.
fn cannot_read(error: ReadError) -> CommandError {
    match &error {
        ReadError::NoFarm(_) => CommandError::negative(harmless(error)),
        ReadError::Request { source, .. } => {
            let source = source.clone();
            with_advice(CommandError::failure(harmless(error)), &source)
        }
    }
}

/// An error with its causes, in which names come from a server.
fn harmless(error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow!(harmless_line(&format!("{:#}", error.into())))
}

fn with_advice(error: CommandError, source: &ClientError) -> CommandError {
    match source {
        ClientError::NoAuth => {
            error.hint("say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password")
        }
        ClientError::SessionExpired => error.hint("a longer --session-timeout bridges longer outages"),
        _ => error,
    }
}
