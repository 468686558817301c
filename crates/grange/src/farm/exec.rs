//! `grange farm exec`.

mod guardian;
mod look;
mod run;
mod stand;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use grange_client::{ConnectOptions, ZnodePath};
use grange_farm::check::Limit;
use grange_farm::exec::{ExecError, Place, PlaceError};
use grange_farm::{FieldPath, Hours, own_name};
use serde_json::Value;

pub(super) use self::guardian::{GuardArgs, guard};
use self::run::Turn;
use super::harmless;
use crate::command::{Signals, ended, ended_by};
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::hold::seconds;
use crate::output::harmless_line;
use crate::recipe_error::failed;

/// The shortest time from one start of a command that is repeated to the next.
const REPEAT_MIN: Duration = Duration::from_millis(100);

/// Run a command when the farm allows it: within hours, a few at a time, while enough hosts are running
///
/// In this order: the hours are waited for, the lock is taken, the farm must be healthy, fields of this host are set, CMD
/// runs, the fields are put back as they were, and the lock is released. CMD finds GRANGE_FARM and GRANGE_HOST in its
/// environment, and with --lock what `grange lock` gives. If the lock is lost, or the session in which the fields are set,
/// CMD and its process group get SIGTERM, and SIGKILL after --grace.
#[derive(Debug, Args)]
#[command(
    after_help = "The fields are put back however CMD ends, and also if grange is killed or the machine is reset: by a \
                        process that watches over this one, or by the next `grange farm exec` or `grange farm join` of the \
                        host. One that somebody else has changed meanwhile is left alone.\n\n\
                        Exit status: that of CMD, or 128+N if signal N ended it; 1 it may not run (in time), 2 wrong usage \
                        (others use the lock with another N), 3 failure (the lock was lost, there is no session, fields \
                        could not be put back), 126 or 127 if CMD cannot be run."
)]
pub(super) struct ExecArgs {
    /// Run only while holding this lock: one of the farm, or any if it begins with /
    #[arg(short, long, value_name = "LOCK")]
    lock: Option<String>,
    /// How many may hold that lock at a time; all who use it must say the same
    #[arg(short, long, value_name = "N", default_value = "1", requires = "lock")]
    concurrency: NonZeroU32,
    /// Set a field of this host while CMD runs; may be given several times
    #[arg(short, long, value_name = "FIELD=VALUE", value_parser = assignment)]
    set: Vec<(FieldPath, Value)>,
    /// When CMD may be started, by the local clock, such as 22-6,12:30-13:45
    #[arg(short, long, value_name = "RANGES", default_value = "0-24")]
    allowed_hour_ranges: Hours,
    /// Run only while fewer hosts are failing than --max-failed says, by the rule of `grange farm check`
    #[arg(long)]
    healthy: bool,
    /// How many hosts are too many to be failing: a number, or a part of the farm's size
    #[arg(long, value_name = "N|N%", default_value = "10%", requires = "healthy")]
    max_failed: Limit,
    /// Run CMD again and again, with so many seconds at least from one start to the next, until a signal comes
    #[arg(short, long, value_name = "DELAY", value_parser = seconds)]
    repeat: Option<Duration>,
    /// Which host of the farm this is [default: the address from which the default route is taken]
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// How long to wait until CMD may run, in seconds; 0 tries once [default: for ever, but for a host that is not in the
    /// farm not at all]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "repeat")]
    wait: Option<Duration>,
    /// How long CMD may take to end once the lock is lost, in seconds, before it is killed [default: a fifth of the session
    /// timeout]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    grace: Option<Duration>,
    /// Print what there would be to wait for, and run nothing
    #[arg(long, conflicts_with = "repeat")]
    dry_run: bool,
    /// The farm
    znode: ZnodePath,
    /// What to run, with its arguments
    #[arg(last = true, value_name = "CMD", required_unless_present = "dry_run")]
    command: Vec<OsString>,
}

/// What was asked for, checked.
struct Plan<'a> {
    cx: &'a Context,
    args: &'a ExecArgs,
    connection: &'a ConnectionArgs,
    options: ConnectOptions,
    place: Place,
    /// Not known only if nothing is set in it.
    host: Option<String>,
    lock: Option<ZnodePath>,
}

