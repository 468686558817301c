//! What a connection's watches must report: the same rules as the server's, written a second time and the slow way.

use std::collections::{BTreeMap, VecDeque};

use grange_proto::watch::{AddWatchMode, EventType, SetWatches};
use grange_proto::{ErrorCode, Request, Zxid};

use super::model::{Model, ModelChange};

const DATA: u8 = 1;
const CHILD: u8 = 2;
const PERSISTENT: u8 = 4;
const RECURSIVE: u8 = 8;

/// An event that a connection must receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The transaction; -1 for what a returning client missed.
    pub(crate) zxid: Zxid,
    /// What happened.
    pub(crate) event: EventType,
    /// Where.
    pub(crate) path: String,
}

/// The watches of one connection, and the events that are due.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    armed: BTreeMap<String, u8>,
    /// How many changes of the history were looked at.
    pub(crate) seen: usize,
    due: VecDeque<Expected>,
}

impl Watcher {
    /// Looks at the changes that nobody has looked at yet.
    pub(crate) fn catch_up(&mut self, changes: &[(Zxid, ModelChange)]) {
        if self.armed.is_empty() {
            self.seen = changes.len();
            return;
        }
        while let Some((zxid, change)) = changes.get(self.seen) {
            self.seen += 1;
            self.change(*zxid, change);
        }
    }

    /// Returns the next event that must come, if there is one.
    pub(crate) fn next_due(&mut self) -> Option<Expected> {
        self.due.pop_front()
    }

    fn change(&mut self, zxid: Zxid, change: &ModelChange) {
        let ModelChange { event, path } = change;
        let is_deleted = *event == EventType::NodeDeleted;
        let own = self.armed.get(path).copied().unwrap_or(0);
        let hears = DATA | PERSISTENT | RECURSIVE | if is_deleted { CHILD } else { 0 };
        let above = ancestors(path).any(|above| self.armed.get(above).is_some_and(|kinds| kinds & RECURSIVE != 0));
        if own & hears != 0 || above {
            self.due.push_back(Expected { zxid, event: *event, path: path.clone() });
        }
        self.disarm(path, DATA | if is_deleted { CHILD } else { 0 });
        if *event != EventType::NodeDataChanged
            && let Some(parent) = ancestors(path).next()
        {
            if self.armed.get(parent).is_some_and(|kinds| kinds & (CHILD | PERSISTENT) != 0) {
                let event = EventType::NodeChildrenChanged;
                self.due.push_back(Expected { zxid, event, path: parent.to_owned() });
            }
            self.disarm(parent, CHILD);
        }
    }

    fn disarm(&mut self, path: &str, kinds: u8) {
        if let Some(own) = self.armed.get_mut(path) {
            *own &= !kinds;
            if *own == 0 {
                self.armed.remove(path);
            }
        }
    }

    fn arm(&mut self, path: &str, kind: u8) {
        let own = self.armed.entry(path.to_owned()).or_default();
        match kind {
            PERSISTENT => *own &= !RECURSIVE,
            RECURSIVE => *own &= !PERSISTENT,
            _ => {}
        }
        *own |= kind;
    }

    /// Arms what a request that was answered with `err` asks for.
    pub(crate) fn answered(&mut self, request: &Request<'_>, err: i32) {
        match request {
            Request::GetData(read) if read.watch && err == 0 => self.arm(read.path, DATA),
            Request::Exists(read) if read.watch && (err == 0 || err == ErrorCode::NoNode.code()) => {
                self.arm(read.path, DATA);
            }
            Request::GetChildren(read) | Request::GetChildren2(read) if read.watch && err == 0 => {
                self.arm(read.path, CHILD);
            }
            Request::AddWatch(path, mode) if err == 0 => match AddWatchMode::from_code(*mode) {
                Some(AddWatchMode::Persistent) => self.arm(path, PERSISTENT),
                Some(AddWatchMode::PersistentRecursive) => self.arm(path, RECURSIVE),
                None => {}
            },
            _ => {}
        }
    }

    /// Returns what a client that came back must be told at once, and arms the rest.
    pub(crate) fn set_watches(&mut self, watches: &SetWatches<'_>, model: &Model) -> Vec<Expected> {
        let mut missed = Vec::new();
        let mut tell = |event, path: &str| missed.push(Expected { zxid: Zxid(-1), event, path: path.to_owned() });
        let seen = watches.relative_zxid;
        for path in watches.data.iter() {
            match model.stat(path) {
                None => tell(EventType::NodeDeleted, path),
                Some(stat) if stat.mzxid > seen => tell(EventType::NodeDataChanged, path),
                Some(_) => self.arm(path, DATA),
            }
        }
        for path in watches.exist.iter() {
            match model.stat(path) {
                Some(_) => tell(EventType::NodeCreated, path),
                None => self.arm(path, DATA),
            }
        }
        for path in watches.child.iter() {
            match model.stat(path) {
                None => tell(EventType::NodeDeleted, path),
                Some(stat) if stat.pzxid > seen => tell(EventType::NodeChildrenChanged, path),
                Some(_) => self.arm(path, CHILD),
            }
        }
        watches.persistent.iter().for_each(|path| self.arm(path, PERSISTENT));
        watches.recursive.iter().for_each(|path| self.arm(path, RECURSIVE));
        missed
    }
}

/// Walks the paths above one, the nearest first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if rest.len() <= 1 {
            return None;
        }
        rest = match rest.rfind('/') {
            Some(0) | None => "/",
            Some(cut) => &rest[..cut],
        };
        Some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_above_one_end_with_the_root() {
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(ancestors("/").count(), 0);
    }
}
