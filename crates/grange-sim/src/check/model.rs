//! A naive tree: a map of paths, copied whole for each multi. It shares no code with the real one but the protocol's
//! types, and says what every reply must be.

use std::collections::BTreeMap;

use grange_proto::multi::{MultiOp, MultiResult};
use grange_proto::request::{Create, PathVersion, SetData};
use grange_proto::response::{Response, TextBody};
use grange_proto::watch::EventType;
use grange_proto::{ErrorCode, Lifetime, Op, Request, SessionId, Stat, Zxid};

use super::members::{Knowledge, ModelMembers};

const RESERVED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];

/// A znode.
#[derive(Debug, Clone)]
pub(crate) struct ModelNode {
    data: Option<Vec<u8>>,
    stat: Stat,
    /// The children created so far: the stored cversion.
    creations: i32,
    lifetime: Lifetime,
    /// Counts up over all znodes: a multi creates several with one zxid.
    born: u64,
}

/// A change of the tree, for those who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelChange {
    /// What happened to the znode.
    pub(crate) event: EventType,
    /// Which one.
    pub(crate) path: String,
}

/// The tree, and the sessions.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    nodes: BTreeMap<String, ModelNode>,
    /// Each open session, and the member that serves its client.
    sessions: BTreeMap<SessionId, u64>,
    pub(crate) members: ModelMembers,
    born: u64,
    zxid: Zxid,
    time_ms: i64,
    changes: Vec<ModelChange>,
}

/// What a write that succeeded is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Nothing but the header.
    Empty,
    /// The path of a new znode, and its stat.
    Created(String, Stat),
    /// The new stat.
    Stat(Stat),
    /// One answer, or error, for each operation.
    Multi(Vec<Result<Answer, i32>>),
    /// It is answered when the members are as it asks for.
    Later,
}

type Outcome = Result<Answer, ErrorCode>;

fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(cut) => &path[..cut],
    }
}

fn is_valid(path: &str) -> bool {
    let is_name = |name: &str| !["", ".", ".."].contains(&name);
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_name))
}

fn length(data: Option<&[u8]>) -> i32 {
    data.map_or(0, |data| i32::try_from(data.len()).expect("data fits a frame"))
}

