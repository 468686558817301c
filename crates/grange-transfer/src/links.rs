//! Hard links: which names belong together, over all parts and workers of one process.
//!
//! The first name of an inode that is met leads its group: it is compared and moved like any file. The names met later
//! are linked to it, or wait until it is there. A second table knows which source inode each destination inode stands
//! for, so that names which share an inode at the destination but not at the source are taken apart.
//! Memory: about 100 bytes and one path for each inode whose names have not all been met; nothing for others.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::path::RelPath;
use crate::tree::{FileId, Record};

/// What a name of a linked inode has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is the first: bring it across, then call [`LinkGroups::settle`] or [`LinkGroups::abandon`].
    Leader,
    /// Link it to the destination's `leader`, which is the inode `id` there.
    Follower { leader: RelPath, id: FileId },
    /// The leader is under way: ask again later.
    Waiting,
}

/// The groups of one job. Shared by all workers of a process.
#[derive(Debug, Default)]
pub(crate) struct LinkGroups {
    tables: Mutex<Tables>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tables {
    /// By inode at the source.
    groups: HashMap<FileId, Group>,
    /// By inode at the destination, for inodes with several names there.
    owners: HashMap<FileId, Owner>,
}

#[derive(Debug)]
struct Group {
    /// `None` while it is under way.
    leader: Option<(RelPath, FileId)>,
    names_left: u32,
}

#[derive(Debug)]
struct Owner {
    source: FileId,
    names_left: u32,
}

impl LinkGroups {
    /// Says what a name of `source`, an inode with several names, has to do.
    pub(crate) fn join(&self, source: &Record) -> Role {
        let mut tables = self.lock();
        let Some(group) = tables.groups.get_mut(&source.id) else {
            let names_left = source.link_count.saturating_sub(1);
            tables.groups.insert(source.id, Group { leader: None, names_left });
            return Role::Leader;
        };
        let Some((leader, id)) = group.leader.clone() else { return Role::Waiting };
        group.names_left = group.names_left.saturating_sub(1);
        if group.names_left == 0 {
            tables.groups.remove(&source.id);
        }
        Role::Follower { leader, id }
    }

    /// The leader of `source`'s group is at the destination: `path`, inode `id`.
    pub(crate) fn settle(&self, source: FileId, path: RelPath, id: FileId) {
        if let Some(group) = self.lock().groups.get_mut(&source) {
            group.leader = Some((path, id));
        }
        self.changed.notify_all();
    }

    /// The leader could not be brought across: the next name of the group leads.
    pub(crate) fn abandon(&self, source: FileId) {
        self.lock().groups.remove(&source);
        self.changed.notify_all();
    }

    /// Whether a name of the source's inode would have to wait.
    pub(crate) fn is_waiting(&self, source: FileId) -> bool {
        self.lock().groups.get(&source).is_some_and(|group| group.leader.is_none())
    }

    /// Takes the destination's inode as the one that stands for `source`. `false` if it already stands for another one,
    /// so that this name needs an inode of its own.
    pub(crate) fn adopt(&self, destination: &Record, source: FileId) -> bool {
        if destination.link_count < 2 {
            return true;
        }
        let mut tables = self.lock();
        let fresh = Owner { source, names_left: destination.link_count };
        let owner = tables.owners.entry(destination.id).or_insert(fresh);
        let own = owner.source == source;
        owner.names_left -= 1;
        if owner.names_left == 0 {
            tables.owners.remove(&destination.id);
        }
        own
    }

    /// Waits until some group has changed, at most for `patience`.
    pub(crate) fn wait(&self, patience: Duration) {
        let _ = self.changed.wait_timeout(self.lock(), patience);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // The tables are changed in single steps, so a panic elsewhere leaves them whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, Time};

    fn inode(number: u64, link_count: u32) -> Record {
        Record {
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            ctime: Time::default(),
            id: FileId { device: 1, inode: number },
            link_count,
            device_number: 0,
            allocated: 0,
        }
    }

    #[test]
    fn names_wait_for_their_leader_and_the_group_ends_with_the_last() {
        let links = LinkGroups::default();
        let (source, there) = (inode(1, 3), FileId { device: 2, inode: 9 });
        let leader = RelPath::root().join(b"a");
        assert_eq!(links.join(&source), Role::Leader);
        assert_eq!(links.join(&source), Role::Waiting);
        links.settle(source.id, leader.clone(), there);
        for _ in 0..2 {
            assert_eq!(links.join(&source), Role::Follower { leader: leader.clone(), id: there });
        }
        assert!(links.lock().groups.is_empty());
    }

    #[test]
    fn when_a_leader_fails_the_next_name_leads() {
        let links = LinkGroups::default();
        assert_eq!(links.join(&inode(1, 3)), Role::Leader);
        links.abandon(inode(1, 3).id);
        assert_eq!(links.join(&inode(1, 3)), Role::Leader);
    }

    #[test]
    fn one_destination_inode_stands_for_one_source_inode() {
        let links = LinkGroups::default();
        let there = inode(50, 3);
        assert!(links.adopt(&there, inode(1, 1).id));
        assert!(!links.adopt(&there, inode(2, 1).id));
        assert!(links.adopt(&there, inode(1, 1).id));
        assert!(links.lock().owners.is_empty());
        assert!(links.adopt(&inode(51, 1), inode(3, 1).id));
    }
}
