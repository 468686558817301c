//! `grange farm check`: a line for Nagios, and its exit statuses.
//!
//! Whatever goes wrong is the status UNKNOWN, said on standard output, because that is where a monitoring system looks.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use grange_client::ConnectOptions;
use grange_farm::check::{self, CheckError, Limit, Rules, Status, Verdict};
use grange_proto::ZnodePath;
use serde_json::{Value, json};

use super::harmless;
use crate::connection::{self, ConnectionArgs};
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};

/// The exit status of UNKNOWN.
const UNKNOWN: u8 = 3;

/// Say whether enough hosts of a farm are running, for Nagios
///
/// There should be as many hosts as the farm's property `size` says. Those run that are there and for which the farm's
/// property `running_filter` holds; the others are failing.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: also if the ensemble cannot be reached, or the \
                        arguments or the farm's properties are wrong. The line is on standard output in each case."
)]
pub(super) struct CheckArgs {
    /// From so many failing hosts on it is critical; a percentage is one of the size
    #[arg(short = 'c', long, value_name = "N|N%", default_value = "10%", allow_hyphen_values = true)]
    max_failed_node: String,
    /// From so many on it is a warning; 0 is none [default: none]
    #[arg(short = 'w', long, value_name = "N|N%", allow_hyphen_values = true)]
    warn_failed_node: Option<String>,
    /// Which hosts run, instead of the farm's running_filter
    #[arg(short = 'F', long, visible_alias = "filter", value_name = "FILTERS")]
    filters: Option<String>,
    /// Add the figures as performance data
    #[arg(long, conflicts_with = "json")]
    perfdata: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The farm; one that does not exist has no hosts, and should have none
    znode: String,
}

/// What a check needs, as it was written.
pub(super) struct Question<'a> {
    pub(super) znode: &'a str,
    pub(super) max: &'a str,
    pub(super) warn: Option<&'a str>,
    pub(super) filter: Option<&'a str>,
}

/// How the answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Line,
    LineWithFigures,
    Json,
}

pub(super) async fn run(cx: &Context, connection: &ConnectionArgs, args: &CheckArgs) -> Result<(), CommandError> {
    let question = Question {
        znode: &args.znode,
        max: &args.max_failed_node,
        warn: args.warn_failed_node.as_deref(),
        filter: args.filters.as_deref(),
    };
    let form = match (args.json, args.perfdata) {
        (true, _) => Form::Json,
        (false, true) => Form::LineWithFigures,
        (false, false) => Form::Line,
    };
    answer(cx, connection.options(), &question, form).await
}

/// Asks, prints the answer and ends with its status.
pub(super) async fn answer(
    cx: &Context,
    options: Result<ConnectOptions, CommandError>,
    question: &Question<'_>,
    form: Form,
) -> Result<(), CommandError> {
    let verdict = ask(options, question).await;
    let (line, object, status) = match &verdict {
        Ok(verdict) if form == Form::LineWithFigures => {
            (format!("{verdict} | {}", figures(verdict)), Value::Null, verdict.status)
        }
        Ok(verdict) => (verdict.to_string(), described(question, verdict), verdict.status),
        Err(error) => return unknown(cx, question.znode, &error.headline(), form),
    };
    let mut out = Output::new(cx);
    match form {
        Form::Json => out.json(&object)?,
        Form::Line | Form::LineWithFigures => out.line(&line)?,
    }
    out.finish()?;
    match status {
        Status::Ok => Ok(()),
        Status::Warning => Err(CommandError::status(1)),
        Status::Critical => Err(CommandError::status(2)),
    }
}

/// Prints that nobody knows, and why.
fn unknown(cx: &Context, znode: &str, why: &str, form: Form) -> Result<(), CommandError> {
    // Performance data begin behind a bar, and messages may quote what is in the farm.
    let why = harmless_line(why).replace('|', "/");
    let mut out = Output::new(cx);
    match form {
        Form::Json => out.json(&json!({ "farm": znode, "status": "UNKNOWN", "message": why }))?,
        Form::Line | Form::LineWithFigures => out.line(&format!("UNKNOWN: {why}"))?,
    }
    out.finish()?;
    Err(CommandError::status(UNKNOWN))
}

/// Says what is wrong with the command line.
pub(super) fn refuse(why: &str) -> ExitCode {
    let line = format!("UNKNOWN: {}\n", harmless_line(why));
    // There is nobody left to tell if that cannot be written.
    let _ = io::stdout().lock().write_all(line.as_bytes());
    ExitCode::from(UNKNOWN)
}

async fn ask(options: Result<ConnectOptions, CommandError>, question: &Question<'_>) -> Result<Verdict, CommandError> {
    let farm: ZnodePath =
        question.znode.parse().map_err(|error| CommandError::usage(anyhow!("{}: {error}", question.znode)))?;
    let rules = Rules {
        max: limit("max_failed_node", question.max)?,
        warn: question.warn.filter(|text| !text.is_empty()).map(|text| limit("warn_failed_node", text)).transpose()?,
        filter: question.filter.map(str::parse).transpose().map_err(CommandError::usage)?,
    };
    let client = connection::connect(&options?).await?;
    let verdict = check::check(&client, &farm, &rules).await;
    grange_client::close(client).await;
    verdict.map_err(|error: CheckError| CommandError::failure(harmless(error)))
}

fn limit(name: &str, text: &str) -> Result<Limit, CommandError> {
    text.parse().map_err(|error| CommandError::usage(anyhow!("Invalid `{name}' argument format: {text}: {error}")))
}

/// The figures in the form of Nagios' plugins. A threshold there is crossed by more than itself; here it is reached.
fn figures(verdict: &Verdict) -> String {
    let size = verdict.count.size;
    let warn = verdict.warn.as_ref().map(|warn| warn.hosts(size).to_string()).unwrap_or_default();
    let max = verdict.max.hosts(size);
    format!("running={};;;0;{size} failing={};{warn};{max};0;{size}", verdict.count.running, verdict.failing)
}

fn described(question: &Question<'_>, verdict: &Verdict) -> Value {
    json!({
        "farm": question.znode,
        "status": verdict.status.to_string(),
        "size": verdict.count.size,
        "running": verdict.count.running,
        "failing": verdict.failing,
        "maxAllowed": verdict.max.to_string(),
        "warnAt": verdict.warn.as_ref().map(ToString::to_string),
        "message": verdict.to_string(),
    })
}
