//! Keeps what is known of a locking queue up to date, in the background: by one persistent recursive watch, or by
//! listing now and then where the server has none.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::debug;
use zookeeper_client::{
    AddWatchMode, Client, Error as ClientError, EventType, PersistentWatcher, SessionState, WatchedEvent,
};

use super::candidates::Candidates;
use super::marker::random_below;
use crate::retry::retry;

/// Without a recursive watch, the queue is listed anew after this part of the entries was taken, if there was a change.
const LISTED_PART: usize = 8;

/// By which watches the queue is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    /// One recursive watch, or ordinary ones where the server has none.
    Recursive,
    Ordinary,
}

/// What is known of a queue. Ends the background task when dropped.
#[derive(Debug)]
pub(crate) struct Feed {
    known: Arc<Known>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Known {
    client: Client,
    /// The queue, the parent of its entries and that of its locks.
    root: String,
    entries: String,
    taken: String,
    state: Mutex<State>,
    /// Counts what may have made an entry available.
    changes: watch::Sender<u64>,
    /// Somebody found nothing, and only a new list can help.
    dry: Notify,
}

#[derive(Debug, Default)]
struct State {
    candidates: Candidates,
    /// Entries that this process holds, and which of them have lost their lock.
    held: HashSet<String>,
    freed: HashSet<String>,
    /// Why nothing is known any more.
    failure: Option<ClientError>,
    /// Nobody tells what changes: refusals count as news, and lists age.
    is_polling: bool,
    taken_since_listed: usize,
}

impl Feed {
    pub(crate) fn start(client: Client, root: &str, entries: &str, taken: &str, watching: Watching) -> Feed {
        let known = Arc::new(Known {
            client,
            root: root.to_owned(),
            entries: entries.to_owned(),
            taken: taken.to_owned(),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            dry: Notify::new(),
        });
        let task = tokio::spawn(Arc::clone(&known).follow(watching));
        Feed { known, task }
    }

    /// Tells when it may be worth while to choose again.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.known.changes.subscribe()
    }

    /// Chooses and reserves an entry that is not in `tried`. Errors: the session has ended, or the queue has gone.
    pub(crate) fn choose(&self, tried: &HashSet<String>) -> Result<Option<String>, ClientError> {
        let mut state = self.known.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let chosen = state.candidates.choose(tried, random_below);
        if chosen.is_none() && (state.is_polling || state.candidates.needs_listing()) {
            self.known.dry.notify_one();
        }
        Ok(chosen)
    }

    /// An entry that was chosen is this process's.
    pub(crate) fn took(&self, name: &str) {
        let mut state = self.known.state();
        state.candidates.succeeded();
        state.held.insert(name.to_owned());
        state.freed.remove(name);
        state.taken_since_listed += 1;
        let is_old = state.is_polling && state.taken_since_listed > state.candidates.len() / LISTED_PART;
        if is_old || state.candidates.needs_listing() {
            self.known.dry.notify_one();
        }
    }

    /// An entry that was chosen is somebody else's, or gone.
    pub(crate) fn missed(&self, name: &str) {
        let mut state = self.known.state();
        state.candidates.unreserve(name);
        state.candidates.collided();
        if state.is_polling {
            state.candidates.gone(name);
        }
    }

    /// An entry that this process had has left the queue.
    pub(crate) fn consumed(&self, name: &str) {
        self.known.state().candidates.gone(name);
    }

    /// This process has nothing to do with an entry any more.
    pub(crate) fn unreserve(&self, name: &str) {
        let mut state = self.known.state();
        state.candidates.unreserve(name);
        state.held.remove(name);
        state.freed.remove(name);
        drop(state);
        self.known.changed();
    }

