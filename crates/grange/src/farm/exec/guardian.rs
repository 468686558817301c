//! A process that outlives the one that runs a command, to put fields back if that is killed.
//!
//! Only `kill -9` (or a lack of memory) ends a run without a word. What it has set would then stay until the host's next
//! `join` or `exec` finds the record. The guardian waits at the end of a pipe, in a session of its own, and opens a session
//! with the servers only when the pipe ends without a word.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use grange_client::{ZnodePath, close};
use grange_farm::exec::{Place, Settled, UndoLog, Whose};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{exec_failed, misplaced};
use crate::connection::{ConnectionArgs, connect};
use crate::error::CommandError;

/// The program itself, also if its file has been replaced meanwhile.
const SELF: &str = "/proc/self/exe";

/// What says that there is nothing to do.
const DISMISSAL: &[u8] = b"done";

/// How long a guardian tries to reach the servers, and the pause between two attempts. After that the record stays for the
/// host's next `join` or `exec`.
const TRY_TIMEOUT: Duration = Duration::from_secs(600);
const TRY_PAUSE: Duration = Duration::from_secs(3);

/// How often it is looked for a record before there is none: what the run sent last may be on its way still.
const LOOKS_MAX: u32 = 2;

/// A guardian that waits. When the value is dropped it begins.
#[derive(Debug)]
pub(super) struct Guardian {
    /// Reaped when it has ended.
    _process: Child,
    pipe: ChildStdin,
}

impl Guardian {
    /// Starts one for a record that is about to be made.
    pub(super) fn start(
        connection: &ConnectionArgs,
        farm: &ZnodePath,
        host: &str,
        record: &str,
    ) -> Result<Guardian, CommandError> {
        let mut command = Command::new(SELF);
        command.args(["farm", "guard"]).args(connection.arguments());
        command.args([&format!("--name={host}"), "--record", record, farm.as_str()]);
        // It may stay for minutes, and nobody is to wait for the end of its output.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process =
            command.spawn().map_err(|error| CommandError::failure(error).context("cannot start a guardian"))?;
        let pipe = process.stdin.take().expect("its standard input is piped");
        Ok(Guardian { _process: process, pipe })
    }

    /// Lets it end without doing anything.
    pub(super) async fn dismiss(mut self) {
        // Fails only if it has ended.
        let _ = self.pipe.write_all(DISMISSAL).await;
    }
}

/// Put back what a run has set, when standard input ends
#[derive(Debug, Args)]
pub(in crate::farm) struct GuardArgs {
    /// The host
    #[arg(long)]
    name: String,
    /// The name of the record
    #[arg(long)]
    record: String,
    /// The farm
    znode: ZnodePath,
}

pub(in crate::farm) async fn guard(connection: &ConnectionArgs, args: GuardArgs) -> Result<(), CommandError> {
    // What a terminal or a service manager sends to all processes is meant for the run. Fails only for who leads a group.
    let _ = rustix::process::setsid();
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
    let _caught = kinds.map(signal);
    let options = connection.options()?;
    let place = Place::of(&args.znode).map_err(misplaced)?;
    // Nothing is to be kept in use.
    let _ = std::env::set_current_dir("/");
    let word = tokio::task::spawn_blocking(|| {
        let mut word = Vec::new();
        let limit = u64::try_from(DISMISSAL.len()).expect("a word is short");
        std::io::stdin().lock().take(limit).read_to_end(&mut word).map(|_| word)
    });
    if matches!(word.await, Ok(Ok(word)) if word == DISMISSAL) {
        return Ok(());
    }
    let deadline = Instant::now() + TRY_TIMEOUT;
    let mut looks = 0;
    loop {
        let settled = async {
            let client = connect(&options).await?;
            let log = UndoLog::new(&client, &place, &args.name).map_err(misplaced)?;
            let settled = log.settle(&log.record_path(&args.record), Whose::Ours).await;
            drop(log);
            close(client).await;
            settled.map_err(exec_failed)
        };
        match settled.await {
            Ok(Settled::Before) if looks + 1 < LOOKS_MAX => looks += 1,
            Ok(settled) => {
                debug!(?settled, "a run has ended without a word");
                return Ok(());
            }
            // Who has found nothing once does not insist.
            Err(error) if looks > 0 || Instant::now() >= deadline => return Err(error),
            Err(error) => debug!(%error, "cannot put fields back yet"),
        }
        sleep(TRY_PAUSE).await;
    }
}
