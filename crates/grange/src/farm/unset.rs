//! `grange farm unset`.

use clap::Args;
use grange_farm::{FieldPath, fields};
use grange_proto::ZnodePath;

use super::fields_failed;
use crate::connection::ConnectionArgs;
use crate::error::CommandError;

/// Remove a field of a host or of a farm, and leave the others as they are
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 the field is gone, 1 there was none, or no such znode; 2 wrong usage, 3 failure."
)]
pub(super) struct UnsetArgs {
    /// The host, FARM/common or the farm
    znode: ZnodePath,
    /// The field, such as enabled or mysql.delay
    field: FieldPath,
}

pub(super) async fn run(connection: &ConnectionArgs, args: &UnsetArgs) -> Result<(), CommandError> {
    let client = connection.connect().await?;
    let unset = fields::unset(&client, &args.znode, &args.field).await;
    grange_client::close(client).await;
    unset.map_err(fields_failed)
}
