//! `grange farm export`: a file follows a farm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use grange_client::{Client, ConnectOptions, ZnodePath, close};
use grange_farm::conf::{ConfError, Format, Target, Template};
use grange_farm::export::{Decision, ExportError, Exporter, Exporting, Form, Limits, Prepared, Settle};
use grange_farm::{Filter, connect_at_last, with_causes};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::filters::FilterArgs;
use super::hook::{self, Hook};
use super::lines::LineArgs;
use super::report::{Report, State, feed_watchdog};
use crate::command::{Request, Signals};
use crate::connection::{self, ConnectionArgs};
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

/// What stands for standard output in place of a file.
const STANDARD_OUTPUT: &str = "-";

/// How long a check may take; after that it has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait after a failure that no change of the farm may mend.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// How long to wait before a file that could not be put in place, or did not pass, is tried again without a change.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// The longest time that can be asked for, in milliseconds and in seconds: a day, and a year.
const DELAY_MAX_MS: u64 = 86_400_000;
const WINDOW_MAX_S: u64 = 31_536_000;

/// The longest delay by default, in milliseconds, and how many quiet times if that is longer.
const WAIT_MAX_DEFAULT_MS: u64 = 1000;
const WAIT_MAX_DEFAULT_QUIETS: u64 = 10;

/// Keep a file equal to a farm
///
/// Runs until SIGTERM or SIGINT. SIGHUP has it look again, with the template as it is now; SIGUSR1 has it take the farm as
/// it is, however few hosts are left.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// Install a file only if CMD, run in the shell, says that it is right: {file} stands for its path
    #[arg(long, value_name = "CMD")]
    check_cmd: Option<String>,
    /// Run CMD in the shell after the file has changed, one run at a time
    #[arg(short = 'c', long, value_name = "CMD")]
    changed_cmd: Option<String>,
    /// Write the file once and end
    #[arg(long)]
    once: bool,
    /// Take the farm as it is at the start, however few hosts are left
    #[arg(long)]
    force: bool,
    /// Write where this is to FILE, as one JSON object, whenever that changes
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
}

impl ExportArgs {
    /// Tells whether it runs until somebody ends it.
    pub(super) fn serves(&self) -> bool {
        !self.once
    }
}

/// What is exported, and when.
#[derive(Debug, Args)]
pub(crate) struct WhatArgs {
    /// The format of CONF [default: by its extension; a directory is 'dir']
    #[arg(short = 'f', long, value_name = "FORMAT", value_parser = Target::NAMES.to_vec(), conflicts_with = "template")]
    format: Option<String>,
    /// Write what this template makes of the farm
    #[arg(short = 't', long, value_name = "FILE")]
    template: Option<PathBuf>,
    #[command(flatten)]
    lines: LineArgs,
    #[command(flatten)]
    meant: FilterArgs,
    /// Write when nothing has changed for so long, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(..=DELAY_MAX_MS))]
    settle: u64,
    /// But so long after the first change at the latest [default: 10 times --settle, at least 1000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=DELAY_MAX_MS))]
    max_wait: Option<u64>,
    /// Keep the file as it is if fewer hosts are left
    #[arg(long, value_name = "COUNT", default_value_t = 0, help_heading = "Limits")]
    min_hosts: usize,
    /// Keep the file as it is if more of its hosts are gone at once, in percent; 100 is no limit
    #[arg(long, value_name = "PERCENT", default_value = "50", value_parser = percent, help_heading = "Limits")]
    max_drop: f64,
    /// What --max-drop calls at once, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, help_heading = "Limits",
          value_parser = clap::value_parser!(u64).range(..=WINDOW_MAX_S))]
    drop_window: u64,
    /// The farm; it may come later
    farm: ZnodePath,
    /// The file, or the directory; with --once, - is standard output
    conf: PathBuf,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err("must be a number from 0 to 100".to_owned()),
    }
}

impl WhatArgs {
    /// What ZkFarmer can be told. It writes each change at once, and whatever happens.
    pub(super) fn zkfarmer(farm: ZnodePath, conf: PathBuf, format: Option<String>, filters: Filter) -> WhatArgs {
        WhatArgs {
            format,
            template: None,
            lines: LineArgs::default(),
            meant: FilterArgs { filters },
            settle: 0,
            max_wait: None,
            min_hosts: 0,
            max_drop: 100.0,
            drop_window: 0,
            farm,
            conf,
        }
    }

