//! The writes: what each asks for, in the order in which Apache asks, and what it then changes.
//!
//! The order decides which of several errors a client sees. Source: `PrepRequestProcessor.pRequest2Txn`.

use std::borrow::Cow;

use grange_proto::lifetime::TTL_MS_MAX;
use grange_proto::request::{Create, PathVersion, SetAcl, SetData};
use grange_proto::{CreateMode, ErrorCode, Lifetime, Op, Perms, SessionId, Stat, path};

use crate::acl::{self, AclRef};
use crate::change::{ChangeKind, Changes};
use crate::node::Node;
use crate::sequential::SequentialPath;
use crate::slab::Key;
use crate::store::{Birth, Place};
use crate::tree::{Applied, Tree, WriteContext};

/// How many ephemerals one request deletes when a session closes. More are left to the next: no session is so rich
/// that the others wait for its end. A step takes a millisecond or so.
pub const EPHEMERALS_PER_STEP_MAX: usize = 1_000;

/// How many components of their paths one request looks at when a session closes, 0.1 microseconds each: ephemerals
/// far from the root take as many steps as they need.
const COMPONENTS_PER_STEP_MAX: usize = 20_000;

/// Znodes that cannot be deleted. Source: `DataTree.isSpecialPath`.
const RESERVED_PATHS: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

impl Tree {
    /// Checks that a session may write, and by way of this member.
    pub(crate) fn check_session(&self, cx: &WriteContext<'_>) -> Result<(), ErrorCode> {
        match self.store.sessions.get(cx.session) {
            Some(session) if session.is_closing => Err(ErrorCode::SessionExpired),
            Some(session) if session.member != cx.member => Err(ErrorCode::SessionMoved),
            Some(_) => Ok(()),
            None => Err(ErrorCode::SessionExpired),
        }
    }

