//! The difference between a declaration and the live tree: a pure function of the two.

use std::collections::BTreeSet;

use grange_proto::acl::{Acl, Perms};
use grange_proto::path::split;

use crate::declared::acl::{Rights, has_hidden_hashes, rights, shown, with_hidden_hashes};
use crate::declared::caller::Caller;
use crate::declared::live::{Live, LiveData, LiveZnode};
use crate::declared::model::{Declared, DeclaredData, DeclaredZnode, Kind, ancestors};
use crate::declared::problem::Location;

/// What is permitted to a plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions {
    /// Delete what is not declared below the roots.
    pub prunes: bool,
    /// Leave the caller without admin on a znode, if the declaration wants it so.
    pub allows_lockout: bool,
}

/// What would make the live tree as it is declared.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The changes by their paths; parents come before their children.
    pub changes: Vec<Change>,
    /// What stands in the way of it; nothing is done while there is something.
    pub obstacles: Vec<Obstacle>,
    /// The znodes below the roots that are not declared and are not to be deleted.
    pub unnamed: Vec<String>,
}

/// The change of a znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The znode.
    pub path: String,
    /// Its data is not shown.
    pub is_sensitive: bool,
    /// What happens to it.
    pub action: Action,
}

/// What happens to a znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is created.
    Create {
        /// What it holds.
        data: Vec<u8>,
        /// Who may do what.
        acl: Vec<Acl>,
        /// How it is created.
        kind: Kind,
        /// The ACL it is created with, where the real one would keep the caller from creating what is below it.
        first_acl: Option<Vec<Acl>>,
    },
    /// It holds something else, or others may do something with it.
    Change {
        /// The data.
        data: Option<DataChange>,
        /// The ACL.
        acl: Option<AclChange>,
    },
    /// It is deleted, if its data still has this version.
    Delete {
        /// The version of its data.
        version: i32,
    },
}

/// The change of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataChange {
    /// What it holds.
    pub from: Vec<u8>,
    /// What it will hold.
    pub to: Vec<u8>,
    /// The version of the data that was seen.
    pub version: i32,
}

/// The change of an ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclChange {
    /// The list that was seen.
    pub from: Vec<Acl>,
    /// The list that will be.
    pub to: Vec<Acl>,
    /// The version of the ACL that was seen.
    pub aversion: i32,
    /// The caller needs it for another change of this plan, so it comes before all of them.
    pub comes_first: bool,
}

/// An entry of an ACL that comes or goes, for people: hashes are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryChange {
    /// It comes, otherwise it goes.
    pub is_added: bool,
    /// `SCHEME:ID:PERMS`.
    pub entry: String,
    /// Only the hash is another one.
    pub is_another_password: bool,
}

impl AclChange {
    /// Returns the entries that go and come.
    pub fn entries(&self) -> Vec<EntryChange> {
        entry_changes(&self.from, &self.to)
    }
}

/// Returns the entries that a new list gives.
pub fn entries_of(acl: &[Acl]) -> Vec<EntryChange> {
    entry_changes(&[], acl)
}

fn entry_changes(from: &[Acl], to: &[Acl]) -> Vec<EntryChange> {
    let (from, to) = (rights(from), rights(to));
    let (gone, come) = (difference(&from, &to), difference(&to, &from));
    let mark = |is_added, list: &[String], others: &[String]| -> Vec<EntryChange> {
        let change = |entry: &String| EntryChange {
            is_added,
            entry: entry.clone(),
            is_another_password: others.contains(entry),
        };
        list.iter().map(change).collect()
    };
    [mark(false, &gone, &come), mark(true, &come, &gone)].concat()
}

/// The entries of `a` that are not in `b`.
fn difference(a: &Rights, b: &Rights) -> Vec<String> {
    let new = a.iter().filter(|(id, perms)| b.get(*id) != Some(perms));
    new.map(|((scheme, id), perms)| {
        let id = grange_proto::acl::Id::new(scheme.as_str(), id.as_str());
        format!("{}:{}", shown(&id), super::acl::letters(Perms(*perms)))
    })
    .collect()
}

/// What stands in the way of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The znode.
    pub path: String,
    /// Where it is declared, if it is.
    pub location: Option<Location>,
    /// What is in the way.
    pub why: Why,
}

