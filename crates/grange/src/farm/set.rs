//! `grange farm set`.

use anyhow::anyhow;
use clap::Args;
use grange_farm::{FieldPath, fields};
use grange_proto::ZnodePath;
use serde_json::Value;

use super::fields_failed;
use crate::connection::ConnectionArgs;
use crate::error::CommandError;

/// Set a field of a host or of a farm, and leave the others as they are
///
/// The change is made on the condition that nobody has changed the znode meanwhile, and tried again if somebody has. What is
/// on the way to a dotted field and is no object becomes one.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 the field is set, 1 no such znode, 2 wrong usage, 3 failure.")]
pub(super) struct SetArgs {
    /// VALUE is JSON, such as 5, true or '{"a": 1}', and not text
    #[arg(long)]
    json_value: bool,
    /// The host, FARM/common or the farm
    znode: ZnodePath,
    /// The field, such as enabled or mysql.delay
    field: FieldPath,
    /// The new value
    #[arg(allow_hyphen_values = true)]
    value: String,
}

pub(super) async fn run(connection: &ConnectionArgs, args: &SetArgs) -> Result<(), CommandError> {
    let value = match args.json_value {
        false => Value::String(args.value.clone()),
        true => serde_json::from_str(&args.value).map_err(|error| {
            CommandError::usage(anyhow!("the value is not JSON: {error}"))
                .hint("without --json-value it is taken as text")
        })?,
    };
    let client = connection.connect().await?;
    let set = fields::set(&client, &args.znode, &args.field, &value).await;
    grange_client::close(client).await;
    set.map_err(fields_failed)
}
