//! Standing ready: everything that must hold before a command may start.
//!
//! The lock is held only while it is looked whether the rest holds as well. If it does not, the lock is given back, what is
//! in the way is waited for, and then everything is looked at anew: so one who waits for a healthy farm, or for the
//! night, keeps nobody else from running.

use std::time::Duration;

use anyhow::anyhow;
use grange_client::recipes::{Held, LockError, RecipeError, Semaphore};
use grange_client::{Client, close};
use grange_farm::check::{Rules, Status, check_view};
use grange_farm::exec::{ExecError, Record, SetOutcome, Setting, Settled, UndoLog, Whose, view_now};
use grange_farm::{FarmView, FieldPath};
use jiff::Zoned;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::guardian::Guardian;
use super::{Plan, exec_failed, misplaced};
use crate::command::{Signals, ended_by};
use crate::connection::connect;
use crate::error::CommandError;
use crate::hold::{Wanted, default_id, explained};
use crate::recipe_error::failed;

/// How long one sleeps at most while waiting for an hour: the clock may be set, and the machine may be suspended.
const CLOCK_PERIOD: Duration = Duration::from_secs(30);

/// How long giving the lock back may take; after that the end of the session does it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it is tried to put fields back; after that the guardian goes on.
const PUT_BACK_TIMEOUT: Duration = Duration::from_secs(15);

/// How long it is tried to put fields back once a signal has come.
const HURRY_TIMEOUT: Duration = Duration::from_secs(2);

/// What has been obtained so far, and has to be given back.
#[derive(Debug, Default)]
pub(super) struct Stand {
    pub(super) client: Option<Client>,
    pub(super) lock: Option<Held>,
    pub(super) setting: Option<Box<Setting>>,
    /// The name of the record that was, or may have been, made, and who sees to it if we cannot.
    record: Option<(String, Guardian)>,
    /// What is waited for.
    why: String,
}

/// Why the command may not start now.
enum Obstacle {
    Hours,
    Locked(String),
    Unhealthy(Box<FarmView>, String),
    /// The same, for a reason that does not pass by itself.
    Unknown(Box<FarmView>, String),
    Busy(Box<Record>),
    NoHost,
}

/// Why it could not be found out.
enum Trouble {
    /// The session or the lock is gone: another try may go better.
    Lost,
    Failed(CommandError),
}

impl From<CommandError> for Trouble {
    fn from(error: CommandError) -> Trouble {
        Trouble::Failed(error)
    }
}

impl From<LockError> for Trouble {
    fn from(error: LockError) -> Trouble {
        if error.is_session_end() { Trouble::Lost } else { Trouble::Failed(explained(error, "-c")) }
    }
}

impl From<RecipeError> for Trouble {
    fn from(error: RecipeError) -> Trouble {
        if error.is_session_end() { Trouble::Lost } else { Trouble::Failed(failed(error)) }
    }
}

impl From<ExecError> for Trouble {
    fn from(error: ExecError) -> Trouble {
        if error.is_session_end() { Trouble::Lost } else { Trouble::Failed(exec_failed(error)) }
    }
}

impl Stand {
    /// Tells whether what was obtained is gone already.
    fn is_lost(&self) -> bool {
        let alive = self.setting.as_ref().map(|setting| &setting.alive);
        self.lock.iter().chain(alive).any(|held| held.loss().is_some())
    }

    /// Gives the lock back, for others not to wait for the session's end.
    async fn let_go(&mut self) {
        if let Some(held) = self.lock.take() {
            let _ = timeout(RELEASE_TIMEOUT, held.release()).await;
        }
    }
}

