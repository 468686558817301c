//! The program as `zkfarmer`: ZkFarmer's command line, what it prints, and its exit statuses.
//!
//! Scripts read its output, so the words are those of ZkFarmer 1.1 and not Grange's own. Where that program dies of an
//! exception or loses what others have written, this one does not; docs/farm.md lists the differences.

mod python;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use grange_client::{Client, ConnectOptions, RawConnectOptions};
use grange_farm::events::explain;
use grange_farm::fields::{self, FieldsError};
use grange_farm::hosts::{self, ReadError, host_path};
use grange_farm::join::Direction;
use grange_farm::{FieldPath, Filter, Host, Properties};
use grange_proto::ZnodePath;
use serde_json::{Value, json};

use super::check::{Form, Question, answer};
use super::get::Format;
use super::{cannot_read, fields_failed};
use super::{export, join};
use crate::connection::{self, ConnectionArgs};
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};
use crate::{logging, threads};

/// The exit status of whatever goes wrong, as of an exception in Python.
const FAILED: u8 = 1;

/// Where the servers are when nobody says.
const DEFAULT_HOST: &str = "localhost:2181";

/// What stands for all fields.
const ALL_FIELDS: &str = "*";

/// The formats of configuration that ZkFarmer knows.
const CONF_FORMATS: [&str; 4] = ["json", "yaml", "php", "dir"];

/// The width of the names that fields stand behind; longer ones are not cut.
const NAME_WIDTH: usize = 20;

/// Let hosts register themselves in a farm, and follow them
#[derive(Debug, Parser)]
#[command(name = "zkfarmer", version, max_term_width = 100, infer_long_args = true, disable_help_subcommand = true)]
#[command(
    after_help = "This is grange; more of the same kind: grange farm --help. Credentials and certificates are taken \
                        from $GRANGE_AUTH and the other settings of grange."
)]
struct ZkfarmerArgs {
    /// The ensemble: HOST:PORT,HOST:PORT/CHROOT [default: $ZKHOST, else localhost:2181]
    #[arg(short = 'H', long, value_name = "LIST")]
    host: Option<String>,
    /// How often to try each server until there is a session
    #[arg(short = 'r', long, value_name = "N", default_value_t = 5, allow_negative_numbers = true)]
    retries: i32,
    /// Log warnings only
    #[arg(short = 'q', long, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more; twice, everything
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    logging: logging::LoggingArgs,
    #[command(subcommand)]
    command: ZkfarmerCommand,
}

