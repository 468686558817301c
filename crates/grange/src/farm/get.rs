//! `grange farm get`.

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use grange_farm::conf;
use grange_farm::fields::{self, FieldsError};
use grange_farm::{FieldPath, text_of};
use grange_proto::ZnodePath;
use serde_json::Value;

use super::fields_failed;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};

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
    Php,
}

impl Format {
    /// Writes a value, with a line break at the end.
    pub(super) fn write(self, value: &Value) -> Result<String, CommandError> {
        let format = match self {
            // In one line, for programs.
            Format::Json => return Ok(format!("{value}\n")),
            Format::Yaml => conf::Format::Yaml,
            Format::Php => conf::Format::Php,
        };
        conf::text_of(format, value).map_err(|why| {
            CommandError::failure(anyhow!(harmless_line(&why)))
                .context(format!("cannot write this as {}", format.name()))
        })
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
