//! `grange farm join` and `grange farm import`: a host registers itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use grange_client::{ConnectOptions, ZnodePath};
use grange_farm::conf::{ConfError, Format};
use grange_farm::join::{self, Direction, Health, JoinError, JoinEvent, Joining};
use grange_farm::{COMMON, FieldPath, own_name};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::hook::{self, Hook};
use super::report::{Report, State, feed_watchdog};
use crate::command::{Request, Signals};
use crate::connection::{self, ConnectionArgs, seconds};
use crate::error::CommandError;

/// How many events wait to be acted on; whoever tells more waits.
const EVENTS_MAX: usize = 16;

/// How long leaving the farm may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Keep this host in a farm, and its configuration equal to its znode, both ways
///
/// Runs until SIGTERM or SIGINT; the host then leaves the farm at once.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    host: HostArgs,
    /// Run CMD in the shell after the configuration was changed by the farm, one run at a time
    #[arg(long, value_name = "CMD")]
    changed_cmd: Option<String>,
}

/// Keep this host in a farm, and tell the farm what changes in its configuration, never the other way
///
/// Runs until SIGTERM or SIGINT; the host then leaves the farm at once.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    host: HostArgs,
}

/// What both have in common.
#[derive(Debug, Args)]
pub(crate) struct HostArgs {
    /// The format of CONF [default: by its extension; a directory is 'dir']
    #[arg(short = 'f', long, value_name = "FORMAT", value_parser = Format::NAMES.to_vec())]
    format: Option<String>,
    /// Use the znode 'common', which all hosts share and which stays, instead of one of this host
    #[arg(short = 'c', long, conflicts_with_all = ["name", "health_cmd"])]
    common: bool,
    /// The host's name in the farm [default: the address from which it reaches others]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Ask CMD, run in the shell, whether this host is well: exit status 0 says so. While it is not, it leaves the farm
    #[arg(long, value_name = "CMD", help_heading = "Health")]
    health_cmd: Option<String>,
    /// Stay in the farm while unwell, with this field of the znode 0 instead of 1
    #[arg(long, value_name = "FIELD", requires = "health_cmd", help_heading = "Health")]
    health_field: Option<FieldPath>,
    /// How often CMD is asked, in seconds; it may take as long
    #[arg(long, visible_alias = "interval", value_name = "SECONDS", default_value = "10", value_parser = seconds,
          requires = "health_cmd", help_heading = "Health")]
    health_interval: Duration,
    /// After how many good answers in a row it is well again; the first time one is enough
    #[arg(long, value_name = "COUNT", default_value_t = 2, requires = "health_cmd", help_heading = "Health")]
    rise: u32,
    /// After how many bad answers in a row it is unwell
    #[arg(long, value_name = "COUNT", default_value_t = 3, requires = "health_cmd", help_heading = "Health")]
    fall: u32,
    /// Write where this is to FILE, as one JSON object, whenever that changes
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// The farm
    farm: ZnodePath,
    /// The file or directory with the host's configuration
    conf: PathBuf,
}

pub(crate) async fn run(connection: &ConnectionArgs, args: JoinArgs) -> Result<(), CommandError> {
    let options = connection.options()?;
    keep(options, args.host, Direction::Both, args.changed_cmd).await
}

pub(crate) async fn run_import(connection: &ConnectionArgs, args: ImportArgs) -> Result<(), CommandError> {
    let options = connection.options()?;
    keep(options, args.host, Direction::ToFarm, None).await
}

impl HostArgs {
    /// What ZkFarmer can be told.
    pub(super) fn zkfarmer(farm: ZnodePath, conf: PathBuf, format: Option<String>, common: bool) -> HostArgs {
        HostArgs {
            format,
            common,
            name: None,
            health_cmd: None,
            health_field: None,
            health_interval: Duration::from_secs(1),
            rise: 1,
            fall: 1,
            status_file: None,
            farm,
            conf,
        }
    }

