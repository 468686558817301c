//! `grange queue len`.

use clap::Args;
use grange_client::Client;
use grange_client::recipes::{LockingQueue, Queue};
use grange_proto::ZnodePath;
use serde_json::json;

use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;
use crate::recipe_error::failed;

/// Print how many items are in a queue, those that are worked on included
#[derive(Debug, Args)]
#[command(after_help = "With --json, \"taken\" says how many of the items are worked on.")]
pub(super) struct LenArgs {
    /// The queue is a plain one (kazoo's Queue)
    #[arg(long)]
    plain: bool,
    /// The queue; made if it is not there
    path: ZnodePath,
}

pub(super) async fn run(cx: &Context, client: Client, args: LenArgs, json: bool) -> Result<(), CommandError> {
    let path = args.path.as_str().to_owned();
    let (items, taken) = match args.plain {
        true => (Queue::open(client, args.path).await.map_err(failed)?.len().await.map_err(failed)?, 0),
        false => {
            let queue = LockingQueue::open(client, args.path).await.map_err(failed)?;
            (queue.len().await.map_err(failed)?, queue.taken_count().await.map_err(failed)?)
        }
    };
    let mut out = Output::new(cx);
    match json {
        true => out.json(&json!({ "path": path, "items": items, "taken": taken }))?,
        false => out.line(&items.to_string())?,
    }
    out.finish()
}
