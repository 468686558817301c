//! A queue whose items are taken under a lock and leave it only when they are done: kazoo's `LockingQueue` layout.
//!
//! ```text
//! PATH/entries/entry-PPP-NNNNNNNNNN   an item; PPP is its priority, the data version counts how often it was given back
//! PATH/taken/entry-PPP-NNNNNNNNNN     ephemeral: somebody works on the item; data: the id of the taker
//! PATH/puts/UUID                      ephemeral: one per handle, so that a put is made once (see `marker.rs`)
//! ```
//!
//! # What an item costs
//! Nobody lists the queue per item. A handle lists it once, and is told by one persistent recursive watch what is put,
//! taken and done from then on ([`feed`](super::feed)). Taking is one transaction (the entry is there, and nobody has
//! taken it) with the read of the data sent behind it; finishing is another one. Servers without such watches (before 3.6) are
//! listed anew after an eighth of the entries was taken, or when nothing is left: a bounded number of names per item.
//!
//! # Promises
//! - An item is worked on by one at a time: it is taken by creating a znode that can exist once. A taker may hold it no
//!   longer when [`Item::lost`] resolves, which is before anybody else can have it, as far as the process runs.
//! - An item leaves the queue when its taker says so ([`Item::consume`]), in one transaction with the end of the
//!   lock. It comes back when the taker gives it back or its session ends. It may thus be worked on more than once.
//! - A put is made once, whatever happens to connections, unless the session is lost ([`RecipeError::Unknown`]).
//! - The best priority that this handle has been told of goes first. Within a priority, one of the first few is
//!   chosen at random, so that takers do not fight over the head: four while nobody else wants the same ones, up to 256
//!   with many takers. Items overtake each other by about so many, and none waits for ever while items are taken.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grange_proto::ZnodePath;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError, MultiWriteError, MultiWriter};

use super::entries::Priority;
use super::error::is_session_end;
use super::failure::{RecipeError, request};
use super::feed::{Feed, Watching};
use super::held::{Held, Loss};
use super::marker::{Marker, change_error, check_batch, ensure_path};
use super::parents::child;
use crate::retry::{is_connection_loss, retry};

/// What a failed request was for.
const DOING: &str = "cannot work on the queue";

/// A handle on a queue, for any number of takers at the same time.
#[derive(Debug, Clone)]
pub struct LockingQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    path: ZnodePath,
    entries: String,
    taken: String,
    /// What is written into the lock of an item.
    id: String,
    /// One transaction at a time: each names the version of the marker that the one before has left.
    marker: Mutex<Marker>,
    /// Watches over the session.
    session: Held,
    feed: Feed,
    runtime: Handle,
}

/// How an attempt to take an entry ended.
enum Attempt {
    Taken {
        data: Vec<u8>,
        given_back: u32,
    },
    /// Somebody else was quicker.
    Missed,
}

impl LockingQueue {
    /// Opens the queue at `path`; makes it, and its parents, unless they are there.
    pub async fn open(client: Client, path: ZnodePath) -> Result<LockingQueue, RecipeError> {
        LockingQueue::open_watching(client, path, Watching::Recursive).await
    }

    /// Opens the queue as on a server that has no recursive watches.
    pub async fn open_with_ordinary_watches(client: Client, path: ZnodePath) -> Result<LockingQueue, RecipeError> {
        LockingQueue::open_watching(client, path, Watching::Ordinary).await
    }

    async fn open_watching(client: Client, path: ZnodePath, watching: Watching) -> Result<LockingQueue, RecipeError> {
        let failed = || request("cannot open the queue", &path);
        let [entries, taken, puts] = ["entries", "taken", "puts"].map(|name| child(path.as_str(), name));
        for structure in [&entries, &taken, &puts] {
            ensure_path(&client, structure).await.map_err(failed())?;
        }
        let puts = ZnodePath::parse(puts).expect("a child of a path is a path");
        let mut marker = Marker::create(&client, &puts).await.map_err(failed())?;
        let session = marker.hold().await.map_err(failed())?;
        let id = marker.name().to_owned();
        let feed = Feed::start(client.clone(), path.as_str(), &entries, &taken, watching);
        let marker = Mutex::new(marker);
        let runtime = Handle::current();
        let shared = Shared { client, path, entries, taken, id, marker, session, feed, runtime };
        Ok(LockingQueue { shared: Arc::new(shared) })
    }

    /// Opens another queue with the same session.
    pub async fn sibling(&self, path: ZnodePath) -> Result<LockingQueue, RecipeError> {
        LockingQueue::open(self.shared.client.clone(), path).await
    }

