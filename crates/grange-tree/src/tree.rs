//! The state machine as the replica sees it.

use grange_proto::multi::MultiResults;
use grange_proto::{ErrorCode, Lifetime, Request, SessionId, Stat, Zxid};
use std::borrow::Cow;

use crate::acl::AclRef;
use crate::change::Changes;
use crate::identity::{Asker, Identities, Policy};
use crate::session::Session;
use crate::store::{Birth, Place, Store};

/// What a write needs to know beside the request itself: the same on every member.
#[derive(Debug, Clone, Copy)]
pub struct WriteContext<'a> {
    /// The number of the transaction; every write has its own, larger than all before.
    pub zxid: Zxid,
    /// The leader's wall clock in milliseconds since 1970.
    pub time_ms: i64,
    /// The session that asks; [`SessionId::NONE`] for requests of the server itself.
    pub session: SessionId,
    /// The identities of the session's connection.
    pub identities: &'a Identities,
    /// What the leader's configuration says.
    pub policy: Policy,
    /// The member by way of which the request came.
    pub member: u64,
}

impl<'a> WriteContext<'a> {
    pub(crate) fn asker(&self) -> Asker<'a> {
        Asker { identities: self.identities, policy: self.policy }
    }
}

/// What a write that succeeded did.
#[derive(Debug, Clone)]
pub enum Applied<'r> {
    /// A znode was created; a sequential one got a name of its own.
    Created {
        /// The path it has.
        path: Cow<'r, str>,
        /// Its metadata.
        stat: Stat,
    },
    /// A znode was deleted.
    Deleted,
    /// Data was replaced.
    DataSet(Stat),
    /// An ACL was replaced.
    AclSet(Stat),
    /// The results of a multi, successful or not: a multi that fails changes nothing, and says so here.
    Multi(MultiResults),
    /// A session was opened.
    SessionOpened,
    /// A session is being closed and has more ephemerals: apply the same request again.
    SessionClosing,
    /// A session is gone, with its last ephemerals.
    SessionClosed,
}

/// The replicated state.
pub struct Tree {
    pub(crate) store: Store,
    pub(crate) last_zxid: Zxid,
    pub(crate) soft_quota_exceeded_count: u64,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// Makes the tree of a new server with a key that everybody knows: see [`Tree::with_name_key`].
    pub fn new() -> Tree {
        Tree::with_name_key(0)
    }

    /// Makes the tree of a new server: `/zookeeper` and what Apache's `DataTree` puts below it.
    ///
    /// `name_key` is a random number of this process. It protects the index of names from clients that would make
    /// names of one hash; nothing that can be seen depends on it, so members of an ensemble have different ones.
    pub fn with_name_key(name_key: u64) -> Tree {
        let mut store = Store::new(name_key);
        let root = store.root_place();
        let zookeeper = add_reserved(&mut store, root, "zookeeper", "/zookeeper".len());
        add_reserved(&mut store, zookeeper, "config", "/zookeeper/config".len());
        add_reserved(&mut store, zookeeper, "quota", "/zookeeper/quota".len());
        store.forget_creations([root, zookeeper]);
        let config = store.find(CONFIG_PATH).expect("it was just created");
        store.set_acl(config, AclRef::new(vec![crate::acl::everyone_may_read()]), -1);
        Tree { store, last_zxid: Zxid::ZERO, soft_quota_exceeded_count: 0 }
    }

