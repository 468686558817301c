//! `grange shell`: one command on an ensemble, with the options and the words of zkCli where the two overlap.

mod acl;
mod answer;
mod create;
mod data;
mod delete;
mod deleteall;
mod get;
mod ls;
mod path;
mod set;
mod stat;
mod stat_form;
mod walk;
pub(crate) mod zkcli;

use clap::{Args, Subcommand};
use grange_client::{Client, Stat};

use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

/// Look at and change znodes, on any ensemble
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 success, 1 the tree's answer is no (no such znode, wrong version, not empty), \
                        2 wrong usage, 3 failure.")]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print one JSON object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: ShellCommand,
}

#[derive(Debug, Subcommand)]
enum ShellCommand {
    Ls(ls::LsArgs),
    Get(get::GetArgs),
    Create(create::CreateArgs),
    Set(set::SetArgs),
    Delete(delete::DeleteArgs),
    Deleteall(deleteall::DeleteallArgs),
    Stat(stat::StatArgs),
}

/// What each command works with.
struct Session<'a> {
    cx: &'a Context,
    client: &'a Client,
    form: Form,
    out: Output,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

pub(crate) async fn run(cx: &Context, args: ShellArgs) -> Result<(), CommandError> {
    let client = args.connection.connect().await?;
    let form = if args.json { Form::Json } else { Form::Text };
    let session = Session { cx, client: &client, form, out: Output::new(cx) };
    let result = run_command(session, args.command).await;
    grange_client::close(client).await;
    result
}

async fn run_command(mut session: Session<'_>, command: ShellCommand) -> Result<(), CommandError> {
    let result = match command {
        ShellCommand::Ls(args) => ls::run(&mut session, &args).await,
        ShellCommand::Get(args) => get::run(&mut session, &args).await,
        ShellCommand::Create(args) => create::run(&mut session, &args).await,
        ShellCommand::Set(args) => set::run(&mut session, &args).await,
        ShellCommand::Delete(args) => delete::run(&mut session, &args).await,
        ShellCommand::Deleteall(args) => deleteall::run(&mut session, &args).await,
        ShellCommand::Stat(args) => stat::run(&mut session, &args).await,
    };
    // What a walk found before it failed is still worth seeing.
    let flushed = session.out.finish();
    result.and(flushed)
}

impl Session<'_> {
    fn print_stat(&mut self, stat: &Stat) -> Result<(), CommandError> {
        for line in stat_form::lines(stat) {
            self.out.line(&line)?;
        }
        Ok(())
    }
}

/// Returns the version a request is made on condition of; -1 is ZooKeeper's way to write that any will do.
fn condition(version: Option<i32>) -> Option<i32> {
    version.filter(|&version| version != -1)
}
