//! `grange watch`: prints what changes, or runs a command for it.

mod follow;
mod hook;

use std::ffi::OsString;
use std::num::NonZero;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use grange_client::ConnectOptions;
use grange_proto::ZnodePath;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::command::Signals;
use crate::connection::{self, ConnectionArgs};
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};
use crate::recipe_error::failed;
use crate::watch::follow::{Change, Follower};
use crate::watch::hook::Hook;

/// Print what changes at a znode, as it changes
#[derive(Debug, Args)]
#[command(
    after_help = "One line per change: \"created\", \"changed\" or \"deleted\", a blank, and the path. Without -r these are \
                        changes of the znode's data and of its list of children. Changes that follow each other quickly \
                        may be told as one; the newest state is always told, also after an outage or a lost session.\n\n\
                        With a command: it is run after each change, with the lines on standard input; what changes while \
                        it runs is told to its next run. SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on to a \
                        run, which has 10 seconds to end, and end the watching.\n\n\
                        Exit status: 0 success, 1 the wait is over without a change, 2 wrong usage, 3 failure."
)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print one JSON object per change, with the new data
    #[arg(long)]
    json: bool,
    /// Everything below the znode too
    #[arg(short = 'r', long)]
    recursive: bool,
    /// Begin with what is there, as if it were created now
    #[arg(long)]
    initial: bool,
    /// End after so many changes
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<NonZero<u64>>,
    /// End when nothing has changed for so long, in seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<NonZero<u32>>,
    /// The znode; it may come later
    path: ZnodePath,
    /// A command and its arguments
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(crate) async fn run(cx: &Context, args: WatchArgs) -> Result<(), CommandError> {
    let options = args.connection.options()?;
    let client = connection::connect(&options).await?;
    let follower = Follower::start(client, args.path.clone(), args.recursive).await.map_err(failed)?;
    if args.command.is_empty() {
        return follow(&args, &options, follower, &Sink::Print { cx }).await;
    }
    let mut signals = Signals::catch().map_err(CommandError::failure)?;
    let hook = Hook::new(&args.command, args.path.as_str());
    let sink = Sink::Run(&hook);
    let following = async {
        let followed = follow(&args, &options, follower, &sink).await;
        // However that ended, what was seen is told.
        hook.close();
        Ok::<_, CommandError>(followed)
    };
    let (followed, ()) = tokio::try_join!(following, hook.run(&mut signals))?;
    followed
}

/// Tells changes until there were enough of them, or too few in time.
async fn follow(
    args: &WatchArgs,
    options: &ConnectOptions,
    mut follower: Follower,
    sink: &Sink<'_>,
) -> Result<(), CommandError> {
    let (mut count, mut is_first) = (0, true);
    loop {
        let deadline = args.wait.map(|wait| Instant::now() + Duration::from_secs(u64::from(wait.get())));
        let next = follower.next();
        let told = match deadline {
            None => next.await,
            Some(deadline) => match timeout_at(deadline, next).await {
                Ok(told) => told,
                Err(_elapsed) => return Err(CommandError::negative(anyhow!("nothing has changed in time"))),
            },
        };
        let change = match told {
            Ok(change) => change,
            Err(error) if error.is_session_end() => {
                tracing::warn!("the session was lost; opening another one");
                let client = connection::connect(options).await?;
                follower = follower.with_client(client).await.map_err(failed)?;
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        if let Change::Ready = change {
            is_first = false;
            // Whoever waits for this line misses nothing that happens after it.
            eprintln!("watching {}", harmless_line(args.path.as_str()));
            continue;
        }
        if is_first && !args.initial {
            continue;
        }
        sink.tell(&change, &follower, args.json)?;
        count += 1;
        if args.count.is_some_and(|most| count >= most.get()) {
            return Ok(());
        }
    }
}

/// Where changes go.
enum Sink<'a> {
    Print { cx: &'a Context },
    Run(&'a Hook<'a>),
}

impl Sink<'_> {
    fn tell(&self, change: &Change, follower: &Follower, json: bool) -> Result<(), CommandError> {
        let line =
            if json { object(change, follower).to_string() } else { format!("{} {}", change.word(), change.path()) };
        match self {
            Sink::Print { cx } => {
                let mut out = Output::new(cx);
                out.line(&line)?;
                out.finish()
            }
            Sink::Run(hook) => {
                hook.tell(line);
                Ok(())
            }
        }
    }
}

fn object(change: &Change, follower: &Follower) -> Value {
    let mut object = json!({ "event": change.word(), "path": change.path() });
    if let Some((data, stat)) = follower.get(change.path()) {
        match std::str::from_utf8(data) {
            Ok(text) => object["data"] = text.into(),
            Err(_) => {
                use base64::Engine;
                object["dataBase64"] = base64::engine::general_purpose::STANDARD.encode(data).into();
            }
        }
        object["version"] = stat.version.into();
        object["mZxid"] = format!("{:#x}", stat.mzxid).into();
    }
    object
}
