//! `grange shell config` and `reconfig`: the members of the ensemble, as the protocol has them.

use std::fs;

use anyhow::anyhow;
use clap::Args;
use grange_client::ensemble::Members;
use grange_client::{ClientError, EnsembleUpdate, Stat};
use serde_json::json;

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::{Form, Session, stat_form};

/// Where an ensemble keeps its members.
const CONFIG_PATH: &str = "/zookeeper/config";

/// Print the members of the ensemble
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// Print the connection string for clients instead
    #[arg(short = 'c')]
    connection_string: bool,
    /// Print the stat of the znode that holds them too
    #[arg(short = 's')]
    stat: bool,
}

pub(super) async fn config(session: &mut Session<'_>, args: &ConfigArgs) -> Result<(), CommandError> {
    let (data, stat) = session.client.get_config().await.map_err(|error| refused(CONFIG_PATH, error))?;
    if args.connection_string {
        let members = Members::parse(&data).map_err(CommandError::failure)?;
        let clients = members.servers.values().filter_map(|spec| spec.client.as_ref());
        let text: Vec<_> = clients.map(|client| format!("{}:{}", client.host, client.port)).collect();
        let text = text.join(",");
        return match session.form {
            Form::Json => session.out.json(&json!({ "servers": text })),
            Form::Text => session.out.line(&text),
        };
    }
    print(session, &data, &stat, args.stat)
}

/// Change the members of the ensemble; `grange ensemble` does it safely
#[derive(Debug, Args)]
#[command(
    after_help = "For one server more or less, see grange ensemble add and grange ensemble remove, which make sure \
                        that the ensemble goes on."
)]
pub(super) struct ReconfigArgs {
    /// Print the new stat too
    #[arg(short = 's')]
    stat: bool,
    /// Only if the members have this version, in hexadecimal
    #[arg(short = 'v', value_name = "VERSION", value_parser = hexadecimal)]
    version: Option<i64>,
    /// Servers to add or to change, such as 4=HOST:PORT:PORT;PORT
    #[arg(long, value_name = "SERVER", conflicts_with_all = ["members", "file"], required_unless_present_any = ["remove", "members", "file"])]
    add: Vec<String>,
    /// Numbers of servers to remove
    #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with_all = ["members", "file"])]
    remove: Vec<String>,
    /// All servers, instead of those there are
    #[arg(long, value_name = "SERVER", value_delimiter = ',', conflicts_with = "file")]
    members: Vec<String>,
    /// The same from the lines server.N of a file
    #[arg(long, value_name = "FILE")]
    file: Option<std::path::PathBuf>,
}

fn hexadecimal(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16).map_err(|_| "must be a hexadecimal number".to_owned())
}

pub(super) async fn reconfig(session: &mut Session<'_>, args: &ReconfigArgs) -> Result<(), CommandError> {
    let whole = match &args.file {
        Some(file) => read_servers(file)?,
        None => args.members.iter().map(|text| with_key(text)).collect(),
    };
    let joinings: Vec<_> = args.add.iter().map(|text| with_key(text)).collect();
    let changed = if whole.is_empty() {
        let joinings = joinings.iter().map(String::as_str);
        let leavings = args.remove.iter().map(String::as_str);
        let update = EnsembleUpdate::Incremental {
            joinings: Vec::from_iter(joinings).into_iter(),
            leavings: Vec::from_iter(leavings).into_iter(),
        };
        session.client.update_ensemble(update, args.version).await
    } else {
        let ensemble = Vec::from_iter(whole.iter().map(String::as_str)).into_iter();
        session.client.update_ensemble(EnsembleUpdate::New { ensemble }, args.version).await
    };
    let (data, stat) = changed.map_err(|error| match error {
        ClientError::ReconfigDisabled => CommandError::failure(anyhow!("reconfig is switched off on the servers"))
            .hint("it takes reconfigEnabled=true in their zoo.cfg"),
        error => refused(CONFIG_PATH, error),
    })?;
    print(session, &data, &stat, args.stat)
}

/// `server.` in front of a number is optional.
fn with_key(text: &str) -> String {
    if text.starts_with("server.") { text.to_owned() } else { format!("server.{text}") }
}

fn read_servers(file: &std::path::Path) -> Result<Vec<String>, CommandError> {
    let name = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| CommandError::failure(error).context(format!("cannot read {name}")))?;
    Members::parse(text.as_bytes()).map_err(CommandError::usage)?;
    let lines: Vec<_> =
        text.lines().map(str::trim).filter(|line| line.starts_with("server.")).map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(CommandError::usage(anyhow!("there is no line server.N in {name}")));
    }
    Ok(lines)
}

fn print(session: &mut Session<'_>, data: &[u8], stat: &Stat, with_stat: bool) -> Result<(), CommandError> {
    let text = String::from_utf8_lossy(data);
    if session.form == Form::Json {
        let mut object = json!({ "config": text });
        if with_stat {
            object["stat"] = stat_form::object(stat);
        }
        return session.out.json(&object);
    }
    if !text.is_empty() {
        session.out.text(text.trim_end_matches('\n'))?;
    }
    if with_stat { session.print_stat(stat) } else { Ok(()) }
}