    fn joining(&self, direction: Direction) -> Result<Joining, CommandError> {
        let format = Format::detect(self.format.as_deref(), &self.conf).map_err(CommandError::usage)?;
        let name = match (&self.name, self.common) {
            (_, true) => None,
            (Some(name), false) => Some(checked_name(name)?),
            (None, false) => Some(own_name().map_err(|error| {
                CommandError::failure(error)
                    .context("cannot find out by which address this host reaches others")
                    .hint("name the host with --name NAME")
            })?),
        };
        let hostname = (name.is_some() && direction == Direction::Both)
            .then(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        Ok(Joining {
            farm: self.farm.clone(),
            name,
            path: self.conf.clone(),
            format,
            direction,
            due: None,
            hostname,
            health_field: self.health_field.clone(),
        })
    }
}

fn checked_name(name: &str) -> Result<String, CommandError> {
    let is_one = !name.is_empty() && !name.contains('/') && format!("/{name}").parse::<ZnodePath>().is_ok();
    match name {
        COMMON => {
            Err(CommandError::usage(anyhow!("'{COMMON}' is the znode that all hosts share")).hint("use --common"))
        }
        _ if is_one => Ok(name.to_owned()),
        _ => Err(CommandError::usage(anyhow!("'{name}' cannot be the name of a znode"))),
    }
}

/// Keeps a host in a farm until we are asked to end.
pub(super) async fn keep(
    options: ConnectOptions,
    args: HostArgs,
    direction: Direction,
    changed_cmd: Option<String>,
) -> Result<(), CommandError> {
    let mut joining = args.joining(direction)?;
    let mut signals = Signals::catch().map_err(CommandError::failure)?;
    let mut report = Report::new(args.status_file.clone());
    let environment = vec![
        ("GRANGE_FARM", joining.farm.to_string()),
        ("GRANGE_HOST", joining.name.clone().unwrap_or_else(|| COMMON.to_owned())),
        ("GRANGE_CONF", joining.path.display().to_string()),
    ];
    let hook = Hook::new(changed_cmd, &joining.path, environment.clone());
    joining.due = hook.due().cloned();
    let first = if args.health_cmd.is_some() { Health::Unknown } else { Health::Well };
    let (tell_health, health) = watch::channel(first);
    let (tell_event, mut events) = mpsc::channel(EVENTS_MAX);
    let (stop, stopped) = watch::channel(false);
    let mut joining = tokio::spawn(join::join(joining, options, health, tell_event, stopped));
    let leave = |request| {
        // At once: the command for changes may take longer. The receiver is in the task.
        if request == Request::End {
            stop.send_replace(true);
        }
    };
    let result = tokio::select! {
        joined = unasked(&mut joining, stop.subscribe()) => return finished(joined),
        () = hook.run(&mut signals, leave) => Ok(()),
        never = follow(&mut events, &hook, &mut report) => match never {},
        never = look_after(&args, &environment, &tell_health) => match never {},
        never = feed_watchdog() => match never {},
    };
    drop(events);
    if tokio::time::timeout(LEAVE_TIMEOUT, joining).await.is_err() {
        warn!("leaving took too long; the host is in the farm until its session expires");
    }
    result
}

/// Waits for the end of a task that nobody has asked to end.
async fn unasked<T>(task: &mut JoinHandle<T>, mut asked: watch::Receiver<bool>) -> Result<T, tokio::task::JoinError> {
    tokio::select! {
        biased;
        _ = asked.wait_for(|is_asked| *is_asked) => std::future::pending().await,
        ended = task => ended,
    }
}

fn finished(joined: Result<Result<(), JoinError>, tokio::task::JoinError>) -> Result<(), CommandError> {
    match joined {
        Ok(Ok(())) => Ok(()),
        Ok(Err(JoinError::Connect(error))) => Err(connection::no_session(error)),
        Ok(Err(JoinError::Conf(error))) => Err(unusable(error)),
        Ok(Err(error)) => Err(CommandError::failure(error).hint("look at the ACLs: grange shell getAcl PATH")),
        Err(error) => Err(CommandError::failure(error)),
    }
}

pub(super) fn unusable(error: ConfError) -> CommandError {
    let hint = error.hint();
    let error = CommandError::usage(error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Acts on what happens to the host.
async fn follow(events: &mut mpsc::Receiver<JoinEvent>, hook: &Hook, report: &mut Report) -> std::convert::Infallible {
    while let Some(event) = events.recv().await {
        match event {
            JoinEvent::LocalChanged => hook.changed(),
            JoinEvent::Registered(path) => report.say(State::Ok, format!("registered as {path}")),
            JoinEvent::Withdrawn => report.say(State::Unwell, "unwell; not in the farm"),
            JoinEvent::Displaced => report.say(State::Displaced, "another process has registered with this name"),
            JoinEvent::Failed(why) => report.say(State::Failed, why),
            JoinEvent::Disconnected => report.say(State::Disconnected, "no session; registering again"),
        }
    }
    // It has ended, which somebody else is waiting for.
    std::future::pending().await
}

/// Asks again and again whether the host is well.
async fn look_after(
    args: &HostArgs,
    environment: &[(&'static str, String)],
    health: &watch::Sender<Health>,
) -> std::convert::Infallible {
    let Some(command) = &args.health_cmd else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(args.health_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut good, mut bad) = (0, 0);
    loop {
        ticks.tick().await;
        let answer = match hook::run_within(command, environment, args.health_interval).await {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("ended with {status}")),
            Err(error) => Err(format!("cannot run the shell: {error}")),
        };
        (good, bad) = if answer.is_ok() { (good + 1, 0) } else { (0, bad + 1) };
        let before = *health.borrow();
        let now = match before {
            Health::Unknown if answer.is_ok() => Health::Well,
            Health::Unknown => Health::Unwell,
            Health::Unwell if good >= args.rise.max(1) => Health::Well,
            Health::Well if bad >= args.fall.max(1) => Health::Unwell,
            before => before,
        };
        if now != before {
            match &answer {
                Ok(()) => info!("the host is well"),
                Err(why) => warn!("the host is unwell: the health command {why}"),
            }
            health.send_replace(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_a_znode() {
        assert_eq!(checked_name("db-01.example.com").unwrap(), "db-01.example.com");
        for name in ["", "a/b", ".", "..", "common", "a\u{0}b"] {
            assert!(checked_name(name).is_err(), "{name:?}");
        }
    }
}
