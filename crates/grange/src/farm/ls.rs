//! `grange farm ls`.

use std::collections::BTreeMap;

use clap::Args;
use grange_farm::events::explain;
use grange_farm::hosts::{self, host_path};
use grange_farm::{FieldPath, Host, Properties, leaves, text_of};
use grange_proto::ZnodePath;
use serde_json::{Map, Value, json};

use super::cannot_read;
use super::filters::FilterArgs;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};

/// List the hosts of a farm, one per line
///
/// A znode whose children are farms can be listed as well. `common`, which all hosts share, is among the names.
#[derive(Debug, Args)]
#[command(
    after_help = "A host whose data are no properties is named on standard error; with --filters it is left out.\n\n\
                        Exit status: 0 success, also if no host is meant; 1 no such farm, 2 wrong usage, 3 failure."
)]
pub(super) struct LsArgs {
    /// Print these fields behind the name, such as hostname,mysql.delay; one that is missing is left out
    #[arg(long, value_name = "FIELD,FIELD", value_delimiter = ',')]
    fields: Vec<FieldPath>,
    /// Print every field
    #[arg(short = 'l', long, conflicts_with = "fields")]
    long: bool,
    #[command(flatten)]
    meant: FilterArgs,
    /// Print one JSON object per host
    #[arg(long)]
    json: bool,
    /// The farm
    znode: ZnodePath,
}

impl LsArgs {
    fn needs_properties(&self) -> bool {
        self.long || self.json || !self.fields.is_empty() || !self.meant.filters.is_empty()
    }
}

pub(super) async fn run(cx: &Context, connection: &ConnectionArgs, args: &LsArgs) -> Result<(), CommandError> {
    let client = connection.connect().await?;
    let listed = match args.needs_properties() {
        true => hosts::read(&client, &args.znode).await.map(Listed::Hosts),
        false => hosts::names(&client, &args.znode).await.map(Listed::Names),
    };
    grange_client::close(client).await;
    let mut out = Output::new(cx);
    match listed.map_err(cannot_read)? {
        Listed::Names(names) => names.iter().try_for_each(|name| out.line(name))?,
        Listed::Hosts(hosts) => print(&mut out, args, hosts)?,
    }
    out.finish()
}

enum Listed {
    Names(Vec<String>),
    Hosts(BTreeMap<String, Host>),
}

fn print(out: &mut Output, args: &LsArgs, mut hosts: BTreeMap<String, Host>) -> Result<(), CommandError> {
    for (name, host) in &hosts {
        if let Err(error) = host {
            eprintln!("warning: {}", harmless_line(&format!("{}: {}", host_path(&args.znode, name), explain(error))));
        }
    }
    if !args.meant.filters.is_empty() {
        hosts.retain(|_, host| host.as_ref().is_ok_and(|host| args.meant.filters.matches(host)));
    }
    let shows_fields = args.long || !args.fields.is_empty();
    let width = if shows_fields { hosts.keys().map(|name| name.chars().count()).max().unwrap_or(0) } else { 0 };
    for (name, host) in &hosts {
        match (args.json, host) {
            (true, host) => out.json(&object(args, name, host))?,
            (false, Ok(host)) if shows_fields => {
                // A value with a line break is not to pass for another host.
                out.line(harmless_line(&format!("{name:width$}  {}", fields(args, host))).trim_end())?
            }
            (false, _) => out.line(name)?,
        }
    }
    Ok(())
}

fn fields(args: &LsArgs, host: &Properties) -> String {
    let shown: Vec<String> = match args.long {
        true => leaves(host).into_iter().map(|(field, value)| format!("{field}={}", text_of(value))).collect(),
        false => {
            let found = args.fields.iter().filter_map(|field| Some((field, host.get(field)?)));
            found.map(|(field, value)| format!("{field}={}", text_of(value))).collect()
        }
    };
    shown.join(", ")
}

fn object(args: &LsArgs, name: &str, host: &Host) -> Value {
    match host {
        Err(error) => json!({ "host": name, "error": explain(error) }),
        Ok(host) if args.fields.is_empty() => json!({ "host": name, "properties": host.fields() }),
        Ok(host) => {
            let value = |field| host.get(field).cloned().unwrap_or(Value::Null);
            let fields: Map<String, Value> =
                args.fields.iter().map(|field| (field.to_string(), value(field))).collect();
            json!({ "host": name, "fields": fields })
        }
    }
}