impl Plan<'_> {
    /// Waits until the command may start, for as long as was said.
    pub(super) async fn stand(&self, stand: &mut Stand) -> Result<(), CommandError> {
        match self.args.wait.filter(|wait| !wait.is_zero()) {
            None => self.stand_ready(stand).await,
            Some(wait) => match timeout(wait, self.stand_ready(stand)).await {
                Ok(ready) => ready,
                Err(_elapsed) => Err(may_not_run(&stand.why)),
            },
        }
    }

    async fn stand_ready(&self, stand: &mut Stand) -> Result<(), CommandError> {
        loop {
            let obstacle = match self.look(stand).await {
                Ok(None) if stand.is_lost() => Err(Trouble::Lost),
                looked => looked,
            };
            let obstacle = match obstacle {
                Ok(None) => return Ok(()),
                Ok(Some(obstacle)) => obstacle,
                Err(Trouble::Lost) => {
                    self.say("the session or the lock was lost; beginning anew");
                    self.put_back(stand).await?;
                    stand.let_go().await;
                    continue;
                }
                Err(Trouble::Failed(error)) => return Err(error),
            };
            stand.let_go().await;
            stand.why = self.describe(&obstacle);
            let is_lasting = matches!(obstacle, Obstacle::Unknown(..) | Obstacle::NoHost);
            match (self.args.wait, self.args.repeat) {
                (Some(Duration::ZERO), _) => return Err(may_not_run(&stand.why)),
                (None, None) if is_lasting => {
                    return Err(may_not_run(&stand.why).hint("wait for it with --wait SECONDS"));
                }
                _ => self.say(&format!("waiting: {}", stand.why)),
            }
            match self.wait_out(obstacle, stand).await {
                Ok(()) | Err(Trouble::Lost) => {}
                Err(Trouble::Failed(error)) => return Err(error),
            }
        }
    }

    /// Takes the lock and looks at everything; returns the first thing that is in the way.
    async fn look(&self, stand: &mut Stand) -> Result<Option<Obstacle>, Trouble> {
        let hours = &self.args.allowed_hour_ranges;
        if !hours.contain(Zoned::now().time()) {
            return Ok(Some(Obstacle::Hours));
        }
        let client = match stand.client.take().filter(|client| !client.state().is_terminated()) {
            Some(client) => client,
            None => {
                stand.why = "there is no session yet".to_owned();
                connect(&self.options).await?
            }
        };
        stand.client = Some(client.clone());
        if let Some(wanted) = self.wanted(&client) {
            let path = self.lock.as_ref().expect("a lock is wanted");
            stand.why = format!("{path} is not free");
            let wait = self.args.wait.filter(Duration::is_zero);
            let acquired = tokio::select! {
                acquired = wanted.acquire(wait) => acquired?,
                never = wanted.tell(self.cx, path) => match never {},
            };
            match acquired {
                Some(held) => stand.lock = Some(held),
                None => return Ok(Some(Obstacle::Locked(wanted.holders().await))),
            }
            if !hours.contain(Zoned::now().time()) {
                return Ok(Some(Obstacle::Hours));
            }
        }
        if self.args.healthy {
            let view = Box::new(view_now(client.clone(), self.place.farm()).await?);
            match self.judge(&view) {
                Judgement::Healthy(_) => {}
                Judgement::Unhealthy(why) => return Ok(Some(Obstacle::Unhealthy(view, why))),
                Judgement::Unknown(why) => return Ok(Some(Obstacle::Unknown(view, why))),
            }
        }
        if self.args.set.is_empty() { Ok(None) } else { self.set(stand, &client).await }
    }

    /// Returns the lock in a session.
    pub(super) fn wanted(&self, client: &Client) -> Option<Wanted> {
        let path = self.lock.clone()?;
        Some(Wanted::Lease(Semaphore::new(client, path, &default_id(), self.args.concurrency)))
    }

    /// Returns the records of this host.
    pub(super) fn log(&self, client: &Client) -> Result<UndoLog, CommandError> {
        UndoLog::new(client, &self.place, self.host()).map_err(misplaced)
    }

    pub(super) fn fields(&self) -> Vec<FieldPath> {
        self.args.set.iter().map(|(field, _)| field.clone()).collect()
    }

    /// Sets the fields. Who watches over them is there before.
    async fn set(&self, stand: &mut Stand, client: &Client) -> Result<Option<Obstacle>, Trouble> {
        let log = self.log(client)?;
        if let Some(record) = log.holder(&self.fields()).await? {
            return Ok(Some(Obstacle::Busy(Box::new(record))));
        }
        let name = Uuid::new_v4().simple().to_string();
        let guardian = Guardian::start(self.connection, &self.args.znode, self.host(), &name)?;
        stand.record = Some((name.clone(), guardian));
        let obstacle = match log.set(&name, &self.args.set, &default_id()).await? {
            SetOutcome::Set(setting) => {
                stand.setting = Some(setting);
                return Ok(None);
            }
            SetOutcome::Busy(record) => Obstacle::Busy(record),
            SetOutcome::NoHost => Obstacle::NoHost,
        };
        if let Some((_, guardian)) = stand.record.take() {
            guardian.dismiss().await;
        }
        Ok(Some(obstacle))
    }

    async fn wait_out(&self, obstacle: Obstacle, stand: &Stand) -> Result<(), Trouble> {
        let client = stand.client.as_ref();
        match (obstacle, client) {
            (Obstacle::Hours, _) => {
                let hours = &self.args.allowed_hour_ranges;
                while !hours.contain(Zoned::now().time()) {
                    sleep(until_next(hours.next(&Zoned::now()))).await;
                }
            }
            (Obstacle::Unhealthy(mut view, _) | Obstacle::Unknown(mut view, _), _) => {
                while !matches!(self.judge(&view), Judgement::Healthy(_)) {
                    view.next().await?;
                }
            }
            (Obstacle::Busy(record), Some(client)) => self.log(client)?.wait_for_end(&record).await?,
            (Obstacle::NoHost, Some(client)) => self.log(client)?.wait_for_host().await?,
            // Without a session, everything is looked at anew; who only tries the lock does not come here.
            (Obstacle::Busy(_) | Obstacle::NoHost | Obstacle::Locked(_), _) => {}
        }
        Ok(())
    }

    /// Judges the farm by the rule of `check`.
    pub(super) fn judge(&self, view: &FarmView) -> Judgement {
        if !view.exists() {
            return Judgement::Unknown(format!("there is no farm {}", view.farm()));
        }
        let rules = Rules { max: self.args.max_failed.clone(), warn: None, filter: None };
        match check_view(view, &rules) {
            Ok(verdict) if verdict.status == Status::Critical => Judgement::Unhealthy(verdict.to_string()),
            Ok(verdict) => Judgement::Healthy(verdict.to_string()),
            Err(error) => Judgement::Unknown(format!("{:#}", anyhow::Error::from(error))),
        }
    }

    fn describe(&self, obstacle: &Obstacle) -> String {
        match obstacle {
            Obstacle::Hours => self.describe_hours(),
            Obstacle::Locked(holders) => {
                let path = self.lock.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{path} is not free: {holders}")
            }
            Obstacle::Unhealthy(_, why) => format!("the farm is not healthy: {why}"),
            Obstacle::Unknown(_, why) => format!("whether the farm is healthy is not known: {why}"),
            Obstacle::Busy(record) => self.describe_record(record),
            Obstacle::NoHost => format!("{} is not in the farm", self.host()),
        }
    }

    pub(super) fn describe_hours(&self) -> String {
        let hours = &self.args.allowed_hour_ranges;
        let next = hours.next(&Zoned::now()).map(|next| next.strftime("%Y-%m-%d %H:%M %Z").to_string());
        format!("it is not in the hours {hours}; they begin at {}", next.as_deref().unwrap_or("no time of this week"))
    }

    pub(super) fn describe_record(&self, record: &Record) -> String {
        let undo = record.undo();
        let fields: Vec<_> = undo.fields.iter().map(|field| field.field.to_string()).collect();
        format!("{} of {} is set by {} since {:.0}", fields.join(", "), self.host(), undo.by, undo.started)
    }

    /// Gives everything back: the fields, the lock, the session.
    pub(super) async fn leave(&self, mut stand: Stand, signals: &mut Signals) -> Result<(), CommandError> {
        let put_back = {
            let putting_back = self.put_back(&mut stand);
            tokio::pin!(putting_back);
            tokio::select! {
                put_back = &mut putting_back => put_back,
                // It takes moments, unless the servers are away.
                signal = signals.end() => {
                    timeout(HURRY_TIMEOUT, putting_back).await.unwrap_or_else(|_elapsed| Err(ended_by(signal)))
                }
            }
        };
        stand.let_go().await;
        if let Some(client) = stand.client.take() {
            close(client).await;
        }
        put_back
    }

    /// Puts the fields back, in another session if need be. If that fails, the guardian goes on trying.
    async fn put_back(&self, stand: &mut Stand) -> Result<(), CommandError> {
        let Some((name, guardian)) = stand.record.take() else { return Ok(()) };
        let was_set = stand.setting.is_some();
        let settled = self.settle(&mut stand.client, &name).await;
        stand.setting = None;
        match settled {
            Ok(settled) => {
                self.tell_settled(&settled, was_set);
                guardian.dismiss().await;
                Ok(())
            }
            // Dropping the guardian's pipe lets it begin.
            Err(error) => Err(error.context(format!("cannot put back the fields of {}", self.host())).hint(
                "it is tried for some more minutes; `grange farm join` of this host, or its next exec, does it too",
            )),
        }
    }

    async fn settle(&self, session: &mut Option<Client>, name: &str) -> Result<Settled, CommandError> {
        let deadline = Instant::now() + PUT_BACK_TIMEOUT;
        loop {
            let client = match session.take().filter(|client| !client.state().is_terminated()) {
                Some(client) => client,
                None => connect(&self.options).await?,
            };
            let log = self.log(session.insert(client))?;
            match timeout_at(deadline, log.settle(&log.record_path(name), Whose::Ours)).await {
                Ok(Ok(settled)) => return Ok(settled),
                Ok(Err(error)) if error.is_session_end() => *session = None,
                Ok(Err(error)) => return Err(exec_failed(error)),
                Err(_elapsed) => {
                    return Err(CommandError::failure(anyhow!("no answer within {PUT_BACK_TIMEOUT:?}")));
                }
            }
        }
    }

    fn tell_settled(&self, settled: &Settled, was_set: bool) {
        let host = self.host();
        match settled {
            Settled::Restored(applied) => {
                for field in &applied.left {
                    self.say(&format!("{field} of {host} was changed by somebody meanwhile, and is left as it is"));
                }
            }
            Settled::Before if was_set => self.say(&format!("the fields of {host} were put back by somebody else")),
            Settled::HostGone => {
                self.say(&format!("{host} is not in the farm any more; its fields are put back when it comes back"));
            }
            Settled::Before | Settled::Held => {}
        }
    }
}

/// What is known of the farm, for a person.
pub(super) enum Judgement {
    Healthy(String),
    Unhealthy(String),
    Unknown(String),
}

fn until_next(next: Option<Zoned>) -> Duration {
    let left = next.and_then(|next| Duration::try_from(next.timestamp().duration_since(Zoned::now().timestamp())).ok());
    left.unwrap_or(CLOCK_PERIOD).min(CLOCK_PERIOD)
}

fn may_not_run(why: &str) -> CommandError {
    CommandError::negative(anyhow!("CMD may not run: {}", crate::output::harmless_line(why)))
}
