//! `grange sync`: one directory tree is made equal to another by many workers.

mod progress;

use std::io::Write as _;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use grange_client::{ConnectOptions, Servers};
use grange_server::{Config, Server};
use grange_transfer::filter::Filter;
use grange_transfer::mover::{MoveError, RsyncMover};
use grange_transfer::path::RelPath;
use grange_transfer::sync::{
    Change, Observer, Options, Problem, Progress, Reporting, Request, Severity, Summary, SyncError, ZnodeQueue,
};
use serde_json::json;
use tokio::runtime::Handle;

use crate::context::Context;
use crate::error::CommandError;
use crate::sync::progress::{Display, Style, bytes, figures_json};

/// Workers by default: more than this only helps where the file system answers slowly.
const JOBS_DEFAULT_MAX: usize = 8;

/// The most workers; each has up to two rsync processes.
const JOBS_MAX: usize = 256;

/// The session of the workers with the server in this process: long, because nobody else would take over.
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

/// The job's znode in that server.
const JOB: &str = "/grange/sync/local";

/// Make one directory tree equal to another, with many workers
#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    #[command(subcommand)]
    command: SyncCommand,
}

#[derive(Debug, Subcommand)]
enum SyncCommand {
    Local(LocalArgs),
}

/// Make the directory DST equal to the directory SRC, both on this machine
///
/// Like `rsync -aHAX --numeric-ids SRC/ DST/`, with or without --delete: the contents of SRC, not SRC itself, appear
/// in DST, with owners, modes, times, ACLs, extended attributes, hard links and special files. DST is made if it is
/// missing. Exit status: 0 everything arrived, 1 some files kept changing while they were copied, 2 wrong usage,
/// 3 something failed (listed at the end).
#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// The directory to copy from
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The directory to make equal to it
    #[arg(value_name = "DST")]
    destination: PathBuf,
    /// Workers [default: one per processor, at most 8]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Delete what SRC does not have; never because of something that could not be read
    #[arg(long)]
    delete: bool,
    /// Change nothing; print what would be changed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Leave out what matches, on both sides: a pattern as of `rsync --exclude`; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<std::ffi::OsString>,
    /// Allow / as DST
    #[arg(long)]
    force: bool,
    /// Print JSON lines: progress, changes of a dry run, problems, summary
    #[arg(long)]
    json: bool,
    /// The rsync program, 3.2 or newer
    #[arg(long, value_name = "PROGRAM", default_value = "rsync")]
    rsync: PathBuf,
}

pub(crate) async fn run(cx: &Context, args: SyncArgs) -> Result<(), CommandError> {
    match args.command {
        SyncCommand::Local(args) => local(cx, args).await,
    }
}

