//! Running a command while a lock, a lease or the lead is held: what `lock`, `semaphore` and `elect` have in common.
//!
//! How it runs is told in [`crate::command`]. When what it runs under is lost it is told to end, and killed after a while.

mod list;

use std::convert::Infallible;
use std::ffi::OsString;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use grange_client::recipes::{Election, Held, Layout, Lock, LockError, Loss, Semaphore};
use grange_client::{Client, ZnodePath, close};
use tokio::time::{Instant, sleep_until, timeout};

use crate::command::{Child, Input, Signals, Turn, cannot_start, ended, ended_by};
use crate::connection::{ConnectionArgs, connect};
use crate::context::Context;
use crate::error::CommandError;
use crate::output::harmless_line;

/// How long it takes until a person is told for whom we wait.
const TELL_AFTER: Duration = Duration::from_millis(500);

/// How long giving back may take; after that the end of the session does it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest `--wait` and `--grace`, in seconds: a year.
const SECONDS_MAX: f64 = 31_536_000.0;

/// What commands that hold something have in common.
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// How long to wait, in seconds; 0 tries once [default: for ever]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
    /// What others see of this contender [default: HOST:PID]
    #[arg(long, value_name = "TEXT")]
    id: Option<String>,
    /// How long CMD may take to end once the lock is lost, in seconds, before it is killed [default: a fifth of the
    /// session timeout]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    grace: Option<Duration>,
    /// The exit status if it was not obtained in time
    #[arg(short = 'E', long, value_name = "STATUS", default_value_t = 1)]
    conflict_exit_code: u8,
    /// Show who holds it and who waits, in order, and run nothing
    #[arg(long, conflicts_with = "command")]
    list: bool,
    /// With --list: print one JSON object
    #[arg(long, requires = "list")]
    json: bool,
    /// What to run, with its arguments
    #[arg(last = true, value_name = "CMD", required_unless_present = "list")]
    command: Vec<OsString>,
}

/// The libraries whose names are known.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum LayoutArg {
    /// kazoo's locks and elections
    Kazoo,
    /// Curator's InterProcessMutex and LeaderSelector
    Curator,
    /// Curator's InterProcessReadWriteLock
    CuratorReadWrite,
    /// Curator's LeaderLatch
    CuratorLatch,
}

/// Reads a number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("must be a number of seconds from 0 to {SECONDS_MAX}")),
    }
}

/// What there is to hold.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Lock(Lock),
    Lease(Semaphore),
    Lead(Election),
}

