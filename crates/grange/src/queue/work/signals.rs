//! The signals that end a worker: the first one gently, the second one at once.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::CommandError;

/// How urgently a worker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    None,
    /// Take nothing more.
    Stop,
    /// End what runs.
    Abort,
}

/// What was asked for so far; clones see the same.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    urgency: Arc<watch::Sender<Urgency>>,
}

impl Signals {
    /// Listens from now on, instead of being ended by these signals.
    pub(super) fn listen() -> Result<Signals, CommandError> {
        let listen =
            |kind| signal(kind).map_err(|error| CommandError::failure(error).context("cannot listen for signals"));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut hangup = listen(SignalKind::hangup())?;
        let urgency = Arc::new(watch::Sender::new(Urgency::None));
        let sender = Arc::clone(&urgency);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                }
                sender.send_modify(|urgency| {
                    *urgency = if *urgency == Urgency::None { Urgency::Stop } else { Urgency::Abort };
                });
            }
        });
        Ok(Signals { urgency })
    }

    /// Acts as the first signal does.
    pub(super) fn stop(&self) {
        self.urgency.send_modify(|urgency| *urgency = (*urgency).max(Urgency::Stop));
    }

    /// Returns true once nothing more is to be taken.
    pub(super) fn is_stopping(&self) -> bool {
        *self.urgency.borrow() >= Urgency::Stop
    }

    /// Resolves when nothing more is to be taken.
    pub(super) async fn stopping(&self) {
        self.reached(Urgency::Stop).await;
    }

    /// Resolves when what runs is to end.
    pub(super) async fn aborting(&self) {
        self.reached(Urgency::Abort).await;
    }

    async fn reached(&self, least: Urgency) {
        let mut urgency = self.urgency.subscribe();
        // The sender lives as long as this value.
        let _ = urgency.wait_for(|urgency| *urgency >= least).await;
    }
}
