//! What a file declares, whichever form it has.

use std::collections::BTreeMap;

use grange_proto::acl::Acl;

use crate::auth::Auth;
use crate::declared::problem::{Location, Problem};

/// A tree as it should be.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// The znodes by their paths.
    pub znodes: BTreeMap<String, DeclaredZnode>,
    /// The ensemble that the file names, and where it does.
    pub servers: Option<(String, Location)>,
    /// Who the file says asks: the administrator of a file of zkinitree's.
    pub auths: Vec<Auth>,
    /// What should be looked at, though it is no mistake.
    pub warnings: Vec<Problem>,
}

/// A znode as it should be.
#[derive(Debug, Clone)]
pub struct DeclaredZnode {
    /// What it holds.
    pub data: DeclaredData,
    /// Who may do what; `None` leaves that as it is.
    pub acl: Option<Vec<Acl>>,
    /// How it is created.
    pub kind: Kind,
    /// Missing parents are created too.
    pub makes_parents: bool,
    /// Its data is not shown.
    pub is_sensitive: bool,
    /// Where the file declares it.
    pub location: Location,
}

/// What a znode holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredData {
    /// Whatever it holds; created empty.
    Any,
    /// This when it is created, anything later.
    Initially(Vec<u8>),
    /// This.
    Exactly(Vec<u8>),
}

impl DeclaredData {
    /// Returns what a new znode holds.
    pub fn initial(&self) -> &[u8] {
        match self {
            DeclaredData::Any => b"",
            DeclaredData::Initially(data) | DeclaredData::Exactly(data) => data,
        }
    }
}

/// How a znode is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It stays.
    Persistent,
    /// It goes some time after its last child.
    Container,
    /// It goes after so many milliseconds without a change and without children.
    Ttl(u64),
    /// It stays; the path is what its name begins with, and one such znode is enough.
    Sequential,
}

impl Declared {
    /// Returns the topmost znodes: those without a declared ancestor.
    pub fn roots(&self) -> impl Iterator<Item = &str> {
        let is_root = |path: &&String| !ancestors(path).any(|ancestor| self.znodes.contains_key(ancestor));
        self.znodes.keys().filter(is_root).map(String::as_str)
    }
}

/// Tells whether `path` is below `ancestor`.
pub(crate) fn is_below(path: &str, ancestor: &str) -> bool {
    match ancestor {
        "/" => path != "/",
        ancestor => path.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/')),
    }
}

/// Returns the ancestors of a path, the nearest first, the root last.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(grange_proto::path::split(path).map(|(parent, _)| parent), |path| {
        grange_proto::path::split(path).map(|(parent, _)| parent)
    })
}

/// Returns the path of a child.
pub(crate) fn child_of(parent: &str, name: &str) -> String {
    match parent {
        "/" => format!("/{name}"),
        parent => format!("{parent}/{name}"),
    }
}