/// Why a plan cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// There is no parent.
    #[error("its parent {0} neither exists nor is declared")]
    NoParent(String),
    /// The root of the session is a znode that does not exist, and cannot be created from within.
    #[error("the root does not exist: the chroot of the connection must be created first")]
    NoRoot,
    /// It exists, and is somebody's for as long as his session lives.
    #[error("an ephemeral znode has this name")]
    Ephemeral,
    /// Nothing can be created below an ephemeral znode.
    #[error("its parent {0} is ephemeral")]
    EphemeralParent(String),
    /// Its data cannot be compared.
    #[error("the caller may not read its data")]
    Unreadable,
    /// Its ACL cannot be compared.
    #[error("the caller may not see its ACL")]
    HiddenAcl,
    /// `auth` without an identity.
    #[error("its ACL has an entry auth, and the caller has no identity that could take its place")]
    NoIdentity,
    /// The change would leave the caller without admin.
    #[error("the caller would be locked out: the ACL would not give admin (a) to who asks")]
    Lockout,
    /// What is below it cannot be created under its ACL, nor under one that is for the caller alone.
    #[error("its ACL keeps the caller, who has no identity, from creating what is below it")]
    NobodysChildren,
    /// Its children are not known, so it cannot be said what would be deleted.
    #[error("it is not named in the file, and the caller may not list its children")]
    Closed,
}

/// Compares a declaration with the live tree.
pub fn plan(declared: &Declared, live: &Live, caller: &Caller, options: PlanOptions) -> Plan {
    let mut planner = Planner { declared, live, caller, options, plan: Plan::default(), made: BTreeSet::new() };
    for (path, znode) in &declared.znodes {
        planner.znode(path, znode);
    }
    planner.unnamed();
    planner.plan.changes.sort_by(|a, b| a.path.cmp(&b.path));
    planner.order_acls();
    planner.plan
}

struct Planner<'a> {
    declared: &'a Declared,
    live: &'a Live,
    caller: &'a Caller,
    options: PlanOptions,
    plan: Plan,
    /// Parents that are created though they are not declared.
    made: BTreeSet<String>,
}

