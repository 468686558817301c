//! `grange barrier`.

use std::ffi::OsString;
use std::num::NonZero;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use grange_client::Client;
use grange_client::recipes::{Barrier, DoubleBarrier};
use grange_proto::ZnodePath;
use rustix::process::Signal;
use rustix::system::uname;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::command::{Child, Input, Signals, Status, cannot_start, ended, ended_by};
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};
use crate::recipe_error::failed;
use crate::wait::WaitArgs;

/// How long a member that does not wait for the others may take to leave; after that the end of its session does it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Let processes on many machines wait for each other
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 success, 1 the wait is over and the barrier still stands (wait), not all have come \
                        (enter), or it did not stand (remove), 2 wrong usage, 3 failure; that of CMD if it is not 0 \
                        (128+N if signal N ended it), 126 or 127 if it cannot be run or is not there."
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
    let mut signals = Signals::catch().map_err(CommandError::failure)?;
    let mut barrier = DoubleBarrier::new(client.clone(), path.clone(), size, id);
    let entered = tokio::select! {
        entered = barrier.enter_until(deadline) => entered.map_err(failed)?,
        // The end of the session takes the member away.
        signal = signals.end() => return Err(ended_by(signal)),
    };
    if entered {
        let ran = run_inside(&barrier, path, command, &mut signals).await;
        // Ctrl-C on a terminal goes to the command only.
        let interrupt = ran.as_ref().ok().filter(|status| **status == Status::Killed(Signal::INT.as_raw()));
        let asked_by = signals.asked_by_other_than_hangup().or(interrupt.map(|_| Signal::INT));
        let ran = ran.and_then(ended);
        let left = leave(&mut barrier, asked_by, &mut signals).await;
        if let (Err(_), Err(error)) = (&ran, &left)
            && !error.is_silent()
        {
            // The exit status will be the command's, which does not tell of this.
            eprint!("{error}");
        }
        ran?;
        left?;
    }
    Ok(answer(entered, || format!("fewer than {count} have come to {}", harmless_line(path.as_str()))))
}

/// Leaves, and waits until the others do; who was asked to end by a signal does not wait.
async fn leave(
    barrier: &mut DoubleBarrier,
    asked_by: Option<Signal>,
    signals: &mut Signals,
) -> Result<(), CommandError> {
    if let Some(signal) = asked_by {
        let _ = timeout(LEAVE_TIMEOUT, barrier.leave_at_once()).await;
        return Err(ended_by(signal));
    }
    tokio::select! {
        left = barrier.leave() => left.map_err(failed),
        signal = signals.end() => Err(ended_by(signal)),
    }
}

/// Runs the command, if there is one, and tells when this member counts no longer.
async fn run_inside(
    barrier: &DoubleBarrier,
    path: &ZnodePath,
    command: &[OsString],
    signals: &mut Signals,
) -> Result<Status, CommandError> {
    if command.is_empty() {
        return Ok(Status::Exited(0));
    }
    let mut child = Child::start(command, &[], Input::Ours).map_err(|error| cannot_start(command, &error))?;
    let lost = barrier.lost();
    tokio::pin!(lost);
    let mut is_lost = false;
    loop {
        tokio::select! {
            status = child.run(signals) => return Ok(status),
            loss = &mut lost, if !is_lost => {
                is_lost = true;
                let path = harmless_line(path.as_str());
                eprintln!("{path}: {loss}; CMD goes on, but the others no longer wait for its end");
            }
        }
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
