//! One of the jobs of a worker: takes items and runs the command, one after the other.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grange_client::recipes::{Item, LockingQueue, Priority, RecipeError};
use grange_proto::ZnodePath;
use serde_json::json;
use tokio::time::Instant;
use tracing::warn;

use crate::command::{Child, Input, Status, cannot_run};
use crate::error::CommandError;
use crate::queue::work::signals::Signals;
use crate::recipe_error::failed;

/// The variables by which a command knows its item.
const QUEUE: &str = "GRANGE_QUEUE";
const NAME: &str = "GRANGE_ITEM";
const ATTEMPT: &str = "GRANGE_ATTEMPT";

/// The part of the session's timeout that a command may take to end when its item is lost.
const LOST_PART: u32 = 5;

/// What the jobs of a worker have in common.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) command: Vec<OsString>,
    pub(super) attempts: u32,
    pub(super) failed: ZnodePath,
    pub(super) grace: Duration,
    pub(super) is_once: bool,
    /// Waits for items, until `deadline` if there is one.
    pub(super) waits: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) json: bool,
    pub(super) tally: Tally,
}

/// What came of the items.
#[derive(Debug, Default)]
pub(super) struct Tally {
    moved_aside: AtomicU64,
}

impl Tally {
    pub(super) fn moved_aside(&self) -> u64 {
        self.moved_aside.load(Ordering::Relaxed)
    }
}

/// Why a job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing more to do, or a signal.
    Done,
    /// Only another session can go on.
    SessionLost,
}

/// What came of a command.
enum Outcome {
    Ended(Status),
    /// A second signal came.
    Aborted,
    /// Somebody else may have the item.
    Lost,
}

/// Works until there is nothing more to do, a signal comes, or the session is lost.
pub(super) async fn run(queue: LockingQueue, plan: Arc<Plan>, signals: Signals) -> Result<Ending, CommandError> {
    loop {
        let taken = tokio::select! {
            biased;
            () = signals.stopping() => return Ok(Ending::Done),
            taken = take(&queue, &plan) => taken,
        };
        let item = match taken {
            Ok(Some(item)) => item,
            Ok(None) => return Ok(Ending::Done),
            Err(error) if error.is_session_end() => return Ok(Ending::SessionLost),
            Err(error) => return Err(failed(error)),
        };
        match work_on(item, &queue, &plan, &signals).await {
            Ok(()) if plan.is_once => return Ok(Ending::Done),
            Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn take(queue: &LockingQueue, plan: &Plan) -> Result<Option<Item>, RecipeError> {
    match plan.waits {
        true => queue.take_until(plan.deadline).await,
        false => queue.take().await,
    }
}

async fn work_on(item: Item, queue: &LockingQueue, plan: &Plan, signals: &Signals) -> Result<(), CommandError> {
    let name = item.name().to_owned();
    let attempt = item.given_back().saturating_add(1);
    let environment = [(QUEUE, queue.path().to_string()), (NAME, name.clone()), (ATTEMPT, attempt.to_string())];
    // The kernel kills it if this process dies, so that nobody works on an item that comes back.
    let mut child = match Child::start(&plan.command, &environment, Input::Bytes(item.data().to_vec())) {
        Ok(child) => child,
        Err(error) => {
            item.release().await.map_err(failed)?;
            return Err(CommandError::usage(error).context(cannot_run(&plan.command)));
        }
    };
    let lost = item.lost();
    let outcome = tokio::select! {
        status = child.ended() => Outcome::Ended(status),
        () = signals.aborting() => Outcome::Aborted,
        loss = lost => {
            warn!(item = name, %loss, "the item was lost; its command is ended");
            Outcome::Lost
        }
    };
    let (result, done) = match outcome {
        Outcome::Ended(status) if status.is_success() => ("done", item.consume().await),
        Outcome::Ended(status) => {
            warn!(item = name, attempt, "the command ended with {status}");
            settle_failed(item, plan, queue, attempt).await
        }
        Outcome::Aborted => {
            end(&mut child, plan.grace).await;
            ("returned", item.release().await)
        }
        Outcome::Lost => {
            // Two fifths of the session's timeout are left until somebody else can have the item.
            end(&mut child, plan.grace.min(queue.session_timeout() / LOST_PART)).await;
            drop(item);
            ("lost", Ok(()))
        }
    };
    let result = match done {
        Ok(()) => result,
        // It comes back, and the next attempt to take something tells of the session's end.
        Err(error) if error.is_session_end() || matches!(error, RecipeError::NotHeld { .. }) => {
            warn!(item = name, %error, "the item was lost");
            "lost"
        }
        Err(error) => return Err(failed(error)),
    };
    tell(plan, queue, &name, attempt, result)
}

/// Asks a command and all that it started to end, and ends them after `grace`.
async fn end(child: &mut Child, grace: Duration) {
    child.end_within(grace);
    child.ended().await;
    // What it has started does not have the item either.
    child.kill();
}

/// Gives a failed item back, or moves it aside.
async fn settle_failed(
    item: Item,
    plan: &Plan,
    queue: &LockingQueue,
    attempt: u32,
) -> (&'static str, Result<(), RecipeError>) {
    if attempt < plan.attempts {
        return ("returned", item.give_back().await);
    }
    let moved = async {
        let aside = queue.sibling(plan.failed.clone()).await?;
        item.move_to(&aside, Priority::default()).await
    };
    let moved = moved.await;
    if moved.is_ok() {
        plan.tally.moved_aside.fetch_add(1, Ordering::Relaxed);
    }
    ("failed", moved)
}

fn tell(plan: &Plan, queue: &LockingQueue, name: &str, attempt: u32, result: &str) -> Result<(), CommandError> {
    if !plan.json {
        return Ok(());
    }
    let object = json!({ "path": queue.path().as_str(), "name": name, "attempt": attempt, "result": result });
    writeln!(io::stdout().lock(), "{object}").map_err(CommandError::output)
}