impl Wanted {
    /// Waits for so long at most, for ever without a limit; `None` if it was not obtained.
    pub(crate) async fn acquire(&self, wait: Option<Duration>) -> Result<Option<Held>, LockError> {
        let acquired = match (self, wait) {
            (Wanted::Lock(lock), Some(Duration::ZERO)) => return lock.try_acquire().await,
            (Wanted::Lease(semaphore), Some(Duration::ZERO)) => return semaphore.try_acquire().await,
            (Wanted::Lead(election), Some(Duration::ZERO)) => return election.try_lead().await,
            (Wanted::Lock(lock), Some(wait)) => lock.acquire_within(wait).await,
            (Wanted::Lease(semaphore), Some(wait)) => semaphore.acquire_within(wait).await,
            (Wanted::Lead(election), Some(wait)) => election.lead_within(wait).await,
            (Wanted::Lock(lock), None) => lock.acquire().await,
            (Wanted::Lease(semaphore), None) => semaphore.acquire().await,
            (Wanted::Lead(election), None) => election.lead().await,
        };
        match acquired {
            Ok(held) => Ok(Some(held)),
            Err(LockError::Timeout(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says in one line who holds it, as far as that can be found out.
    pub(crate) async fn holders(&self) -> String {
        list::holders(self).await
    }

    /// Returns how many hold it.
    pub(crate) async fn held_count(&self) -> Result<u32, LockError> {
        list::held_count(self).await
    }

    /// Tells a person who waits for whom.
    pub(crate) async fn tell(&self, cx: &Context, path: &ZnodePath) -> Infallible {
        if cx.is_stderr_terminal {
            tokio::time::sleep(TELL_AFTER).await;
            say(path, &format!("waiting: {}", self.holders().await));
        }
        std::future::pending().await
    }
}

/// Tells a person what happens.
fn say(path: &ZnodePath, text: &str) {
    eprintln!("{}: {}", path, harmless_line(text));
}

/// A holder of something that runs a command meanwhile.
pub(crate) struct Holder<'a, F> {
    pub(crate) cx: &'a Context,
    pub(crate) args: &'a HoldArgs,
    pub(crate) path: &'a ZnodePath,
    /// What is wanted in a session, under this name.
    pub(crate) wanted: F,
}

impl<F: Fn(&Client, &str) -> Wanted> Holder<'_, F> {
    /// Shows the contenders, or runs the command once.
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        if self.args.list {
            return self.list().await;
        }
        let mut signals = Signals::catch().map_err(CommandError::failure)?;
        match self.turn(&mut signals).await? {
            Turn::Ended(status) => ended(status),
            Turn::Lost(loss) => Err(CommandError::failure(anyhow!("{} was lost while CMD ran: {loss}", self.path))),
        }
    }

    /// Runs the command each time that it is held, until a signal ends that.
    pub(crate) async fn repeat(self, pause: Duration) -> Result<(), CommandError> {
        if self.args.list {
            return self.list().await;
        }
        let mut signals = Signals::catch().map_err(CommandError::failure)?;
        loop {
            let began = Instant::now();
            match self.turn(&mut signals).await? {
                Turn::Ended(status) if signals.asked_by_other_than_hangup().is_some() => return ended(status),
                Turn::Ended(status) => self.say(&format!("CMD ended with status {}", status.code())),
                Turn::Lost(loss) if signals.asked_by_other_than_hangup().is_some() => {
                    return Err(CommandError::failure(anyhow!("{} was lost while CMD ran: {loss}", self.path)));
                }
                Turn::Lost(_) => {}
            }
            tokio::select! {
                () = sleep_until(began + pause) => {}
                signal = signals.end() => return Err(ended_by(signal)),
            }
        }
    }

    async fn list(&self) -> Result<(), CommandError> {
        let client = self.args.connection.connect().await?;
        let shown = list::show(self.cx, self.path, &(self.wanted)(&client, ""), self.args.json).await;
        close(client).await;
        shown
    }

    /// Waits until it is held and runs the command.
    async fn turn(&self, signals: &mut Signals) -> Result<Turn<Loss>, CommandError> {
        let mut session = None;
        let obtained = tokio::select! {
            obtained = self.obtain(&mut session) => obtained,
            signal = signals.end() => Err(ended_by(signal)),
        };
        // Dropping what waited leaves the line, and closing the session waits for that.
        let (client, held) = match (session, obtained) {
            (Some(client), Ok(held)) => (client, held),
            (Some(client), Err(error)) => {
                close(client).await;
                return Err(error);
            }
            (None, Err(error)) => return Err(error),
            (None, Ok(_)) => unreachable!("what is held is held in a session"),
        };
        let turn = self.supervise(&client, &held, signals).await;
        // Whoever waits is not to wait for the session's end.
        let _ = timeout(RELEASE_TIMEOUT, held.release()).await;
        close(client).await;
        turn
    }

    /// Opens a session and waits in it; in another one if it ends. The last one is left in `session`.
    async fn obtain(&self, session: &mut Option<Client>) -> Result<Held, CommandError> {
        let options = self.args.connection.options()?;
        let deadline = self.args.wait.map(|wait| Instant::now() + wait);
        let id = self.args.id.clone().unwrap_or_else(default_id);
        loop {
            *session = None;
            let wanted = (self.wanted)(session.insert(connect(&options).await?), &id);
            let wait = match self.args.wait {
                Some(Duration::ZERO) => Some(Duration::ZERO),
                _ => deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
            };
            let acquiring = wanted.acquire(wait);
            let acquired = tokio::select! {
                acquired = acquiring => acquired,
                never = wanted.tell(self.cx, self.path) => match never {},
            };
            match acquired {
                Ok(Some(held)) => return Ok(held),
                Ok(None) => {
                    let holders = wanted.holders().await;
                    let status = self.args.conflict_exit_code;
                    return Err(CommandError::negative(anyhow!("{} is not free: {holders}", self.path))
                        .hint("wait for it with --wait SECONDS, or look who does with --list instead of CMD")
                        .with_status(status));
                }
                Err(error) if error.is_session_end() => {
                    self.say("the session has ended; standing in line again, at the end");
                }
                Err(error) => return Err(explained(error, "-n")),
            }
        }
    }

    /// Runs the command and ends it if what it runs under is lost.
    async fn supervise(&self, client: &Client, held: &Held, signals: &mut Signals) -> Result<Turn<Loss>, CommandError> {
        let grace = self.args.grace.unwrap_or(client.session_timeout() / 5);
        let environment = environment(self.path, held);
        let started = Child::start(&self.args.command, &environment, Input::Ours);
        let child = started.map_err(|error| cannot_start(&self.args.command, &error))?;
        let tell = |loss: &Loss| self.say(&format!("lost: {loss}; ending CMD"));
        Ok(child.run_under(held.lost(), grace, tell, signals).await)
    }

    fn say(&self, text: &str) {
        say(self.path, text);
    }
}

impl From<LayoutArg> for Layout {
    fn from(layout: LayoutArg) -> Layout {
        match layout {
            LayoutArg::Kazoo => Layout::Kazoo,
            LayoutArg::Curator => Layout::Curator,
            LayoutArg::CuratorReadWrite => Layout::CuratorReadWrite,
            LayoutArg::CuratorLatch => Layout::CuratorLatch,
        }
    }
}

/// What a command finds in its environment.
pub(crate) fn environment(path: &ZnodePath, held: &Held) -> [(&'static str, String); 3] {
    [
        ("GRANGE_LOCK_PATH", path.to_string()),
        ("GRANGE_LOCK_ZNODE", held.path()),
        ("GRANGE_LOCK_TOKEN", held.token().to_string()),
    ]
}

/// Returns what others see of this process when nobody says something else.
pub(crate) fn default_id() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", std::process::id())
}

/// Adds advice to why nothing was obtained; `flag` is by which the number of leases is given.
pub(crate) fn explained(error: LockError, flag: &str) -> CommandError {
    match error {
        LockError::LeaseCount { stored, .. } => CommandError::usage(error).hint(format!(
            "ask for {stored} with {flag} {stored}; to change the number, delete the znode when it is unused"
        )),
        error => CommandError::failure(error),
    }
}
