//! `grange shell deleteall`.

use std::collections::VecDeque;
use std::io;

use anyhow::anyhow;
use clap::Args;
use grange_client::ClientError;
use serde_json::json;

use crate::error::CommandError;
use crate::output::harmless_line;
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::progress::Progress;
use crate::shell::units::znodes;
use crate::shell::walk::{Step, Walk};
use crate::shell::{Form, Session};

/// Delete a znode and everything below it
///
/// Says how many znodes that is and asks, if it is run on a terminal.
#[derive(Debug, Args)]
pub(super) struct DeleteallArgs {
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// How many deletions are on their way at once
    #[arg(short = 'b', value_name = "COUNT", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// The znode
    path: PathArg,
}

pub(super) async fn run(session: &mut Session<'_>, args: &DeleteallArgs) -> Result<(), CommandError> {
    let root = &session.path(&args.path)?;
    if root == "/" {
        return Err(CommandError::usage(anyhow!("deleteall / would delete everything there is"))
            .hint("name the znodes; to see them: grange shell ls /"));
    }
    let mut paths = Vec::new();
    let progress = Progress::start(session.cx, "found");
    let mut walk = Walk::new(session.client, root);
    while let Some(Step { path, .. }) = walk.next().await? {
        progress.count();
        paths.push(path);
    }
    drop(progress);
    let shown = harmless_line(root);
    if !args.yes && session.can_ask() && !confirm(&format!("Delete {} at and below {shown}?", znodes(paths.len())))? {
        return Err(CommandError::negative(anyhow!("nothing was deleted")));
    }
    let deleted = delete_children_first(session, paths, usize::try_from(args.batch).unwrap_or(usize::MAX)).await?;
    match session.form {
        Form::Json => session.out.json(&json!({ "path": root, "deleted": deleted })),
        Form::Text => {
            eprintln!("deleted {} at and below {shown}", znodes(deleted));
            Ok(())
        }
    }
}

/// Deletes `paths`, which name each parent before its children, from the end; returns how many it deleted itself.
///
/// Requests of one session are carried out in order, so children are gone when their parent's turn comes, even though
/// nobody waits in between.
async fn delete_children_first(
    session: &Session<'_>,
    mut paths: Vec<String>,
    in_flight_max: usize,
) -> Result<usize, CommandError> {
    let progress = Progress::start(session.cx, "deleted");
    let mut deleted = 0;
    let mut in_flight = VecDeque::new();
    loop {
        while in_flight.len() < in_flight_max {
            let Some(path) = paths.pop() else { break };
            let reply = session.client.delete(&path, None);
            in_flight.push_back((path, reply));
        }
        let Some((path, reply)) = in_flight.pop_front() else { return Ok(deleted) };
        match reply.await {
            Ok(()) => {
                progress.count();
                deleted += 1;
            }
            Err(ClientError::NoNode) => {}
            Err(error) => {
                let refusal = refused(&path, error);
                return Err(
                    refusal.hint(format!("{} were deleted before; the command can be repeated", znodes(deleted)))
                );
            }
        }
    }
}

fn confirm(question: &str) -> Result<bool, CommandError> {
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| CommandError::failure(error).context("cannot read the answer"))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