    pub(crate) fn create<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        request: &Create<'r>,
        changes: &mut Changes,
    ) -> Result<(Cow<'r, str>, Stat), ErrorCode> {
        let mut sequential = SequentialPath::default();
        let (_, key) = self.create_znode(cx, request, &mut sequential, changes)?;
        let path = sequential.into_path().map_or(Cow::Borrowed(request.path), Cow::Owned);
        Ok((path, self.store.stat(key)))
    }

    /// Creates a znode; returns its path too.
    ///
    /// The path of a sequential one is put together in `sequential`, which may be used again and again.
    pub(crate) fn create_znode<'p>(
        &mut self,
        cx: &WriteContext<'_>,
        request: &Create<'p>,
        sequential: &'p mut SequentialPath,
        changes: &mut Changes,
    ) -> Result<(&'p str, Key<Node>), ErrorCode> {
        let mode = CreateMode::from_flags(request.flags).ok_or(ErrorCode::BadArguments)?;
        if mode.is_ttl() && !cx.policy.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        let lifetime = lifetime(request, mode, cx.session)?;
        let parent_path = parent_path(request.path)?;
        let acl = acl::resolve(&request.acl, cx.identities)?;
        let parent = self.store.find(parent_path).ok_or(ErrorCode::NoNode)?;
        let family = self.store.extra(parent.key);
        let parent_acl = family.and_then(|family| self.store.acl_of(family));
        acl::check(parent_acl, Perms::CREATE, cx.asker())?;
        let path = match mode.is_sequential() {
            true => sequential.complete(request.path, family.map_or(0, |family| family.cversion)),
            false => request.path,
        };
        let name = &path[parent_path.len() + 1..];
        // The path of a znode is valid, and so is what a plain name makes of it; only the root has a second spelling.
        if parent_path == "/" || !is_plain(name) {
            path::validate(path).map_err(|_| ErrorCode::BadArguments)?;
        }
        if name.is_empty() || self.store.child(parent, name.as_bytes()).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if family.is_some_and(|family| matches!(family.lifetime, Lifetime::Ephemeral(_))) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let parent_acl = parent_acl.cloned();
        self.check_quota_of_create(cx, path, request.data)?;
        let birth = Birth { data: request.data, acl: acl.clone(), lifetime, zxid: cx.zxid, time_ms: cx.time_ms };
        let place = self.store.insert(parent, name, path.len(), birth);
        self.count_created(path, request.data);
        changes.push(ChangeKind::Created, path, acl, parent_acl);
        Ok((path, place.key))
    }

    pub(crate) fn delete(
        &mut self,
        cx: &WriteContext<'_>,
        request: &PathVersion<'_>,
        changes: &mut Changes,
    ) -> Result<(), ErrorCode> {
        let (parent, name) = self.find_parent_of_deletable(request.path)?;
        acl::check(self.store.acl(parent.key), Perms::DELETE, cx.asker())?;
        let place = self.store.child(parent, name.as_bytes()).ok_or(ErrorCode::NoNode)?;
        next_version(self.store.node(place.key).version, request.version)?;
        self.check_childless(place)?;
        self.delete_leaf(cx, parent, place, request.path, changes);
        Ok(())
    }

    /// Deletes a container or a znode with a time to live that is due, whoever may do so.
    ///
    /// Errors: `BadVersion` if it is neither, or was changed since it was found to be due.
    pub(crate) fn delete_idle(
        &mut self,
        cx: &WriteContext<'_>,
        path: &str,
        changes: &mut Changes,
    ) -> Result<(), ErrorCode> {
        let (parent, name) = self.find_parent_of_deletable(path)?;
        let place = self.store.child(parent, name.as_bytes()).ok_or(ErrorCode::NoNode)?;
        self.check_childless(place)?;
        let age_ms = cx.time_ms.saturating_sub(self.store.node(place.key).mtime_ms);
        match self.store.extra_or_implied(place.key).lifetime {
            Lifetime::Container => {}
            Lifetime::Ttl(ttl_ms) if age_ms > ttl_ms => {}
            _ => return Err(ErrorCode::BadVersion),
        }
        self.delete_leaf(cx, parent, place, path, changes);
        Ok(())
    }

    fn find_parent_of_deletable<'p>(&self, path: &'p str) -> Result<(Place, &'p str), ErrorCode> {
        let parent_path = parent_path(path)?;
        if RESERVED_PATHS.contains(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.store.find(parent_path).ok_or(ErrorCode::NoNode)?;
        // `//a` is below the root, but it is not the path of `/a`: nothing has an empty name.
        let name = if parent_path == "/" { "" } else { &path[parent_path.len() + 1..] };
        Ok((parent, name))
    }

    fn check_childless(&self, place: Place) -> Result<(), ErrorCode> {
        match self.store.extra(place.key) {
            Some(extra) if extra.child_count > 0 => Err(ErrorCode::NotEmpty),
            _ => Ok(()),
        }
    }

    fn delete_leaf(&mut self, cx: &WriteContext<'_>, parent: Place, place: Place, path: &str, changes: &mut Changes) {
        let acl = self.store.acl(place.key).cloned();
        let data_bytes = self.store.node(place.key).data_bytes();
        self.store.remove(parent, place, path.len(), cx.zxid);
        self.count_deleted(path, data_bytes);
        changes.push(ChangeKind::Deleted, path, acl, self.store.acl(parent.key).cloned());
    }

    pub(crate) fn set_data(
        &mut self,
        cx: &WriteContext<'_>,
        request: &SetData<'_>,
        changes: &mut Changes,
    ) -> Result<Stat, ErrorCode> {
        let (place, acl) = self.find_permitted(cx, request.path, Perms::WRITE)?;
        let acl = acl.cloned();
        let bytes_before = self.store.node(place.key).data_bytes();
        self.check_quota_of_set(cx, request, bytes_before)?;
        let version = next_version(self.store.node(place.key).version, request.version)?;
        self.store.set_data(place, request.data, version, cx.zxid, cx.time_ms);
        let stat = self.store.stat(place.key);
        self.count_set(request, bytes_before);
        changes.push(ChangeKind::DataChanged, request.path, acl, None);
        Ok(stat)
    }

    pub(crate) fn set_acl(&mut self, cx: &WriteContext<'_>, request: &SetAcl<'_>) -> Result<Stat, ErrorCode> {
        path::validate(request.path).map_err(|_| ErrorCode::BadArguments)?;
        let acl = acl::resolve(&request.acl, cx.identities)?;
        let (place, _) = self.find_permitted(cx, request.path, Perms::ADMIN)?;
        let aversion = next_version(self.store.extra_or_implied(place.key).aversion, request.version)?;
        self.store.set_acl(place, acl, aversion);
        Ok(self.store.stat(place.key))
    }

    pub(crate) fn check(&self, cx: &WriteContext<'_>, request: &PathVersion<'_>) -> Result<(), ErrorCode> {
        let (place, _) = self.find_permitted(cx, request.path, Perms::READ)?;
        next_version(self.store.node(place.key).version, request.version).map(drop)
    }

    /// Finds a znode that must exist and grant one of `perms`; returns its ACL too.
    fn find_permitted(
        &self,
        cx: &WriteContext<'_>,
        path: &str,
        perms: Perms,
    ) -> Result<(Place, Option<&AclRef>), ErrorCode> {
        path::validate(path).map_err(|_| ErrorCode::BadArguments)?;
        let place = self.store.find(path).ok_or(ErrorCode::NoNode)?;
        let acl = self.store.acl(place.key);
        acl::check(acl, perms, cx.asker())?;
        Ok((place, acl))
    }

    /// Opens a session.
    ///
    /// Errors: `BadArguments` if its number is taken or means something else; the leader gives out new ones.
    pub(crate) fn open_session<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        timeout_ms: i32,
    ) -> Result<Applied<'r>, ErrorCode> {
        if !cx.session.is_possible() || self.store.sessions.get(cx.session).is_some() {
            return Err(ErrorCode::BadArguments);
        }
        self.store.open_session(cx.session, timeout_ms, cx.member);
        Ok(Applied::SessionOpened)
    }

    /// Closes a session, or takes the next step of it.
    pub(crate) fn close_session<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        changes: &mut Changes,
    ) -> Result<Applied<'r>, ErrorCode> {
        let key = self.store.sessions.key(cx.session).ok_or(ErrorCode::SessionExpired)?;
        self.store.start_closing(key);
        let (mut ephemerals_left, mut components_left) = (EPHEMERALS_PER_STEP_MAX, COMPONENTS_PER_STEP_MAX);
        while let Some(ephemeral) = self.store.sessions.get(cx.session).and_then(|session| session.first_ephemeral) {
            if ephemerals_left == 0 || components_left == 0 {
                return Ok(Applied::SessionClosing);
            }
            let (path, places) = self.store.path(ephemeral);
            let [.., parent, place] = places[..] else { unreachable!("the root is no ephemeral") };
            self.delete_leaf(cx, parent, place, &path, changes);
            ephemerals_left -= 1;
            components_left = components_left.saturating_sub(places.len());
        }
        self.store.close_session(key);
        Ok(Applied::SessionClosed)
    }
}

