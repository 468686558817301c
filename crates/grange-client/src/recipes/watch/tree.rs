//! A copy of a tree of znodes that is kept up to date.
//!
//! One persistent recursive watch tells which znode has changed, and only that one is read. Such a watch is silent about
//! what happened while there was no connection, so after each reconnect every known znode's stat is asked for, without
//! its data, many at a time; data are read where `mzxid` differs, children are listed where `pzxid` or `cversion` does.
//! On a server without such watches (before 3.6) each znode has two ordinary ones.
//!
//! Use a client for this alone if it also sets ordinary watches below the same path: servers mix up the two kinds
//! (ZOOKEEPER-4466).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use grange_proto::ZnodePath;
use tokio::task::JoinSet;
use tracing::debug;
use zookeeper_client::{
    AddWatchMode, Client, Error as ClientError, EventType, OneshotWatcher, PersistentWatcher, SessionState, Stat,
    WatchedEvent,
};

use crate::recipes::failure::{RecipeError, request};
use crate::recipes::parents::child;
use crate::retry::retry;

/// How many requests are under way at a time.
const REQUESTS_MAX: usize = 128;

/// What failed requests were for.
const DOING: &str = "cannot watch the tree";

/// A znode of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedNode {
    /// The data.
    pub data: Vec<u8>,
    /// The stat that belongs to them.
    pub stat: Stat,
}

/// What happened to a znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeChange {
    /// It came; [`TreeCache::get`] has it.
    Created(String),
    /// Its data changed.
    Changed(String),
    /// It went.
    Deleted(String),
    /// Everything that was there at the beginning has been told. Comes once.
    Ready,
}

/// How many requests were made for the copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeReads {
    /// Stats, without data.
    pub stats: u64,
    /// Data.
    pub data: u64,
    /// Lists of children.
    pub lists: u64,
}

/// How much of a znode has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Node,
    /// Its children may be unknown too.
    Children,
}

/// Who tells what has changed.
#[derive(Debug)]
enum Source {
    Recursive(PersistentWatcher),
    Oneshot(OrdinaryWatches),
}

/// Which of a znode's two ordinary watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Data,
    Children,
}

/// One task per watch that is set.
#[derive(Debug, Default)]
struct OrdinaryWatches {
    tasks: JoinSet<(String, Kind, WatchedEvent)>,
    set: HashSet<(String, Kind)>,
}

impl OrdinaryWatches {
    /// Waits for the first one that fires.
    async fn heard(&mut self) -> Result<(String, WatchedEvent), ClientError> {
        match self.tasks.join_next().await {
            Some(Ok((path, kind, event))) => {
                self.set.remove(&(path.clone(), kind));
                Ok((path, event))
            }
            Some(Err(error)) => Err(ClientError::UnexpectedError(error.to_string())),
            None => Err(ClientError::UnexpectedError("there is no watch left".to_owned())),
        }
    }

    /// Listens to a watch, unless one of the same kind is set: the server fires both at once.
    fn listen(&mut self, path: &str, kind: Kind, watcher: OneshotWatcher) {
        if self.set.insert((path.to_owned(), kind)) {
            let path = path.to_owned();
            self.tasks.spawn(async move { (path, kind, watcher.changed().await) });
        }
    }
}

/// A copy of the tree at a path.
#[derive(Debug)]
pub struct TreeCache {
    client: Client,
    root: ZnodePath,
    source: Source,
    nodes: BTreeMap<String, CachedNode>,
    /// What has to be read.
    stale: BTreeMap<String, Scope>,
    /// The znodes below the root that may not be read, if those are left out.
    unreadable: Option<BTreeSet<String>>,
    /// The connection was lost, so anything may have changed.
    is_suspect: bool,
    is_ready: bool,
    /// What has not been told yet.
    changes: VecDeque<TreeChange>,
    reads: TreeReads,
}

impl TreeCache {
    /// Starts a copy of the tree at `path`, which may come later.
    pub async fn open(client: Client, path: ZnodePath) -> Result<TreeCache, RecipeError> {
        match retry(|| client.watch(path.as_str(), AddWatchMode::PersistentRecursive)).await {
            Ok(watcher) => Ok(TreeCache::new(client, path, Source::Recursive(watcher))),
            Err(ClientError::Unimplemented) => {
                debug!(%path, "the server has no recursive watches; each znode has ordinary ones");
                Ok(TreeCache::open_with_ordinary_watches(client, path))
            }
            Err(error) => Err(request(DOING, &path)(error)),
        }
    }

