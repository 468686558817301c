//! `grange tree`: a coordination tree declared in a file.

mod apply;
mod confirm;
mod diff;
mod export;
mod plan;
mod print;
mod session;
pub(crate) mod zkinitree;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use grange_client::Servers;
use grange_client::declared::{self, Declared, Source};

use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;

/// Declare a tree of znodes in a file, and make the ensemble so
#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: TreeCommand,
}

#[derive(Debug, Subcommand)]
enum TreeCommand {
    Plan(plan::PlanArgs),
    Apply(apply::ApplyArgs),
    Diff(diff::DiffArgs),
    Export(export::ExportArgs),
}

/// What is declared where.
#[derive(Debug, Args)]
struct FileArgs {
    /// The file: TOML, or one of zkinitree's
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A TOML file that is laid over FILE; may be repeated
    #[arg(long, value_name = "FILE")]
    overlay: Vec<PathBuf>,
    /// Set a variable of the TOML form; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// The form of FILE [default: as its name and its text say]
    #[arg(long, value_enum)]
    form: Option<Form>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Toml,
    Zkinitree,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Text,
    Json,
}

pub(crate) async fn run(cx: &Context, args: TreeArgs) -> Result<(), CommandError> {
    let form = if args.json { Output::Json } else { Output::Text };
    match args.command {
        TreeCommand::Plan(command) => plan::run(cx, args.connection, form, command).await,
        TreeCommand::Apply(command) => apply::run(cx, args.connection, form, command).await,
        TreeCommand::Diff(command) => diff::run(cx, args.connection, form, command).await,
        TreeCommand::Export(command) => export::run(cx, &args.connection, form, &command).await,
    }
}

impl FileArgs {
    fn source(&self) -> Source {
        let form = self.form.map(|form| match form {
            Form::Toml => declared::Form::Toml,
            Form::Zkinitree => declared::Form::Zkinitree,
        });
        let (overlays, variables) = (self.overlay.clone(), self.var.clone());
        Source { files: vec![self.file.clone()], overlays, variables, form }
    }
}

/// Reads a declaration, and prints what should be looked at in it.
fn read(source: &Source) -> Result<Declared, CommandError> {
    let declared = declared::read(source, &|name| std::env::var(name).ok()).map_err(CommandError::usage)?;
    for warning in &declared.warnings {
        eprintln!("warning: {warning}");
    }
    if let Some((servers, location)) = &declared.servers {
        Servers::parse(servers).map_err(|error| CommandError::usage(anyhow!("{location}: {error}")))?;
    }
    Ok(declared)
}