fn compare(version: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == version { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

impl Model {
    /// Makes the tree of a new ensemble.
    pub(crate) fn new(knowledge: Knowledge) -> Model {
        let mut nodes = BTreeMap::new();
        for (path, children) in [("/", 1), ("/zookeeper", 2), ("/zookeeper/config", 0), ("/zookeeper/quota", 0)] {
            let aversion = if path == "/zookeeper/config" { -1 } else { 0 };
            let stat = Stat { num_children: children, aversion, ..Stat::default() };
            let node =
                ModelNode { data: Some(Vec::new()), stat, creations: 0, lifetime: Lifetime::Persistent, born: 0 };
            nodes.insert(path.to_owned(), node);
        }
        let (sessions, members) = (BTreeMap::new(), ModelMembers::new(knowledge));
        Model { nodes, sessions, members, born: 0, zxid: Zxid::ZERO, time_ms: 0, changes: Vec::new() }
    }

    /// Takes in what the next write has from its entry.
    pub(crate) fn begin(&mut self, zxid: Zxid, time_ms: i64) {
        self.zxid = zxid;
        self.time_ms = time_ms;
        self.changes.clear();
    }

    /// Gives a session to the member that its client came to; one that is gone stays so.
    pub(crate) fn come_back(&mut self, session: SessionId, member: u64) {
        self.changes.clear();
        self.sessions.entry(session).and_modify(|serves| *serves = member);
    }

    /// Ends a session whatever its client wants.
    pub(crate) fn end(&mut self, session: SessionId) {
        if self.sessions.contains_key(&session) {
            self.close(session);
        }
    }

    /// Replaces the data of `/zookeeper/config`, whose version stays -1.
    pub(crate) fn configure(&mut self, text: &[u8]) {
        let (zxid, time_ms) = (self.zxid, self.time_ms);
        let node = self.nodes.get_mut("/zookeeper/config").expect("it cannot be deleted");
        node.data = Some(text.to_vec());
        let (version, data_length) = (-1, length(Some(text)));
        node.stat = Stat { version, data_length, mzxid: zxid, mtime_ms: time_ms, ..node.stat };
        let (event, path) = (EventType::NodeDataChanged, "/zookeeper/config".to_owned());
        self.changes.push(ModelChange { event, path });
    }

    /// Applies a write that came by way of a member; [`Model::changes`] says what it did.
    pub(crate) fn apply(&mut self, session: SessionId, member: u64, request: &Request<'_>, body: &[u8]) -> Outcome {
        let serves = self.sessions.get(&session).copied();
        match request {
            Request::CreateSession(_) if serves.is_some() => Err(ErrorCode::BadArguments),
            Request::CreateSession(_) => {
                self.sessions.insert(session, member);
                Ok(Answer::Empty)
            }
            Request::DeleteContainer(path) => self.reap(path),
            _ if serves.is_none() => Err(ErrorCode::SessionExpired),
            _ if serves != Some(member) => Err(ErrorCode::SessionMoved),
            Request::CloseSession => {
                self.close(session);
                Ok(Answer::Empty)
            }
            Request::Create(create) => self.create(session, create),
            Request::Delete(delete) => self.delete(delete),
            Request::SetData(set) => self.set(set),
            Request::Reconfig(reconfig) => self.members.ask(session, body, reconfig).map(|()| Answer::Later),
            Request::Multi(ops) => {
                let ops: Vec<MultiOp<'_>> = ops.iter().collect();
                self.multi(session, &ops)
            }
            other => panic!("{other:?} is no write that the simulated clients know"),
        }
    }

    /// Returns what the last write changed, in order.
    pub(crate) fn changes(&self) -> &[ModelChange] {
        &self.changes
    }

    /// Returns what a read must be answered now; `None` if it is no read.
    pub(crate) fn read<'m>(
        &'m self,
        session: SessionId,
        request: &Request<'m>,
    ) -> Option<Result<Response<'m>, ErrorCode>> {
        Some(match *request {
            Request::GetData(read) => {
                self.node(read.path).map(|node| Response::Data(node.data.as_deref(), node.visible_stat()))
            }
            Request::Exists(read) => self.node(read.path).map(|node| Response::Stat(node.visible_stat())),
            Request::GetChildren(read) => {
                self.node(read.path).map(|_| Response::Texts(TextBody::Collected(self.children(read.path))))
            }
            Request::GetChildren2(read) => self
                .node(read.path)
                .map(|node| Response::TextsStat(TextBody::Collected(self.children(read.path)), node.visible_stat())),
            Request::GetEphemerals(prefix) => {
                let own = self.nodes.iter().filter(|(_, node)| node.lifetime == Lifetime::Ephemeral(session));
                let paths = own.map(|(path, _)| path.as_str()).filter(|path| path.starts_with(prefix));
                Ok(Response::Texts(TextBody::Collected(paths.collect())))
            }
            Request::Sync(path) => Ok(Response::Path(path)),
            Request::Ping | Request::SetWatches(_) | Request::SetWatches2(_) => Ok(Response::Empty),
            Request::AddWatch(..) => Ok(Response::Number(0)),
            _ => return None,
        })
    }

    /// Returns what whoever asked for a reconfig is told when the members are as it asks for.
    pub(crate) fn config(&self) -> Response<'_> {
        let node = &self.nodes["/zookeeper/config"];
        Response::Data(node.data.as_deref(), node.visible_stat())
    }

    /// Returns the stat of a znode as clients see it.
    pub(crate) fn stat(&self, path: &str) -> Option<Stat> {
        self.nodes.get(path).map(ModelNode::visible_stat)
    }

    /// Walks the znodes: path, data, stat.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, Option<&[u8]>, Stat)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node.data.as_deref(), node.visible_stat()))
    }

    /// Returns the open sessions.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    fn node(&self, path: &str) -> Result<&ModelNode, ErrorCode> {
        self.nodes.get(path).ok_or(ErrorCode::NoNode)
    }

    fn children(&self, path: &str) -> Vec<&str> {
        let below = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let inside = self.nodes.range(below.clone()..).map(|(path, _)| path.as_str());
        let inside = inside.take_while(|path| path.starts_with(&below));
        inside.map(|path| &path[below.len()..]).filter(|name| !name.is_empty() && !name.contains('/')).collect()
    }

    fn multi(&mut self, session: SessionId, ops: &[MultiOp<'_>]) -> Outcome {
        let before = self.nodes.clone();
        let mut answers = Vec::new();
        for op in ops {
            let answer = match op {
                MultiOp::Create(create) => self.create(session, create),
                MultiOp::Delete(delete) => self.delete(delete),
                MultiOp::SetData(set) => self.set(set),
                MultiOp::Check(check) => self.check(check),
                MultiOp::GetData(_) | MultiOp::GetChildren(_) => return Err(ErrorCode::MarshallingError),
            };
            match answer {
                Ok(answer) => answers.push(Ok(answer)),
                Err(error) => {
                    self.nodes = before;
                    self.changes.clear();
                    answers.fill_with(|| Err(0));
                    answers.push(Err(error.code()));
                    answers.resize_with(ops.len(), || Err(ErrorCode::RuntimeInconsistency.code()));
                    break;
                }
            }
        }
        Ok(Answer::Multi(answers))
    }

    fn check(&self, check: &PathVersion<'_>) -> Outcome {
        compare(self.writable(check.path)?.stat.version, check.version).map(|()| Answer::Empty)
    }

    fn writable(&self, path: &str) -> Result<&ModelNode, ErrorCode> {
        if is_valid(path) { self.node(path) } else { Err(ErrorCode::BadArguments) }
    }

    fn create(&mut self, session: SessionId, create: &Create<'_>) -> Outcome {
        let (is_sequential, lifetime) = match (create.flags, create.op, create.ttl_ms) {
            (_, Op::CreateContainer, _) => (false, Lifetime::Container),
            (0, _, None) => (false, Lifetime::Persistent),
            (1, _, None) => (false, Lifetime::Ephemeral(session)),
            (2, _, None) => (true, Lifetime::Persistent),
            (3, _, None) => (true, Lifetime::Ephemeral(session)),
            (5, Op::CreateTtl, Some(ttl_ms)) if ttl_ms > 0 => (false, Lifetime::Ttl(ttl_ms)),
            (6, Op::CreateTtl, Some(ttl_ms)) if ttl_ms > 0 => (true, Lifetime::Ttl(ttl_ms)),
            _ => return Err(ErrorCode::BadArguments),
        };
        let parent = self.node(parent_of(create.path))?;
        let mut path = create.path.to_owned();
        if is_sequential {
            path.push_str(&format!("{:010}", parent.creations));
        }
        if !is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        if self.nodes.contains_key(&path) {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(parent.lifetime, Lifetime::Ephemeral(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let (zxid, time_ms) = (self.zxid, self.time_ms);
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            data_length: length(create.data),
            ephemeral_owner: if let Lifetime::Ephemeral(session) = lifetime { session.0 } else { 0 },
            ..Stat::default()
        };
        self.born += 1;
        let born = self.born;
        let node = ModelNode { data: create.data.map(<[u8]>::to_vec), stat, creations: 0, lifetime, born };
        self.nodes.insert(path.clone(), node);
        let parent = self.nodes.get_mut(parent_of(&path)).expect("it was found above");
        parent.creations += 1;
        parent.stat.num_children += 1;
        parent.stat.pzxid = zxid;
        self.changes.push(ModelChange { event: EventType::NodeCreated, path: path.clone() });
        Ok(Answer::Created(path, stat))
    }

    fn set(&mut self, set: &SetData<'_>) -> Outcome {
        compare(self.writable(set.path)?.stat.version, set.version)?;
        let (zxid, time_ms) = (self.zxid, self.time_ms);
        let node = self.nodes.get_mut(set.path).expect("it was found above");
        node.data = set.data.map(<[u8]>::to_vec);
        node.stat.version += 1;
        node.stat.mzxid = zxid;
        node.stat.mtime_ms = time_ms;
        node.stat.data_length = length(set.data);
        let stat = node.visible_stat();
        self.changes.push(ModelChange { event: EventType::NodeDataChanged, path: set.path.to_owned() });
        Ok(Answer::Stat(stat))
    }

    fn delete(&mut self, delete: &PathVersion<'_>) -> Outcome {
        if RESERVED.contains(&delete.path) {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.node(delete.path)?;
        compare(node.stat.version, delete.version)?;
        if node.stat.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.remove(delete.path);
        Ok(Answer::Empty)
    }

    fn reap(&mut self, path: &str) -> Outcome {
        let node = self.node(path)?;
        if node.stat.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        match node.lifetime {
            Lifetime::Container => {}
            Lifetime::Ttl(ttl_ms) if self.time_ms - node.stat.mtime_ms > ttl_ms => {}
            _ => return Err(ErrorCode::BadVersion),
        }
        self.remove(path);
        Ok(Answer::Empty)
    }

    /// Ephemerals go in the order opposite to that of their creation.
    fn close(&mut self, session: SessionId) {
        let own = self.nodes.iter().filter(|(_, node)| node.lifetime == Lifetime::Ephemeral(session));
        let mut own: Vec<(u64, String)> = own.map(|(path, node)| (node.born, path.clone())).collect();
        own.sort();
        own.iter().rev().for_each(|(_, path)| self.remove(path));
        self.sessions.remove(&session);
    }

    fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        let zxid = self.zxid;
        let parent = self.nodes.get_mut(parent_of(path)).expect("a znode has a parent");
        parent.stat.num_children -= 1;
        parent.stat.pzxid = zxid;
        self.changes.push(ModelChange { event: EventType::NodeDeleted, path: path.to_owned() });
    }
}

impl ModelNode {
    fn visible_stat(&self) -> Stat {
        Stat { cversion: self.creations * 2 - self.stat.num_children, ..self.stat }
    }
}

impl Answer {
    /// Returns the reply that an operation gets.
    pub(crate) fn response(&self, op: Op) -> Response<'_> {
        match self {
            Answer::Empty => Response::Empty,
            Answer::Created(path, _) if op == Op::Create => Response::Path(path),
            Answer::Created(path, stat) => Response::PathStat(path, *stat),
            Answer::Stat(stat) => Response::Stat(*stat),
            Answer::Multi(_) | Answer::Later => Response::Empty,
        }
    }

    /// Returns the reply to a multi of these operations.
    pub(crate) fn multi_response<'a>(answers: &'a [Result<Answer, i32>], ops: &[MultiOp<'_>]) -> Response<'a> {
        let result = |(answer, op): (&'a Result<Answer, i32>, &MultiOp<'_>)| match answer {
            Err(code) => MultiResult::Error(*code),
            Ok(Answer::Created(path, stat)) => match op {
                MultiOp::Create(create) if create.flags >= 4 => MultiResult::CreateStat(path.into(), *stat),
                _ => MultiResult::Create(path.into()),
            },
            Ok(Answer::Stat(stat)) => MultiResult::SetData(*stat),
            Ok(_) if matches!(op, MultiOp::Check(_)) => MultiResult::Check,
            Ok(_) => MultiResult::Delete,
        };
        Response::Multi(answers.iter().zip(ops).map(result).collect())
    }
}
