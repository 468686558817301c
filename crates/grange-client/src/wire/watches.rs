//! The watches of a session, as its client remembers them: to arm them again, and to tell which events are meant.

use std::collections::BTreeSet;

use grange_proto::watch::{AddWatchMode, EventType, SetWatches, WatcherType};
use grange_proto::wire::{TextList, put_texts};
use grange_proto::{ErrorCode, Reader, Request, Xid, Zxid};

use crate::wire::WatchKind;

/// Paths per setWatches, by their bytes: what the Java library keeps to, well below the longest frame of a server.
const SET_WATCHES_BYTES_MAX: usize = 128 * 1024;

/// What the reply to a request changes.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A watch is added.
    Add { path: String, by: By },
    /// Watches are removed.
    Remove { path: String, kind: WatcherType, locally_anyway: bool },
}

/// The request that arms a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    GetData,
    Exists,
    GetChildren,
    Persistent,
    Recursive,
}

impl Change {
    /// Returns the watch that a request asks for.
    pub(super) fn of(request: &Request<'_>) -> Option<Change> {
        let (path, by) = match *request {
            Request::GetData(body) if body.watch => (body.path, By::GetData),
            Request::Exists(body) if body.watch => (body.path, By::Exists),
            Request::GetChildren(body) | Request::GetChildren2(body) if body.watch => (body.path, By::GetChildren),
            Request::AddWatch(path, mode) => match AddWatchMode::from_code(mode)? {
                AddWatchMode::Persistent => (path, By::Persistent),
                AddWatchMode::PersistentRecursive => (path, By::Recursive),
            },
            _ => return None,
        };
        Some(Change::Add { path: path.to_owned(), by })
    }
}

/// The watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl Watches {
    /// Takes note of a watch, once the reply with `err` to its request has come.
    pub(super) fn added(&mut self, path: String, by: By, err: i32) {
        let set = match (by, err) {
            (By::GetData | By::Exists, 0) => &mut self.data,
            (By::Exists, err) if err == ErrorCode::NoNode.code() => &mut self.exist,
            (By::GetChildren, 0) => &mut self.child,
            (By::Persistent, 0) => &mut self.persistent,
            (By::Recursive, 0) => &mut self.recursive,
            _ => return,
        };
        set.insert(path);
    }

    /// Removes watches; returns what is to be told of that, in a fixed order.
    pub(super) fn removed(&mut self, path: &str, kind: WatcherType) -> Vec<WatchKind> {
        let is_any = kind == WatcherType::Any;
        let mut told = Vec::new();
        if (is_any || kind == WatcherType::Children) && self.child.remove(path) {
            told.push(WatchKind::ChildWatchRemoved);
        }
        if is_any || kind == WatcherType::Data {
            let has_data = self.data.remove(path);
            if self.exist.remove(path) || has_data {
                told.push(WatchKind::DataWatchRemoved);
            }
        }
        let has_persistent = (is_any || kind == WatcherType::Persistent) && self.persistent.remove(path);
        let has_recursive = (is_any || kind == WatcherType::PersistentRecursive) && self.recursive.remove(path);
        if has_persistent || has_recursive {
            told.push(WatchKind::PersistentWatchRemoved);
        }
        told
    }

    /// Takes an event, which uses up watches that are not persistent; returns whether any watch is meant.
    pub(super) fn fired(&mut self, event: EventType, path: &str) -> bool {
        let mut is_meant = self.persistent.contains(path) || self.is_below_recursive(path);
        let (of_data, of_child) = match event {
            EventType::NodeCreated | EventType::NodeDataChanged => (true, false),
            EventType::NodeChildrenChanged => (false, true),
            EventType::NodeDeleted => (true, true),
        };
        if of_data {
            is_meant |= self.data.remove(path);
            is_meant |= self.exist.remove(path);
        }
        if of_child {
            is_meant |= self.child.remove(path);
        }
        is_meant
    }

    fn is_below_recursive(&self, path: &str) -> bool {
        if self.recursive.is_empty() {
            return false;
        }
        let slashes = path.char_indices().filter(|&(at, c)| c == '/' && at > 0).map(|(at, _)| &path[..at]);
        slashes.chain([path, "/"]).any(|ancestor| self.recursive.contains(ancestor))
    }

    /// Appends the requests that arm all watches on a new connection.
    pub(super) fn put_requests(&self, relative_zxid: Zxid, out: &mut Vec<u8>) {
        let sets = [&self.data, &self.exist, &self.child, &self.persistent, &self.recursive];
        let mut all =
            sets.iter().enumerate().flat_map(|(which, set)| set.iter().map(move |path| (which, path.as_str())));
        loop {
            let mut batch: [Vec<&str>; 5] = Default::default();
            let mut bytes = 0;
            while bytes < SET_WATCHES_BYTES_MAX {
                let Some((which, path)) = all.next() else { break };
                bytes += path.len();
                batch[which].push(path);
            }
            if batch.iter().all(Vec::is_empty) {
                return;
            }
            put_batch(relative_zxid, &batch, out);
        }
    }
}