    /// Resolves when an event says that the lock of an entry that this process holds was removed.
    pub(crate) async fn freed(&self, name: &str) {
        let mut changes = self.changes();
        while !self.known.state().freed.contains(name) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Lists the queue now; returns true if there is an entry that can be tried.
    pub(crate) async fn list(&self) -> Result<bool, ClientError> {
        let known = &self.known;
        let (entries, taken) = retry(|| known.list_once()).await?;
        let mut state = known.state();
        state.candidates.replace(entries, taken);
        let chosen = state.candidates.choose(&HashSet::new(), |_| 0);
        if let Some(name) = &chosen {
            state.candidates.unreserve(name);
        }
        Ok(chosen.is_some())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Lists entries and locks as they are after all that was asked for before.
    async fn list_once(&self) -> Result<(Vec<String>, Vec<String>), ClientError> {
        // All are sent at once; the server answers in order. Locks come first: one that ends meanwhile is then only
        // taken for one that is there, until the event that says otherwise.
        let sync = self.client.sync(&self.root);
        let (taken, entries) = (self.client.list_children(&self.taken), self.client.list_children(&self.entries));
        sync.await?;
        let taken = taken.await?;
        Ok((entries.await?, taken))
    }

    fn replace(&self, (entries, taken): (Vec<String>, Vec<String>)) {
        let mut state = self.state();
        state.candidates.replace(entries, taken);
        state.taken_since_listed = 0;
        drop(state);
        self.changed();
    }

    async fn follow(self: Arc<Known>, watching: Watching) {
        let ended = match watching {
            Watching::Recursive => self.follow_events().await,
            Watching::Ordinary => ClientError::Unimplemented,
        };
        let failure = match ended {
            ClientError::Unimplemented => {
                debug!(path = self.root, "the server has no recursive watches; the queue is listed now and then");
                self.state().is_polling = true;
                self.follow_lists().await
            }
            failure => failure,
        };
        self.state().failure = Some(failure);
        self.changed();
    }

    /// Returns why there are no events any more.
    async fn follow_events(&self) -> ClientError {
        loop {
            // The client library (0.11) sets ordinary watches again after a reconnect, and these not. What happened while
            // there was no connection is not told in any case. So both are done anew; what happens from then on is told.
            let watching = retry(|| self.client.watch(&self.root, AddWatchMode::PersistentRecursive)).await;
            let mut watcher = match watching {
                Ok(watcher) => watcher,
                Err(error) => return error,
            };
            if let Err(error) = self.follow_watcher(&mut watcher).await {
                return error;
            }
        }
    }

    /// Lists and then applies events, until there is another connection.
    async fn follow_watcher(&self, watcher: &mut PersistentWatcher) -> Result<(), ClientError> {
        self.replace(retry(|| self.list_once()).await?);
        loop {
            let event = tokio::select! {
                event = watcher.changed() => event,
                () = self.dry.notified() => {
                    if self.state().candidates.needs_listing() {
                        self.replace(retry(|| self.list_once()).await?);
                    }
                    continue;
                }
            };
            if event.session_state.is_terminated() {
                return Err(ClientError::SessionExpired);
            }
            if event.event_type == EventType::Session && event.session_state == SessionState::SyncConnected {
                return Ok(());
            }
            self.apply(&event);
        }
    }

    fn apply(&self, event: &WatchedEvent) {
        let name_in =
            |parent: &str| event.path.strip_prefix(parent)?.strip_prefix('/').filter(|name| !name.contains('/'));
        let mut state = self.state();
        match (name_in(&self.entries), name_in(&self.taken), event.event_type) {
            (Some(name), _, EventType::NodeCreated) => state.candidates.put(name),
            (Some(name), _, EventType::NodeDeleted) => {
                state.candidates.gone(name);
                return;
            }
            (_, Some(name), EventType::NodeCreated) => {
                state.candidates.taken(name);
                return;
            }
            (_, Some(name), EventType::NodeDeleted) => {
                state.candidates.freed(name);
                if state.held.contains(name) {
                    state.freed.insert(name.to_owned());
                }
            }
            _ => return,
        }
        drop(state);
        self.changed();
    }

    /// Lists when something has changed and the last list is used up, or old. Returns why that ended.
    async fn follow_lists(&self) -> ClientError {
        loop {
            let listing = || async {
                let entries = self.client.list_and_watch_children(&self.entries);
                let taken = self.client.list_and_watch_children(&self.taken);
                let (taken, taken_watcher) = taken.await?;
                let (entries, entries_watcher) = entries.await?;
                Ok(((entries, taken), (entries_watcher, taken_watcher)))
            };
            let (listed, (entries_watcher, taken_watcher)) = match retry(listing).await {
                Ok(listed) => listed,
                Err(error) => return error,
            };
            self.replace(listed);
            let event = tokio::select! {
                event = entries_watcher.changed() => event,
                event = taken_watcher.changed() => event,
            };
            if event.session_state.is_terminated() {
                return ClientError::SessionExpired;
            }
            self.dry.notified().await;
        }
    }
}
