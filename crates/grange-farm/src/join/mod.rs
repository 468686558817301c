//! Keeping a host's configuration and its znode equal.
//!
//! Both are read whenever one of them may have changed, and compared with what both were when they were equal last
//! (`merge.rs`): each field is taken from the side that changed it. If both sides changed the same field while they were
//! apart, a host is right about itself, and the farm about [`COMMON`], which all hosts share. At the start there is
//! nothing to compare with, and the same side is right in everything.
//!
//! The znode of a host belongs to the session that keeps it. One that an earlier session has left is replaced in one
//! transaction, so that nobody sees the host missing, and it does not go when that session expires.

mod local;
mod local_watch;
mod merge;
mod registration;
mod sent;
mod size;
#[cfg(test)]
mod tests;
mod undoing;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use grange_client::recipes::{DataWatch, RecipeError};
use grange_client::{Client, ClientError, ConnectError, ConnectOptions, Stat, ZnodePath, close};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use self::local::Local;
use self::merge::{Winner, merge};
use self::sent::Sent;
use crate::COMMON;
use crate::conf::{ConfError, Format};
use crate::due::DueMark;
use crate::properties::{FieldPath, Properties};
use crate::sessions::{connect_at_last, with_causes};

/// The largest data of a znode; servers refuse a little more. Larger configuration is not sent, and said to be too large.
const DATA_BYTES_MAX: usize = 1_000_000;

/// How long to wait before a request that failed is made again.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// How long to wait before a znode that somebody has deleted is made again, so that two who disagree do not race.
const RETURN_PAUSE: Duration = Duration::from_secs(1);

/// How many changes of a znode that has gone may have escaped this host, when it is made again.
const UNSEEN_MAX: i32 = 4;

/// Which way changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    Both,
    /// From this host to the farm only.
    ToFarm,
}

/// Who joins which farm, and with what.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The farm; it is made if it is not there.
    pub farm: ZnodePath,
    /// The host's name in it; `None` for [`COMMON`].
    pub name: Option<String>,
    /// Where the configuration is.
    pub path: PathBuf,
    /// In which format.
    pub format: Format,
    /// Which way changes go.
    pub direction: Direction,
    /// The mark under which the configuration is changed on this host, for whoever runs a command for that.
    pub due: Option<Arc<DueMark>>,
    /// What the property `hostname` is set to at the start.
    pub hostname: Option<String>,
    /// The field that says whether the host is well, with the value for each; it is not in the configuration. `None`: a
    /// host that is not well leaves the farm.
    pub health_field: Option<FieldPath>,
}

/// Whether the host can do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It is not known yet.
    Unknown,
    /// It can.
    Well,
    /// It cannot.
    Unwell,
}

/// What a caller of [`join`] gets to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinEvent {
    /// The host is in the farm, under this path.
    Registered(String),
    /// It is not, because it is unwell.
    Withdrawn,
    /// Another process has taken its name.
    Displaced,
    /// Something keeps both sides from being equal, or the host from being in the farm: this.
    Failed(String),
    /// There is no session.
    Disconnected,
    /// The configuration was changed on this host, because the farm has changed.
    LocalChanged,
}