impl Planner<'_> {
    fn obstacle(&mut self, path: &str, why: Why) {
        let location = self.declared.znodes.get(path).map(|znode| znode.location.clone());
        self.plan.obstacles.push(Obstacle { path: path.to_owned(), location, why });
    }

    fn push(&mut self, path: &str, is_sensitive: bool, action: Action) {
        self.plan.changes.push(Change { path: path.to_owned(), is_sensitive, action });
    }

    fn znode(&mut self, path: &str, znode: &DeclaredZnode) {
        let acl = match &znode.acl {
            None => None,
            Some(acl) => match self.caller.resolve(acl) {
                Some(acl) => Some(acl),
                None => return self.obstacle(path, Why::NoIdentity),
            },
        };
        match self.live.znodes.get(path) {
            Some(live) if live.is_ephemeral => self.obstacle(path, Why::Ephemeral),
            Some(live) => self.existing(path, znode, acl, live),
            None if self.live.sequential.contains(path) => {}
            None => self.missing(path, znode, acl.unwrap_or_else(Acl::open)),
        }
    }

    fn missing(&mut self, path: &str, znode: &DeclaredZnode, acl: Vec<Acl>) {
        let Some((parent, _)) = split(path) else { return self.obstacle(path, Why::NoRoot) };
        if self.live.znodes.get(parent).is_some_and(|parent| parent.is_ephemeral) {
            return self.obstacle(path, Why::EphemeralParent(parent.to_owned()));
        }
        let missing: Vec<&str> = ancestors(path).take_while(|ancestor| !self.will_exist(ancestor)).collect();
        if missing.contains(&"/") {
            return self.obstacle(path, Why::NoRoot);
        }
        if !missing.is_empty() && !znode.makes_parents {
            return self.obstacle(path, Why::NoParent(parent.to_owned()));
        }
        for ancestor in missing {
            self.made.insert(ancestor.to_owned());
            let action = Action::Create { data: Vec::new(), acl: acl.clone(), kind: Kind::Persistent, first_acl: None };
            self.push(ancestor, false, action);
        }
        let data = znode.data.initial().to_vec();
        self.push(path, znode.is_sensitive, Action::Create { data, acl, kind: znode.kind, first_acl: None });
    }

    fn will_exist(&self, path: &str) -> bool {
        self.declared.znodes.contains_key(path) || self.live.ancestors.contains(path) || self.made.contains(path)
    }

    fn existing(&mut self, path: &str, znode: &DeclaredZnode, acl: Option<Vec<Acl>>, live: &LiveZnode) {
        let data = match (&znode.data, &live.data) {
            (DeclaredData::Exactly(to), Some(LiveData::Known(from))) if from != to => {
                Some(DataChange { from: from.clone(), to: to.clone(), version: live.version })
            }
            (DeclaredData::Exactly(_), Some(LiveData::Forbidden)) => return self.obstacle(path, Why::Unreadable),
            _ => None,
        };
        let acl = match (acl, &live.acl) {
            (Some(_), None) => return self.obstacle(path, Why::HiddenAcl),
            (Some(to), Some(from)) if differs(from, &to) => {
                if !self.options.allows_lockout && !self.caller.may(&to, Perms::ADMIN) {
                    return self.obstacle(path, Why::Lockout);
                }
                Some(AclChange { from: from.clone(), to, aversion: live.aversion, comes_first: false })
            }
            _ => None,
        };
        if data.is_some() || acl.is_some() {
            self.push(path, znode.is_sensitive, Action::Change { data, acl });
        }
    }

    /// What is not declared goes if that is wanted, but for what has something below it that stays.
    fn unnamed(&mut self) {
        let mut has_children_that_stay: BTreeSet<&str> =
            self.declared.znodes.keys().flat_map(|path| ancestors(path)).collect();
        let live = self.live;
        // Backwards, so that all that is below a znode is decided before it.
        for (path, unnamed) in live.unnamed.iter().rev() {
            let stays = unnamed.is_ephemeral || unnamed.is_closed || has_children_that_stay.contains(path.as_str());
            if stays || !self.options.prunes {
                has_children_that_stay.extend(ancestors(path));
                if unnamed.is_closed && self.options.prunes {
                    self.obstacle(path, Why::Closed);
                }
                if !unnamed.is_ephemeral {
                    self.plan.unnamed.push(path.clone());
                }
            } else {
                self.push(path, false, Action::Delete { version: unnamed.version });
            }
        }
        self.plan.unnamed.reverse();
    }

    /// Decides which ACLs must change before other things can, and which new znodes need another one first.
    fn order_acls(&mut self) {
        let changes = &self.plan.changes;
        let parents = |is_sought: fn(&Action) -> bool| -> BTreeSet<String> {
            let sought = changes.iter().filter(|change| is_sought(&change.action));
            sought.filter_map(|change| split(&change.path)).map(|(parent, _)| parent.to_owned()).collect()
        };
        let created_below = parents(|action| matches!(action, Action::Create { .. }));
        let deleted_below = parents(|action| matches!(action, Action::Delete { .. }));
        let mut shut_out = Vec::new();
        for change in &mut self.plan.changes {
            match &mut change.action {
                Action::Create { acl, first_acl, .. }
                    if created_below.contains(&change.path) && !self.caller.may(acl, Perms::CREATE) =>
                {
                    *first_acl = self.caller.own_acl();
                    if first_acl.is_none() {
                        shut_out.push((change.path.clone(), Why::NobodysChildren));
                    } else if !self.options.allows_lockout && !self.caller.may(acl, Perms::ADMIN) {
                        shut_out.push((change.path.clone(), Why::Lockout));
                    }
                }
                Action::Change { data, acl: Some(acl) } => {
                    let needs = [
                        (data.is_some(), Perms::WRITE),
                        (created_below.contains(&change.path), Perms::CREATE),
                        (deleted_below.contains(&change.path), Perms::DELETE),
                    ];
                    let needed = needs.iter().filter(|(is_needed, _)| *is_needed);
                    let needed = needed.fold(Perms(0), |perms, (_, perm)| perms.union(*perm));
                    acl.comes_first = !self.caller.may(&acl.from, needed) && self.caller.may(&acl.to, needed);
                }
                _ => {}
            }
        }
        shut_out.into_iter().for_each(|(path, why)| self.obstacle(&path, why));
    }
}

/// Tells whether two lists have different rights, as far as the server shows them.
fn differs(live: &[Acl], declared: &[Acl]) -> bool {
    match has_hidden_hashes(live) {
        true => rights(&with_hidden_hashes(live)) != rights(&with_hidden_hashes(declared)),
        false => rights(live) != rights(declared),
    }
}

impl Plan {
    /// Tells whether the live tree is as it is declared.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.obstacles.is_empty()
    }

    /// Returns how many znodes would be created, changed and deleted.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.changes.iter().fold((0, 0, 0), |(create, change, delete), item| match item.action {
            Action::Create { .. } => (create + 1, change, delete),
            Action::Change { .. } => (create, change + 1, delete),
            Action::Delete { .. } => (create, change, delete + 1),
        })
    }

    /// Leaves only the deletions.
    pub fn keep_deletions(&mut self) {
        self.changes.retain(|change| matches!(change.action, Action::Delete { .. }));
        self.obstacles.retain(|obstacle| obstacle.why == Why::Closed);
    }
}