    fn form(&self) -> Result<Form, CommandError> {
        if let Some(template) = &self.template {
            let template = Template::read(template, &self.conf).map_err(CommandError::usage)?;
            return Ok(Form::Template(template));
        }
        let target = Target::detect(self.format.as_deref(), &self.conf).map_err(CommandError::usage)?;
        let options = self.lines.options(&self.farm)?;
        Ok(Form::Target(target, options))
    }

    fn exporting(&self) -> Result<Exporting, CommandError> {
        let wait_max = self.max_wait.unwrap_or((self.settle * WAIT_MAX_DEFAULT_QUIETS).max(WAIT_MAX_DEFAULT_MS));
        Ok(Exporting {
            farm: self.farm.clone(),
            path: self.conf.clone(),
            form: self.form()?,
            filter: self.meant.filters.clone(),
            limits: Limits {
                hosts_min: self.min_hosts,
                drop_percent_max: self.max_drop,
                window: Duration::from_secs(self.drop_window),
            },
            settle: Settle::new(Duration::from_millis(self.settle), Duration::from_millis(wait_max)),
        })
    }
}

pub(crate) async fn run(cx: &Context, connection: &ConnectionArgs, args: ExportArgs) -> Result<(), CommandError> {
    let options = connection.options()?;
    match args.once && args.what.conf == Path::new(STANDARD_OUTPUT) {
        true => print(cx, &options, &args.what).await,
        false => export(options, args).await,
    }
}

/// Prints what a file would be.
async fn print(cx: &Context, options: &ConnectOptions, what: &WhatArgs) -> Result<(), CommandError> {
    let exporting = what.exporting()?;
    let client = connection::connect(options).await?;
    let previewed = async {
        let mut exporter = Exporter::open(client.clone(), exporting).await?;
        exporter.preview().await
    };
    let bytes = previewed.await;
    close(client).await;
    let mut out = Output::new(cx);
    out.data(&bytes.map_err(failed)?)?;
    out.finish()
}

/// What `zkfarmer export` does.
pub(super) async fn run_zkfarmer(
    options: ConnectOptions,
    what: WhatArgs,
    changed_cmd: Option<String>,
) -> Result<(), CommandError> {
    export(options, ExportArgs { what, check_cmd: None, changed_cmd, once: false, force: false, status_file: None })
        .await
}

async fn export(options: ConnectOptions, args: ExportArgs) -> Result<(), CommandError> {
    if args.what.conf == Path::new(STANDARD_OUTPUT) {
        return Err(CommandError::usage(anyhow!("only grange farm export --once can write to standard output"))
            .hint("grange farm watch prints what changes"));
    }
    let exporting = args.what.exporting()?;
    if let (Form::Target(Target::Conf(Format::Dir), _), Some(_)) = (&exporting.form, &args.check_cmd) {
        return Err(CommandError::usage(anyhow!(
            "a directory is written file by file, so --check-cmd cannot check it"
        )));
    }
    let mut signals = Signals::catch().map_err(CommandError::failure)?;
    let environment =
        vec![("GRANGE_FARM", args.what.farm.to_string()), ("GRANGE_CONF", args.what.conf.display().to_string())];
    let mut service = Service {
        hook: &Hook::new(args.changed_cmd.clone(), &args.what.conf, environment.clone()),
        report: Report::new(args.status_file.clone()),
        environment,
        args: &args,
        options: &options,
        session: None,
    };
    let (ask, requests) = Requests::new();
    let mut is_interrupted = false;
    let result = match args.once {
        true => tokio::select! {
            result = service.once(exporting) => result,
            request = signals.request() => {
                is_interrupted = true;
                Err(CommandError::interrupted(anyhow!("stopped ({request:?})")))
            }
        },
        false => {
            let hook = service.hook;
            tokio::select! {
                result = service.follow(exporting, requests) => result,
                () = hook.run(&mut signals, ask) => Ok(()),
                never = feed_watchdog() => match never {},
            }
        }
    };
    if let Some(client) = service.session.take() {
        close(client).await;
    }
    // Whatever has become of the file: there may be a run that was due before.
    if args.once && !is_interrupted {
        service.hook.run_now(&mut signals).await;
    }
    result
}

