//! `grange tree export`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use grange_client::declared::{self, Exported};
use grange_proto::ZnodePath;
use serde_json::json;

use super::Output;
use super::session::cannot_read;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output;

/// Print a znode and everything below it as a file for apply
///
/// Data and ACLs are kept byte for byte; ephemeral znodes and /zookeeper are left out. It holds the hashes of digest
/// users.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The znode
    #[arg(value_name = "PATH")]
    path: ZnodePath,
    /// Write into this file, which then has mode 0600; an existing one is replaced
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(
    cx: &Context,
    connection: &ConnectionArgs,
    form: Output,
    args: &ExportArgs,
) -> Result<(), CommandError> {
    let client = connection.connect().await?;
    let exported = declared::export(&client, args.path.as_str()).await;
    grange_client::close(client).await;
    let exported = exported.map_err(cannot_read)?;
    match &args.output {
        Some(path) => replace(path, exported.text.as_bytes())
            .map_err(|error| CommandError::failure(error).context(format!("cannot write {}", path.display())))?,
        None if form == Output::Text => {
            let mut out = output::Output::new(cx);
            out.data(exported.text.as_bytes())?;
            out.finish()?;
        }
        None => {}
    }
    note(&exported);
    if form == Output::Json {
        let mut out = output::Output::new(cx);
        let text = args.output.is_none().then_some(&exported.text);
        out.json(&json!({ "znodes": exported.znode_count, "ephemeral": exported.ephemeral_count, "text": text }))?;
        out.finish()?;
    }
    Ok(())
}

fn note(exported: &Exported) {
    if exported.ephemeral_count > 0 {
        eprintln!("note: {} ephemeral znodes are left out", exported.ephemeral_count);
    }
    if let Some(first) = exported.hidden.first() {
        let (first, count) = (output::harmless_line(first), exported.hidden.len());
        eprintln!("warning: the server hides the hashes of {count} znodes, of which {first} is the first: their users");
        eprintln!("warning: could not log in after an apply; export as somebody with admin (a) on them");
    }
}

/// Puts a file in its place, whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It may be gone already; the first error says more.
        let _ = fs::remove_file(&beside);
    }
    written
}
