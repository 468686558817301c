//! `grange queue work`: runs a command for each item.

mod signals;
mod worker;

use std::ffi::OsString;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use grange_client::recipes::LockingQueue;
use grange_proto::ZnodePath;
use tokio::task::JoinSet;
use tracing::warn;

use crate::connection::{self, ConnectionArgs};
use crate::context::Context;
use crate::error::CommandError;
use crate::output::harmless_line;
use crate::queue::work::signals::Signals;
use crate::queue::work::worker::{Ending, Plan, Tally};
use crate::recipe_error::failed;
use crate::wait::WaitArgs;

/// The most commands that one process runs at a time.
const JOBS_MAX: usize = 256;

/// Run a command for each item, with the item on standard input
#[derive(Debug, Args)]
#[command(
    after_help = "An item leaves the queue when the command ends with status 0. Otherwise it goes back, for anybody to \
                        take again; after --attempts times it is moved aside, to the queue PATH/failed. The command finds \
                        $GRANGE_ITEM (a name that no other item of the queue has), $GRANGE_QUEUE and $GRANGE_ATTEMPT.\n\n\
                        SIGTERM, SIGINT or SIGHUP: no new item is taken, and commands that run may finish; a second one \
                        ends them, and their items go back uncounted. When the session with the servers is lost, commands \
                        are ended at once, because others will take their items.\n\n\
                        Exit status: 0 success, 1 an item was moved aside, 2 wrong usage, 3 failure."
)]
pub(super) struct WorkArgs {
    /// How many commands to run at a time
    #[arg(short = 'j', long, value_name = "COUNT", default_value = "1")]
    jobs: NonZero<usize>,
    /// End after one item
    #[arg(long, conflicts_with = "jobs")]
    once: bool,
    /// End when there is no item that nobody works on, instead of waiting for more
    #[arg(long)]
    until_empty: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// How often a command may fail for an item before the item is moved aside
    #[arg(long, value_name = "COUNT", default_value = "5")]
    attempts: NonZero<u32>,
    /// The queue that items are moved to [default: PATH/failed]
    #[arg(long, value_name = "PATH")]
    failed: Option<ZnodePath>,
    /// How long a command may take to end after SIGTERM, in seconds, before it is killed
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    grace: u32,
    /// The queue; made if it is not there
    path: ZnodePath,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) async fn run(
    _cx: &Context,
    connection: &ConnectionArgs,
    args: &WorkArgs,
    json: bool,
) -> Result<(), CommandError> {
    if args.jobs.get() > JOBS_MAX {
        return Err(CommandError::usage(anyhow!("--jobs is {}; it must not exceed {JOBS_MAX}", args.jobs)));
    }
    let options = connection.options()?;
    let signals = Signals::listen()?;
    let plan = Arc::new(Plan {
        command: args.command.clone(),
        attempts: args.attempts.get(),
        failed: args.failed.clone().unwrap_or_else(|| below(&args.path)),
        grace: Duration::from_secs(args.grace.into()),
        is_once: args.once,
        waits: !args.until_empty,
        deadline: args.wait.deadline(),
        json,
        tally: Tally::default(),
    });
    loop {
        let client = connection::connect(&options).await?;
        let ending = match LockingQueue::open(client.clone(), args.path.clone()).await {
            Ok(queue) => work(&queue, &plan, args.jobs, &signals).await,
            Err(error) if error.is_session_end() => Ok(Ending::SessionLost),
            Err(error) => Err(failed(error)),
        };
        grange_client::close(client).await;
        match ending? {
            Ending::SessionLost if !signals.is_stopping() => warn!("the session was lost; opening another one"),
            _ => break,
        }
    }
    match plan.tally.moved_aside() {
        0 => Ok(()),
        count => Err(CommandError::negative(anyhow!(
            "{count} items were moved to {} after {} attempts each",
            harmless_line(plan.failed.as_str()),
            plan.attempts
        ))
        .hint(format!("to work on them again: grange queue work {} -- COMMAND", harmless_line(plan.failed.as_str())))),
    }
}

fn below(path: &ZnodePath) -> ZnodePath {
    let parent = path.as_str().trim_end_matches('/');
    ZnodePath::parse(format!("{parent}/failed")).expect("a child of a path is a path")
}

/// Works with one session until it ends or there is nothing more to do.
async fn work(
    queue: &LockingQueue,
    plan: &Arc<Plan>,
    jobs: NonZero<usize>,
    signals: &Signals,
) -> Result<Ending, CommandError> {
    let mut workers = JoinSet::new();
    for _ in 0..jobs.get() {
        workers.spawn(worker::run(queue.clone(), Arc::clone(plan), signals.clone()));
    }
    let (mut ending, mut failure) = (Ending::Done, None);
    while let Some(ended) = workers.join_next().await {
        match ended.map_err(CommandError::failure)? {
            Ok(Ending::SessionLost) => ending = Ending::SessionLost,
            Ok(Ending::Done) => {}
            Err(error) => {
                // What the others run may finish.
                signals.stop();
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(ending), Err)
}
