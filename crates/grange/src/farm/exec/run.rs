//! One run of the command, with everything before and after it.

use std::future::pending;

use anyhow::anyhow;
use grange_client::recipes::Loss;
use tokio::time::Instant;

use super::Plan;
use super::stand::Stand;
use crate::command::{self, Child, Input, Signals, Status, cannot_start, ended_by};
use crate::error::CommandError;
use crate::hold;
use crate::output::harmless_line;

/// How a run ended.
pub(super) enum Turn {
    /// The command has ended.
    Ended { status: Status, began: Instant },
    /// The command was ended because what it ran under was lost, or something could not be put back after it.
    Failed { error: CommandError, began: Instant },
}

/// What was lost.
struct Lost {
    what: String,
    loss: Loss,
}

impl Plan<'_> {
    /// Waits until the command may run, runs it, and puts everything back.
    pub(super) async fn turn(&self, signals: &mut Signals) -> Result<Turn, CommandError> {
        let mut stand = Stand::default();
        let ready = tokio::select! {
            ready = self.stand(&mut stand) => ready,
            signal = signals.end() => Err(ended_by(signal)),
        };
        let ran = match ready {
            Ok(()) => self.run_command(&stand, signals).await,
            Err(error) => Err(error),
        };
        match (ran, self.leave(stand, signals).await) {
            (ran, Ok(())) => ran,
            (Ok(Turn::Ended { status, began }), Err(error)) if status.is_success() => Ok(Turn::Failed { error, began }),
            (ran, Err(error)) => {
                // The exit status does not tell of this.
                eprint!("{error}");
                ran
            }
        }
    }

    async fn run_command(&self, stand: &Stand, signals: &mut Signals) -> Result<Turn, CommandError> {
        let mut environment = vec![("GRANGE_FARM", self.args.znode.to_string())];
        environment.extend(self.host.clone().map(|host| ("GRANGE_HOST", host)));
        if let (Some(path), Some(held)) = (&self.lock, &stand.lock) {
            environment.extend(hold::environment(path, held));
        }
        let session_timeout = stand.client.as_ref().map(grange_client::Client::session_timeout);
        let grace = self.args.grace.or(session_timeout.map(|timeout| timeout / 5)).unwrap_or_default();
        let command = &self.args.command;
        let began = Instant::now();
        let child = Child::start(command, &environment, Input::Ours).map_err(|error| cannot_start(command, &error))?;
        let tell = |lost: &Lost| self.say(&format!("{} was lost: {}; ending CMD", lost.what, lost.loss));
        match child.run_under(self.lost(stand), grace, tell, signals).await {
            command::Turn::Ended(status) => Ok(Turn::Ended { status, began }),
            command::Turn::Lost(Lost { what, loss }) => {
                let what = harmless_line(&what);
                let error = CommandError::failure(anyhow!("{what} was lost while CMD ran: {loss}"));
                Ok(Turn::Failed { error, began })
            }
        }
    }

    /// Resolves when the command must not go on.
    fn lost(&self, stand: &Stand) -> impl Future<Output = Lost> + use<> {
        let lock = stand.lock.as_ref().map(|held| held.lost());
        let setting = stand.setting.as_ref().map(|setting| setting.alive.lost());
        let path = self.lock.as_ref().map(ToString::to_string).unwrap_or_default();
        let fields = format!("the session in which fields of {} are set", self.host.as_deref().unwrap_or_default());
        async move {
            tokio::select! {
                loss = or_never(lock) => Lost { what: path, loss },
                loss = or_never(setting) => Lost { what: fields, loss },
            }
        }
    }
}

async fn or_never<F: Future<Output = Loss>>(loss: Option<F>) -> Loss {
    match loss {
        Some(loss) => loss.await,
        None => pending().await,
    }
}
