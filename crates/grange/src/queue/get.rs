//! `grange queue get`.

use anyhow::anyhow;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use grange_client::Client;
use grange_client::recipes::{LockingQueue, Queue};
use grange_proto::ZnodePath;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};
use crate::recipe_error::failed;
use crate::wait::WaitArgs;

/// Take an item out of a queue and print it: byte by byte when piped, made harmless on a terminal
#[derive(Debug, Args)]
#[command(
    after_help = "The item leaves the queue after it was printed. To keep it there until something was done with it: \
                        grange queue work.\n\nWith --json, an item that is UTF-8 text is in \"data\", another one in \
                        \"dataBase64\"."
)]
pub(super) struct GetArgs {
    #[command(flatten)]
    wait: WaitArgs,
    /// The queue is a plain one (kazoo's Queue): the item leaves it before it is printed
    #[arg(long)]
    plain: bool,
    /// The queue
    path: ZnodePath,
}

pub(super) async fn run(cx: &Context, client: Client, args: GetArgs, json: bool) -> Result<(), CommandError> {
    let path = args.path.clone();
    let deadline = args.wait.deadline();
    if args.plain {
        let queue = Queue::open(client, args.path).await.map_err(failed)?;
        let data = queue.get_until(deadline).await.map_err(failed)?.ok_or_else(|| nothing(&path))?;
        return print(cx, &path, None, &data, json);
    }
    let queue = LockingQueue::open(client, args.path).await.map_err(failed)?;
    // Without a wait, what is known may be behind.
    let known = queue.take().await.map_err(failed)?;
    let taken = match known {
        Some(item) => Some(item),
        None => queue.take_until(deadline).await.map_err(failed)?,
    };
    let item = taken.ok_or_else(|| nothing(&path))?;
    if let Err(error) = print(cx, &path, Some(item.name()), item.data(), json) {
        // Nobody has seen it.
        item.release().await.map_err(failed)?;
        return Err(error);
    }
    item.consume().await.map_err(failed)
}

fn nothing(path: &ZnodePath) -> CommandError {
    CommandError::negative(anyhow!("there is no item in {}", harmless_line(path.as_str())))
}

fn print(cx: &Context, path: &ZnodePath, name: Option<&str>, data: &[u8], json: bool) -> Result<(), CommandError> {
    let mut out = Output::new(cx);
    match json {
        true => out.json(&object(path.as_str(), name, data))?,
        false => out.data(data)?,
    }
    out.finish()
}

/// An item in JSON.
pub(super) fn object(path: &str, name: Option<&str>, data: &[u8]) -> Value {
    let mut object = json!({ "path": path });
    if let Some(name) = name {
        object["name"] = name.into();
    }
    match std::str::from_utf8(data) {
        Ok(text) => object["data"] = text.into(),
        Err(_) => object["dataBase64"] = STANDARD.encode(data).into(),
    }
    object
}
