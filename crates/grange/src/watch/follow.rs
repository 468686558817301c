//! What is watched: a tree, or one znode and the list of its children.

use std::collections::{BTreeSet, VecDeque};

use grange_client::recipes::{ChildrenWatch, DataWatch, RecipeError, TreeCache, TreeChange};
use grange_client::{Client, Stat};
use grange_proto::ZnodePath;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Created(String),
    Changed(String),
    Deleted(String),
    /// What was there at the beginning has been told.
    Ready,
}

impl Change {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Change::Created(_) => "created",
            Change::Changed(_) => "changed",
            Change::Deleted(_) => "deleted",
            Change::Ready => "ready",
        }
    }

    pub(super) fn path(&self) -> &str {
        match self {
            Change::Created(path) | Change::Changed(path) | Change::Deleted(path) => path,
            Change::Ready => "",
        }
    }
}

/// Tells changes, one after the other.
#[derive(Debug)]
pub(super) enum Follower {
    Tree(Box<TreeCache>),
    Node(Box<Node>),
}

/// One znode and the names of its children.
#[derive(Debug)]
pub(super) struct Node {
    path: String,
    data: DataWatch,
    children: ChildrenWatch,
    known: Option<(Vec<u8>, Stat)>,
    names: BTreeSet<String>,
    /// How many of the two watches have told their first state.
    has_data: bool,
    has_children: bool,
    is_ready: bool,
    changes: VecDeque<Change>,
}

impl Follower {
    pub(super) async fn start(client: Client, path: ZnodePath, is_recursive: bool) -> Result<Follower, RecipeError> {
        if is_recursive {
            return Ok(Follower::Tree(Box::new(TreeCache::open(client, path).await?)));
        }
        Ok(Follower::Node(Box::new(Node {
            path: path.as_str().to_owned(),
            data: DataWatch::new(client.clone(), path.clone()),
            children: ChildrenWatch::new(client, path),
            known: None,
            names: BTreeSet::new(),
            has_data: false,
            has_children: false,
            is_ready: false,
            changes: VecDeque::new(),
        })))
    }

    /// Goes on with another session.
    pub(super) async fn with_client(self, client: Client) -> Result<Follower, RecipeError> {
        Ok(match self {
            Follower::Tree(mut cache) => {
                cache.reopen(client).await?;
                Follower::Tree(cache)
            }
            Follower::Node(node) => {
                let (data, children) = (node.data.with_client(client.clone()), node.children.with_client(client));
                Follower::Node(Box::new(Node { data, children, ..*node }))
            }
        })
    }

    pub(super) async fn next(&mut self) -> Result<Change, RecipeError> {
        match self {
            Follower::Tree(cache) => Ok(match cache.next().await? {
                TreeChange::Created(path) => Change::Created(path),
                TreeChange::Changed(path) => Change::Changed(path),
                TreeChange::Deleted(path) => Change::Deleted(path),
                TreeChange::Ready => Change::Ready,
            }),
            Follower::Node(node) => node.next().await,
        }
    }

    /// Returns the data of a znode, if they are known.
    pub(super) fn get(&self, path: &str) -> Option<(&[u8], &Stat)> {
        match self {
            Follower::Tree(cache) => cache.get(path).map(|node| (node.data.as_slice(), &node.stat)),
            Follower::Node(node) => {
                let (data, stat) = node.known.as_ref().filter(|_| path == node.path)?;
                Some((data, stat))
            }
        }
    }
}

impl Node {
    async fn next(&mut self) -> Result<Change, RecipeError> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            if self.has_data && self.has_children && !self.is_ready {
                self.is_ready = true;
                return Ok(Change::Ready);
            }
            tokio::select! {
                told = self.data.next() => self.learn_data(told?),
                told = self.children.next() => self.learn_children(told?.map(|(names, _)| names).unwrap_or_default()),
            }
        }
    }

    fn learn_data(&mut self, now: Option<(Vec<u8>, Stat)>) {
        self.has_data = true;
        let path = || self.path.clone();
        match (&self.known, &now) {
            (None, Some(_)) => self.changes.push_back(Change::Created(path())),
            (Some(_), None) => self.changes.push_back(Change::Deleted(path())),
            (Some((_, before)), Some((_, after))) if before.czxid != after.czxid => {
                self.changes.extend([Change::Deleted(path()), Change::Created(path())]);
            }
            (Some(_), Some(_)) => self.changes.push_back(Change::Changed(path())),
            (None, None) => {}
        }
        self.known = now;
    }

    fn learn_children(&mut self, now: Vec<String>) {
        self.has_children = true;
        let now: BTreeSet<String> = now.into_iter().collect();
        let parent = self.path.trim_end_matches('/');
        for name in self.names.difference(&now) {
            self.changes.push_back(Change::Deleted(format!("{parent}/{name}")));
        }
        for name in now.difference(&self.names) {
            self.changes.push_back(Change::Created(format!("{parent}/{name}")));
        }
        self.names = now;
    }
}
