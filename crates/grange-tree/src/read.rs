//! The reads. A path that is not valid names no znode.

use std::borrow::Cow;

use grange_proto::multi::{MultiOp, MultiOps, MultiResult};
use grange_proto::response::TextBody;
use grange_proto::{Acl, ErrorCode, Perms, SessionId, Stat};

use crate::acl;
use crate::identity::{Asker, Identities, Policy};
use crate::node::Node;
use crate::slab::Key;
use crate::tree::Tree;

impl Tree {
    fn find_readable(&self, path: &str, identities: &Identities, policy: Policy) -> Result<Key<Node>, ErrorCode> {
        let key = self.store.find(path).ok_or(ErrorCode::NoNode)?.key;
        acl::check(self.store.acl(key), Perms::READ, Asker { identities, policy })?;
        Ok(key)
    }

    /// Returns the stat of a znode, for nobody in particular: setWatches compares it with what a client has seen.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        self.store.find(path).map(|place| self.store.stat(place.key))
    }

    /// exists: the stat of a znode.
    ///
    /// Errors: `BadArguments` for a path with a null character, `NoNode`, `NoAuth` without READ (as of Apache 3.10;
    /// older ones ask for nothing).
    pub fn exists(&self, path: &str, identities: &Identities, policy: Policy) -> Result<Stat, ErrorCode> {
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        self.find_readable(path, identities, policy).map(|key| self.store.stat(key))
    }

    /// getData: the data of a znode, `None` for null, and its stat.
    ///
    /// Errors: `NoNode`, `NoAuth` without READ.
    pub fn get_data(
        &self,
        path: &str,
        identities: &Identities,
        policy: Policy,
    ) -> Result<(Option<&[u8]>, Stat), ErrorCode> {
        let key = self.find_readable(path, identities, policy)?;
        Ok((self.store.node(key).data(), self.store.stat(key)))
    }

    /// getACL: the ACL of a znode and its stat. Without ADMIN the hashes of digest ids are hidden.
    ///
    /// Errors: `NoNode`, `NoAuth` without READ and ADMIN.
    pub fn get_acl(
        &self,
        path: &str,
        identities: &Identities,
        policy: Policy,
    ) -> Result<(Cow<'_, [Acl]>, Stat), ErrorCode> {
        let key = self.store.find(path).ok_or(ErrorCode::NoNode)?.key;
        let (acl, asker) = (self.store.acl(key), Asker { identities, policy });
        acl::check(acl, Perms::READ.union(Perms::ADMIN), asker)?;
        let entries = acl::entries(acl);
        let visible = match acl::allows(acl, Perms::ADMIN, asker) {
            true => entries,
            false => Cow::Owned(acl::mask(&entries)),
        };
        Ok((visible, self.store.stat(key)))
    }

    /// getChildren: the names of the children, the newest first, and the stat.
    ///
    /// Errors: `NoNode`, `NoAuth` without READ.
    pub fn children(
        &self,
        path: &str,
        identities: &Identities,
        policy: Policy,
    ) -> Result<(impl ExactSizeIterator<Item = &str> + use<'_>, Stat), ErrorCode> {
        let key = self.find_readable(path, identities, policy)?;
        Ok((self.store.children(key).map(|(_, node)| node.name_text()), self.store.stat(key)))
    }

    /// getAllChildrenNumber: the number of descendants.
    ///
    /// Errors: `NoNode`, `NoAuth` without READ.
    pub fn descendant_count(&self, path: &str, identities: &Identities, policy: Policy) -> Result<usize, ErrorCode> {
        let key = self.find_readable(path, identities, policy)?;
        Ok(self.store.extra(key).map_or(0, |extra| extra.descendant_count as usize))
    }

    /// getEphemerals: the paths of a session's ephemerals that begin with `prefix`, as text; all for `/` or blanks.
    pub fn ephemerals(&self, session: SessionId, prefix: &str) -> impl Iterator<Item = String> {
        let is_control_or_blank = |c: char| c <= ' ';
        let prefix = match prefix.trim_matches(is_control_or_blank) {
            "" | "/" => "",
            _ => prefix,
        };
        let session = self.store.sessions.get(session).into_iter();
        let keys = session.flat_map(|session| self.store.ephemerals(session));
        keys.map(|key| self.store.path(key).0).filter(move |path| path.starts_with(prefix))
    }

    /// multiRead: each operation's result or error.
    pub fn multi_read(&self, ops: &MultiOps<'_>, identities: &Identities, policy: Policy) -> Vec<MultiResult<'_>> {
        ops.iter().map(|op| self.multi_read_op(&op, identities, policy)).collect()
    }

    fn multi_read_op(&self, op: &MultiOp<'_>, identities: &Identities, policy: Policy) -> MultiResult<'_> {
        let result = match op {
            MultiOp::GetData(read) => {
                self.get_data(read.path, identities, policy).map(|(data, stat)| MultiResult::GetData(data, stat))
            }
            MultiOp::GetChildren(read) => self
                .children(read.path, identities, policy)
                .map(|(names, _)| MultiResult::GetChildren(TextBody::Collected(names.collect()))),
            _ => Err(ErrorCode::MarshallingError),
        };
        result.unwrap_or_else(|error| MultiResult::Error(error.code()))
    }
}
