//! A command that is run after changes: one at a time, with all that has changed since the last one began.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use crate::command::{Child, Input, Signals, Status, cannot_run, ended_by};
use crate::error::CommandError;

/// The most lines that wait for the next run. More are left out, the oldest first, and a line says how many.
const LINES_MAX: usize = 10_000;

/// How long a run may take to end after a signal that asks it to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The variable by which the command knows what is watched.
const PATH: &str = "GRANGE_PATH";

/// What waits for the next run.
#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    left_out: usize,
    /// No more is coming.
    is_over: bool,
}

/// The command, and what it is to be told.
#[derive(Debug)]
pub(super) struct Hook<'a> {
    command: &'a [OsString],
    path: &'a str,
    waiting: Mutex<Waiting>,
    news: Notify,
}

impl Hook<'_> {
    pub(super) fn new<'a>(command: &'a [OsString], path: &'a str) -> Hook<'a> {
        Hook { command, path, waiting: Mutex::default(), news: Notify::new() }
    }

    /// Hands over one change.
    pub(super) fn tell(&self, line: String) {
        let mut waiting = self.waiting();
        waiting.lines.push_back(line);
        if waiting.lines.len() > LINES_MAX {
            waiting.lines.pop_front();
            waiting.left_out += 1;
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// Lets [`Hook::run`] end when what was handed over has been told.
    pub(super) fn close(&self) {
        self.waiting().is_over = true;
        self.news.notify_one();
    }

    /// Runs the command again and again; to be called on the main thread, see [`Child::start`].
    ///
    /// Errors: the command cannot be started, or a signal has asked us to end. What still waits is not told then.
    pub(super) async fn run(&self, signals: &mut Signals) -> Result<(), CommandError> {
        loop {
            let (input, is_over) = self.take();
            if !input.is_empty() {
                let status = self.run_once(input, signals).await?;
                if let Some(signal) = signals.asked_by() {
                    return Err(ended_by(signal));
                }
                if !status.is_success() {
                    warn!("the command ended with {status}");
                }
            } else if is_over {
                return Ok(());
            } else {
                tokio::select! {
                    () = self.news.notified() => {}
                    signal = signals.end() => return Err(ended_by(signal)),
                }
            }
        }
    }

    async fn run_once(&self, input: String, signals: &mut Signals) -> Result<Status, CommandError> {
        let environment = [(PATH, self.path.to_owned())];
        let started = Child::start(self.command, &environment, Input::Bytes(input.into_bytes()));
        let child = started.map_err(|error| CommandError::usage(error).context(cannot_run(self.command)))?;
        Ok(child.with_patience(PATIENCE).run(signals).await)
    }

    /// Returns the input of the next run, empty if nothing has changed, and whether no more is coming.
    fn take(&self) -> (String, bool) {
        let mut waiting = self.waiting();
        let (lines, left_out) = (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.left_out));
        let is_over = waiting.is_over;
        drop(waiting);
        let mut input = String::new();
        if left_out > 0 {
            input = format!("{left_out} changes before these are left out\n");
        }
        for line in lines {
            input += &line;
            input.push('\n');
        }
        (input, is_over)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics while holding it")
    }
}
