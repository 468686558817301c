//! Which containers and znodes with a time to live have no children, in the order in which they are due.
//!
//! Derived from the znodes, and so neither in snapshots nor in the digest. Source: `ContainerManager.getCandidates`.

use std::collections::BTreeSet;

use grange_proto::Lifetime;

use crate::node::{Extra, Node};
use crate::slab::Key;

/// A znode without children that may be deleted, now or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Idle {
    /// A container that has had children: due at once.
    Emptied(Key<Node>),
    /// A container that never had a child, by the time of its last change.
    Unused(i64, Key<Node>),
    /// A znode with a time to live, by the end of that time.
    Ttl(i64, Key<Node>),
}

impl Idle {
    fn of(key: Key<Node>, node: &Node, extra: &Extra) -> Option<Idle> {
        if extra.child_count > 0 {
            return None;
        }
        match extra.lifetime {
            Lifetime::Persistent | Lifetime::Ephemeral(_) => None,
            Lifetime::Container if extra.cversion > 0 => Some(Idle::Emptied(key)),
            Lifetime::Container => Some(Idle::Unused(node.mtime_ms, key)),
            Lifetime::Ttl(ttl_ms) => Some(Idle::Ttl(node.mtime_ms.saturating_add(ttl_ms), key)),
        }
    }
}

enum Done {
    Added(Idle),
    Removed(Idle),
}

/// The znodes without children that may be deleted.
pub(crate) struct IdleNodes {
    idle: BTreeSet<Idle>,
    journal: Option<Vec<Done>>,
}

impl IdleNodes {
    pub(crate) fn new() -> IdleNodes {
        IdleNodes { idle: BTreeSet::new(), journal: None }
    }

    /// Notes a znode as it has become.
    #[inline]
    pub(crate) fn add(&mut self, key: Key<Node>, node: &Node, extra: Option<&Extra>) {
        if let Some(idle) = extra.and_then(|extra| Idle::of(key, node, extra)) {
            self.idle.insert(idle);
            if let Some(journal) = &mut self.journal {
                journal.push(Done::Added(idle));
            }
        }
    }

    /// Forgets a znode as it was.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key<Node>, node: &Node, extra: Option<&Extra>) {
        if let Some(idle) = extra.and_then(|extra| Idle::of(key, node, extra)) {
            self.idle.remove(&idle);
            if let Some(journal) = &mut self.journal {
                journal.push(Done::Removed(idle));
            }
        }
    }

    /// Walks the znodes that are due. `never_used_ms` is the age at which a container goes that never had a child; at
    /// 0 it stays.
    pub(crate) fn due(&self, now_ms: i64, never_used_ms: i64) -> impl Iterator<Item = Key<Node>> {
        // An `Unused` or `Ttl` is due when its time lies before the bound; no key is before the first one.
        let first = Key::from_number(1);
        let unused_bound = if never_used_ms > 0 { now_ms.saturating_sub(never_used_ms) } else { i64::MIN };
        let first = first.expect("1 is the number of the first slot");
        let emptied = self.idle.range(..Idle::Unused(i64::MIN, first));
        let unused = self.idle.range(Idle::Unused(i64::MIN, first)..Idle::Unused(unused_bound, first));
        let ttl = self.idle.range(Idle::Ttl(i64::MIN, first)..Idle::Ttl(now_ms, first));
        emptied.chain(unused).chain(ttl).map(|idle| match *idle {
            Idle::Emptied(key) | Idle::Unused(_, key) | Idle::Ttl(_, key) => key,
        })
    }

    pub(crate) fn begin(&mut self) {
        self.journal = Some(Vec::new());
    }

    pub(crate) fn commit(&mut self) {
        self.journal = None;
    }

    pub(crate) fn rollback(&mut self) {
        for done in self.journal.take().into_iter().flatten().rev() {
            match done {
                Done::Added(idle) => drop(self.idle.remove(&idle)),
                Done::Removed(idle) => drop(self.idle.insert(idle)),
            }
        }
    }
}
