//! The command that is run after changes: one at a time, and once more after the last one.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grange_farm::DueMark;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::command::{Child, Input, Request, Signals, Status};

/// How long we go on running the command once we are asked to end: for what it is doing, and for what has changed before
/// that. Asked twice, we do not wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a command may take to end that was told to, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// A command for the shell, and whether it has something to be run for.
#[derive(Debug)]
pub(super) struct Hook {
    command: Option<String>,
    environment: Vec<(&'static str, String)>,
    changes: Notify,
    due: Option<Arc<DueMark>>,
}

impl Hook {
    /// A command that is run for changes of the file at `path`; at once if an earlier process has left that to be done.
    pub(super) fn new(command: Option<String>, path: &Path, environment: Vec<(&'static str, String)>) -> Hook {
        let due = command.is_some().then(|| Arc::new(DueMark::of(path)));
        let hook = Hook { command, environment, changes: Notify::new(), due };
        if hook.due.as_ref().is_some_and(|due| due.is_set()) {
            info!("the command for changes is run for what had changed before this start");
            hook.changed();
        }
        hook
    }

    /// Returns the mark under which the file is to be changed; `None` if there is no command.
    pub(super) fn due(&self) -> Option<&Arc<DueMark>> {
        self.due.as_ref()
    }

    /// Has the command run, again if it runs already.
    pub(super) fn changed(&self) {
        self.changes.notify_one();
    }

    /// Runs the command after changes, until we are asked to end; to be called on the main thread, see [`Child::start`].
    /// Each request goes to `other`, the one to end too: before this returns, the command has ended, and was run for all
    /// changes of before.
    pub(super) async fn run(&self, signals: &mut Signals, mut other: impl FnMut(Request)) {
        let mut over_at = None;
        while over_at.is_none() {
            tokio::select! {
                request = signals.request() => {
                    if request == Request::End {
                        over_at = Some(Instant::now() + PATIENCE);
                    }
                    other(request);
                }
                () = self.changes.notified() => self.run_once(signals, &mut other, &mut over_at).await,
            }
        }
        while over_at.is_some_and(|over_at| Instant::now() < over_at) && self.has_changed() {
            self.run_once(signals, &mut other, &mut over_at).await;
        }
    }

    /// Runs the command for what has changed so far, if it has not been run for that.
    pub(super) async fn run_now(&self, signals: &mut Signals) {
        if self.has_changed() {
            self.run_once(signals, &mut |_| {}, &mut None).await;
        }
    }

    /// Tells whether there is something to run the command for, and takes note of that.
    fn has_changed(&self) -> bool {
        let changed = self.changes.notified();
        tokio::pin!(changed);
        changed.as_mut().enable()
    }

    /// Runs the command to its end; `over_at` is until when, once we are asked to end.
    async fn run_once(&self, signals: &mut Signals, other: &mut impl FnMut(Request), over_at: &mut Option<Instant>) {
        let Some(command) = &self.command else { return };
        let changes = self.due.as_ref().map(|due| (due, due.changes()));
        let mut child = match start(command, &self.environment) {
            Ok(child) => child,
            Err(error) => return warn!(%error, "cannot run the shell"),
        };
        let mut is_told = false;
        let status = loop {
            tokio::select! {
                status = child.ended() => break status,
                () = sleep_until(over_at.unwrap_or_else(Instant::now)), if over_at.is_some() && !is_told => {
                    is_told = true;
                    child.end_within(GRACE);
                }
                request = signals.request() => match (request, &over_at) {
                    (Request::End, Some(_)) => *over_at = Some(Instant::now()),
                    (request, _) => {
                        if request == Request::End {
                            *over_at = Some(Instant::now() + PATIENCE);
                        }
                        other(request);
                    }
                },
            }
        };
        // One that somebody has ended is run again at the next start.
        if let (false, Some((due, changes))) = (is_told || matches!(status, Status::Killed(_)), changes) {
            due.followed(changes);
        }
        if status.is_success() {
            info!("the command for changes has been run");
        } else {
            warn!("the command for changes ended with {status}");
        }
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
        () = tokio::time::sleep(patience) => child.end_within(GRACE.min(patience)),
    }
    // However it ends now, it was too slow.
    Ok(match child.ended().await {
        Status::Exited(0) => Status::Killed(rustix::process::Signal::TERM.as_raw()),
        status => status,
    })
}
