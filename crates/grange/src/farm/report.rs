//! What a service says of itself: to systemd, and in a file for whoever watches over it.

use std::path::PathBuf;
use std::time::Duration;

use grange_farm::conf::{Candidate, differs};
use grange_farm::with_causes;
use sd_notify::NotifyState;
use serde_json::json;
use tracing::warn;

/// Where a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Everything is as it should be.
    Ok,
    /// It is refused to go on, until things change or somebody says so.
    Held,
    /// Something that was to be done has failed.
    Failed,
    /// The ensemble is not to be reached.
    Disconnected,
    /// The host has left the farm, because it is unwell.
    Unwell,
    /// Another process has the host's name.
    Displaced,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Held => "held",
            State::Failed => "failed",
            State::Disconnected => "disconnected",
            State::Unwell => "unwell",
            State::Displaced => "displaced",
        }
    }
}

/// Tells others where a service is.
#[derive(Debug)]
pub(super) struct Report {
    file: Option<PathBuf>,
    last: Option<(State, String)>,
    is_ready: bool,
}

impl Report {
    pub(super) fn new(file: Option<PathBuf>) -> Report {
        Report { file, last: None, is_ready: false }
    }

    /// Tells whether this has not been said last.
    pub(super) fn is_new(&self, state: State, text: &str) -> bool {
        self.last.as_ref().is_none_or(|(before, said)| *before != state || *said != one_line(text))
    }

    /// Says where the service is, if that is new. The first time that all is well it has started.
    pub(super) fn say(&mut self, state: State, text: impl Into<String>) {
        let text = one_line(&text.into());
        if !self.is_new(state, &text) {
            return;
        }
        notify(&[NotifyState::Status(&text)]);
        if !self.is_ready && !matches!(state, State::Disconnected | State::Failed) {
            self.is_ready = true;
            notify(&[NotifyState::Ready]);
        }
        if let Some(file) = &self.file {
            let bytes = format!("{}\n", json!({ "state": state.word(), "text": text }));
            let written = match differs(file, bytes.as_bytes()) {
                Ok(true) => Candidate::new(file, bytes.as_bytes()).and_then(Candidate::install),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                warn!(error = %with_causes(&error), "cannot write the status");
            }
        }
        self.last = Some((state, text));
    }
}

/// Makes one line of text: to systemd, each further line would be another message.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

impl Drop for Report {
    fn drop(&mut self) {
        notify(&[NotifyState::Stopping]);
    }
}

/// Tells systemd again and again that we are alive, if it wants to know.
pub(super) async fn feed_watchdog() -> std::convert::Infallible {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval((period / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, and that is no error.
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot notify systemd");
    }
}