    /// Returns the timeout of the session; items come back so long after the session was last heard of.
    pub fn session_timeout(&self) -> Duration {
        self.shared.client.session_timeout()
    }

    /// Returns the queue's path.
    pub fn path(&self) -> &ZnodePath {
        &self.shared.path
    }

    /// Puts an item.
    pub async fn put(&self, item: &[u8], priority: Priority) -> Result<(), RecipeError> {
        self.put_all(&[item], priority).await
    }

    /// Puts items, all or none. [`batches`](super::batches) makes batches that fit.
    pub async fn put_all<T: AsRef<[u8]>>(&self, items: &[T], priority: Priority) -> Result<(), RecipeError> {
        check_batch(items)?;
        let prefix = priority.prefix(&self.shared.entries);
        let options = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
        let add = |writer: &mut MultiWriter<'_>| {
            items.iter().try_for_each(|item| writer.add_create(&prefix, item.as_ref(), &options))
        };
        let mut marker = self.shared.marker.lock().await;
        marker.commit(add).await.map_err(|error| change_error("cannot put into", &self.shared.path, error))?;
        Ok(())
    }

    /// Returns how many items there are, those that are worked on included.
    pub async fn len(&self) -> Result<usize, RecipeError> {
        self.shared.count(&self.shared.entries).await
    }

    /// Returns how many items are worked on.
    pub async fn taken_count(&self) -> Result<usize, RecipeError> {
        self.shared.count(&self.shared.taken).await
    }

    /// Returns true if there is no item.
    pub async fn is_empty(&self) -> Result<bool, RecipeError> {
        Ok(self.len().await? == 0)
    }

    /// Takes an item; `None` if there is none that nobody works on.
    pub async fn take(&self) -> Result<Option<Item>, RecipeError> {
        loop {
            if let Some(item) = self.take_known().await? {
                return Ok(Some(item));
            }
            // What is known may be behind, and "nothing" is to be said for certain.
            if !self.shared.feed.list().await.map_err(request(DOING, &self.shared.path))? {
                return Ok(None);
            }
        }
    }

    /// Takes an item; waits for one, until `deadline` if there is one: then `None`.
    pub async fn take_until(&self, deadline: Option<Instant>) -> Result<Option<Item>, RecipeError> {
        let mut changes = self.shared.feed.changes();
        loop {
            changes.mark_unchanged();
            if let Some(item) = self.take_known().await? {
                return Ok(Some(item));
            }
            let change = async {
                tokio::select! {
                    changed = changes.changed() => changed.is_ok(),
                    _ = self.shared.session.lost() => false,
                }
            };
            let goes_on = match deadline {
                None => change.await,
                Some(deadline) => match timeout_at(deadline, change).await {
                    Ok(goes_on) => goes_on,
                    Err(_elapsed) => return Ok(None),
                },
            };
            if !goes_on {
                return Err(request(DOING, &self.shared.path)(ClientError::SessionExpired));
            }
        }
    }

    /// Resolves when all items of this handle are lost with the session, or may be.
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + use<> {
        self.shared.session.lost()
    }

    /// Takes one of the entries that are known; `None` when they have all been tried.
    async fn take_known(&self) -> Result<Option<Item>, RecipeError> {
        let mut tried = HashSet::new();
        loop {
            let Some(name) = self.shared.feed.choose(&tried).map_err(request(DOING, &self.shared.path))? else {
                return Ok(None);
            };
            // Dropped on the way, also while the server is asked, it gives back what it may have.
            let mut item =
                Item { shared: Arc::clone(&self.shared), name, data: Vec::new(), given_back: 0, is_done: false };
            match self.shared.attempt(&item.name).await {
                Ok(Attempt::Taken { data, given_back }) => {
                    self.shared.feed.took(&item.name);
                    (item.data, item.given_back) = (data, given_back);
                    return Ok(Some(item));
                }
                Ok(Attempt::Missed) => {
                    let name = item.forget();
                    self.shared.feed.missed(&name);
                    tried.insert(name);
                }
                Err(error) => return Err(request(DOING, &self.shared.path)(error)),
            }
        }
    }
}

impl Shared {
    async fn count(&self, path: &str) -> Result<usize, RecipeError> {
        let stat = retry(|| self.client.check_stat(path)).await.map_err(request("cannot count the items of", &path))?;
        Ok(stat.map_or(0, |stat| usize::try_from(stat.num_children).unwrap_or(0)))
    }