#[derive(Debug, Subcommand)]
enum ZkfarmerCommand {
    Join(JoinArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Ls(LsArgs),
    Get(GetArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
    Check(CheckArgs),
    Exec(super::exec::ExecArgs),
}

impl ZkfarmerCommand {
    /// Tells whether it runs until somebody ends it; such a one logs what it does.
    fn is_service(&self) -> bool {
        matches!(self, ZkfarmerCommand::Join(_) | ZkfarmerCommand::Import(_) | ZkfarmerCommand::Export(_))
    }
}

/// Keep this host in a farm, and its configuration equal to its znode, both ways
#[derive(Debug, Args)]
struct JoinArgs {
    #[command(flatten)]
    host: HostArgs,
    /// Run CMD in the shell after the configuration was changed by the farm
    #[arg(long, value_name = "CMD")]
    changed_cmd: Option<String>,
}

/// Keep this host in a farm, and tell the farm what changes in its configuration
#[derive(Debug, Args)]
struct ImportArgs {
    #[command(flatten)]
    host: HostArgs,
}

/// What both have in common.
#[derive(Debug, Args)]
struct HostArgs {
    /// The format of CONF
    #[arg(short = 'f', long, value_parser = CONF_FORMATS)]
    format: Option<String>,
    /// Use the znode that all hosts share instead of one of this host
    #[arg(short = 'c', long)]
    common: bool,
    /// The full path of the farm
    #[arg(value_parser = full_path)]
    zknode: ZnodePath,
    /// The file or directory with the host's configuration
    conf: PathBuf,
}

impl HostArgs {
    fn into_joined(self) -> join::HostArgs {
        join::HostArgs::zkfarmer(self.zknode, self.conf, self.format, self.common)
    }
}

/// Keep a file equal to a farm
#[derive(Debug, Args)]
struct ExportArgs {
    /// The format of CONF
    #[arg(short = 'f', long, value_parser = CONF_FORMATS)]
    format: Option<String>,
    /// Run CMD in the shell after the file has changed
    #[arg(short = 'c', long, value_name = "CMD")]
    changed_cmd: Option<String>,
    /// Only hosts for which all of these predicates hold, such as enabled=1,mysql.delay<10,!maintenance
    #[arg(short = 'F', long, default_value = "", hide_default_value = true)]
    filters: Filter,
    /// The full path of the farm
    #[arg(value_parser = full_path)]
    zknode: ZnodePath,
    /// The file, or the directory
    conf: PathBuf,
}

/// List the hosts of a farm
#[derive(Debug, Args)]
struct LsArgs {
    /// Print these fields behind the name, separated by commas
    #[arg(long)]
    fields: Option<String>,
    /// Only hosts for which all of these predicates hold, such as enabled=1,mysql.delay<10,!maintenance
    #[arg(short = 'F', long, default_value = "", hide_default_value = true)]
    filters: Filter,
    /// The full path of the farm
    #[arg(value_parser = full_path)]
    zknode: ZnodePath,
}

/// Print a field of a host or of a farm, or all of them
#[derive(Debug, Args)]
struct GetArgs {
    /// The form of all fields
    #[arg(short = 'f', long, value_enum, default_value = "yaml")]
    format: Format,
    /// The full path of the host or the farm
    #[arg(value_parser = full_path)]
    zknode: ZnodePath,
    /// The field; all of them without
    #[arg(default_value = ALL_FIELDS, hide_default_value = true)]
    field: String,
}

/// Set a field of a host or of a farm
#[derive(Debug, Args)]
struct SetArgs {
    /// The full path of the host or the farm
    #[arg(value_parser = full_path)]
    zknode: ZnodePath,
    /// The field
    field: FieldPath,
    /// The new value
    #[arg(allow_negative_numbers = true)]
    value: String,
}

/// Remove a field of a host or of a farm
#[derive(Debug, Args)]
struct UnsetArgs {
    /// The full path of the host or the farm
    #[arg(value_parser = full_path)]
    zknode: ZnodePath,
    /// The field
    field: FieldPath,
}

/// Say whether enough hosts of a farm are running, for Nagios
#[derive(Debug, Args)]
struct CheckArgs {
    /// From so many failing hosts on it is critical: a number, or a percentage of the farm's size
    #[arg(short = 'c', long, default_value = "10%", allow_negative_numbers = true)]
    max_failed_node: String,
    /// From so many on it is a warning
    #[arg(short = 'w', long, allow_negative_numbers = true)]
    warn_failed_node: Option<String>,
    /// The full path of the farm
    #[arg(value_parser = full_path)]
    zknode: ZnodePath,
}

/// Reads a path as kazoo does: slashes more than one, and one at the end, do not count.
fn full_path(text: &str) -> Result<ZnodePath, String> {
    if !text.starts_with('/') {
        return Err("must be the full path of a znode, such as /services/db".to_owned());
    }
    let names: Vec<_> = text.split('/').filter(|name| !name.is_empty()).collect();
    format!("/{}", names.join("/")).parse().map_err(|error| format!("{error}"))
}

/// Runs with the arguments behind the program's name.
pub(crate) fn main(cx: Context, arguments: Vec<OsString>) -> ExitCode {
    let args = ZkfarmerArgs::parse_from(std::iter::once(OsString::from("zkfarmer")).chain(arguments));
    // That program only describes it, so its statuses are ours.
    let has_own_statuses = matches!(args.command, ZkfarmerCommand::Exec(_));
    let started = logging::start(&args.logging, args.log_level());
    match started.and_then(|()| threads::run(run(&cx, args))) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has gone away, or an answer that is its own status.
        Err(error) if error.is_silent() || has_own_statuses => error.report(),
        Err(error) => error.with_status(FAILED).report(),
    }
}

impl ZkfarmerArgs {
    fn log_level(&self) -> &'static str {
        match (self.quiet, self.verbose + u8::from(self.command.is_service())) {
            (true, _) | (false, 0) => logging::TOOL_LEVEL,
            (false, 1) => logging::SERVICE_LEVEL,
            (false, _) => "debug,zookeeper_client=info",
        }
    }

    fn host(&self) -> String {
        let from_environment = || std::env::var("ZKHOST").ok().filter(|host| !host.is_empty());
        self.host.clone().or_else(from_environment).unwrap_or_else(|| DEFAULT_HOST.to_owned())
    }

