//! A barrier that a group of a known size enters together and leaves together: kazoo's `DoubleBarrier`.
//!
//! ```text
//! PATH/UUID     ephemeral, one per member; data: who it is
//! PATH/ready    there from when the last member has come until the first one leaves
//! ```
//!
//! `ready` may be gone again before a slow member has looked for it, so each member sets its watch on it before it
//! counts as a member: the znode cannot be made without it, and the event cannot be missed. A `ready` that a group
//! left behind which was killed does not let the next one in: it is removed by a member that finds itself alone with it.

use grange_proto::ZnodePath;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError, EventType, OneshotWatcher};

use super::error::is_session_end;
use super::failure::{RecipeError, request};
use super::held::{LOST_PAUSE, Loss};
use super::marker::{create_own, delete, ensure_path};
use super::parents::child;
use crate::retry::retry;

/// The znode that says that all are there.
const READY: &str = "ready";

/// A member's handle.
#[derive(Debug)]
pub struct DoubleBarrier {
    client: Client,
    path: ZnodePath,
    count: usize,
    id: String,
    name: String,
    is_in: bool,
}

impl DoubleBarrier {
    /// Returns a handle for one of `count` members; `id` says who it is.
    pub fn new(client: Client, path: ZnodePath, count: usize, id: &str) -> DoubleBarrier {
        let name = Uuid::new_v4().simple().to_string();
        DoubleBarrier { client, path, count, id: id.to_owned(), name, is_in: false }
    }

    /// Enters: waits until all members have come, until `deadline` if there is one. Returns false, and is no member any
    /// more, if they have not by then.
    pub async fn enter_until(&mut self, deadline: Option<Instant>) -> Result<bool, RecipeError> {
        let entered = match deadline {
            None => self.enter().await.map(|()| true),
            Some(deadline) => {
                timeout_at(deadline, self.enter()).await.map_or(Ok(false), |entered| entered.map(|()| true))
            }
        };
        match entered {
            Ok(true) => self.is_in = true,
            // The member that came last may have been this one.
            _ => self.forget().await?,
        }
        entered
    }

    async fn enter(&self) -> Result<(), RecipeError> {
        let failed = request("cannot enter the barrier", &self.path);
        let ready = child(self.path.as_str(), READY);
        ensure_path(&self.client, self.path.as_str()).await.map_err(&failed)?;
        // Before the znode of this member is there, nobody can have made `ready` for a group with it.
        let mut watcher = match self.look_for(&ready).await.map_err(&failed)? {
            Look::Absent(watcher) => watcher,
            Look::There => {
                let members = self.members().await.map_err(&failed)?;
                if members.is_empty() {
                    delete(&self.client, &ready).await.map_err(&failed)?;
                }
                match self.look_for(&ready).await.map_err(&failed)? {
                    Look::Absent(watcher) => watcher,
                    Look::There => return self.join().await.map_err(failed),
                }
            }
        };
        self.join().await.map_err(&failed)?;
        if self.members().await.map_err(&failed)?.len() >= self.count {
            let created = retry(|| async {
                let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
                match self.client.create(&ready, b"", &options).await {
                    Ok(_) | Err(ClientError::NodeExists) => Ok(()),
                    Err(error) => Err(error),
                }
            });
            return created.await.map_err(failed);
        }
        loop {
            let event = watcher.changed().await;
            if event.session_state.is_terminated() {
                return Err(failed(ClientError::SessionExpired));
            }
            if event.event_type == EventType::NodeCreated {
                return Ok(());
            }
            match self.look_for(&ready).await.map_err(&failed)? {
                Look::There => return Ok(()),
                Look::Absent(again) => watcher = again,
            }
        }
    }

    /// Leaves: waits until all members leave.
    pub async fn leave(&mut self) -> Result<(), RecipeError> {
        let failed = request("cannot leave the barrier", &self.path);
        delete(&self.client, &child(self.path.as_str(), READY)).await.map_err(&failed)?;
        loop {
            let members = self.members().await.map_err(&failed)?;
            let (Some(first), Some(last)) = (members.first(), members.last()) else { break };
            if members.len() == 1 && *first == self.name {
                break;
            }
            // The first one waits for the last, all others for the first: nobody is woken in vain.
            let awaited = if *first == self.name { last } else { first };
            if *first != self.name {
                self.forget().await?;
            }
            let path = child(self.path.as_str(), awaited);
            let (stat, watcher) = retry(|| self.client.check_and_watch_stat(&path)).await.map_err(&failed)?;
            if stat.is_some() && watcher.changed().await.session_state.is_terminated() {
                return Err(failed(ClientError::SessionExpired));
            }
        }
        self.forget().await?;
        self.is_in = false;
        Ok(())
    }

    /// Leaves without waiting for the others.
    pub async fn leave_at_once(&mut self) -> Result<(), RecipeError> {
        let failed = request("cannot leave the barrier", &self.path);
        delete(&self.client, &child(self.path.as_str(), READY)).await.map_err(&failed)?;
        self.forget().await?;
        self.is_in = false;
        Ok(())
    }

    /// Resolves when this one is a member no longer, though it has not left: the session has ended, or somebody deleted
    /// its znode. The others then do not wait for it.
    pub async fn lost(&self) -> Loss {
        let member = self.member();
        loop {
            match retry(|| self.client.check_and_watch_stat(&member)).await {
                Ok((None, _)) => return Loss::Deleted,
                Ok((Some(_), watcher)) => {
                    if watcher.changed().await.session_state.is_terminated() {
                        return Loss::SessionEnded;
                    }
                }
                Err(error) if is_session_end(&error) => return Loss::SessionEnded,
                Err(error) => {
                    debug!(member, %error, "cannot watch the znode of a member");
                    sleep(LOST_PAUSE).await;
                }
            }
        }
    }

    /// Returns true between entering and leaving.
    pub fn is_in(&self) -> bool {
        self.is_in
    }

    async fn join(&self) -> Result<(), ClientError> {
        match create_own(&self.client, &self.member(), self.id.as_bytes()).await {
            // A member that enters again after it could not.
            Ok(()) | Err(ClientError::NodeExists) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn forget(&self) -> Result<(), RecipeError> {
        match delete(&self.client, &self.member()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(request("cannot leave the barrier", &self.path)(error)),
        }
    }

    fn member(&self) -> String {
        child(self.path.as_str(), &self.name)
    }

    async fn members(&self) -> Result<Vec<String>, ClientError> {
        let mut names = retry(|| self.client.list_children(self.path.as_str())).await?;
        names.retain(|name| name != READY);
        names.sort_unstable();
        Ok(names)
    }

    async fn look_for(&self, path: &str) -> Result<Look, ClientError> {
        let (stat, watcher) = retry(|| self.client.check_and_watch_stat(path)).await?;
        Ok(if stat.is_some() { Look::There } else { Look::Absent(watcher) })
    }
}

enum Look {
    There,
    Absent(OneshotWatcher),
}