    /// Starts a copy as on a server that has no recursive watches.
    pub fn open_with_ordinary_watches(client: Client, path: ZnodePath) -> TreeCache {
        TreeCache::new(client, path, Source::Oneshot(OrdinaryWatches::default()))
    }

    /// Goes on with another session, after the first one has ended: what changed meanwhile is told, and only that is read.
    ///
    /// After an error the copy is as it was.
    pub async fn reopen(&mut self, client: Client) -> Result<(), RecipeError> {
        let fresh = TreeCache::open(client, self.root.clone()).await?;
        (self.client, self.source) = (fresh.client, fresh.source);
        self.is_suspect = matches!(self.source, Source::Recursive(_));
        if !self.is_suspect {
            // Each watch has to be set anew, which reads.
            let paths: Vec<String> = self.nodes.keys().cloned().collect();
            paths.into_iter().for_each(|path| self.mark(path, Scope::Children));
        }
        Ok(())
    }

    fn new(client: Client, root: ZnodePath, source: Source) -> TreeCache {
        let mut cache = TreeCache {
            client,
            root,
            source,
            nodes: BTreeMap::new(),
            stale: BTreeMap::new(),
            unreadable: None,
            is_suspect: false,
            is_ready: false,
            changes: VecDeque::new(),
            reads: TreeReads::default(),
        };
        cache.mark(cache.root.as_str().to_owned(), cache.scope_of_new());
        cache
    }

    /// Leaves out znodes below the root that may not be read: one of them then keeps nobody from following the others.
    /// Without this they are errors.
    pub fn without_unreadable(self) -> TreeCache {
        TreeCache { unreadable: Some(BTreeSet::new()), ..self }
    }