    fn options(&self) -> Result<ConnectOptions, CommandError> {
        let raw = RawConnectOptions { servers: Some(self.host()), ..RawConnectOptions::default() };
        let options = ConnectOptions::resolve(raw, |name| std::env::var(name).ok()).map_err(CommandError::usage)?;
        // Below 0 there is no bound but the time that it may take in all.
        let rounds_max = u32::try_from(self.retries).unwrap_or(u32::MAX).max(1);
        Ok(ConnectOptions { rounds_max, ..options })
    }
}

async fn run(cx: &Context, args: ZkfarmerArgs) -> Result<(), CommandError> {
    let (host, options) = (args.host(), args.options());
    match args.command {
        ZkfarmerCommand::Exec(command) => super::exec::run(cx, &ConnectionArgs::to_servers(host), &command).await,
        ZkfarmerCommand::Join(command) => {
            join::keep(options?, command.host.into_joined(), Direction::Both, command.changed_cmd).await
        }
        ZkfarmerCommand::Import(command) => {
            join::keep(options?, command.host.into_joined(), Direction::ToFarm, None).await
        }
        ZkfarmerCommand::Export(command) => {
            let what = export::WhatArgs::zkfarmer(command.zknode, command.conf, command.format, command.filters);
            export::run_zkfarmer(options?, what, command.changed_cmd).await
        }
        ZkfarmerCommand::Check(command) => check(cx, options, &command).await,
        ZkfarmerCommand::Ls(command) => with_client(options, async |client| ls(cx, client, &command).await).await,
        ZkfarmerCommand::Get(command) => with_client(options, async |client| get(cx, client, &command).await).await,
        ZkfarmerCommand::Set(command) => with_client(options, async |client| set(client, &command).await).await,
        ZkfarmerCommand::Unset(command) => with_client(options, async |client| unset(client, &command).await).await,
    }
}

/// Does something in a session of its own.
async fn with_client(
    options: Result<ConnectOptions, CommandError>,
    run: impl AsyncFnOnce(&Client) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let client = connection::connect(&options?).await?;
    let result = run(&client).await;
    grange_client::close(client).await;
    result
}

async fn check(
    cx: &Context,
    options: Result<ConnectOptions, CommandError>,
    args: &CheckArgs,
) -> Result<(), CommandError> {
    let question = Question {
        znode: args.zknode.as_str(),
        max: &args.max_failed_node,
        warn: args.warn_failed_node.as_deref(),
        filter: None,
    };
    answer(cx, options, &question, Form::Line).await
}

async fn ls(cx: &Context, client: &Client, args: &LsArgs) -> Result<(), CommandError> {
    let mut out = Output::new(cx);
    let fields = args.fields.as_deref().filter(|fields| !fields.is_empty());
    if fields.is_none() && args.filters.is_empty() {
        let names = hosts::names(client, &args.zknode).await;
        present(names)?.iter().try_for_each(|name| out.line(name))?;
        return out.finish();
    }
    let hosts: BTreeMap<String, Host> = present(hosts::read(client, &args.zknode).await)?;
    for (name, host) in &hosts {
        if let Err(error) = host {
            let path = host_path(&args.zknode, name);
            eprintln!("warning: {}", harmless_line(&format!("{path}: {}", explain(error))));
        }
        // What cannot be read has no fields, and is not meant by a filter.
        match host {
            Ok(host) if args.filters.matches(host) => out.line(&line(name, host, fields))?,
            Err(_) if args.filters.is_empty() => out.line(name)?,
            Ok(_) | Err(_) => {}
        }
    }
    out.finish()
}

/// A farm that does not exist has no hosts.
fn present<T: Default>(read: Result<T, ReadError>) -> Result<T, CommandError> {
    match read {
        Err(ReadError::NoFarm(_)) => Ok(T::default()),
        read => read.map_err(cannot_read),
    }
}

/// A host without any properties is a name alone.
fn line(name: &str, host: &Properties, fields: Option<&str>) -> String {
    if host.fields().is_empty() {
        return name.to_owned();
    }
    let mut told: Vec<&str> = Vec::new();
    for field in fields.iter().flat_map(|fields| fields.split(',')) {
        if !told.contains(&field) {
            told.push(field);
        }
    }
    let shown: Vec<_> = told.iter().map(|field| format!("{field}={}", python::text(value_of(host, field)))).collect();
    // A value with a line break is not to pass for another host.
    harmless_line(&format!("{name:NAME_WIDTH$} {}", shown.join(", ")))
}

