//! `grange queue put`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::Args;
use grange_client::Client;
use grange_client::recipes::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, LockingQueue, Priority, Queue, RecipeError, batches};
use grange_proto::ZnodePath;
use serde_json::json;

use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};
use crate::queue::input::{self, Separator};
use crate::recipe_error::failed;

/// Put items into a queue, each once: from the arguments, or line by line from standard input
#[derive(Debug, Args)]
#[command(after_help = "Many items share a transaction: up to 1000, or 512 KiB, are put together or not at all.")]
pub(super) struct PutArgs {
    /// Which items are taken first: those with smaller numbers, from 0 to 999
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    priority: Priority,
    /// Items on standard input end with a NUL byte instead of a line break
    #[arg(short = '0', long, conflicts_with_all = ["items", "whole"])]
    null: bool,
    /// All of standard input is one item
    #[arg(long, conflicts_with = "items")]
    whole: bool,
    /// The queue is a plain one (kazoo's Queue), which `get --plain` takes from
    #[arg(long)]
    plain: bool,
    /// The queue; made if it is not there
    path: ZnodePath,
    /// The items
    items: Vec<OsString>,
}

/// Either kind of queue.
enum Target {
    Locking(LockingQueue),
    Plain(Box<Queue>),
}

impl Target {
    async fn put(&self, batch: &[Vec<u8>], priority: Priority) -> Result<(), RecipeError> {
        match self {
            Target::Locking(queue) => queue.put_all(batch, priority).await,
            Target::Plain(queue) => queue.put_all(batch, priority).await,
        }
    }
}

pub(super) async fn run(cx: &Context, client: Client, args: PutArgs, json: bool) -> Result<(), CommandError> {
    let items: Vec<Vec<u8>> = args.items.into_iter().map(OsString::into_vec).collect();
    for (index, item) in items.iter().enumerate() {
        input::check(item, || format!("item {} of the arguments", index + 1))?;
    }
    let target = match args.plain {
        false => Target::Locking(LockingQueue::open(client, args.path.clone()).await.map_err(failed)?),
        true => Target::Plain(Box::new(Queue::open(client, args.path.clone()).await.map_err(failed)?)),
    };
    let separator = match (args.null, args.whole) {
        (true, _) => Separator::Nul,
        (_, true) => Separator::None,
        _ => Separator::Line,
    };
    let mut count = 0;
    let put = match items.is_empty() {
        false => put_all(&target, &items, args.priority, &mut count).await,
        true => put_input(&target, separator, args.priority, &mut count).await,
    };
    if let Err(error) = put {
        let path = harmless_line(args.path.as_str());
        return Err(error.context(format!("after {count} items were put into {path}")));
    }
    let mut out = Output::new(cx);
    if json {
        out.json(&json!({ "path": args.path.as_str(), "put": count }))?;
    }
    out.finish()
}

async fn put_all(
    target: &Target,
    items: &[Vec<u8>],
    priority: Priority,
    count: &mut usize,
) -> Result<(), CommandError> {
    for batch in batches(items) {
        target.put(batch, priority).await.map_err(failed)?;
        *count += batch.len();
    }
    Ok(())
}

/// Puts what is there already together, and does not wait for more.
async fn put_input(
    target: &Target,
    separator: Separator,
    priority: Priority,
    count: &mut usize,
) -> Result<(), CommandError> {
    let mut input = input::items(separator);
    while let Some(first) = input.recv().await {
        let mut items = vec![first?];
        let mut bytes = items[0].len();
        let mut wrong = None;
        while items.len() < BATCH_ITEMS_MAX && bytes < BATCH_BYTES_MAX / 2 {
            match input.try_recv() {
                Ok(Ok(item)) => {
                    bytes += item.len();
                    items.push(item);
                }
                Ok(Err(error)) => {
                    wrong = Some(error);
                    break;
                }
                Err(_) => break,
            }
        }
        put_all(target, &items, priority, count).await?;
        if let Some(error) = wrong {
            return Err(error);
        }
    }
    Ok(())
}
