//! `grange farm`: hosts that register themselves with their properties, as ZkFarmer lays them out, and who follows them.

mod check;
mod exec;
mod export;
mod filters;
mod follow;
mod get;
mod hook;
mod join;
mod lines;
mod ls;
mod report;
mod set;
mod top;
mod unset;
mod watch;
pub(crate) mod zkfarmer;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use grange_client::ClientError;
use grange_farm::fields::FieldsError;
use grange_farm::hosts::ReadError;

use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::logging;
use crate::output::harmless_line;

/// Let hosts register themselves with their properties, and follow them
#[derive(Debug, Args)]
#[command(
    after_help = "A farm is a znode whose children are hosts, each with one JSON object as its data. ZkFarmer's \
                        processes may work in the same farm.\n\n\
                        Exit status: 0 success, 1 no such farm, host or field, 2 wrong usage, 3 failure."
)]
pub(crate) struct FarmArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: FarmCommand,
}

#[derive(Debug, Subcommand)]
enum FarmCommand {
    Join(Box<join::JoinArgs>),
    Import(Box<join::ImportArgs>),
    Export(Box<export::ExportArgs>),
    Ls(ls::LsArgs),
    Get(get::GetArgs),
    Set(set::SetArgs),
    Unset(unset::UnsetArgs),
    Check(check::CheckArgs),
    Watch(watch::WatchArgs),
    Top(top::TopArgs),
    Exec(exec::ExecArgs),
    /// Started by exec itself.
    #[command(hide = true)]
    Guard(exec::GuardArgs),
}

impl FarmArgs {
    /// Returns what is logged when nobody says.
    pub(crate) fn default_log_level(&self) -> &'static str {
        match &self.command {
            // The screen is not to be written over.
            FarmCommand::Top(_) => "off",
            // What runs until somebody ends it says what it does.
            FarmCommand::Join(_) | FarmCommand::Import(_) => logging::SERVICE_LEVEL,
            FarmCommand::Export(command) if command.serves() => logging::SERVICE_LEVEL,
            _ => logging::TOOL_LEVEL,
        }
    }

    /// Ends before it has begun.
    pub(crate) fn refuse(&self, error: &CommandError) -> ExitCode {
        match self.command {
            FarmCommand::Check(_) => check::refuse(&error.headline()),
            _ => error.report(),
        }
    }
}

pub(crate) async fn run(cx: &Context, args: FarmArgs) -> Result<(), CommandError> {
    match args.command {
        FarmCommand::Join(command) => join::run(&args.connection, *command).await,
        FarmCommand::Import(command) => join::run_import(&args.connection, *command).await,
        FarmCommand::Export(command) => export::run(cx, &args.connection, *command).await,
        FarmCommand::Ls(command) => ls::run(cx, &args.connection, &command).await,
        FarmCommand::Get(command) => get::run(cx, &args.connection, &command).await,
        FarmCommand::Set(command) => set::run(&args.connection, &command).await,
        FarmCommand::Unset(command) => unset::run(&args.connection, &command).await,
        FarmCommand::Watch(command) => watch::run(cx, &args.connection, &command).await,
        FarmCommand::Top(command) => top::run(cx, &args.connection, command).await,
        FarmCommand::Check(command) => check::run(cx, &args.connection, &command).await,
        FarmCommand::Exec(command) => exec::run(cx, &args.connection, &command).await,
        FarmCommand::Guard(command) => exec::guard(&args.connection, command).await,
    }
}

/// Says UNKNOWN if the wrong command line is one of `check`: a monitoring system takes the usual status 2 for CRITICAL.
pub(crate) fn wrong_usage(error: &clap::Error, cli: clap::Command) -> Option<ExitCode> {
    let matches = cli.ignore_errors(true).try_get_matches_from(std::env::args_os()).ok()?;
    let (name, farm) = matches.subcommand()?;
    let is_check = name == "farm" && farm.subcommand_name() == Some("check");
    (is_check && error.use_stderr()).then(|| {
        let text = error.render().to_string();
        let what: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let line = what.join(" ");
        check::refuse(line.strip_prefix("error: ").unwrap_or(&line))
    })
}

/// Ends a command that could not read a farm.
fn cannot_read(error: ReadError) -> CommandError {
    match &error {
        ReadError::NoFarm(_) => CommandError::negative(harmless(error)),
        ReadError::Request { source, .. } => {
            let source = source.clone();
            with_advice(CommandError::failure(harmless(error)), &source)
        }
    }
}

/// Ends a command that could not read or change fields.
fn fields_failed(error: FieldsError) -> CommandError {
    let source = match &error {
        FieldsError::Request { source, .. } => Some(source.clone()),
        _ => None,
    };
    let hint = match &error {
        FieldsError::Data { .. } => Some("look at it with grange shell get; nothing was written over it"),
        FieldsError::Unknown(_) => Some("look before you repeat it; a longer --session-timeout bridges longer outages"),
        _ => None,
    };
    let is_negative = matches!(error, FieldsError::NoZnode(_) | FieldsError::NoField { .. });
    let error = harmless(error);
    let error = if is_negative { CommandError::negative(error) } else { CommandError::failure(error) };
    let error = match source {
        Some(source) => with_advice(error, &source),
        None => error,
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// An error with its causes, in which names come from a server.
fn harmless(error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow!(harmless_line(&format!("{:#}", error.into())))
}

fn with_advice(error: CommandError, source: &ClientError) -> CommandError {
    match source {
        ClientError::NoAuth => {
            error.hint("say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password")
        }
        ClientError::SessionExpired => error.hint("a longer --session-timeout bridges longer outages"),
        _ => error,
    }
}