/// What cannot be the path of a field is a field that nobody has.
fn value_of<'a>(properties: &'a Properties, field: &str) -> Option<&'a Value> {
    properties.get(&field.parse().ok()?)
}

async fn get(cx: &Context, client: &Client, args: &GetArgs) -> Result<(), CommandError> {
    let mut out = Output::new(cx);
    let properties = match fields::get(client, &args.zknode).await {
        Ok(properties) => properties,
        Err(FieldsError::NoZnode(_)) => {
            // This stands for the farm that may come, whatever was asked for.
            let none = Properties::try_from(json!({ "size": 0 })).expect("it is an object");
            if args.field != ALL_FIELDS {
                out.line(&python::text(Some(&none.into())))?;
                return out.finish();
            }
            none
        }
        Err(error) => return Err(fields_failed(error)),
    };
    match args.field.as_str() {
        ALL_FIELDS if args.format == Format::Json => out.data(python::json(&properties.into()).as_bytes())?,
        ALL_FIELDS => out.data(args.format.write(&properties.into())?.as_bytes())?,
        field => out.text(&python::text(value_of(&properties, field)))?,
    }
    out.finish()
}

async fn set(client: &Client, args: &SetArgs) -> Result<(), CommandError> {
    fields::set(client, &args.zknode, &args.field, &args.value.as_str().into()).await.map_err(fields_failed)
}

/// A field that is not there need not be removed.
async fn unset(client: &Client, args: &UnsetArgs) -> Result<(), CommandError> {
    match fields::unset(client, &args.zknode, &args.field).await {
        Ok(()) | Err(FieldsError::NoField { .. }) => Ok(()),
        Err(error) => Err(fields_failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<ZkfarmerArgs, clap::Error> {
        ZkfarmerArgs::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        ZkfarmerArgs::command().debug_assert();
    }

    #[test]
    fn zkfarmers_command_lines_are_understood() {
        for line in [
            "zkfarmer -H a:1,b:2/x -r 3 -q ls /f",
            "zkfarmer --host=a --retries=3 -vv ls /f --fields a,b.c -F a=1,!b",
            "zkfarmer ls --filters enabled=1 /f/",
            "zkfarmer ls --filt enabled=1 /",
            "zkfarmer get /f",
            "zkfarmer get /f/h a.b",
            "zkfarmer get -f json /f *",
            "zkfarmer set /f/h a.b -5",
            "zkfarmer set /f/h a.b -- --x",
            "zkfarmer unset /f/h a",
            "zkfarmer check /f",
            "zkfarmer check -c 10% -w5 /f",
            "zkfarmer check --max-failed-node -1 --warn 0 /f",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn wrong_usage_has_argparses_status() {
        for line in [
            "zkfarmer",
            "zkfarmer frob",
            "zkfarmer -q -v ls /f",
            "zkfarmer ls",
            "zkfarmer ls services",
            "zkfarmer ls -F a>>1 /f",
            "zkfarmer get -f dir /f",
            "zkfarmer set /f a",
            "zkfarmer -r x ls /f",
            "zkfarmer ls /f -q",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        for line in ["zkfarmer -V", "zkfarmer -h", "zkfarmer ls -h"] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line}");
        }
    }

    #[test]
    fn a_line_is_that_of_zkfarmer() {
        let host = Properties::try_from(json!({"a": "1", "b": {"c": true}, "n": null, "l": [1]})).unwrap();
        for (name, fields, expected) in [
            ("10.0.0.1", Some("a,b.c"), "10.0.0.1             a=1, b.c=True"),
            ("10.0.0.1", Some("n,x,a,a"), "10.0.0.1             n=None, x=None, a=1"),
            ("10.0.0.1", Some("b,l,..,"), "10.0.0.1             b={'c': True}, l=[1], ..=None, =None"),
            ("10.0.0.1", None, "10.0.0.1             "),
            ("a-name-of-more-than-twenty", Some("a"), "a-name-of-more-than-twenty a=1"),
        ] {
            assert_eq!(line(name, &host, fields), expected);
        }
        assert_eq!(line("h", &Properties::default(), Some("a")), "h");
    }

    #[test]
    fn slashes_count_once() {
        for (text, path) in [("/", "/"), ("//", "/"), ("/a/", "/a"), ("/a//b", "/a/b")] {
            assert_eq!(full_path(text).unwrap().as_str(), path);
        }
        for text in ["", "a", "a/b", "/a/../b"] {
            assert!(full_path(text).is_err(), "{text}");
        }
    }
}