    /// Returns the number of the last transaction, failed ones included.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// Applies a write.
    ///
    /// Changes are appended to `changes`, none if the request fails. Requests that are no writes are refused as
    /// `Unimplemented`; reconfig goes to [`Tree::admit_reconfig`].
    pub fn apply<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        request: &Request<'r>,
        changes: &mut Changes,
    ) -> Result<Applied<'r>, ErrorCode> {
        self.last_zxid = cx.zxid;
        match request {
            Request::CreateSession(timeout_ms) => self.open_session(cx, *timeout_ms),
            Request::CloseSession => {
                self.check_session(cx)?;
                self.close_session(cx, changes)
            }
            Request::DeleteContainer(path) => self.delete_idle(cx, path, changes).map(|()| Applied::Deleted),
            _ => {
                self.check_session(cx)?;
                self.apply_for_session(cx, request, changes)
            }
        }
    }

    fn apply_for_session<'r>(
        &mut self,
        cx: &WriteContext<'_>,
        request: &Request<'r>,
        changes: &mut Changes,
    ) -> Result<Applied<'r>, ErrorCode> {
        match request {
            Request::SetData(request) => self.set_data(cx, request, changes).map(Applied::DataSet),
            Request::Create(request) => {
                self.create(cx, request, changes).map(|(path, stat)| Applied::Created { path, stat })
            }
            Request::Delete(request) => self.delete(cx, request, changes).map(|()| Applied::Deleted),
            Request::SetAcl(request) => self.set_acl(cx, request).map(Applied::AclSet),
            Request::Multi(ops) => self.multi(cx, ops, changes).map(Applied::Multi),
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    /// Brings what writes to these znodes will look at into the processor's caches, for the first [`crate::WARM_MAX`] of
    /// them; changes nothing.
    pub fn warm<'p>(&self, paths: impl Iterator<Item = &'p str>) {
        self.store.warm(paths);
    }

    /// Closes a session whose client was not heard for its timeout, or takes the next step of closing one.
    ///
    /// Errors: `SessionExpired` if there is no such session.
    pub fn end_session(&mut self, cx: &WriteContext<'_>, changes: &mut Changes) -> Result<Applied<'static>, ErrorCode> {
        self.last_zxid = cx.zxid;
        self.close_session(cx, changes)
    }

    /// Gives a session to another member, or to another connection of the same, with a new timeout. Takes no zxid.
    ///
    /// Errors: `SessionExpired` if there is no such session or it is being closed.
    pub fn move_session(&mut self, id: SessionId, member: u64, timeout_ms: i32) -> Result<(), ErrorCode> {
        match self.store.sessions.key(id) {
            Some(key) if !self.store.sessions.get(id).is_some_and(|session| session.is_closing) => {
                self.store.move_session(key, member, timeout_ms);
                Ok(())
            }
            _ => Err(ErrorCode::SessionExpired),
        }
    }

    /// Decides whether a reconfig may be done; `plan` says what it would be.
    ///
    /// Errors: `SessionExpired`, `SessionMoved`, `ReconfigDisabled` if it is switched off, what `plan` returns, and
    /// `NoAuth` if the asker may not write `/zookeeper/config`. Source: `PrepRequestProcessor.pRequest2Txn`.
    pub fn admit_reconfig<T>(
        &mut self,
        cx: &WriteContext<'_>,
        plan: impl FnOnce() -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        self.last_zxid = cx.zxid;
        self.check_session(cx)?;
        if !cx.policy.reconfig {
            return Err(ErrorCode::ReconfigDisabled);
        }
        let planned = plan()?;
        let place = self.store.find(CONFIG_PATH).expect("it cannot be deleted");
        crate::acl::check(self.store.acl(place.key), grange_proto::Perms::WRITE, cx.asker())?;
        Ok(planned)
    }

    /// Returns the data of `/zookeeper/config` and its stat.
    pub fn config(&self) -> (&[u8], Stat) {
        let place = self.store.find(CONFIG_PATH).expect("it cannot be deleted");
        (self.store.node(place.key).data().unwrap_or_default(), self.store.stat(place.key))
    }

    /// Replaces the data of `/zookeeper/config`, whose version stays -1.
    ///
    /// Source: `DataTree.processTxn`, reconfig.
    pub fn set_config(&mut self, zxid: Zxid, time_ms: i64, text: &str, changes: &mut Changes) {
        self.last_zxid = zxid;
        let place = self.store.find(CONFIG_PATH).expect("it cannot be deleted");
        let acl = self.store.acl(place.key).cloned();
        self.store.set_data(place, Some(text.as_bytes()), -1, zxid, time_ms);
        changes.push(crate::ChangeKind::DataChanged, CONFIG_PATH, acl, None);
    }

    /// Takes the zxid of a request that was refused before it got here: a failed write has a number too.
    pub fn apply_refused(&mut self, zxid: Zxid) {
        self.last_zxid = zxid;
    }

    /// Tells whether a watch event about a znode with this ACL may go to a connection.
    pub fn may_read(&self, acl: Option<&AclRef>, identities: &Identities, policy: Policy) -> bool {
        crate::acl::allows(acl, grange_proto::Perms::READ, Asker { identities, policy })
    }

    /// Returns an open session.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.store.sessions.get(id)
    }

    /// Walks the open sessions in the order of their numbers; sorts them first.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = &Session> {
        let mut sessions: Vec<_> = self.store.sessions.iter().collect();
        sessions.sort_unstable_by_key(|session| session.id);
        sessions.into_iter()
    }

    /// Returns the number of open sessions.
    pub fn session_count(&self) -> usize {
        self.store.sessions.len()
    }

    /// Returns the number of znodes, the root included. (Apache counts the root twice.)
    pub fn node_count(&self) -> usize {
        self.store.nodes.len()
    }

    /// Returns the number of ephemeral znodes.
    pub fn ephemeral_count(&self) -> usize {
        self.store.totals.ephemeral_count
    }

    /// Returns the bytes of all paths and data: Apache's `approximate_data_size`.
    pub fn data_bytes(&self) -> u64 {
        self.store.totals.data_bytes
    }

    /// Returns how often a write went beyond a soft quota since this member started; not part of the state.
    pub fn soft_quota_exceeded_count(&self) -> u64 {
        self.soft_quota_exceeded_count
    }

    /// Returns a number that is equal on members with equal state: a sum over all znodes and sessions.
    pub fn digest(&self) -> u64 {
        self.store.totals.digest
    }

    /// Returns the paths of containers and of znodes with a time to live that may be deleted now, at most `limit`.
    ///
    /// A container is due when it has lost its last child, or never had one for `never_used_ms` (0: never); a znode
    /// with a time to live when it has no children and was not changed for so long. Costs nothing when none is due.
    pub fn reapable(&self, now_ms: i64, never_used_ms: i64, limit: usize) -> Vec<String> {
        self.store.idle.due(now_ms, never_used_ms).take(limit).map(|key| self.store.path(key).0).collect()
    }
}

/// The znode that holds the configuration of the ensemble.
pub(crate) const CONFIG_PATH: &str = "/zookeeper/config";

fn add_reserved(store: &mut Store, parent: Place, name: &str, path_bytes: usize) -> Place {
    let birth = Birth { data: Some(b""), acl: None, lifetime: Lifetime::Persistent, zxid: Zxid::ZERO, time_ms: 0 };
    store.insert(parent, name, path_bytes, birth)
}

/// Shows where it stands; the znodes are too many to print.
impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("last_zxid", &self.last_zxid).finish_non_exhaustive()
    }
}