/// Why a host cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There can be no session.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// The farm may not be written.
    #[error("cannot register {path}")]
    Refused {
        /// The znode.
        path: String,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// Keeps a host in a farm until `stop` becomes true; then its session is closed, and it leaves at once.
///
/// Goes on whatever happens to sessions and files; errors are those that are there at the start and stay.
pub async fn join(
    joining: Joining,
    options: ConnectOptions,
    health: watch::Receiver<Health>,
    events: mpsc::Sender<JoinEvent>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), JoinError> {
    let mut joiner = Joiner::new(joining, health, events)?;
    let stopped = async move {
        // An error means that nobody is left who could stop us.
        let _ = stop.wait_for(|is_over| *is_over).await;
    };
    let mut session = None;
    let result = tokio::select! {
        result = joiner.run(&options, &mut session) => result,
        () = stopped => Ok(()),
    };
    drop(joiner);
    if let Some(client) = session {
        close(client).await;
    }
    result
}

/// The znode as it was read last.
#[derive(Debug, Clone)]
struct Remote {
    /// Without the health field; `None` if it holds no properties.
    properties: Option<Properties>,
    health: Option<Value>,
    /// The session that it belongs to.
    owner: i64,
    version: i32,
}

#[derive(Debug)]
struct Joiner {
    joining: Joining,
    path: String,
    local: Local,
    /// What both sides were when they were equal last.
    agreed: Option<Properties>,
    sent: Sent,
    remote: Option<Remote>,
    /// The version that the znode had when it was seen last.
    seen: Option<i32>,
    /// The znode is known to be another one; the watch will tell.
    is_outdated: bool,
    health: watch::Receiver<Health>,
    events: mpsc::Sender<JoinEvent>,
    /// Nothing was done in this session yet: another one's znode may be what an earlier session has left.
    is_first: bool,
    /// The znode was this session's the last time it was looked at.
    is_ours: bool,
    /// What goes on beside was started in this session.
    is_attended: bool,
    /// What was told last about where the host is.
    told: Option<JoinEvent>,
    /// What goes on beside, and ends with this value.
    background: JoinSet<()>,
}

impl Joiner {
    fn new(
        joining: Joining,
        health: watch::Receiver<Health>,
        events: mpsc::Sender<JoinEvent>,
    ) -> Result<Joiner, JoinError> {
        let local = Local::open(joining.format, &joining.path)?;
        let name = joining.name.as_deref().unwrap_or(COMMON);
        let path = format!("{}/{name}", joining.farm.as_str().trim_end_matches('/'));
        Ok(Joiner {
            joining,
            path,
            local,
            agreed: None,
            sent: Sent::default(),
            remote: None,
            seen: None,
            is_outdated: false,
            health,
            events,
            is_first: true,
            is_ours: false,
            is_attended: false,
            told: None,
            background: JoinSet::new(),
        })
    }

    /// Goes from session to session; leaves the last one in `session`.
    async fn run(&mut self, options: &ConnectOptions, session: &mut Option<Client>) -> Result<(), JoinError> {
        self.write_hostname().await;
        loop {
            *session = None;
            let client = session.insert(connect_at_last(options).await?).clone();
            (self.is_first, self.is_ours, self.remote) = (true, false, None);
            let error = loop {
                match self.keep(&client).await {
                    Err(error) if error.is_session_end() => break error,
                    Err(RecipeError::Request { source: source @ ClientError::NoAuth, path, .. })
                        if self.agreed.is_none() =>
                    {
                        return Err(JoinError::Refused { path, source });
                    }
                    Err(error) => {
                        warn!(error = %with_causes(&error), "trying again in {FAILURE_PAUSE:?}");
                        self.tell(JoinEvent::Failed(with_causes(&error))).await;
                        sleep(FAILURE_PAUSE).await;
                    }
                    Ok(never) => match never {},
                }
            };
            warn!(path = %self.path, %error, "registering again in another session");
            self.tell(JoinEvent::Disconnected).await;
        }
    }

    async fn write_hostname(&mut self) {
        let Some(hostname) = self.joining.hostname.clone() else { return };
        let field = "hostname".parse().expect("this is the name of a field");
        let value = Value::from(hostname);
        if let Some(mut properties) = self.local.properties(None).filter(|local| local.get(&field) != Some(&value)) {
            properties.set(&field, value);
            // It is tried again with the first change.
            let _ = self.write_local(&properties).await;
        }
    }

    /// Keeps both sides equal for as long as the session lasts.
    async fn keep(&mut self, client: &Client) -> Result<Infallible, RecipeError> {
        registration::ensure_farm(client, &self.joining.farm).await?;
        self.is_attended = false;
        self.undo(client).await;
        let path: ZnodePath = self.path.parse().expect("a path and a name are a path");
        let mut watch = DataWatch::new(client.clone(), path.clone());
        let told = watch.next().await?;
        self.learn(client, told);
        loop {
            if !self.is_outdated {
                self.reconcile(client).await?;
            }
            tokio::select! {
                told = watch.next() => self.learn(client, told?),
                // A znode that came and went is none that the watch would tell.
                () = sleep(FAILURE_PAUSE), if self.is_outdated => {
                    watch = DataWatch::new(client.clone(), path.clone());
                    let told = watch.next().await?;
                    self.learn(client, told);
                }
                () = self.local.changed() => {}
                () = next_health(&mut self.health) => {}
            }
        }
    }

    /// Puts back in the configuration what a run of `exec` had set when this host died; the znode has gone with it.
    async fn undo(&mut self, client: &Client) {
        let (Some(name), Direction::Both) = (self.joining.name.clone(), self.joining.direction) else { return };
        let Some(mut local) = self.local.properties(self.agreed.as_ref()) else { return };
        let mut is_changed = false;
        for record in undoing::orphans(client, &self.joining.farm, &name).await {
            is_changed |= !record.undo().apply(&mut local).restored.is_empty();
        }
        if is_changed {
            info!(path = %self.path, "fields that a run of exec had left set are put back");
            let _ = self.write_local(&local).await;
        }
    }

    fn learn(&mut self, client: &Client, told: Option<(Vec<u8>, Stat)>) {
        self.is_outdated = false;
        self.remote = told.map(|(data, stat)| {
            let properties = Properties::decode(&data).inspect_err(|error| {
                warn!(path = %self.path, error = %with_causes(error), "the znode holds no properties");
            });
            let mut properties = properties.ok();
            let health = match (&mut properties, &self.joining.health_field) {
                (Some(properties), Some(field)) => properties.unset(field),
                _ => None,
            };
            Remote { properties, health, owner: stat.ephemeral_owner, version: stat.version }
        });
        if let Some(remote) = &self.remote {
            self.seen = Some(remote.version);
        }
        if self.remote.as_ref().is_some_and(|remote| remote.owner == client.session_id().0) {
            (self.is_first, self.is_ours) = (false, true);
        }
    }

    fn is_host(&self) -> bool {
        self.joining.name.is_some()
    }

    /// Does what is missing until both sides are equal, or nothing can be done about it now.
    async fn reconcile(&mut self, client: &Client) -> Result<(), RecipeError> {
        let health = *self.health.borrow_and_update();
        match health {
            // What an earlier session has left stays until there is an answer: nobody is to see a restart.
            Health::Unknown if self.is_host() => return Ok(()),
            Health::Unwell if self.is_host() && self.joining.health_field.is_none() => {
                return self.withdraw(client).await;
            }
            _ => {}
        }
        let Some(remote) = self.remote.clone() else {
            return self.register(client).await;
        };
        let is_own = remote.owner == client.session_id().0;
        if is_own && !self.is_attended {
            // The reply that told of the registration was lost.
            self.attend(client);
        }
        if !self.is_host() || is_own {
            return self.settle(client, &remote).await;
        }
        if !self.is_first {
            self.is_ours = false;
            warn!(path = %self.path, "another process has registered with this name; waiting until it leaves");
            self.tell(JoinEvent::Displaced).await;
            return Ok(());
        }
        self.take_over(client, &remote).await
    }

    /// Leaves the farm. What an earlier session has left goes too: it would say that the host is well.
    async fn withdraw(&mut self, client: &Client) -> Result<(), RecipeError> {
        let own = client.session_id().0;
        if let Some(remote) = self.remote.take_if(|remote| remote.owner == own || self.is_first) {
            registration::remove(client, &self.path, remote.version).await?;
        }
        (self.is_first, self.is_ours) = (false, false);
        self.tell(JoinEvent::Withdrawn).await;
        Ok(())
    }

    /// Makes the znode.
    async fn register(&mut self, client: &Client) -> Result<(), RecipeError> {
        let Some(properties) = self.local.properties(self.agreed.as_ref()).or_else(|| self.agreed.clone()) else {
            return self.tell_unreadable().await;
        };
        let (data, health) = match self.outward(&properties) {
            Ok(outward) => outward,
            Err(why) => return self.tell_failed(why).await,
        };
        self.is_first = false;
        if self.is_ours {
            warn!(path = %self.path, "somebody has deleted the znode; registering again");
            sleep(RETURN_PAUSE).await;
        }
        self.note_sent();
        let version = self.seen.map_or(0, |seen| registration::first_version(seen, UNSEEN_MAX));
        // If somebody else was faster, the watch tells it.
        self.is_outdated = !registration::create(client, &self.path, &data, version, self.is_host()).await?;
        if self.is_outdated {
            return Ok(());
        }
        let owner = if self.is_host() { client.session_id().0 } else { 0 };
        self.registered(client, Remote { properties: Some(properties), health, owner, version }).await
    }

    /// Replaces the znode that an earlier session has left.
    async fn take_over(&mut self, client: &Client, remote: &Remote) -> Result<(), RecipeError> {
        let Some(properties) = self.merged(remote.properties.as_ref()) else { return self.tell_unreadable().await };
        let (data, health) = match self.outward(&properties) {
            Ok(outward) => outward,
            Err(why) => return self.tell_failed(why).await,
        };
        self.note_sent();
        let version = registration::first_version(remote.version, 0);
        self.is_outdated = !registration::replace(client, &self.path, remote.version, &data, version).await?;
        if self.is_outdated {
            return Ok(());
        }
        info!(path = %self.path, "the znode of an earlier session was replaced");
        if self.agreed.is_none() && remote.properties.as_ref().is_some_and(|before| *before != properties) {
            info!(path = %self.path, "it held something else than this host's configuration, which counts");
        }
        let owner = client.session_id().0;
        self.registered(client, Remote { properties: Some(properties), health, owner, version }).await
    }

    async fn registered(&mut self, client: &Client, remote: Remote) -> Result<(), RecipeError> {
        info!(path = %self.path, "registered");
        (self.is_first, self.is_ours) = (false, true);
        self.attend(client);
        self.seen = Some(remote.version);
        self.remote = Some(remote.clone());
        self.settle(client, &remote).await
    }

    /// Starts what goes on beside while the znode is this session's.
    fn attend(&mut self, client: &Client) {
        self.is_attended = true;
        let Some(name) = &self.joining.name else { return };
        let (client, farm) = (client.clone(), self.joining.farm.clone());
        self.background.abort_all();
        self.background.spawn(size::raise(client.clone(), farm.clone()));
        // The records of before are among what it is told; now there is a znode to put them right in.
        self.background.spawn(undoing::tend(client, farm, name.clone()));
    }

    /// Makes both sides equal, and tells whether they are.
    async fn settle(&mut self, client: &Client, remote: &Remote) -> Result<(), RecipeError> {
        match self.equalize(client, remote).await? {
            None => self.tell(JoinEvent::Registered(self.path.clone())).await,
            Some(why) => self.tell(JoinEvent::Failed(why)).await,
        }
        Ok(())
    }

    /// Makes both sides equal; returns what is in the way.
    async fn equalize(&mut self, client: &Client, remote: &Remote) -> Result<Option<String>, RecipeError> {
        if remote.properties.is_none() && !self.is_host() {
            // What all share is not replaced by what one of them has.
            return Ok(Some(format!("{} holds no properties", self.path)));
        }
        let Some(properties) = self.merged(remote.properties.as_ref()) else { return Ok(Some(self.unreadable())) };
        if remote.properties.as_ref() != Some(&properties) || remote.health != self.health_value() {
            let (data, health) = match self.outward(&properties) {
                Ok(outward) => outward,
                Err(why) => return Ok(Some(why)),
            };
            debug!(path = %self.path, "the configuration has changed on this host");
            self.note_sent();
            // If somebody else was faster, the watch tells it, and both changes are merged.
            let written = registration::write(client, &self.path, &data, remote.version).await?;
            self.is_outdated = written.is_none();
            let Some(stat) = written else { return Ok(None) };
            let (owner, version) = (stat.ephemeral_owner, stat.version);
            self.seen = Some(version);
            self.remote = Some(Remote { properties: Some(properties.clone()), health, owner, version });
        }
        // While it cannot be read, nothing is written to it, and what the farm has changed stays to be done.
        let Some(local) = self.local.properties(self.agreed.as_ref()) else { return Ok(Some(self.unreadable())) };
        if self.joining.direction == Direction::ToFarm {
            // What others have written to the znode is no change of this host's.
            self.agree(local);
            return Ok(None);
        }
        if local != properties {
            info!(path = %self.path, "the configuration has changed in the farm");
            if let Err(why) = self.write_local(&properties).await {
                return Ok(Some(why));
            }
        }
        self.agree(properties);
        Ok(None)
    }

    fn unreadable(&self) -> String {
        format!("the configuration cannot be read: {}", self.local.trouble())
    }

    async fn tell_unreadable(&mut self) -> Result<(), RecipeError> {
        let why = self.unreadable();
        self.tell_failed(why).await
    }

    async fn tell_failed(&mut self, why: String) -> Result<(), RecipeError> {
        self.tell(JoinEvent::Failed(why)).await;
        Ok(())
    }

    fn agree(&mut self, properties: Properties) {
        self.local.agree(&properties);
        self.agreed = Some(properties);
        self.sent.clear();
    }

    /// Notes that the configuration as it is now is about to be sent.
    fn note_sent(&mut self) {
        if let Some(local) = self.local.properties(self.agreed.as_ref()) {
            self.sent.note(local);
        }
    }

    /// Returns what both sides should be; `None` if that cannot be said now.
    fn merged(&self, there: Option<&Properties>) -> Option<Properties> {
        // While the file cannot be read it counts as unchanged.
        let local = self.local.properties(self.agreed.as_ref()).or_else(|| self.agreed.clone())?;
        let Some(there) = there else { return Some(local) };
        let winner = if self.is_host() { Winner::Local } else { Winner::Remote };
        let base = self.agreed.as_ref().map(|agreed| self.sent.base(agreed, there));
        if self.joining.direction == Direction::ToFarm {
            return match (&base, winner) {
                (Some(base), _) if *base == local => Some(there.clone()),
                (None, Winner::Remote) => Some(there.clone()),
                (None, Winner::Local) if self.local.began_empty() => Some(there.clone()),
                _ => Some(local),
            };
        }
        // A configuration that was not there takes nothing out of the farm.
        let nothing = (self.is_host() && self.local.began_empty()).then(Properties::default);
        let merged = merge(base.as_ref().or(nothing.as_ref()), &local, there, winner);
        if !merged.conflicts.is_empty() {
            let right = if winner == Winner::Local { "this host" } else { "the farm" };
            let fields = merged.conflicts.join(", ");
            warn!(path = %self.path, %fields, "changed on both sides while they were apart; {right} is right");
        }
        Some(merged.properties)
    }

    /// Returns data for the znode, with the health field; the reason if they are too large.
    fn outward(&self, properties: &Properties) -> Result<(Vec<u8>, Option<Value>), String> {
        let health = self.health_value();
        let mut outward = properties.clone();
        if let (Some(field), Some(value)) = (&self.joining.health_field, &health) {
            outward.set(field, value.clone());
        }
        let data = outward.encode();
        if data.len() > DATA_BYTES_MAX {
            let why = format!("the configuration is too large: {} of {DATA_BYTES_MAX} bytes; not sent", data.len());
            warn!(path = %self.path, "{why}");
            return Err(why);
        }
        Ok((data, health))
    }

    fn health_value(&self) -> Option<Value> {
        self.joining.health_field.as_ref()?;
        Some(Value::from(if *self.health.borrow() == Health::Well { "1" } else { "0" }))
    }

    /// Writes the configuration of this host; returns why that is not possible now.
    async fn write_local(&mut self, properties: &Properties) -> Result<(), String> {
        let has_changed = |written: &Result<bool, ConfError>| match written {
            Ok(is_changed) => *is_changed,
            Err(error) => error.is_partial(),
        };
        let local = &mut self.local;
        let written = match &self.joining.due {
            Some(due) => due.around(|| local.write(properties), has_changed),
            None => local.write(properties),
        };
        if has_changed(&written) {
            // Fails only if nobody is interested.
            let _ = self.events.send(JoinEvent::LocalChanged).await;
        }
        match written {
            Ok(_) => Ok(()),
            Err(error) => {
                let why = with_causes(&error);
                warn!(error = %why, "the configuration is left as it is");
                Err(format!("the configuration is left as it is: {why}"))
            }
        }
    }

    async fn tell(&mut self, event: JoinEvent) {
        if self.told.as_ref() != Some(&event) {
            self.told = Some(event.clone());
            let _ = self.events.send(event).await;
        }
    }
}

/// Waits for another state of health; for ever if nobody looks after it.
async fn next_health(health: &mut watch::Receiver<Health>) {
    if health.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
