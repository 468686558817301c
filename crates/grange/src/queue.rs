//! `grange queue`: items that wait for whoever works on them, in the layouts of kazoo's queues.

mod get;
mod input;
mod len;
mod put;
mod work;

use clap::{Args, Subcommand};

use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;

/// Put items into a queue, and work on them
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 success, 1 there was no item (get) or an item was moved aside (work), 2 wrong usage, \
                        3 failure."
)]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print one JSON object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    Put(put::PutArgs),
    Get(get::GetArgs),
    Len(len::LenArgs),
    Work(work::WorkArgs),
}

pub(crate) async fn run(cx: &Context, args: QueueArgs) -> Result<(), CommandError> {
    // A worker opens a new session when it has lost one; the others need one session.
    if let QueueCommand::Work(work) = args.command {
        return work::run(cx, &args.connection, &work, args.json).await;
    }
    let client = args.connection.connect().await?;
    let result = match args.command {
        QueueCommand::Put(put) => put::run(cx, client.clone(), put, args.json).await,
        QueueCommand::Get(get) => get::run(cx, client.clone(), get, args.json).await,
        QueueCommand::Len(len) => len::run(cx, client.clone(), len, args.json).await,
        QueueCommand::Work(_) => unreachable!("it has returned above"),
    };
    grange_client::close(client).await;
    result
}