async fn local(cx: &Context, args: LocalArgs) -> Result<(), CommandError> {
    let options = args.options()?;
    let worker_count = args.worker_count()?;
    let mover = RsyncMover::new(&args.rsync).map_err(|error| mover_error(error.into()))?;
    let server = Server::start(Config::embedded()).map_err(CommandError::failure)?;
    let queue = open_queue(&server).await?;
    let progress = Arc::new(Progress::default());
    let printer = Arc::new(Printer { json: args.json, dry_run: args.dry_run });
    let reporting = Reporting { progress: Arc::clone(&progress), observer: printer };
    let style = if args.json { Style::Json } else { Style::of(cx) };
    let display = Display::start(style, progress);
    let started = Instant::now();
    let (json, dry_run) = (args.json, args.dry_run);
    let work = tokio::task::spawn_blocking(move || {
        let request = Request { source: &args.source, destination: &args.destination, options, worker_count };
        grange_transfer::sync::run(request, Arc::new(mover), &queue, &Handle::current(), reporting)
    });
    let done = work.await;
    display.finish();
    // The server's data is in memory and a temporary directory; nobody is connected any more.
    drop(server);
    let summary = match done {
        Ok(done) => done.map_err(mover_error)?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    print_summary(&summary, started.elapsed(), json, dry_run)?;
    verdict(&summary)
}

impl LocalArgs {
    fn options(&self) -> Result<Options, CommandError> {
        let mut filter = Filter::default();
        for pattern in &self.exclude {
            filter.push_exclude(pattern.as_bytes()).map_err(|error| CommandError::usage(error).context("--exclude"))?;
        }
        Ok(Options { delete: self.delete, dry_run: self.dry_run, filter, force: self.force })
    }

    fn worker_count(&self) -> Result<NonZero<usize>, CommandError> {
        match self.jobs {
            Some(jobs) if jobs.get() > JOBS_MAX => {
                Err(CommandError::usage(anyhow!("--jobs is {jobs}; it must not exceed {JOBS_MAX}")))
            }
            Some(jobs) => Ok(jobs),
            None => {
                let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
                Ok(NonZero::new(processors.min(JOBS_DEFAULT_MAX)).unwrap_or(NonZero::<usize>::MIN))
            }
        }
    }
}

async fn open_queue(server: &Server) -> Result<ZnodeQueue, CommandError> {
    let servers = Servers::parse(&server.local_addr().to_string()).map_err(CommandError::failure)?;
    let mut options = ConnectOptions::new(servers);
    options.session_timeout = SESSION_TIMEOUT;
    let client = grange_client::connect(&options).await.map_err(CommandError::failure)?;
    ZnodeQueue::open(client, JOB, b"").await.map_err(CommandError::failure)
}

fn mover_error(error: SyncError) -> CommandError {
    match error {
        error if error.is_usage() => CommandError::usage(error),
        SyncError::Mover(MoveError::Start(_) | MoveError::TooOld { .. }) => {
            CommandError::failure(error).hint("install rsync, or name one: --rsync PROGRAM")
        }
        SyncError::Source { .. } => CommandError::failure(error).hint("nothing was changed"),
        error => CommandError::failure(error),
    }
}

/// Prints what happens while it happens.
struct Printer {
    json: bool,
    dry_run: bool,
}

impl Observer for Printer {
    fn change(&self, change: Change, path: &RelPath) {
        if !self.dry_run {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        // A reader that has gone away misses nothing else.
        let _ = if self.json {
            let line = json!({"event": "change", "change": change.to_string(), "path": path.to_string()});
            writeln!(stdout, "{line}")
        } else {
            writeln!(stdout, "{change:<10} {path}")
        };
    }

    fn problem(&self, problem: &Problem) {
        if self.json {
            let Problem { path, severity, message } = problem;
            let kind = severity.to_string();
            let line = json!({"event": "problem", "kind": kind, "path": path.to_string(), "message": message});
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}

fn print_summary(summary: &Summary, took: Duration, json: bool, dry_run: bool) -> Result<(), CommandError> {
    let mut stdout = std::io::stdout().lock();
    if json {
        let complete = summary.is_complete();
        let mut line = json!({"event": "summary", "complete": complete, "seconds": took.as_secs_f64()});
        line["figures"] = figures_json(&summary.figures);
        return writeln!(stdout, "{line}").map_err(CommandError::output);
    }
    for problem in &summary.problems {
        writeln!(stdout, "{:<8} {}: {}", problem.severity.to_string(), problem.path, problem.message)
            .map_err(CommandError::output)?;
    }
    write!(stdout, "{}", summary_text(summary, took, dry_run)).map_err(CommandError::output)
}

fn summary_text(summary: &Summary, took: Duration, dry_run: bool) -> String {
    let f = &summary.figures;
    let seconds = took.as_secs_f64();
    let would = if dry_run { "would be " } else { "" };
    let mut text = format!(
        "compared  {} entries: {} files of {}, {} directories\n",
        f.compared,
        f.files,
        bytes(f.bytes_total),
        f.directories
    );
    text += &format!("equal     {}\n", f.matched);
    text += &format!("{would}copied    {} files, {}\n", f.transferred, bytes(f.bytes_to_move));
    text += &format!(
        "{would}changed   {} made, {} linked, {} attributes, {} deleted\n",
        f.created, f.linked, f.attributes, f.deleted
    );
    if f.excluded > 0 {
        text += &format!("excluded  {}\n", f.excluded);
    }
    if f.failed + f.changed + f.vanished > 0 {
        text += &format!("problems  {} failed, {} kept changing, {} vanished\n", f.failed, f.changed, f.vanished);
    }
    let rate = |count: u64| progress::per_second(count, seconds);
    text += &format!(
        "took      {seconds:.2} s, {:.0} entries/s, {}/s\n",
        rate(f.compared),
        bytes_rate(rate(f.bytes_moved))
    );
    text
}

fn bytes_rate(rate: f64) -> String {
    progress::bytes_f64(rate)
}

/// The exit status: 0 only if everything arrived.
fn verdict(summary: &Summary) -> Result<(), CommandError> {
    let f = &summary.figures;
    if f.failed > 0 {
        let shown = summary.problems.iter().filter(|problem| problem.severity == Severity::Failed).count();
        return Err(CommandError::failure(anyhow!("{} entries did not arrive ({shown} are listed)", f.failed)));
    }
    if f.changed > 0 {
        let error = anyhow!("{} files changed while they were copied", f.changed);
        return Err(CommandError::negative(error).hint("run the same command again"));
    }
    Ok(())
}