/// What signals have asked for. Of each kind one is enough, and none takes the place of another kind.
struct Requests {
    accepts: mpsc::Receiver<()>,
    reloads: mpsc::Receiver<()>,
}

impl Requests {
    /// Returns what takes a request, and what gives it.
    fn new() -> (impl FnMut(Request), Requests) {
        let ((accept, accepts), (reload, reloads)) = (mpsc::channel(1), mpsc::channel(1));
        let ask = move |request| {
            // Full: one that is not done yet does for both.
            let _ = match request {
                Request::Accept => accept.try_send(()),
                Request::Reload => reload.try_send(()),
                Request::End => Ok(()),
            };
        };
        (ask, Requests { accepts, reloads })
    }

    /// Returns the next one. Dropping the future loses nothing.
    async fn next(&mut self) -> Request {
        tokio::select! {
            Some(()) = self.accepts.recv() => Request::Accept,
            Some(()) = self.reloads.recv() => Request::Reload,
            else => std::future::pending().await,
        }
    }
}

/// An export that runs.
struct Service<'a> {
    hook: &'a Hook,
    report: Report,
    environment: Vec<(&'static str, String)>,
    args: &'a ExportArgs,
    options: &'a ConnectOptions,
    session: Option<Client>,
}

/// How an attempt ended.
enum Attempt {
    /// The file is right.
    Right,
    /// The file was kept, and why.
    Kept(State, String),
}