/// Tells whether a component of a path is one that nothing can be wrong with: printable ASCII, no dot in front.
fn is_plain(name: &str) -> bool {
    let is_odd = |byte: &u8| !(0x20..0x7f).contains(byte);
    !matches!(name.as_bytes(), [] | [b'.', ..]) && !name.as_bytes().iter().fold(false, |odd, byte| odd | is_odd(byte))
}

/// Returns the path of the parent, empty for the root. Only cuts: whether the path is valid is asked later.
fn parent_path(path: &str) -> Result<&str, ErrorCode> {
    // By the byte, since most paths are too short for a search by the word to pay.
    match path.bytes().rposition(|byte| byte == b'/') {
        Some(end) if !path.bytes().any(|byte| byte == 0) => Ok(&path[..end]),
        _ => Err(ErrorCode::BadArguments),
    }
}

/// Compares a version with the expected one (-1 for any) and returns the one that follows.
///
/// 0 follows -2: a version of -1 could never be asked for (ZOOKEEPER-4743).
fn next_version(version: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != version {
        return Err(ErrorCode::BadVersion);
    }
    Ok(match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    })
}

/// Returns the lifetime that a create asks for: the operation decides between the kinds, the flags only whether it is
/// ephemeral. A plain create with the flag of a container makes a persistent znode, and createContainer makes a
/// container whatever the flags say.
///
/// Source: `PrepRequestProcessor.pRequest2TxnCreate`, `EphemeralType.validateTTL`; a time to live of -1, which Apache
/// takes for none and then cannot create, is refused like every other that is out of range.
fn lifetime(request: &Create<'_>, mode: CreateMode, session: SessionId) -> Result<Lifetime, ErrorCode> {
    match request.ttl_ms {
        Some(ttl_ms) if mode.is_ttl() && (1..=TTL_MS_MAX).contains(&ttl_ms) => return Ok(Lifetime::Ttl(ttl_ms)),
        None if !mode.is_ttl() => {}
        _ => return Err(ErrorCode::BadArguments),
    }
    Ok(match request.op {
        Op::CreateContainer => Lifetime::Container,
        _ if mode.is_ephemeral() => Lifetime::Ephemeral(session),
        _ => Lifetime::Persistent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// server.md §1.9.
    #[test]
    fn a_version_is_never_the_one_that_matches_any() {
        assert_eq!(next_version(0, -1), Ok(1));
        assert_eq!(next_version(-2, -2), Ok(0));
        assert_eq!(next_version(i32::MAX, i32::MAX), Ok(i32::MIN));
        assert_eq!(next_version(3, 2), Err(ErrorCode::BadVersion));
    }
}
