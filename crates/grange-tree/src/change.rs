//! What a write changed, for those who watch.

use crate::acl::AclRef;

/// How a znode changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created; its parent's list of children changed too.
    Created,
    /// It was deleted; its parent's list of children changed too.
    Deleted,
    /// Its data was set.
    DataChanged,
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// How it changed.
    pub kind: ChangeKind,
    /// The absolute path of the znode.
    pub path: &'a str,
    /// The ACL of the znode, of a deleted one the last it had; `None` lets everyone do everything.
    pub acl: Option<&'a AclRef>,
    /// The ACL of its parent, likewise; always `None` for [`ChangeKind::DataChanged`], which the parent does not show.
    pub parent_acl: Option<&'a AclRef>,
}

#[derive(Debug)]
struct Entry {
    kind: ChangeKind,
    path_end: usize,
    acl: Option<AclRef>,
    parent_acl: Option<AclRef>,
}

/// The changes of one or more writes in the order in which they happened; a buffer to be used again and again.
#[derive(Debug, Default)]
pub struct Changes {
    paths: String,
    entries: Vec<Entry>,
    /// True while nobody wants to know.
    ignores: bool,
}

impl Changes {
    /// Makes an empty buffer.
    pub fn new() -> Changes {
        Changes::default()
    }

    /// Forgets all changes and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
        self.ignores = false;
    }

    /// Forgets all changes, and those to come until the next [`Changes::clear`]: nobody watches.
    pub fn ignore(&mut self) {
        self.clear();
        self.ignores = true;
    }

    /// Returns true if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of changes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Walks the changes, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Change<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let path = &self.paths[start..entry.path_end];
            start = entry.path_end;
            Change { kind: entry.kind, path, acl: entry.acl.as_ref(), parent_acl: entry.parent_acl.as_ref() }
        })
    }

    pub(crate) fn push(&mut self, kind: ChangeKind, path: &str, acl: Option<AclRef>, parent_acl: Option<AclRef>) {
        if self.ignores {
            return;
        }
        self.paths.push_str(path);
        self.entries.push(Entry { kind, path_end: self.paths.len(), acl, parent_acl });
    }

    /// Takes back all changes but the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
        self.paths.truncate(self.entries.last().map_or(0, |entry| entry.path_end));
    }
}
