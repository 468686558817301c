//! `grange shell`: commands on an ensemble, with the options and the words of zkCli where the two overlap: one by itself, or
//! one after the other in the interactive shell.

mod access;
mod acl;
mod answer;
mod batch;
mod config;
mod copy;
mod counts;
mod create;
mod data;
mod delete;
mod deleteall;
mod edit;
mod find;
mod get;
mod grep;
mod interactive;
mod ls;
mod path;
mod progress;
mod quota;
mod quota_figures;
mod set;
mod stat;
mod stat_form;
mod transport;
mod tree;
mod units;
mod walk;
mod watch;
pub(crate) mod zkcli;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use grange_client::{Client, Stat};
use jiff::tz::TimeZone;

use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

use path::{Here, PathArg};

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
    /// Without a command: end at the first line that fails
    #[arg(short = 'e')]
    stops_at_error: bool,
    /// Use colours: by default on a terminal, unless $NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Without one, commands are read from the terminal or from standard input
    #[command(subcommand)]
    command: Option<ShellCommand>,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    fn is_used(self, cx: &Context) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => cx.is_stdout_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
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
    Tree(tree::TreeArgs),
    Find(find::FindArgs),
    Grep(grep::GrepArgs),
    Edit(edit::EditArgs),
    Cp(copy::CpArgs),
    Mv(copy::MvArgs),
    Export(transport::ExportArgs),
    Import(transport::ImportArgs),
    #[command(visible_alias = "addWatch")]
    Watch(watch::WatchArgs),
    #[command(name = "getAcl")]
    GetAcl(access::GetAclArgs),
    #[command(name = "setAcl")]
    SetAcl(access::SetAclArgs),
    Whoami(access::WhoamiArgs),
    Setquota(quota::SetquotaArgs),
    Listquota(quota::ListquotaArgs),
    Delquota(quota::DelquotaArgs),
    #[command(name = "getAllChildrenNumber")]
    Count(counts::CountArgs),
    #[command(name = "getEphemerals")]
    Ephemerals(counts::EphemeralsArgs),
    Sync(counts::SyncArgs),
    Config(config::ConfigArgs),
    Reconfig(config::ReconfigArgs),
    Version(counts::VersionArgs),
}

/// What each command works with.
struct Session<'a> {
    cx: &'a Context,
    client: &'a Client,
    form: Form,
    out: Output,
    here: Here<'a>,
    /// Other commands follow in the same session.
    is_interactive: bool,
    input: Input,
}

/// Who reads standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// A command may.
    Free,
    /// Lines of commands come from it.
    Taken,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

pub(crate) async fn run(cx: &Context, args: ShellArgs) -> Result<(), CommandError> {
    let form = if args.json { Form::Json } else { Form::Text };
    let Some(command) = args.command else {
        let settings =
            interactive::Settings { form, stops_at_error: args.stops_at_error, has_color: args.color.is_used(cx) };
        return interactive::run(cx, args.connection.options()?, settings).await;
    };
    let client = args.connection.connect().await?;
    let out = Output::new(cx);
    let mut session =
        Session { cx, client: &client, form, out, here: Here::Nowhere, is_interactive: false, input: Input::Free };
    let result = run_command(&mut session, &command).await;
    // What a walk found before it failed is still worth seeing.
    let flushed = session.out.finish();
    grange_client::close(client).await;
    result.and(flushed)
}

async fn run_command(session: &mut Session<'_>, command: &ShellCommand) -> Result<(), CommandError> {
    match command {
        ShellCommand::Ls(args) => ls::run(session, args).await,
        ShellCommand::Get(args) => get::run(session, args).await,
        ShellCommand::Create(args) => create::run(session, args).await,
        ShellCommand::Set(args) => set::run(session, args).await,
        ShellCommand::Delete(args) => delete::run(session, args).await,
        ShellCommand::Deleteall(args) => deleteall::run(session, args).await,
        ShellCommand::Stat(args) => stat::run(session, args).await,
        ShellCommand::Tree(args) => tree::run(session, args).await,
        ShellCommand::Find(args) => find::run(session, args).await,
        ShellCommand::Grep(args) => grep::run(session, args).await,
        ShellCommand::Edit(args) => edit::run(session, args).await,
        ShellCommand::Cp(args) => copy::cp(session, args).await,
        ShellCommand::Mv(args) => copy::mv(session, args).await,
        ShellCommand::Export(args) => transport::export(session, args).await,
        ShellCommand::Import(args) => transport::import(session, args).await,
        ShellCommand::Watch(args) => watch::run(session, args).await,
        ShellCommand::GetAcl(args) => access::get(session, args).await,
        ShellCommand::SetAcl(args) => access::set(session, args).await,
        ShellCommand::Whoami(_) => access::who(session).await,
        ShellCommand::Setquota(args) => quota::set(session, args).await,
        ShellCommand::Listquota(args) => quota::list(session, args).await,
        ShellCommand::Delquota(args) => quota::delete(session, args).await,
        ShellCommand::Count(args) => counts::count(session, args).await,
        ShellCommand::Ephemerals(args) => counts::ephemerals(session, args).await,
        ShellCommand::Sync(args) => counts::sync(session, args).await,
        ShellCommand::Config(args) => config::config(session, args).await,
        ShellCommand::Reconfig(args) => config::reconfig(session, args).await,
        ShellCommand::Version(_) => counts::version(session),
    }
}

impl Session<'_> {
    /// Returns true if a question can be shown to a person and answered.
    fn can_ask(&self) -> bool {
        self.input == Input::Free && self.cx.can_ask()
    }

    /// Refuses to read standard input where lines of commands come from it.
    fn check_input_is_free(&self) -> Result<(), CommandError> {
        match self.input {
            Input::Free => Ok(()),
            Input::Taken => Err(CommandError::usage(anyhow!("commands come from standard input, so data cannot"))
                .hint("read it from a file: --file FILE")),
        }
    }

    /// Returns the path that an argument means.
    fn path(&self, path: &PathArg) -> Result<String, CommandError> {
        path.resolve(self.here)
    }

    /// Returns the path that an argument means, to which a number will be appended.
    fn path_prefix(&self, path: &PathArg) -> Result<String, CommandError> {
        path.resolve_prefix(self.here)
    }

    /// Returns the path that an argument means, or where one is if there is none.
    fn path_or_here(&self, path: Option<&PathArg>) -> Result<String, CommandError> {
        match (path, self.here) {
            (Some(path), _) => self.path(path),
            (None, Here::At(here)) => Ok(here.to_owned()),
            (None, Here::Nowhere) => Ok("/".to_owned()),
        }
    }

    fn print_stat(&mut self, stat: &Stat) -> Result<(), CommandError> {
        for line in stat_form::lines(&stat_form::record(stat), &TimeZone::UTC) {
            self.out.line(&line)?;
        }
        Ok(())
    }
}

/// Returns the version a request is made on condition of; -1 is ZooKeeper's way to write that any will do.
fn condition(version: Option<i32>) -> Option<i32> {
    version.filter(|&version| version != -1)
}