fn put_batch(relative_zxid: Zxid, batch: &[Vec<&str>; 5], out: &mut Vec<u8>) {
    let encoded: [Vec<u8>; 5] = std::array::from_fn(|which| {
        let mut bytes = Vec::new();
        put_texts(&mut bytes, batch[which].iter().copied());
        bytes
    });
    let [data, exist, child, persistent, recursive] =
        encoded.each_ref().map(|bytes| TextList::decode(&mut Reader::new(bytes)).expect("it was just encoded"));
    let watches = SetWatches { relative_zxid, data, exist, child, persistent, recursive };
    // Servers before 3.6 know the older form only, and no persistent watches.
    let request = if persistent.is_empty() && recursive.is_empty() {
        Request::SetWatches(watches)
    } else {
        Request::SetWatches2(watches)
    };
    grange_proto::request::put_request(out, Xid::SET_WATCHES, &request);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_uses_up_a_watch() {
        let mut watches = Watches::default();
        watches.added("/a".into(), By::GetData, 0);
        watches.added("/a".into(), By::GetChildren, 0);
        assert!(!watches.fired(EventType::NodeDataChanged, "/b"));
        assert!(watches.fired(EventType::NodeDataChanged, "/a"));
        assert!(!watches.fired(EventType::NodeDataChanged, "/a"));
        assert!(watches.fired(EventType::NodeDeleted, "/a"));
        assert!(!watches.fired(EventType::NodeChildrenChanged, "/a"));
    }

    #[test]
    fn a_recursive_watch_sees_everything_below_and_stays() {
        let mut watches = Watches::default();
        watches.added("/a".into(), By::Recursive, 0);
        for path in ["/a", "/a/b", "/a/b/c", "/a/b/c"] {
            assert!(watches.fired(EventType::NodeCreated, path), "{path}");
        }
        assert!(!watches.fired(EventType::NodeCreated, "/ab"));
        watches.added("/".into(), By::Recursive, 0);
        assert!(watches.fired(EventType::NodeCreated, "/ab"));
    }

    #[test]
    fn a_failed_request_arms_nothing_unless_it_asks_whether_a_znode_exists() {
        let mut watches = Watches::default();
        watches.added("/a".into(), By::GetData, ErrorCode::NoNode.code());
        assert!(!watches.fired(EventType::NodeCreated, "/a"));
        watches.added("/a".into(), By::Exists, ErrorCode::NoNode.code());
        assert!(watches.fired(EventType::NodeCreated, "/a"));
    }

    #[test]
    fn what_is_removed_is_told_by_kind() {
        let mut watches = Watches::default();
        watches.added("/a".into(), By::GetData, 0);
        watches.added("/a".into(), By::GetChildren, 0);
        watches.added("/a".into(), By::Persistent, 0);
        assert_eq!(watches.removed("/a", WatcherType::Data), [WatchKind::DataWatchRemoved]);
        assert_eq!(
            watches.removed("/a", WatcherType::Any),
            [WatchKind::ChildWatchRemoved, WatchKind::PersistentWatchRemoved]
        );
        assert_eq!(watches.removed("/a", WatcherType::Any), []);
    }

    #[test]
    fn many_watches_are_armed_in_several_requests() {
        let mut watches = Watches::default();
        for number in 0..20_000 {
            watches.added(format!("/a-long-name-of-a-znode/{number}"), By::GetData, 0);
        }
        let mut out = Vec::new();
        watches.put_requests(Zxid(7), &mut out);
        let mut rest = &out[..];
        let mut armed = 0;
        while let Ok(Some((payload, behind))) = grange_proto::frame::split_frame(rest, 1 << 20) {
            let mut reader = Reader::new(payload);
            let header = grange_proto::request::RequestHeader::decode(&mut reader).unwrap();
            assert_eq!(header.xid, Xid::SET_WATCHES);
            match Request::decode(grange_proto::Op::SetWatches, &mut reader).unwrap() {
                Request::SetWatches(set) => armed += set.data.len(),
                other => panic!("{other:?}"),
            }
            rest = behind;
        }
        assert_eq!((armed, rest.len()), (20_000, 0));
        assert!(out.len() > 4 * SET_WATCHES_BYTES_MAX);
    }
}
