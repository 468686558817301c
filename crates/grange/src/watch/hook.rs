//! A command that is run after changes: one at a time, with all that has changed since the last one began.

use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::error::CommandError;
use crate::output::harmless_line;

/// The most lines that wait for the next run. More are left out, the oldest first, and a line says how many.
const LINES_MAX: usize = 10_000;

/// The variable by which the command knows what is watched.
const PATH: &str = "GRANGE_PATH";

/// What waits for the next run.
#[derive(Debug, Default)]
struct Waiting {
    lines: std::collections::VecDeque<String>,
    left_out: usize,
    /// No more is coming.
    is_over: bool,
}

/// The command, and the task that runs it.
#[derive(Debug)]
pub(super) struct Hook {
    waiting: Arc<Mutex<Waiting>>,
    news: Arc<Notify>,
    task: JoinHandle<Result<(), CommandError>>,
}

impl Hook {
    pub(super) fn new(command: Vec<OsString>, path: &str) -> Hook {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let news = Arc::new(Notify::new());
        let task = tokio::spawn(run(command, path.to_owned(), Arc::clone(&waiting), Arc::clone(&news)));
        Hook { waiting, news, task }
    }

    /// Hands over one change. Errors: the command could not be started before.
    pub(super) async fn tell(&mut self, line: String) -> Result<(), CommandError> {
        if self.task.is_finished() {
            return (&mut self.task).await.map_err(CommandError::failure)?;
        }
        let mut waiting = self.waiting.lock().expect("nobody panics while holding it");
        waiting.lines.push_back(line);
        if waiting.lines.len() > LINES_MAX {
            waiting.lines.pop_front();
            waiting.left_out += 1;
        }
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// Waits until what was handed over has been told.
    pub(super) async fn finish(self) -> Result<(), CommandError> {
        self.waiting.lock().expect("nobody panics while holding it").is_over = true;
        self.news.notify_one();
        self.task.await.map_err(CommandError::failure)?
    }
}

async fn run(
    command: Vec<OsString>,
    path: String,
    waiting: Arc<Mutex<Waiting>>,
    news: Arc<Notify>,
) -> Result<(), CommandError> {
    loop {
        let (waited, is_over) = {
            let mut waiting = waiting.lock().expect("nobody panics while holding it");
            let is_over = waiting.is_over;
            (std::mem::take(&mut *waiting), is_over)
        };
        if !waited.lines.is_empty() {
            let status = run_once(&command, &path, &waited).await?;
            if !status.success() {
                warn!("the command ended with {status}");
            }
        } else if is_over {
            return Ok(());
        } else {
            news.notified().await;
            continue;
        }
        if is_over {
            waiting.lock().expect("nobody panics while holding it").is_over = true;
        }
    }
}

async fn run_once(command: &[OsString], path: &str, waited: &Waiting) -> Result<ExitStatus, CommandError> {
    let (program, arguments) = command.split_first().expect("a hook has a command");
    let started = Command::new(program).args(arguments).env(PATH, path).stdin(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| {
        CommandError::usage(error).context(format!("cannot run {}", harmless_line(&program.to_string_lossy())))
    })?;
    let mut input = child.stdin.take().expect("standard input is piped");
    let mut text = String::new();
    if waited.left_out > 0 {
        text = format!("{} changes before these are left out\n", waited.left_out);
    }
    for line in &waited.lines {
        text += line;
        text.push('\n');
    }
    let write = async {
        // A command that has seen enough closes its input.
        let _ = input.write_all(text.as_bytes()).await;
        drop(input);
    };
    let (status, ()) = tokio::join!(child.wait(), write);
    status.map_err(CommandError::failure)
}