impl<'a> Plan<'a> {
    fn new(cx: &'a Context, connection: &'a ConnectionArgs, args: &'a ExecArgs) -> Result<Plan<'a>, CommandError> {
        let place = Place::of(&args.znode).map_err(misplaced)?;
        let lock = args.lock.as_deref().map(|lock| place.lock(lock)).transpose().map_err(misplaced)?;
        let host = match &args.name {
            Some(name) => Some(name.clone()),
            None if args.set.is_empty() => own_name().ok(),
            None => Some(own_name().context("cannot find this host's address").map_err(unnamed)?),
        };
        host.as_deref().map(|host| place.host(host)).transpose().map_err(misplaced)?;
        let fields = args.set.iter().map(|(field, _)| field);
        for (index, field) in fields.clone().enumerate() {
            if let Some(other) = fields.clone().skip(index + 1).find(|other| other.overlaps(field)) {
                let cause = anyhow!("--set {field} and --set {other} are the same field, or one is inside the other");
                return Err(CommandError::usage(cause));
            }
        }
        Ok(Plan { cx, args, connection, options: connection.options()?, place, host, lock })
    }

    /// Returns the host in which fields are set.
    fn host(&self) -> &str {
        self.host.as_deref().expect("it is known if fields are set")
    }

    /// Tells a person what happens.
    fn say(&self, text: &str) {
        eprintln!("{}: {}", harmless_line(self.args.znode.as_str()), harmless_line(text));
    }

    /// Runs the command again and again, until a signal ends that.
    async fn repeat(&self, delay: Duration, signals: &mut Signals) -> Result<(), CommandError> {
        loop {
            match self.turn(signals).await? {
                Turn::Ended { status, .. } if signals.asked_by_other_than_hangup().is_some() => return ended(status),
                Turn::Failed { error, .. } if signals.asked_by_other_than_hangup().is_some() => return Err(error),
                Turn::Ended { status, began } => {
                    self.say(&format!("CMD ended with {status}"));
                    self.pause(began + delay.max(REPEAT_MIN), signals).await?;
                }
                Turn::Failed { error, began } => {
                    eprint!("{error}");
                    self.pause(began + delay.max(REPEAT_MIN), signals).await?;
                }
            }
        }
    }

    async fn pause(&self, until: tokio::time::Instant, signals: &mut Signals) -> Result<(), CommandError> {
        tokio::select! {
            () = tokio::time::sleep_until(until) => Ok(()),
            signal = signals.end() => Err(ended_by(signal)),
        }
    }
}

pub(super) async fn run(cx: &Context, connection: &ConnectionArgs, args: &ExecArgs) -> Result<(), CommandError> {
    let plan = Plan::new(cx, connection, args)?;
    if args.dry_run {
        return look::look(&plan).await;
    }
    let mut signals = Signals::catch().map_err(CommandError::failure)?;
    if let Some(delay) = args.repeat {
        return plan.repeat(delay, &mut signals).await;
    }
    match plan.turn(&mut signals).await? {
        Turn::Ended { status, .. } => ended(status),
        Turn::Failed { error, .. } => Err(error),
    }
}

fn assignment(text: &str) -> Result<(FieldPath, Value), String> {
    let (field, value) = text.split_once('=').ok_or("write FIELD=VALUE, such as maintenance=1")?;
    let field = field.parse().map_err(|error: grange_farm::FieldPathError| error.to_string())?;
    Ok((field, Value::String(value.to_owned())))
}

fn misplaced(error: PlaceError) -> CommandError {
    CommandError::usage(error)
}

fn unnamed(error: anyhow::Error) -> CommandError {
    CommandError::failure(error).hint("say which host of the farm this is with --name HOST")
}

/// Turns the failure of setting fields into the end of the command.
fn exec_failed(error: ExecError) -> CommandError {
    match error {
        ExecError::Recipe(error) => failed(error),
        ExecError::InTheWay { .. } => CommandError::usage(harmless(error))
            .hint("choose a field that is not inside a value, such as maintenance=1"),
        ExecError::Properties { .. } => CommandError::failure(harmless(error))
            .hint("a host's znode must hold one JSON object; see `grange farm join`"),
        ExecError::TooLarge { .. } | ExecError::Contended { .. } => CommandError::failure(harmless(error)),
    }
}
