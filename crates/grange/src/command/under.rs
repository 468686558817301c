//! A command that runs under something that may be lost.

use std::future::Future;
use std::time::Duration;

use super::child::{Child, Status};
use super::signals::Signals;

/// How a command ended that ran under something.
#[derive(Debug)]
pub(crate) enum Turn<L> {
    /// By itself.
    Ended(Status),
    /// It was ended, because what it ran under was lost.
    Lost(L),
}

impl Child {
    /// Waits for the end, and passes on the signals that come meanwhile. When `lost` resolves, `tell` is called, and the
    /// command is asked to end, and killed after `grace`.
    pub(crate) async fn run_under<L>(
        mut self,
        lost: impl Future<Output = L>,
        grace: Duration,
        tell: impl Fn(&L),
        signals: &mut Signals,
    ) -> Turn<L> {
        tokio::pin!(lost);
        let mut loss = None;
        let status = loop {
            tokio::select! {
                status = self.run(signals) => break status,
                found = &mut lost, if loss.is_none() => {
                    tell(&found);
                    loss = Some(found);
                    self.end_within(grace);
                }
            }
        };
        let Some(loss) = loss else { return Turn::Ended(status) };
        // What it has started does not run under it either.
        self.kill();
        Turn::Lost(loss)
    }
}
