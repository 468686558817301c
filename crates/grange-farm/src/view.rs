//! A farm as it is now, kept up to date: one read per change, whatever the size of the farm.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use grange_client::recipes::{RecipeError, TreeCache, TreeChange, TreeReads};
use grange_client::{Client, Stat, ZnodePath};

use crate::hosts::{Host, host_path};
use crate::properties::{Properties, PropertiesError};

/// What happened in a farm.
#[derive(Debug, Clone, PartialEq)]
pub enum FarmChange {
    /// A host came.
    Joined(String),
    /// A host went, and these were its properties, unless they could not be read.
    Left(String, Option<Properties>),
    /// The properties of a host changed from these; `None` if they could not be read before. Also told when a host has
    /// come back before anybody saw it missing.
    Changed(String, Option<Properties>),
    /// The properties of the farm itself changed.
    Farm,
    /// Everything that was there at the beginning has been told. Comes once.
    Ready,
}

/// A copy of a farm.
#[derive(Debug)]
pub struct FarmView {
    farm: ZnodePath,
    cache: TreeCache,
    hosts: BTreeMap<String, Host>,
    /// A change that has been seen with another one.
    waiting: VecDeque<FarmChange>,
}

impl FarmView {
    /// Starts a copy of the farm at `path`, which may come later.
    ///
    /// The session should be used for nothing else (see [`TreeCache`]).
    pub async fn open(client: Client, path: ZnodePath) -> Result<FarmView, RecipeError> {
        let cache = TreeCache::open(client, path.clone()).await?;
        Ok(FarmView { farm: path, cache, hosts: BTreeMap::new(), waiting: VecDeque::new() })
    }

    /// Goes on with another session, after the first one has ended: what changed meanwhile is told.
    pub async fn with_client(&mut self, client: Client) -> Result<(), RecipeError> {
        self.cache.reopen(client).await
    }

    /// Tells whether nothing is known to be coming: a change that has been heard of but not read, or not been told.
    pub fn is_current(&self) -> bool {
        self.waiting.is_empty() && self.cache.is_current()
    }

    /// Returns the farm's path.
    pub fn farm(&self) -> &ZnodePath {
        &self.farm
    }

    /// Returns every child by name, `common` among them.
    pub fn hosts(&self) -> &BTreeMap<String, Host> {
        &self.hosts
    }

    /// Returns the stat of a child's znode.
    pub fn stat(&self, name: &str) -> Option<&Stat> {
        self.cache.get(&host_path(&self.farm, name)).map(|node| &node.stat)
    }

    /// Tells whether there is a farm.
    pub fn exists(&self) -> bool {
        self.cache.get(self.farm.as_str()).is_some()
    }

    /// Returns the properties of the farm itself; none without a farm.
    pub fn properties(&self) -> Result<Properties, PropertiesError> {
        self.cache.get(self.farm.as_str()).map_or(Ok(Properties::default()), |node| Properties::decode(&node.data))
    }

    /// Returns how many requests were made so far.
    pub fn reads(&self) -> TreeReads {
        self.cache.reads()
    }

    /// Returns the next change; waits for one. Dropping the future loses nothing.
    ///
    /// Errors: the session has ended, or a znode may not be read.
    pub async fn next(&mut self) -> Result<FarmChange, RecipeError> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Ok(change);
            }
            let change = self.cache.next().await?;
            self.learn(&change);
        }
    }

    fn learn(&mut self, change: &TreeChange) {
        let path = match change {
            TreeChange::Created(path) | TreeChange::Changed(path) | TreeChange::Deleted(path) => path,
            TreeChange::Ready => return self.waiting.push_back(FarmChange::Ready),
        };
        if path == self.farm.as_str() {
            return self.waiting.push_back(FarmChange::Farm);
        }
        let Some(name) = child_name(self.farm.as_str(), path) else { return };
        let name = name.to_owned();
        // Whatever the event says: the znode as it is now counts, so one that was replaced has not gone.
        let now = self.cache.get(path).map(|node| Properties::decode(&node.data).map_err(Arc::new));
        let Some(now) = now else {
            if let Some(before) = self.hosts.remove(&name) {
                self.waiting.push_back(FarmChange::Left(name, before.ok()));
            }
            return;
        };
        match self.hosts.insert(name.clone(), now) {
            None => self.waiting.push_back(FarmChange::Joined(name)),
            Some(Ok(before)) if self.hosts[&name].as_ref().is_ok_and(|now| *now == before) => {}
            Some(before) => self.waiting.push_back(FarmChange::Changed(name, before.ok())),
        }
    }
}

/// Returns the name of a direct child.
fn child_name<'a>(parent: &str, path: &'a str) -> Option<&'a str> {
    let name = path.strip_prefix(parent.trim_end_matches('/'))?.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_direct_children_are_hosts() {
        assert_eq!(child_name("/farm", "/farm/10.0.0.1"), Some("10.0.0.1"));
        assert_eq!(child_name("/", "/10.0.0.1"), Some("10.0.0.1"));
        for path in ["/farm", "/farm/", "/farm/a/b", "/farmer/a", "/other"] {
            assert_eq!(child_name("/farm", path), None, "{path}");
        }
    }
}