    /// Returns the znodes that are left out because they may not be read. One that may be read later is told when its data
    /// change.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().flatten().map(String::as_str)
    }

    /// Returns a znode as it was when the last change was told, or later.
    pub fn get(&self, path: &str) -> Option<&CachedNode> {
        self.nodes.get(path)
    }

    /// Returns all znodes, parents before children.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &CachedNode)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Tells whether nothing is known to be coming: a znode that may have changed and has not been read, or a change that
    /// has not been told.
    pub fn is_current(&self) -> bool {
        self.is_ready && !self.is_suspect && self.stale.is_empty() && self.changes.is_empty()
    }

    /// Returns how many requests were made so far.
    pub fn reads(&self) -> TreeReads {
        self.reads
    }

    /// Returns the next change; waits for one.
    ///
    /// Errors: the session has ended, or a znode may not be read.
    pub async fn next(&mut self) -> Result<TreeChange, RecipeError> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            let failed = request(DOING, &self.root);
            if self.is_suspect {
                self.compare().await.map_err(failed)?;
            } else if !self.stale.is_empty() {
                self.read_some().await.map_err(failed)?;
            } else if !self.is_ready {
                self.is_ready = true;
                self.changes.push_back(TreeChange::Ready);
            } else {
                self.hear().await.map_err(failed)?;
            }
        }
    }

    /// Waits for something to read.
    async fn hear(&mut self) -> Result<(), ClientError> {
        let (path, event) = match &mut self.source {
            Source::Recursive(watcher) => {
                let event = watcher.changed().await;
                (event.path.clone(), event)
            }
            Source::Oneshot(watches) => watches.heard().await?,
        };
        if event.session_state.is_terminated() {
            return Err(ClientError::SessionExpired);
        }
        match event.event_type {
            EventType::Session if event.session_state == SessionState::SyncConnected => {
                self.is_suspect = matches!(self.source, Source::Recursive(_));
            }
            EventType::Session => {}
            EventType::NodeChildrenChanged => self.mark(path, Scope::Children),
            EventType::NodeCreated => {
                let scope = self.scope_of_new();
                self.mark(path, scope);
            }
            _ => self.mark(path, Scope::Node),
        }
        Ok(())
    }

    /// What is read of a znode that was not known: with a recursive watch its data show whether it has children.
    fn scope_of_new(&self) -> Scope {
        match self.source {
            Source::Recursive(_) => Scope::Node,
            Source::Oneshot(_) => Scope::Children,
        }
    }

    fn mark(&mut self, path: String, scope: Scope) {
        let marked = self.stale.entry(path).or_insert(scope);
        *marked = scope.max(*marked);
    }

    /// Finds out what has changed while there was no connection.
    async fn compare(&mut self) -> Result<(), ClientError> {
        // The client library (0.11) sets ordinary watches again after a reconnect, and this one not.
        let (client, root) = (&self.client, self.root.as_str());
        let watcher = retry(|| client.watch(root, AddWatchMode::PersistentRecursive)).await?;
        self.source = Source::Recursive(watcher);
        let paths: Vec<String> = self.nodes.keys().cloned().collect();
        if paths.is_empty() {
            self.mark(self.root.as_str().to_owned(), self.scope_of_new());
        }
        for some in paths.chunks(REQUESTS_MAX) {
            let client = &self.client;
            let stats = retry(|| async {
                let requests: Vec<_> = some.iter().map(|path| client.check_stat(path)).collect();
                let mut stats = Vec::with_capacity(some.len());
                for request in requests {
                    stats.push(request.await?);
                }
                Ok(stats)
            })
            .await?;
            self.reads.stats += u64::try_from(some.len()).unwrap_or(0);
            for (path, stat) in some.iter().zip(stats) {
                let Some(known) = self.nodes.get(path).map(|node| node.stat) else { continue };
                match stat {
                    None => self.mark(path.clone(), Scope::Node),
                    Some(stat) if (stat.pzxid, stat.cversion) != (known.pzxid, known.cversion) => {
                        self.mark(path.clone(), Scope::Children);
                    }
                    Some(stat) if stat.mzxid != known.mzxid => self.mark(path.clone(), Scope::Node),
                    Some(_) => {}
                }
            }
        }
        self.is_suspect = false;
        Ok(())
    }

    /// Reads the first ones of what has to be read.
    async fn read_some(&mut self) -> Result<(), ClientError> {
        let some: Vec<(String, Scope)> =
            self.stale.iter().take(REQUESTS_MAX).map(|(path, scope)| (path.clone(), *scope)).collect();
        match self.source {
            Source::Recursive(_) => self.read_plainly(&some).await,
            Source::Oneshot(_) => {
                for (path, _) in &some {
                    self.read_and_watch(path).await?;
                }
                Ok(())
            }
        }
    }

    async fn read_plainly(&mut self, some: &[(String, Scope)]) -> Result<(), ClientError> {
        let client = &self.client;
        let read = retry(|| async {
            let requests: Vec<_> = some
                .iter()
                .map(|(path, scope)| {
                    // A list after the data: a child that comes between the two is told by an event.
                    let data = client.get_data(path);
                    (data, (*scope == Scope::Children).then(|| client.get_children(path)))
                })
                .collect();
            let mut read = Vec::with_capacity(some.len());
            for ((path, _), (data, list)) in some.iter().zip(requests) {
                let data = self.found(path, data.await)?;
                let list = match list {
                    Some(list) => self.found(path, list.await)?,
                    None => Found::Nothing,
                };
                read.push((data, list));
            }
            Ok(read)
        })
        .await?;
        for ((path, scope), (data, list)) in some.iter().zip(read) {
            let (data, list) = (self.note(path, data), list.there());
            self.reads.data += 1;
            self.reads.lists += u64::from(*scope == Scope::Children);
            self.stale.remove(path);
            let has_children = data.as_ref().is_some_and(|(_, stat)| stat.num_children > 0);
            let is_new = self.learn(path, data);
            match list {
                Some((names, stat)) => self.learn_children(path, &names, stat),
                // Most new znodes have none, and are not asked for a list.
                None if is_new && has_children => self.mark(path.clone(), Scope::Children),
                None => {}
            }
        }
        Ok(())
    }

    async fn read_and_watch(&mut self, path: &str) -> Result<(), ClientError> {
        self.reads.data += 1;
        let found = self.found(path, retry(|| self.client.get_and_watch_data(path)).await)?;
        let data = match self.note(path, found) {
            Some((data, stat, watcher)) => {
                self.listen(path, Kind::Data, watcher);
                Some((data, stat))
            }
            None => None,
        };
        let is_there = data.is_some();
        self.learn(path, data);
        if is_there {
            self.reads.lists += 1;
            let list = self.found(path, retry(|| self.client.get_and_watch_children(path)).await)?;
            if let Some((names, stat, watcher)) = list.there() {
                self.listen(path, Kind::Children, watcher);
                self.learn_children(path, &names, stat);
            }
        } else if path == self.root.as_str() {
            // Its parent is not watched, so its return would not be told.
            let (stat, watcher) = retry(|| self.client.check_and_watch_stat(path)).await?;
            self.listen(path, Kind::Data, watcher);
            if stat.is_some() {
                // It came back meanwhile, and stays marked.
                return Ok(());
            }
        }
        self.stale.remove(path);
        Ok(())
    }

    /// Tells what has been found at a path.
    fn found<T>(&self, path: &str, read: Result<T, ClientError>) -> Result<Found<T>, ClientError> {
        match read {
            Ok(read) => Ok(Found::There(read)),
            Err(ClientError::NoNode) => Ok(Found::Nothing),
            Err(ClientError::NoAuth) if self.unreadable.is_some() && path != self.root.as_str() => Ok(Found::Refused),
            Err(error) => Err(error),
        }
    }

    /// Notes whether a znode may be read; returns it if it may.
    fn note<T>(&mut self, path: &str, found: Found<T>) -> Option<T> {
        if let Some(unreadable) = &mut self.unreadable {
            match found {
                Found::Refused => unreadable.insert(path.to_owned()),
                Found::There(_) | Found::Nothing => unreadable.remove(path),
            };
        }
        found.there()
    }

    fn listen(&mut self, path: &str, kind: Kind, watcher: OneshotWatcher) {
        if let Source::Oneshot(watches) = &mut self.source {
            watches.listen(path, kind, watcher);
        }
    }

    /// Takes in what a znode is now, with everything below it if it is not there. Tells whether it is another one than
    /// before.
    fn learn(&mut self, path: &str, read: Option<(Vec<u8>, Stat)>) -> bool {
        let Some((data, stat)) = read else {
            let below = format!("{path}/");
            let gone: Vec<String> =
                self.nodes.keys().filter(|known| *known == path || known.starts_with(&below)).rev().cloned().collect();
            for path in gone {
                self.nodes.remove(&path);
                self.changes.push_back(TreeChange::Deleted(path));
            }
            if let Some(unreadable) = &mut self.unreadable {
                unreadable.retain(|known| !known.starts_with(&below));
            }
            return false;
        };
        match self.nodes.entry(path.to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert(CachedNode { data, stat });
                self.changes.push_back(TreeChange::Created(path.to_owned()));
                true
            }
            Entry::Occupied(mut known) => {
                let before = known.insert(CachedNode { data, stat }).stat;
                if before.czxid == stat.czxid {
                    if before.mzxid != stat.mzxid {
                        self.changes.push_back(TreeChange::Changed(path.to_owned()));
                    }
                    return false;
                }
                self.changes.push_back(TreeChange::Deleted(path.to_owned()));
                self.changes.push_back(TreeChange::Created(path.to_owned()));
                // Another znode with this path: what was below the old one went with it.
                if before.num_children > 0 {
                    self.mark(path.to_owned(), Scope::Children);
                }
                true
            }
        }
    }

    /// Takes in which children there are now.
    fn learn_children(&mut self, path: &str, names: &[String], stat: Stat) {
        if let Some(node) = self.nodes.get_mut(path) {
            (node.stat.pzxid, node.stat.cversion, node.stat.num_children) =
                (stat.pzxid, stat.cversion, stat.num_children);
        }
        let children: HashSet<String> = names.iter().map(|name| child(path, name)).collect();
        let prefix = child(path, "");
        let is_child =
            |known: &&String| known.strip_prefix(&prefix).is_some_and(|name| !name.is_empty() && !name.contains('/'));
        let gone: Vec<String> = self
            .nodes
            .range(prefix.clone()..)
            .map(|(known, _)| known)
            .take_while(|known| known.starts_with(&prefix))
            .filter(is_child)
            .filter(|known| !children.contains(*known))
            .cloned()
            .collect();
        for path in gone {
            self.learn(&path, None);
        }
        for path in children {
            if !self.nodes.contains_key(&path) {
                let scope = self.scope_of_new();
                self.mark(path, scope);
            }
        }
    }
}

/// What a read has found.
enum Found<T> {
    There(T),
    /// There is no such znode.
    Nothing,
    /// It may not be read.
    Refused,
}

impl<T> Found<T> {
    fn there(self) -> Option<T> {
        match self {
            Found::There(there) => Some(there),
            Found::Nothing | Found::Refused => None,
        }
    }
}
