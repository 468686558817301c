//! Reads: answered from the member's own tree, on the spot.

use grange_proto::frame::put_frame;
use grange_proto::request::Watchable;
use grange_proto::response::{AclBody, Response, TextBody};
use grange_proto::watch::{AddWatchMode, EventType, SetWatches, WatcherEvent, WatcherType};
use grange_proto::{ErrorCode, Request, Xid, Zxid};
use grange_tree::{Policy, Tree};

use crate::auth::user_name;
use crate::connections::{Asked, Connections};
use crate::event::Now;
use crate::watches::{ConnSlot, Kinds, Watches};

/// What a read looks at and what it may change: watches, and the output of its connection.
pub(crate) struct Reads<'m> {
    pub(crate) tree: &'m Tree,
    pub(crate) watches: &'m mut Watches,
    pub(crate) connections: &'m mut Connections,
    pub(crate) policy: Policy,
    pub(crate) now: Now,
}

impl Reads<'_> {
    /// Answers one read of the connection at `slot`.
    pub(crate) fn answer(&mut self, slot: ConnSlot, asked: Asked, request: &Request<'_>) {
        let identities = std::sync::Arc::clone(&self.connections.at(slot).identities);
        let session = self.connections.at(slot).session;
        let (tree, policy) = (self.tree, self.policy);
        let result = match *request {
            Request::GetData(Watchable { path, watch }) => {
                tree.get_data(path, &identities, policy).map(|(data, stat)| {
                    self.arm_if(watch, slot, path, Kinds::DATA);
                    Response::Data(data, stat)
                })
            }
            Request::Exists(Watchable { path, watch }) => self.exists(slot, path, watch),
            Request::GetChildren(Watchable { path, watch }) => {
                tree.children(path, &identities, policy).map(|(children, _)| {
                    self.arm_if(watch, slot, path, Kinds::CHILD);
                    Response::Texts(TextBody::Collected(children.collect()))
                })
            }
            Request::GetChildren2(Watchable { path, watch }) => {
                tree.children(path, &identities, policy).map(|(children, stat)| {
                    self.arm_if(watch, slot, path, Kinds::CHILD);
                    Response::TextsStat(TextBody::Collected(children.collect()), stat)
                })
            }
            Request::GetAcl(path) => {
                tree.get_acl(path, &identities, policy).map(|(acl, stat)| Response::Acl(AclBody::Built(acl), stat))
            }
            Request::GetAllChildrenNumber(path) => tree
                .descendant_count(path, &identities, policy)
                .map(|count| Response::Number(i32::try_from(count).unwrap_or(i32::MAX))),
            Request::GetEphemerals(prefix) => {
                let paths: Vec<String> = tree.ephemerals(session, prefix).collect();
                let texts = TextBody::Collected(paths.iter().map(String::as_str).collect());
                let response = Response::Texts(texts);
                return self.connections.reply(slot, asked, tree.last_zxid(), Ok(&response), self.now);
            }
            Request::MultiRead(ref ops) => Ok(Response::Multi(tree.multi_read(ops, &identities, policy))),
            Request::Sync(path) => Ok(Response::Path(path)),
            Request::Ping => {
                // Always, whatever xid the client gave it: `FinalRequestProcessor`.
                let asked = Asked { xid: Xid::PING, ..asked };
                return self.connections.reply(slot, asked, tree.last_zxid(), Ok(&Response::Empty), self.now);
            }
            Request::SetWatches(ref watches) | Request::SetWatches2(ref watches) => {
                self.set_watches(slot, watches);
                Ok(Response::Empty)
            }
            Request::AddWatch(path, mode) => self.add_watch(slot, path, mode),
            Request::CheckWatches(path, kind) => self.check_watches(slot, path, kind),
            Request::RemoveWatches(path, kind) => self.remove_watches(slot, path, kind),
            Request::WhoAmI => {
                let users = identities.iter().map(|id| (id.scheme.as_str(), user_name(id))).collect();
                Ok(Response::WhoAmI(users))
            }
            _ => Err(ErrorCode::Unimplemented),
        };
        self.connections.reply(slot, asked, tree.last_zxid(), result.as_ref().map_err(|&code| code), self.now);
    }

    /// Watches are armed by the path as it was written. So one on the empty path, which names the root, never fires:
    /// changes have the path `/`. It is the same in Apache's server.
    fn arm_if(&mut self, watch: bool, slot: ConnSlot, path: &str, kind: Kinds) {
        if watch {
            self.watches.arm(slot, path, kind);
        }
    }

    /// A watch is armed on a missing znode too: it fires when the znode is created.
    fn exists<'r>(&mut self, slot: ConnSlot, path: &str, watch: bool) -> Result<Response<'r>, ErrorCode> {
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let identities = std::sync::Arc::clone(&self.connections.at(slot).identities);
        let found = self.tree.exists(path, &identities, self.policy);
        if matches!(found, Ok(_) | Err(ErrorCode::NoNode)) {
            self.arm_if(watch, slot, path, Kinds::DATA);
        }
        found.map(Response::Stat)
    }

    fn add_watch<'r>(&mut self, slot: ConnSlot, path: &str, mode: i32) -> Result<Response<'r>, ErrorCode> {
        let mode = AddWatchMode::from_code(mode).ok_or(ErrorCode::MarshallingError)?;
        self.watches.arm(slot, path, Kinds::of_mode(mode));
        Ok(Response::Number(0))
    }

    fn check_watches<'r>(&self, slot: ConnSlot, path: &str, kind: i32) -> Result<Response<'r>, ErrorCode> {
        let kind = WatcherType::from_code(kind).ok_or(ErrorCode::MarshallingError)?;
        let has = self.watches.has(slot, path, Kinds::of_type(kind));
        if has { Ok(Response::Empty) } else { Err(ErrorCode::NoWatcher) }
    }

    fn remove_watches<'r>(&mut self, slot: ConnSlot, path: &str, kind: i32) -> Result<Response<'r>, ErrorCode> {
        let kind = WatcherType::from_code(kind).ok_or(ErrorCode::MarshallingError)?;
        let had = self.watches.remove(slot, path, Kinds::of_type(kind));
        if had { Ok(Response::Empty) } else { Err(ErrorCode::NoWatcher) }
    }

    /// Arms the watches of a client that came back, and reports at once what it missed.
    ///
    /// Source: `DataTree.setWatches`. What a persistent watch missed is not reported: the client asked for none of it
    /// by a zxid of its own.
    fn set_watches(&mut self, slot: ConnSlot, watches: &SetWatches<'_>) {
        let seen = watches.relative_zxid;
        for path in watches.data.iter() {
            match self.tree.stat(path) {
                None => self.missed(slot, EventType::NodeDeleted, path),
                Some(stat) if stat.mzxid > seen => self.missed(slot, EventType::NodeDataChanged, path),
                Some(_) => self.watches.arm(slot, path, Kinds::DATA),
            }
        }
        for path in watches.exist.iter() {
            match self.tree.stat(path) {
                Some(_) => self.missed(slot, EventType::NodeCreated, path),
                None => self.watches.arm(slot, path, Kinds::DATA),
            }
        }
        for path in watches.child.iter() {
            match self.tree.stat(path) {
                None => self.missed(slot, EventType::NodeDeleted, path),
                Some(stat) if stat.pzxid > seen => self.missed(slot, EventType::NodeChildrenChanged, path),
                Some(_) => self.watches.arm(slot, path, Kinds::CHILD),
            }
        }
        for path in watches.persistent.iter() {
            self.watches.arm(slot, path, Kinds::PERSISTENT);
        }
        for path in watches.recursive.iter() {
            self.watches.arm(slot, path, Kinds::RECURSIVE);
        }
    }

    fn missed(&mut self, slot: ConnSlot, event: EventType, path: &str) {
        put_event(self.connections, slot, WatcherEvent { event, path }, Zxid(-1));
    }
}

/// Sends a watch event to a connection.
pub(crate) fn put_event(connections: &mut Connections, slot: ConnSlot, event: WatcherEvent<'_>, zxid: Zxid) {
    connections.put_frames(slot, 1, |out| put_frame(out, |out| event.encode(zxid, out)));
}