    fn entry(&self, name: &str) -> String {
        child(&self.entries, name)
    }

    fn lock(&self, name: &str) -> String {
        child(&self.taken, name)
    }

    /// Takes an entry, and reads it.
    async fn attempt(&self, name: &str) -> Result<Attempt, ClientError> {
        let (entry, lock) = (self.entry(name), self.lock(name));
        let was_lost = AtomicBool::new(false);
        let attempt = || async {
            let mut writer = self.client.new_multi_writer();
            writer.add_check_version(&entry, -1)?;
            writer.add_create(&lock, self.id.as_bytes(), &CreateMode::Ephemeral.with_acls(Acls::anyone_all()))?;
            // Both are on their way before either is waited for.
            let (taken, read) = (writer.commit(), self.client.get_data(&entry));
            match taken.await {
                Ok(_) => Ok(Some(read.await)),
                Err(MultiWriteError::OperationFailed { source: ClientError::NodeExists, .. })
                    if was_lost.load(Ordering::Relaxed) =>
                {
                    // Perhaps by the attempt whose reply was lost.
                    let is_ours = self.is_ours(&lock).await?;
                    Ok(if is_ours { Some(read.await) } else { None })
                }
                // The entry has gone, or somebody has it.
                Err(MultiWriteError::OperationFailed { index: 0, source: ClientError::NoNode })
                | Err(MultiWriteError::OperationFailed { index: 1, source: ClientError::NodeExists }) => Ok(None),
                Err(MultiWriteError::OperationFailed { source, .. }) => Err(source),
                Err(MultiWriteError::RequestFailed { source }) => {
                    was_lost.fetch_or(is_connection_loss(&source), Ordering::Relaxed);
                    Err(source)
                }
            }
        };
        let read = match retry(attempt).await? {
            None => return Ok(Attempt::Missed),
            Some(Err(error)) if is_connection_loss(&error) => retry(|| self.client.get_data(&entry)).await,
            Some(read) => read,
        };
        match read {
            Ok((data, stat)) => Ok(Attempt::Taken { data, given_back: u32::try_from(stat.version).unwrap_or(0) }),
            // Somebody deletes entries without taking them; the lock goes with the reservation.
            Err(ClientError::NoNode) => {
                retry(|| self.client.delete(&lock, None)).await.or_else(absent)?;
                Ok(Attempt::Missed)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells whether a lock is this handle's.
    async fn is_ours(&self, lock: &str) -> Result<bool, ClientError> {
        match self.client.get_data(lock).await {
            Ok((data, stat)) => Ok(data == self.id.as_bytes() && stat.ephemeral_owner == self.client.session_id().0),
            Err(ClientError::NoNode) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends the lock of an item together with what `add` adds.
    async fn finish(
        &self,
        name: &str,
        add: impl Fn(&mut MultiWriter<'_>) -> Result<(), ClientError>,
    ) -> Result<(), RecipeError> {
        let lock = self.lock(name);
        let was_lost = AtomicBool::new(false);
        let attempt = || async {
            let mut writer = self.client.new_multi_writer();
            writer.add_delete(&lock, None)?;
            add(&mut writer)?;
            match writer.commit().await {
                Ok(_) => Ok(Ok(())),
                // The lock is this handle's alone, so the attempt whose reply was lost has removed it.
                Err(MultiWriteError::OperationFailed { index: 0, source: ClientError::NoNode })
                    if was_lost.load(Ordering::Relaxed) =>
                {
                    Ok(Ok(()))
                }
                Err(MultiWriteError::OperationFailed { source, .. }) => Ok(Err(source)),
                Err(MultiWriteError::RequestFailed { source }) => {
                    was_lost.fetch_or(is_connection_loss(&source), Ordering::Relaxed);
                    Err(source)
                }
            }
        };
        match retry(attempt).await.and_then(|finished| finished) {
            Ok(()) => Ok(()),
            Err(ClientError::NoNode) => Err(RecipeError::NotHeld { path: self.entry(name) }),
            Err(source) => Err(request("cannot finish", &self.entry(name))(source)),
        }
    }

    /// Resolves when the lock of an item is not this handle's any more, as far as the server tells.
    async fn freed(&self, name: &str) {
        let lock = self.lock(name);
        loop {
            self.feed.freed(name).await;
            match retry(|| self.is_ours(&lock)).await {
                // The event was about somebody who had the entry before.
                Ok(true) => self.feed.took(name),
                Ok(false) => return,
                // The session's own watch tells what this means.
                Err(error) => {
                    debug!(lock, %error, "cannot look at a lock");
                    return std::future::pending().await;
                }
            }
        }
    }
}

fn absent(error: ClientError) -> Result<(), ClientError> {
    if error == ClientError::NoNode { Ok(()) } else { Err(error) }
}

/// An item that is taken, for as long as the value lives, or until it is [lost](Item::lost).
///
/// Dropping it gives it back in the background, without counting.
#[derive(Debug)]
#[must_use = "an item is given back when the value is dropped"]
pub struct Item {
    shared: Arc<Shared>,
    name: String,
    data: Vec<u8>,
    given_back: u32,
    /// There is no lock to remove, or it is being removed.
    is_done: bool,
}

impl Item {
    /// Returns the name of the entry, which no other item of the queue has ever had.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what was put.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Returns how often the item was given back by [`Item::give_back`].
    pub fn given_back(&self) -> u32 {
        self.given_back
    }

    /// Resolves when somebody else may have the item: the session has ended or may end soon, or somebody has deleted
    /// the lock.
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + use<> {
        let session = self.shared.session.lost();
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        async move {
            tokio::select! {
                loss = session => loss,
                () = shared.freed(&name) => Loss::Deleted,
            }
        }
    }

    /// Takes the item out of the queue: it is done.
    ///
    /// Errors: [`RecipeError::NotHeld`] if the lock or the entry was deleted by somebody; nothing was changed then.
    pub async fn consume(mut self) -> Result<(), RecipeError> {
        self.is_done = true;
        let entry = self.shared.entry(&self.name);
        let finished = self.shared.finish(&self.name, |writer| writer.add_delete(&entry, None)).await;
        if finished.is_ok() {
            self.shared.feed.consumed(&self.name);
        }
        self.settle(finished)
    }

    /// Gives the item back, for anybody to take, and counts that.
    pub async fn give_back(mut self) -> Result<(), RecipeError> {
        self.is_done = true;
        let entry = self.shared.entry(&self.name);
        let finished = self.shared.finish(&self.name, |writer| writer.add_set_data(&entry, &self.data, None)).await;
        self.settle(finished)
    }

    /// Gives the item back as if it had not been taken.
    pub async fn release(mut self) -> Result<(), RecipeError> {
        self.is_done = true;
        let finished = self.shared.finish(&self.name, |_| Ok(())).await;
        self.settle(finished)
    }

    /// Moves the item to another queue, in one transaction. The queue must be there.
    pub async fn move_to(mut self, queue: &LockingQueue, priority: Priority) -> Result<(), RecipeError> {
        self.is_done = true;
        let entry = self.shared.entry(&self.name);
        let prefix = priority.prefix(&queue.shared.entries);
        let add = |writer: &mut MultiWriter<'_>| {
            writer.add_delete(&entry, None)?;
            writer.add_create(&prefix, &self.data, &CreateMode::PersistentSequential.with_acls(Acls::anyone_all()))
        };
        let finished = self.shared.finish(&self.name, add).await;
        if finished.is_ok() {
            self.shared.feed.consumed(&self.name);
        }
        self.settle(finished)
    }

    /// An end that failed leaves the lock to be removed by the drop.
    fn settle(mut self, finished: Result<(), RecipeError>) -> Result<(), RecipeError> {
        self.is_done = matches!(finished, Ok(()) | Err(RecipeError::NotHeld { .. }));
        finished
    }

    /// Ends the value without a lock to remove; returns the name, which stays reserved.
    fn forget(mut self) -> String {
        std::mem::take(&mut self.name)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        if self.is_done || self.shared.client.state().is_terminated() {
            self.shared.feed.unreserve(&self.name);
            return;
        }
        let (shared, name) = (Arc::clone(&self.shared), std::mem::take(&mut self.name));
        self.shared.runtime.spawn(async move {
            // Its creation may still be on its way; only what is ours is deleted, and nobody else of this handle takes
            // the entry before the reservation ends.
            let lock = shared.lock(&name);
            let removed = async {
                retry(|| shared.client.sync(&lock)).await.or_else(absent)?;
                match retry(|| shared.is_ours(&lock)).await? {
                    true => retry(|| shared.client.delete(&lock, None)).await.or_else(absent),
                    false => Ok(()),
                }
            };
            match removed.await {
                Ok(()) => {}
                Err(error) if is_session_end(&error) => debug!(lock, "an item comes back with the end of the session"),
                Err(error) => warn!(lock, %error, "an item stays taken until the session ends"),
            }
            shared.feed.unreserve(&name);
        });
    }
}
