//! `grange ensemble`: several servers as one, for who runs them.

mod add;
mod answer;
mod invite;
mod promote;
mod recover;
mod remove;
mod status;
mod table;
mod transfer;

use clap::{Args, Subcommand};
use grange_client::ensemble::Ensemble;

use crate::connection::{ConnectionArgs, no_session};
use crate::context::Context;
use crate::error::CommandError;

/// Look at the servers of an ensemble, add and remove some, and start anew from one
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 success, 1 the answer is no (a server is missing, there is no such server), 2 wrong \
                        usage, 3 failure (no quorum)."
)]
pub(crate) struct EnsembleArgs {
    #[command(subcommand)]
    command: EnsembleCommand,
}

#[derive(Debug, Subcommand)]
enum EnsembleCommand {
    Status(status::StatusArgs),
    Invite(invite::InviteArgs),
    Add(add::AddArgs),
    Promote(promote::PromoteArgs),
    Remove(remove::RemoveArgs),
    Transfer(transfer::TransferArgs),
    Recover(recover::RecoverArgs),
}

impl EnsembleArgs {
    /// Tells whether the command goes on as a server.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.command, EnsembleCommand::Add(_))
    }
}

pub(crate) async fn run(cx: &Context, args: EnsembleArgs) -> Result<(), CommandError> {
    match args.command {
        EnsembleCommand::Status(args) => status::run(cx, &args).await,
        EnsembleCommand::Invite(args) => invite::run(cx, &args).await,
        EnsembleCommand::Add(args) => add::run(cx, &args).await,
        EnsembleCommand::Promote(args) => promote::run(cx, &args).await,
        EnsembleCommand::Remove(args) => remove::run(cx, &args).await,
        EnsembleCommand::Transfer(args) => transfer::run(cx, &args).await,
        EnsembleCommand::Recover(args) => recover::run(cx, &args).await,
    }
}

async fn connect(connection: &ConnectionArgs) -> Result<Ensemble, CommandError> {
    Ensemble::connect(&connection.options()?).await.map_err(no_session)
}