impl Service<'_> {
    /// Writes the file once.
    async fn once(&mut self, exporting: Exporting) -> Result<(), CommandError> {
        let client = self.session.insert(connection::connect(self.options).await?).clone();
        let mut exporter = Exporter::open(client, exporting).await.map_err(CommandError::failure)?;
        if self.args.force {
            exporter.accept();
        }
        match exporter.next().await {
            Ok(decision) => match self.act(&mut exporter, decision).await {
                Attempt::Right => Ok(()),
                Attempt::Kept(State::Held, why) => {
                    let hint = "if that is right: --force; if not, look at the farm with grange farm ls";
                    Err(CommandError::negative(anyhow!("{why}")).hint(hint))
                }
                Attempt::Kept(_, why) => Err(CommandError::failure(anyhow!("{why}"))),
            },
            Err(error) => Err(failed(error)),
        }
    }

    /// Follows the farm for ever.
    async fn follow(&mut self, exporting: Exporting, mut requests: Requests) -> Result<(), CommandError> {
        let client = connect_at_last(self.options).await.map_err(connection::no_session)?;
        self.session = Some(client.clone());
        let mut exporter = Exporter::open(client, exporting).await.map_err(CommandError::failure)?;
        if self.args.force {
            exporter.accept();
        }
        let mut retry_at = None;
        loop {
            let decided = tokio::select! {
                decided = exporter.next() => decided,
                request = requests.next() => {
                    self.comply(&mut exporter, request);
                    continue;
                }
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    retry_at = None;
                    exporter.again();
                    continue;
                }
            };
            retry_at = None;
            match decided {
                Ok(decision) => {
                    if let Attempt::Kept(state, why) = self.act(&mut exporter, decision).await {
                        retry_at = (state == State::Failed).then(|| Instant::now() + RETRY_PAUSE);
                        self.kept(state, why);
                    }
                }
                Err(error) if error.is_session_end() => self.reconnect(&mut exporter, &mut requests).await?,
                Err(error) => {
                    self.kept(State::Failed, with_causes(&error));
                    if let ExportError::Farm(_) | ExportError::Install(_) | ExportError::Conf(_) = error {
                        tokio::time::sleep(FAILURE_PAUSE).await;
                        exporter.again();
                    }
                }
            }
        }
    }

    /// Says why the file is kept, once.
    fn kept(&mut self, state: State, why: String) {
        if self.report.is_new(state, &why) {
            warn!("{} is kept as it is: {why}", self.args.what.conf.display());
        }
        self.report.say(state, why);
    }

    async fn reconnect(&mut self, exporter: &mut Exporter, requests: &mut Requests) -> Result<(), CommandError> {
        warn!("the session has ended; {} is kept as it is", self.args.what.conf.display());
        self.report.say(State::Disconnected, "no session; the file is kept as it is");
        loop {
            self.session = None;
            let client = connect_at_last(self.options).await.map_err(connection::no_session)?;
            self.session = Some(client.clone());
            match exporter.with_client(client).await {
                Ok(()) => {
                    // Whoever asked for that has not seen what the farm is now.
                    if requests.accepts.try_recv().is_ok() {
                        warn!("SIGUSR1 came while there was no session; it does not count");
                    }
                    exporter.again();
                    return Ok(());
                }
                Err(error) => {
                    warn!(error = %with_causes(&error), "trying again");
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }

    fn comply(&mut self, exporter: &mut Exporter, request: Request) {
        match request {
            Request::Accept => {
                info!("taking the farm as it is, as was asked");
                exporter.accept();
            }
            Request::Reload | Request::End => match self.args.what.form() {
                Ok(form) => exporter.set_form(form),
                Err(error) => warn!("going on as before: {}", error.to_string().trim_end()),
            },
        }
    }

    /// Checks and installs what is to be installed.
    async fn act(&mut self, exporter: &mut Exporter, decision: Decision) -> Attempt {
        let path = self.args.what.conf.display().to_string();
        let prepared = match decision {
            Decision::Unchanged { hosts } => {
                self.report.say(State::Ok, format!("{path} has {hosts} hosts"));
                return Attempt::Right;
            }
            Decision::Held(held) => return Attempt::Kept(State::Held, held.to_string()),
            Decision::Install(prepared) => prepared,
        };
        if let Err(why) = self.check(&prepared).await {
            return Attempt::Kept(State::Failed, why);
        }
        let hosts = prepared.hosts;
        let install = || exporter.install(prepared);
        let installed = match self.hook.due() {
            Some(due) => due.around(install, has_changed),
            None => install(),
        };
        if has_changed(&installed) {
            self.hook.changed();
        }
        if let Err(error) = installed {
            let advice = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            return Attempt::Kept(State::Failed, with_causes(&error) + &advice);
        }
        info!("{path} written, with {hosts} hosts");
        self.report.say(State::Ok, format!("{path} has {hosts} hosts"));
        Attempt::Right
    }

    /// Asks whether a file is right.
    async fn check(&self, prepared: &Prepared) -> Result<(), String> {
        let (Some(command), Some(file)) = (&self.args.check_cmd, prepared.path()) else { return Ok(()) };
        let command = with_file(command, file)?;
        let mut environment = self.environment.clone();
        environment.push(("GRANGE_FILE", file.display().to_string()));
        match hook::run_within(&command, &environment, CHECK_TIMEOUT).await {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("the check ended with {status}")),
            Err(error) => Err(format!("cannot run the check: {error}")),
        }
    }
}

/// Tells whether something was put in place, if not everything.
fn has_changed(installed: &Result<(), ExportError>) -> bool {
    match installed {
        Ok(()) => true,
        Err(error) => error.is_partial(),
    }
}

/// Puts a path into a command for the shell.
fn with_file(command: &str, file: &Path) -> Result<String, String> {
    let file = file.to_str().ok_or("the path of the file is not UTF-8")?;
    let quoted = shlex::try_quote(file).map_err(|error| error.to_string())?;
    Ok(command.replace("{file}", &quoted))
}

fn failed(error: ExportError) -> CommandError {
    match error {
        ExportError::NoFarm(_) => CommandError::negative(error).hint("look for it with grange shell ls"),
        ExportError::Conf(error @ ConfError::FileType { .. }) => super::join::unusable(error),
        error => {
            let hint = error.hint();
            let error = CommandError::failure(error);
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_the_shell() {
        let put = |file: &str| with_file("nginx -t -c {file}", Path::new(file)).unwrap();
        assert_eq!(put("/etc/nginx.conf"), "nginx -t -c /etc/nginx.conf");
        assert_eq!(put("/tmp/a b; rm x"), "nginx -t -c '/tmp/a b; rm x'");
    }

    #[test]
    fn percentages_have_bounds() {
        assert_eq!(percent("50"), Ok(50.0));
        assert_eq!(percent("12.5%"), Ok(12.5));
        for text in ["", "-1", "101", "x", "nan"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
