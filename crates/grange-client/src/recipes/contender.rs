//! Standing in line: a znode with a sequence number, which goes with its session.
//!
//! A contender makes such a znode and may go once nobody that excludes it stands before it. Until then it watches one
//! znode: the last one before it that excludes it. So the end of one contender wakes one other, however many wait.
//!
//! If the connection breaks while the znode is being made, nobody knows whether it was. Its name begins like no other
//! one, so the contender looks for it, behind a `sync` that overtakes nothing, before it makes another.

use backon::BackoffBuilder;
use tokio::time::{Instant, sleep};
use tracing::debug;
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError, OneshotWatcher, Stat};

use super::error::{LockError, request};
use super::line::Line;
use super::names::{Role, Turn, turn};
use super::own::{Own, list_after_sync};
use super::parents::{child, make_parents};
use crate::retry::{is_connection_loss, is_transient, pauses, retry};

/// One that waits in a line or holds what the line is for, as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// The name of its znode.
    pub name: String,
    /// What it calls itself: the znode's data. `None` if it may not be read.
    pub id: Option<Vec<u8>>,
    /// How it holds, or is going to.
    pub role: Role,
    /// True if nobody that excludes it stands before it.
    pub holds: bool,
    /// Its session.
    pub session: i64,
    /// When it came, in milliseconds since 1970, by the server's clock.
    pub since_ms: i64,
    /// What its fencing token is or will be.
    pub token: i64,
}

impl Contender {
    pub(crate) fn new(name: String, role: Role, holds: bool, id: Option<Vec<u8>>, stat: &Stat) -> Contender {
        Contender { name, id, role, holds, session: stat.ephemeral_owner, since_ms: stat.ctime, token: stat.czxid }
    }
}

/// What a contender's own look at its znode showed.
#[derive(Debug)]
struct Joined {
    name: String,
    czxid: i64,
    children: Vec<String>,
}

/// Our own place in a line. Dropping it leaves the line.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) own: Own,
    /// When the znode was made: it grows along the line.
    pub(crate) czxid: i64,
    /// The leader knew the session to be alive after this moment.
    pub(crate) confirmed_at: Instant,
    role: Role,
    /// The line as it was last seen.
    children: Vec<String>,
}

impl Place {
    /// Joins the line at its end.
    pub(crate) async fn join(line: &Line, role: Role) -> Result<Place, LockError> {
        let mut own = Own::sequential(&line.client, &line.path, line.layout.new_prefix(role));
        let doing = || request("cannot stand in line at", &line.path);
        let mut pauses = pauses().build();
        let mut is_unknown = false;
        loop {
            let confirmed_at = Instant::now();
            let joined = match is_unknown {
                true => find(&own).await,
                false => create(line, &own).await.map(Some),
            };
            let error = match joined {
                Ok(Some(Joined { name, czxid, children })) => {
                    own.found(name);
                    return Ok(Place { own, czxid, confirmed_at, role, children });
                }
                Ok(None) => {
                    is_unknown = false;
                    continue;
                }
                Err(error) => error,
            };
            is_unknown |= is_connection_loss(&error);
            if error == ClientError::NoNode {
                // Also when the server removes the empty container between the two.
                make_parents(&line.client, line.path.as_str()).await.map_err(doing())?;
            } else if !is_transient(&error) {
                return Err(doing()(error));
            }
            let Some(pause) = pauses.next() else { return Err(doing()(error)) };
            if error != ClientError::NoNode {
                debug!(path = %line.path, %error, ?pause, "standing in line is tried again");
                sleep(pause).await;
            }
        }
    }

    /// Returns whom this one has to wait for, from the line as it was last seen.
    fn turn(&self) -> Turn {
        turn(&self.children, self.own.name(), self.role)
    }

    /// Tells whether it is this one's turn.
    pub(crate) fn is_first(&self) -> Result<bool, LockError> {
        match self.turn() {
            Turn::Mine => Ok(true),
            Turn::After(_) => Ok(false),
            Turn::Gone => Err(LockError::Removed(self.own.path())),
        }
    }

    /// Waits until it is this one's turn.
    pub(crate) async fn wait(&mut self, line: &Line) -> Result<(), LockError> {
        while !self.is_first()? {
            self.step(line).await?;
        }
        Ok(())
    }

    /// Waits until the one before goes or changes, and looks at the line again.
    pub(crate) async fn step(&mut self, line: &Line) -> Result<(), LockError> {
        if let Turn::After(before) = self.turn() {
            let before = child(line.path.as_str(), &before);
            let watched = watch(&line.client, &before).await;
            if let Some(watcher) = watched.map_err(request("cannot watch", &before))? {
                watcher.changed().await;
            }
        }
        let confirmed_at = Instant::now();
        // The sync shows that the session lives, not only that a member remembers it.
        self.children = match list_after_sync(&line.client, line.path.as_str()).await {
            Err(ClientError::NoNode) => Vec::new(),
            listed => listed.map_err(request("cannot list", &line.path))?,
        };
        self.confirmed_at = confirmed_at;
        Ok(())
    }
}

/// Makes the znode and looks at the line, in one trip to the server.
async fn create(line: &Line, own: &Own) -> Result<Joined, ClientError> {
    let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    let (path, parent) = (own.path(), line.path.as_str());
    // Both requests are sent here; a server answers a session's requests in order.
    let (created, listed) = (line.client.create(&path, &line.data, &options), line.client.list_children(parent));
    let (stat, _) = created.await?;
    let children = match listed.await {
        Err(error) if is_transient(&error) => retry(|| line.client.list_children(parent)).await?,
        listed => listed?,
    };
    // Not there any more: the parent has been deleted, with us in it.
    joined(own, children, Some(stat)).await?.ok_or(ClientError::NoNode)
}

/// Looks for the znode, whose creation may or may not have been done.
async fn find(own: &Own) -> Result<Option<Joined>, ClientError> {
    match own.list().await {
        Err(ClientError::NoNode) => Ok(None),
        listed => joined(own, listed?, None).await,
    }
}

async fn joined(own: &Own, children: Vec<String>, stat: Option<Stat>) -> Result<Option<Joined>, ClientError> {
    let Some(name) = children.iter().find(|name| own.is_it(name)).cloned() else { return Ok(None) };
    // Servers before 3.5 do not say it in their reply.
    let stat = match stat.filter(|stat| !stat.is_invalid()) {
        Some(stat) => Some(stat),
        None => {
            let path = own.sibling(&name);
            retry(|| own.client().check_stat(&path)).await?
        }
    };
    Ok(stat.map(|stat| Joined { name, czxid: stat.czxid, children }))
}

/// Watches a znode of somebody else; `None` if it is not there.
async fn watch(client: &Client, path: &str) -> Result<Option<OneshotWatcher>, ClientError> {
    // Reading the data leaves no watch behind where there is no znode, unlike asking whether it exists.
    match retry(|| client.get_and_watch_data(path)).await {
        Ok((_, _, watcher)) => Ok(Some(watcher)),
        Err(ClientError::NoNode) => Ok(None),
        Err(ClientError::NoAuth) => {
            let (stat, watcher) = retry(|| client.check_and_watch_stat(path)).await?;
            Ok(stat.map(|_| watcher))
        }
        Err(error) => Err(error),
    }
}
