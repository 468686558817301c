//! The command that is run after changes: one at a time, and once more after the last one.

use std::ffi::OsString;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{info, warn};

use crate::command::{Child, Input, Request, Signals, Status};

/// How long a run may take to end once we are asked to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command for the shell, and whether it has something to be run for.
#[derive(Debug)]
pub(super) struct Hook {
    command: Option<String>,
    environment: Vec<(&'static str, String)>,
    changes: Notify,
}

impl Hook {
    pub(super) fn new(command: Option<String>, environment: Vec<(&'static str, String)>) -> Hook {
        Hook { command, environment, changes: Notify::new() }
    }

    /// Has the command run, again if it runs already.
    pub(super) fn changed(&self) {
        self.changes.notify_one();
    }

    /// Runs the command after changes, until we are asked to end; to be called on the main thread, see [`Child::start`].
    /// Other requests go to `other`.
    pub(super) async fn run(&self, signals: &mut Signals, mut other: impl FnMut(Request)) {
        loop {
            tokio::select! {
                request = signals.request() => match request {
                    Request::End => return,
                    request => other(request),
                },
                () = self.changes.notified() => {
                    if self.run_once(signals, &mut other).await {
                        return;
                    }
                }
            }
        }
    }

    /// Runs the command for what has changed so far, if it has not been run for that.
    pub(super) async fn run_now(&self, signals: &mut Signals) {
        let changed = self.changes.notified();
        tokio::pin!(changed);
        if changed.as_mut().enable() {
            self.run_once(signals, &mut |_| {}).await;
        }
    }

    /// Tells whether we are asked to end.
    async fn run_once(&self, signals: &mut Signals, other: &mut impl FnMut(Request)) -> bool {
        let Some(command) = &self.command else { return false };
        let mut child = match start(command, &self.environment) {
            Ok(child) => child,
            Err(error) => {
                warn!(%error, "cannot run the shell");
                return false;
            }
        };
        let mut is_over = false;
        let status = loop {
            tokio::select! {
                status = child.ended() => break status,
                request = signals.request() => match request {
                    Request::End => {
                        is_over = true;
                        child.end_within(PATIENCE);
                    }
                    request => other(request),
                },
            }
        };
        if status.is_success() {
            info!("the command for changes has been run");
        } else {
            warn!("the command for changes ended with {status}");
        }
        is_over
    }
}

/// Starts a command in the shell, with nothing to read.
pub(super) fn start(command: &str, environment: &[(&str, String)]) -> std::io::Result<Child> {
    let command: [OsString; 3] = ["/bin/sh".into(), "-c".into(), command.into()];
    Child::start(&command, environment, Input::Bytes(Vec::new()))
}

/// Runs a command in the shell for `patience` at most; after that it is told to end, and soon killed.
pub(super) async fn run_within(
    command: &str,
    environment: &[(&str, String)],
    patience: Duration,
) -> std::io::Result<Status> {
    let mut child = start(command, environment)?;
    tokio::select! {
        status = child.ended() => return Ok(status),
        () = tokio::time::sleep(patience) => child.end_within(PATIENCE.min(patience)),
    }
    // However it ends now, it was too slow.
    Ok(match child.ended().await {
        Status::Exited(0) => Status::Killed(rustix::process::Signal::TERM.as_raw()),
        status => status,
    })
}
