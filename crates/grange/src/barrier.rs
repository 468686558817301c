//! `grange barrier`.

use std::ffi::OsString;
use std::num::NonZero;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use grange_client::Client;
use grange_client::recipes::{Barrier, DoubleBarrier};
use grange_proto::ZnodePath;
use rustix::system::uname;
use serde_json::json;
use tokio::process::Command;
use tokio::time::Instant;

use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};
use crate::recipe_error::failed;
use crate::wait::WaitArgs;

/// Let processes on many machines wait for each other
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 success, 1 the wait is over and the barrier still stands (wait), not all have come \
                        (enter), or it did not stand (remove), 2 wrong usage, 3 failure."
)]
pub(crate) struct BarrierArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: BarrierCommand,
}

#[derive(Debug, Subcommand)]
enum BarrierCommand {
    /// Put up a barrier: from now on `wait` waits
    Create {
        /// The znode that is the barrier
        path: ZnodePath,
    },
    /// Take down a barrier: all who wait go on
    Remove {
        /// The znode that is the barrier
        path: ZnodePath,
    },
    /// Wait until a barrier is taken down; goes on at once if there is none
    Wait {
        #[command(flatten)]
        wait: WaitArgs,
        /// The znode that is the barrier
        path: ZnodePath,
    },
    /// Wait until N processes have come, run CMD if there is one, and wait until they all leave
    Enter {
        /// How many have to come
        #[arg(short = 'n', value_name = "COUNT")]
        count: NonZero<u32>,
        /// What others see of this process [default: host name and process id]
        #[arg(long, value_name = "TEXT")]
        id: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
        /// The znode whose children are the processes
        path: ZnodePath,
        /// What to run between entering and leaving, with its arguments; its status, if not 0, becomes ours
        #[arg(last = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
}

pub(crate) async fn run(cx: &Context, args: BarrierArgs) -> Result<(), CommandError> {
    let client = args.connection.connect().await?;
    let result = run_command(&client, args.command).await;
    grange_client::close(client).await;
    let (path, done) = result?;
    if args.json {
        let mut out = Output::new(cx);
        out.json(&json!({ "path": path.as_str(), "done": done.is_ok() }))?;
        out.finish()?;
    }
    done
}

/// Returns the path, and an error if the answer is no.
async fn run_command(
    client: &Client,
    command: BarrierCommand,
) -> Result<(ZnodePath, Result<(), CommandError>), CommandError> {
    Ok(match command {
        BarrierCommand::Create { path } => {
            Barrier::new(client.clone(), path.clone()).create().await.map_err(failed)?;
            (path, Ok(()))
        }
        BarrierCommand::Remove { path } => {
            let removed = Barrier::new(client.clone(), path.clone()).remove().await.map_err(failed)?;
            let answer = answer(removed, || format!("there is no barrier {}", harmless_line(path.as_str())));
            (path, answer)
        }
        BarrierCommand::Wait { wait, path } => {
            let barrier = Barrier::new(client.clone(), path.clone());
            let is_down = barrier.wait_until(wait.deadline()).await.map_err(failed)?;
            let answer = answer(is_down, || format!("the barrier {} still stands", harmless_line(path.as_str())));
            (path, answer)
        }
        BarrierCommand::Enter { count, id, wait, path, command } => {
            let id = id.unwrap_or_else(own_id);
            let answer = enter(client, &path, count, &id, wait.deadline(), &command).await?;
            (path, answer)
        }
    })
}

async fn enter(
    client: &Client,
    path: &ZnodePath,
    count: NonZero<u32>,
    id: &str,
    deadline: Option<Instant>,
    command: &[OsString],
) -> Result<Result<(), CommandError>, CommandError> {
    let size = usize::try_from(count.get()).map_err(CommandError::usage)?;
    let mut barrier = DoubleBarrier::new(client.clone(), path.clone(), size, id);
    let entered = barrier.enter_until(deadline).await.map_err(failed)?;
    if entered {
        let ran = run_inside(command).await;
        barrier.leave().await.map_err(failed)?;
        ran?;
    }
    Ok(answer(entered, || format!("fewer than {count} have come to {}", harmless_line(path.as_str()))))
}

/// Runs the command; a status other than 0 becomes ours.
async fn run_inside(command: &[OsString]) -> Result<(), CommandError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let status = Command::new(program).args(arguments).status().await.map_err(|error| {
        CommandError::usage(error).context(format!("cannot run {}", harmless_line(&program.to_string_lossy())))
    })?;
    match (status.success(), status.code().and_then(|code| u8::try_from(code).ok())) {
        (true, _) => Ok(()),
        (false, Some(code)) => Err(CommandError::status(code)),
        (false, None) => Err(CommandError::failure(anyhow!("the command ended with {status}"))),
    }
}

fn answer(is_yes: bool, no: impl FnOnce() -> String) -> Result<(), CommandError> {
    match is_yes {
        true => Ok(()),
        false => Err(CommandError::negative(anyhow!("{}", no()))),
    }
}

/// The name by which this process is known when nobody says another one.
fn own_id() -> String {
    format!("{}-{}", uname().nodename().to_string_lossy(), std::process::id())
}
