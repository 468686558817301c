//! A queue of kazoo's `Queue` layout: `PATH/entry-PPP-NNNNNNNNNN`, taken by deleting.
//!
//! An item belongs to whoever deleted its znode, and is gone with that process. Where that is too little,
//! [`LockingQueue`](super::locking_queue::LockingQueue) is the recipe.
//!
//! **Promises.** An item is handed out once, also when the reply to the delete is lost. Put is once. Each taker goes
//! through the entries in order of priority and age as it listed them; the list is read anew when it is used up. With
//! several takers an item may therefore be taken after one that came later.

use std::collections::VecDeque;

use grange_proto::ZnodePath;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError, MultiWriter};

use super::entries::{Priority, class};
use super::failure::{RecipeError, request};
use super::marker::{CommitError, Marker, change_error, check_batch, ensure_path, random_below};
use super::parents::child;
use crate::retry::retry;

/// From how many entries at the head one is chosen, so that several takers do not want the same one.
const WINDOW: usize = 16;

/// The name of the parent of the markers, behind that of the queue: what is in the queue counts as an item.
const MARKERS: &str = "__once__";

/// What a failed request was for.
const TAKING: &str = "cannot take from the queue";

/// A handle on a queue. Clones of the client may be used meanwhile.
#[derive(Debug)]
pub struct Queue {
    client: Client,
    path: ZnodePath,
    /// One transaction at a time: each names the version of the marker that the one before has left.
    marker: Mutex<Marker>,
    candidates: Mutex<VecDeque<String>>,
}

impl Queue {
    /// Opens the queue at `path`; makes it, and its parents, unless they are there.
    pub async fn open(client: Client, path: ZnodePath) -> Result<Queue, RecipeError> {
        let failed = request("cannot open the queue", &path);
        let markers = ZnodePath::parse(format!("{path}{MARKERS}")).expect("a path with a longer name is a path");
        for structure in [&path, &markers] {
            ensure_path(&client, structure.as_str()).await.map_err(&failed)?;
        }
        let marker = Marker::create(&client, &markers).await.map_err(&failed)?;
        Ok(Queue { client, path, marker: Mutex::new(marker), candidates: Mutex::default() })
    }

    /// Puts items, all or none. [`batches`](super::batches) makes batches that fit.
    pub async fn put_all<T: AsRef<[u8]>>(&self, items: &[T], priority: Priority) -> Result<(), RecipeError> {
        check_batch(items)?;
        let prefix = priority.prefix(self.path.as_str());
        let options = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
        let add = |writer: &mut MultiWriter<'_>| {
            items.iter().try_for_each(|item| writer.add_create(&prefix, item.as_ref(), &options))
        };
        let committed = self.marker.lock().await.commit(add).await;
        committed.map_err(|error| change_error("cannot put into", &self.path, error))?;
        Ok(())
    }

    /// Returns how many items there are.
    pub async fn len(&self) -> Result<usize, RecipeError> {
        let stat = retry(|| self.client.check_stat(self.path.as_str())).await.map_err(|source| self.failed(source))?;
        Ok(stat.map_or(0, |stat| usize::try_from(stat.num_children).unwrap_or(0)))
    }

    /// Returns true if there is no item.
    pub async fn is_empty(&self) -> Result<bool, RecipeError> {
        Ok(self.len().await? == 0)
    }

    /// Takes an item out of the queue; `None` if there is none.
    pub async fn get(&self) -> Result<Option<Vec<u8>>, RecipeError> {
        loop {
            let Some(name) = self.next_candidate().await? else { return Ok(None) };
            if let Some(data) = self.take(&name).await? {
                return Ok(Some(data));
            }
        }
    }

    /// Takes an item out of the queue; waits for one until `deadline` if there is one, else for ever.
    pub async fn get_until(&self, deadline: Option<Instant>) -> Result<Option<Vec<u8>>, RecipeError> {
        loop {
            let listed = retry(|| self.client.list_and_watch_children(self.path.as_str())).await;
            let (names, watcher) = listed.map_err(|source| self.failed(source))?;
            if !names.is_empty() {
                if let Some(data) = self.get().await? {
                    return Ok(Some(data));
                }
                continue;
            }
            let changed = match deadline {
                None => watcher.changed().await,
                Some(deadline) => match timeout_at(deadline, watcher.changed()).await {
                    Ok(event) => event,
                    Err(_elapsed) => return Ok(None),
                },
            };
            if changed.session_state.is_terminated() {
                return Err(self.failed(ClientError::SessionExpired));
            }
        }
    }

    /// Chooses one of the first entries of the best priority; lists them when none is left.
    async fn next_candidate(&self) -> Result<Option<String>, RecipeError> {
        let mut candidates = self.candidates.lock().await;
        if candidates.is_empty() {
            let listed = retry(|| self.client.list_children(self.path.as_str())).await;
            let mut names = listed.map_err(|source| self.failed(source))?;
            names.sort_unstable();
            *candidates = names.into();
        }
        let Some(first) = candidates.front() else { return Ok(None) };
        let window = candidates.iter().take(WINDOW).take_while(|name| class(name) == class(first)).count();
        Ok(candidates.remove(random_below(window)))
    }

    /// Reads and deletes one entry; `None` if somebody else was quicker.
    async fn take(&self, name: &str) -> Result<Option<Vec<u8>>, RecipeError> {
        let path = child(self.path.as_str(), name);
        let data = match retry(|| self.client.get_data(&path)).await {
            Ok((data, _)) => data,
            Err(ClientError::NoNode) => return Ok(None),
            Err(source) => return Err(self.failed(source)),
        };
        match self.marker.lock().await.commit(|writer| writer.add_delete(&path, None)).await {
            Ok(_) => Ok(Some(data)),
            Err(CommitError::Refused { source: ClientError::NoNode, .. }) => Ok(None),
            Err(error) => Err(change_error(TAKING, &self.path, error)),
        }
    }

    fn failed(&self, source: ClientError) -> RecipeError {
        request(TAKING, &self.path)(source)
    }
}
