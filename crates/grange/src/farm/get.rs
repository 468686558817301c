//! `grange farm get`.

use clap::{Args, ValueEnum};
use grange_farm::fields::{self, FieldsError};
use grange_farm::{FieldPath, text_of};
use grange_proto::ZnodePath;
use serde_json::Value;

use super::fields_failed;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

/// Print a field of a host or of a farm, or all of them
#[derive(Debug, Args)]
#[command(after_help = "A field without --format: text as it is, everything else as JSON.\n\n\
                        Exit status: 0 success, 1 no such znode or field, 2 wrong usage, 3 failure.")]
pub(super) struct GetArgs {
    /// The form of what is printed [default: yaml, for all fields]
    #[arg(short = 'f', long, value_enum)]
    format: Option<Format>,
    /// The host, FARM/common or the farm
    znode: ZnodePath,
    /// The field, such as hostname or mysql.delay [default: all]
    field: Option<FieldPath>,
}

/// The form of properties that are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    Yaml,
}

impl Format {
    /// Writes a value, with a line break at the end.
    pub(super) fn write(self, value: &Value) -> Result<String, CommandError> {
        match self {
            Format::Json => Ok(format!("{value}\n")),
            Format::Yaml => {
                let text = serde_saphyr::to_string(value);
                text.map_err(|error| CommandError::failure(error).context("cannot write this as YAML"))
            }
        }
    }
}

pub(super) async fn run(cx: &Context, connection: &ConnectionArgs, args: &GetArgs) -> Result<(), CommandError> {
    let client = connection.connect().await?;
    let read = fields::get(&client, &args.znode).await;
    grange_client::close(client).await;
    let properties = read.map_err(fields_failed)?;
    let mut out = Output::new(cx);
    match &args.field {
        None => out.data(args.format.unwrap_or(Format::Yaml).write(&properties.into())?.as_bytes())?,
        Some(field) => {
            let missing = || FieldsError::NoField { path: args.znode.clone(), field: field.clone() };
            let value = properties.get(field).ok_or_else(|| fields_failed(missing()))?;
            match args.format {
                None => out.text(&text_of(value))?,
                Some(format) => out.data(format.write(value)?.as_bytes())?,
            }
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_read_as_what_was_written() {
        let value = json!({
            "text": "db-01", "number as text": "1", "octal": "0o17", "float": "1e3", "yes": "yes", "null": "null",
            "date": "2026-01-02", "empty": "", "colon": "a: b", "comment": "a # b", "quote": "it's \"so\"",
            "lines": "a\n b\n", "control": "\u{1b}[2J\u{7}", "tilde": "~", "list": [1, -2.5, true, null, []],
            "object": {"": {}, "- x": "!tag", "&a": "*a"}, "%": "@x", "size": 17, "filter": "enabled=1,delay<60",
        });
        let text = Format::Yaml.write(&value).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{text:?}");
    }
}
