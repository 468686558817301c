//! The program `grange`: a coordination service and the tools that need one.
//!
//! Each subcommand is one file: its arguments (whose doc comments are the help text) and its `run`, which parses, calls
//! a library and prints. What they share is here: the settings for logging ([`logging`]), the connection flags
//! ([`connection`]), what is printed how ([`output`]), and errors with their exit codes ([`error`]).

mod barrier;
mod bench;
mod called_as;
mod command;
mod completions;
mod connection;
mod context;
mod counter;
mod elect;
mod ensemble;
mod error;
mod farm;
mod hold;
mod lock;
mod logging;
mod man;
mod output;
mod queue;
mod recipe_error;
mod semaphore;
mod serve;
mod shell;
mod sync;
mod threads;
mod tree;
mod wait;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::context::Context;
use crate::error::CommandError;

/// Requests and replies are many small allocations that one thread makes and another frees, which the C library's
/// allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A coordination service that speaks ZooKeeper's protocol, and tools that work on any ensemble
#[derive(Debug, Parser)]
#[command(name = "grange", version, max_term_width = 100)]
#[command(after_help = "Exit status: 0 success, 1 negative answer (no such znode), 2 wrong usage or configuration, \
                        3 failure.")]
struct Cli {
    #[command(flatten)]
    logging: logging::LoggingArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Shell(shell::ShellArgs),
    Tree(tree::TreeArgs),
    Queue(queue::QueueArgs),
    Barrier(barrier::BarrierArgs),
    Counter(counter::CounterArgs),
    Watch(watch::WatchArgs),
    Farm(farm::FarmArgs),
    Ensemble(ensemble::EnsembleArgs),
    Lock(lock::LockArgs),
    Semaphore(semaphore::SemaphoreArgs),
    Elect(elect::ElectArgs),
    Sync(sync::SyncArgs),
    Bench(bench::BenchArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    fn default_log_level(&self) -> &'static str {
        match self {
            Command::Serve(_) => logging::SERVICE_LEVEL,
            Command::Ensemble(args) if args.serves() => logging::SERVICE_LEVEL,
            Command::Farm(args) => args.default_log_level(),
            _ => logging::TOOL_LEVEL,
        }
    }
}

fn main() -> ExitCode {
    let cx = Context::from_process();
    if let Some((program, arguments)) = called_as::other_program(std::env::args_os()) {
        return program(cx, arguments);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return farm::wrong_usage(&error, Cli::command()).unwrap_or_else(|| error.exit()),
    };
    if let Err(error) = logging::start(&cli.logging, cli.command.default_log_level()) {
        return match &cli.command {
            Command::Farm(args) => args.refuse(&error),
            _ => error.report(),
        };
    }
    match threads::run(run(&cx, cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

async fn run(cx: &Context, command: Command) -> Result<(), CommandError> {
    match command {
        Command::Serve(args) => serve::run(cx, &args).await,
        Command::Shell(args) => shell::run(cx, args).await,
        Command::Tree(args) => tree::run(cx, args).await,
        Command::Queue(args) => queue::run(cx, args).await,
        Command::Barrier(args) => barrier::run(cx, args).await,
        Command::Counter(args) => counter::run(cx, args).await,
        Command::Watch(args) => watch::run(cx, args).await,
        Command::Farm(args) => farm::run(cx, args).await,
        Command::Ensemble(args) => ensemble::run(cx, args).await,
        Command::Lock(args) => lock::run(cx, args).await,
        Command::Semaphore(args) => semaphore::run(cx, args).await,
        Command::Elect(args) => elect::run(cx, args).await,
        Command::Sync(args) => sync::run(cx, args).await,
        Command::Bench(args) => bench::run(cx, &args),
        Command::Completions(args) => completions::run(cx, &args, &mut Cli::command()),
        Command::Man(args) => man::run(cx, &args, Cli::command()),
    }
}

#[cfg(test)]
mod tests;
