//! Random writes on the tree and on a naive model: a map of paths, copied whole for each multi.
//!
//! The model shares no code with the tree but the protocol's types. After each write results and changes are equal;
//! now and then everything a client could see is compared, a snapshot is taken, and at the end each snapshot must read
//! back as the state of its moment.

use std::collections::BTreeMap;

use grange_proto::multi::{MultiOp, put_ops};
use grange_proto::request::{Create, PathVersion, SetAcl, SetData};
use grange_proto::{AclList, ErrorCode, Op, Reader, Request, SessionId, Stat, Zxid};
use grange_tree::{Identities, Policy, Tree, TreeBuilder, TreeSnapshot};
use proptest::prelude::*;

use crate::script::{Run, acl_bytes};

/// ACLs by number; the second hides READ from those who are not `digest u:h`.
const ACLS: [&str; 5] =
    ["world:anyone:31", "digest:u:h:31,world:anyone:12", "world:anyone:1,world:anyone:1", "none", "auth::31"];

/// One write.
#[derive(Debug, Clone)]
enum Command {
    Create { path: String, data: Option<Vec<u8>>, flags: i32, ttl_ms: Option<i64>, acl: usize },
    Delete { path: String, version: i32 },
    Set { path: String, data: Option<Vec<u8>>, version: i32 },
    SetAcl { path: String, acl: usize, version: i32 },
    Check { path: String, version: i32 },
    Reap { path: String },
    Multi(Vec<Command>),
    Open,
    Close,
    Snapshot,
}

fn path() -> impl Strategy<Value = String> {
    let valid = prop_oneof![5 => 1..2usize, 4 => 2..3usize, 1 => 3..5usize]
        .prop_flat_map(|depth| proptest::collection::vec("[ab]", depth))
        .prop_map(|names| format!("/{}", names.join("/")));
    let name = prop_oneof![8 => "[ab]", 1 => Just("..".to_owned()), 1 => Just(String::new())];
    let odd = proptest::collection::vec(name, 0..3).prop_map(|names| names.join("/"));
    prop_oneof![40 => valid, 1 => odd, 1 => Just("/".to_owned()), 1 => Just("/zookeeper/config".to_owned())]
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::weighted(0.9, proptest::collection::vec(any::<u8>(), 0..20))
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![6 => Just(-1), 2 => 0..3i32]
}

fn simple() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => (path(), data(), mode(), acl()).prop_map(
            |(path, data, (flags, ttl_ms), acl)| Command::Create { path, data, flags, ttl_ms, acl }
        ),
        4 => (path(), version()).prop_map(|(path, version)| Command::Delete { path, version }),
        4 => (path(), data(), version()).prop_map(|(path, data, version)| Command::Set { path, data, version }),
        1 => (path(), version()).prop_map(|(path, version)| Command::Check { path, version }),
    ]
}

/// Flags and a time to live: mostly those of persistent znodes, so that others find parents.
fn mode() -> impl Strategy<Value = (i32, Option<i64>)> {
    let any_ttl = prop_oneof![Just(None), Just(Some(50)), (-1..1i64).prop_map(Some)];
    prop_oneof![
        12 => Just((0, None)),
        4 => (1..5i32).prop_map(|flags| (flags, None)),
        2 => (5..7i32).prop_map(|flags| (flags, Some(50))),
        1 => (0..8i32, any_ttl),
    ]
}

fn acl() -> impl Strategy<Value = usize> {
    prop_oneof![30 => Just(0), 1 => 0..ACLS.len()]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        80 => simple(),
        2 => (path(), prop_oneof![3 => Just(0), 1 => 0..ACLS.len()], version()).prop_map(|(path, acl, version)| Command::SetAcl { path, acl, version }),
        20 => proptest::collection::vec(simple(), 0..5).prop_map(Command::Multi),
        4 => path().prop_map(|path| Command::Reap { path }),
        3 => Just(Command::Open),
        1 => Just(Command::Close),
        3 => Just(Command::Snapshot),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct ModelNode {
    data: Option<Vec<u8>>,
    /// Entries as `(scheme, id, perms)`.
    acl: Vec<(String, String, i32)>,
    stat: Stat,
    /// The stored cversion.
    creations: i32,
    owner: Owner,
    born: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Owner {
    Nobody,
    Session(i64),
    Container,
    Ttl(i64),
}

#[derive(Debug, Clone, PartialEq)]
struct Model {
    nodes: BTreeMap<String, ModelNode>,
    sessions: Vec<i64>,
    zxid: i64,
    born: u64,
    time_ms: i64,
    changes: String,
}

type Outcome = Result<String, ErrorCode>;

fn parent_of(path: &str) -> String {
    let cut = path.rfind('/').unwrap();
    if cut == 0 { "/".to_owned() } else { path[..cut].to_owned() }
}

fn is_valid(path: &str) -> bool {
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|name| !["", ".", ".."].contains(&name)))
}

/// Session 1 is `digest u:h`, the others are nobody.
fn has_digest(session: i64) -> bool {
    session == 1
}

fn model_acl(number: usize, session: i64) -> Result<Vec<(String, String, i32)>, ErrorCode> {
    let entry = |scheme: &str, id: &str, perms| (scheme.to_owned(), id.to_owned(), perms);
    match number {
        0 => Ok(vec![entry("world", "anyone", 31)]),
        1 => Ok(vec![entry("digest", "u:h", 31), entry("world", "anyone", 12)]),
        2 => Ok(vec![entry("world", "anyone", 1)]),
        4 if has_digest(session) => Ok(vec![entry("digest", "u:h", 31)]),
        _ => Err(ErrorCode::InvalidAcl),
    }
}

impl ModelNode {
    fn grants(&self, session: i64, perm: i32) -> Result<(), ErrorCode> {
        let granted =
            self.acl.iter().any(|(scheme, _, perms)| perms & perm != 0 && (scheme == "world" || has_digest(session)));
        if granted { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }
}

fn length(data: Option<&[u8]>) -> i32 {
    data.map_or(0, |data| i32::try_from(data.len()).unwrap())
}

fn compare(version: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == version { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

impl Model {
    fn new() -> Model {
        let mut nodes = BTreeMap::new();
        for (path, kids) in [("/", 1), ("/zookeeper", 2), ("/zookeeper/config", 0), ("/zookeeper/quota", 0)] {
            let is_config = path == "/zookeeper/config";
            let stat = Stat { num_children: kids, aversion: if is_config { -1 } else { 0 }, ..Stat::default() };
            let acl = vec![("world".to_owned(), "anyone".to_owned(), if is_config { 1 } else { 31 })];
            let node = ModelNode { data: Some(vec![]), acl, stat, creations: 0, owner: Owner::Nobody, born: 0 };
            nodes.insert(path.to_owned(), node);
        }
        Model { nodes, sessions: vec![], zxid: 0, born: 1, time_ms: 1000, changes: String::new() }
    }

    fn node(&self, path: &str) -> Result<&ModelNode, ErrorCode> {
        self.nodes.get(if path.is_empty() { "/" } else { path }).ok_or(ErrorCode::NoNode)
    }

    fn write(&mut self, session: i64, command: &Command) -> Outcome {
        self.zxid += 1;
        self.changes.clear();
        match command {
            Command::Open if self.sessions.contains(&session) => Err(ErrorCode::BadArguments),
            Command::Open => {
                self.sessions.push(session);
                Ok("opened".to_owned())
            }
            Command::Reap { path } => self.reap(path),
            _ if !self.sessions.contains(&session) => Err(ErrorCode::SessionExpired),
            Command::Close => {
                let mut own: Vec<_> =
                    self.nodes.iter().filter(|(_, node)| node.owner == Owner::Session(session)).collect();
                own.sort_by_key(|(_, node)| std::cmp::Reverse(node.born));
                let own: Vec<_> = own.into_iter().map(|(path, _)| path.clone()).collect();
                own.iter().for_each(|path| self.remove(path));
                self.sessions.retain(|id| *id != session);
                Ok("closed".to_owned())
            }
            Command::Multi(commands) => self.multi(session, commands),
            single => self.single(session, single),
        }
    }

    fn multi(&mut self, session: i64, commands: &[Command]) -> Outcome {
        let before = self.clone();
        let mut results = Vec::new();
        for command in commands {
            match self.multi_part(session, command) {
                Ok(result) => results.push(result),
                Err(error) => {
                    *self = before;
                    if error == ErrorCode::MarshallingError {
                        return Err(error);
                    }
                    results.fill("0".to_owned());
                    results.push(error.to_string());
                    results.resize(commands.len(), ErrorCode::RuntimeInconsistency.to_string());
                    break;
                }
            }
        }
        Ok(format!("[{}]", results.join(" | ")))
    }

    /// The flags of a create decide about its time to live and the form of its result.
    fn multi_part(&mut self, session: i64, command: &Command) -> Outcome {
        let Command::Create { flags, ttl_ms, .. } = command else { return self.single(session, command) };
        match (flags, ttl_ms) {
            (5 | 6, None) => Err(ErrorCode::MarshallingError),
            (4..=6, _) => {
                let path = self.create(session, command, true)?;
                Ok(format!("{path}@{}", self.zxid))
            }
            _ => self.create(session, command, true),
        }
    }

    fn single(&mut self, session: i64, command: &Command) -> Outcome {
        match command {
            Command::Create { .. } => self.create(session, command, false),
            Command::Delete { path, version } => self.delete(session, path, *version),
            Command::Set { path, data, version } => {
                self.permitted(session, path, 2)?;
                let (zxid, time_ms) = (self.zxid, self.time_ms);
                let node = self.nodes.get_mut(path).unwrap();
                compare(node.stat.version, *version)?;
                node.data = data.clone();
                node.stat.version += 1;
                node.stat.mzxid = Zxid(zxid);
                node.stat.mtime_ms = time_ms;
                node.stat.data_length = length(data.as_deref());
                let version = node.stat.version;
                self.changes.push_str(&format!(" ~{path}"));
                Ok(format!("v{version}"))
            }
            Command::SetAcl { path, acl, version } => {
                if !is_valid(path) {
                    return Err(ErrorCode::BadArguments);
                }
                let acl = model_acl(*acl, session)?;
                self.permitted(session, path, 16)?;
                let node = self.nodes.get_mut(path).unwrap();
                compare(node.stat.aversion, *version)?;
                node.acl = acl;
                node.stat.aversion += 1;
                Ok(format!("a{}", node.stat.aversion))
            }
            Command::Check { path, version } => {
                self.permitted(session, path, 1)?;
                compare(self.node(path)?.stat.version, *version).map(|()| "ok".to_owned())
            }
            other => panic!("{other:?} is no single write"),
        }
    }

    fn permitted(&self, session: i64, path: &str, perm: i32) -> Result<(), ErrorCode> {
        if !is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        self.node(path)?.grants(session, perm)
    }

    fn create(&mut self, session: i64, create: &Command, in_multi: bool) -> Outcome {
        let Command::Create { path, data, flags, ttl_ms, acl } = create else { panic!("{create:?} is no create") };
        let (data, flags, acl) = (data.clone(), *flags, *acl);
        // In a multi the flags decide alone, so a time to live they have no use for is not looked at.
        let ttl_ms = ttl_ms.filter(|_| !in_multi || matches!(flags, 5 | 6));
        let owner = match (flags, ttl_ms) {
            (5 | 6, Some(ttl_ms)) if ttl_ms > 0 => Owner::Ttl(ttl_ms),
            (5 | 6, _) | (_, Some(_)) => return Err(ErrorCode::BadArguments),
            (0 | 2, _) => Owner::Nobody,
            (1 | 3, _) => Owner::Session(session),
            (4, _) if in_multi => Owner::Container,
            (4, _) => Owner::Nobody,
            _ => return Err(ErrorCode::BadArguments),
        };
        if !path.contains('/') {
            return Err(ErrorCode::BadArguments);
        }
        let acl = model_acl(acl, session)?;
        let cut = path.rfind('/').unwrap();
        let parent = self.node(&path[..cut])?;
        parent.grants(session, 4)?;
        let is_sequential = [2, 3, 6].contains(&flags);
        let path = if is_sequential { format!("{path}{:010}", parent.creations) } else { path.to_owned() };
        if !is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        if self.nodes.contains_key(&path) {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(parent.owner, Owner::Session(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let zxid = Zxid(self.zxid);
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime_ms: self.time_ms,
            mtime_ms: self.time_ms,
            data_length: length(data.as_deref()),
            ephemeral_owner: if let Owner::Session(id) = owner { id } else { 0 },
            ..Stat::default()
        };
        self.nodes.insert(path.clone(), ModelNode { data, acl, stat, creations: 0, owner, born: self.born });
        self.born += 1;
        let parent = self.nodes.get_mut(&parent_of(&path)).unwrap();
        parent.creations += 1;
        parent.stat.num_children += 1;
        parent.stat.pzxid = zxid;
        self.changes.push_str(&format!(" +{path}"));
        Ok(path)
    }

    fn deletable(&self, path: &str) -> Result<(), ErrorCode> {
        if !path.contains('/') || ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"].contains(&path) {
            return Err(ErrorCode::BadArguments);
        }
        Ok(())
    }

    fn delete(&mut self, session: i64, path: &str, version: i32) -> Outcome {
        self.deletable(path)?;
        self.node(&path[..path.rfind('/').unwrap()])?.grants(session, 8)?;
        let node = self.node(path)?;
        compare(node.stat.version, version)?;
        if node.stat.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.remove(path);
        Ok("ok".to_owned())
    }

    fn reap(&mut self, path: &str) -> Outcome {
        self.deletable(path)?;
        self.node(&path[..path.rfind('/').unwrap()])?;
        let node = self.node(path)?;
        if node.stat.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        match node.owner {
            Owner::Container => {}
            Owner::Ttl(ttl_ms) if self.time_ms - node.stat.mtime_ms > ttl_ms => {}
            _ => return Err(ErrorCode::BadVersion),
        }
        self.remove(path);
        Ok("ok".to_owned())
    }

    fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        let parent = self.nodes.get_mut(&parent_of(path)).unwrap();
        parent.stat.num_children -= 1;
        parent.stat.pzxid = Zxid(self.zxid);
        self.changes.push_str(&format!(" -{path}"));
    }

    /// Compares everything that can be seen.
    fn assert_equals(&self, tree: &Tree) {
        let nobody = Identities::new();
        let policy = Policy { skip_acl: true, ..Policy::default() };
        assert_eq!((tree.last_zxid(), tree.node_count()), (Zxid(self.zxid), self.nodes.len()));
        for (path, node) in &self.nodes {
            let cversion = node.creations * 2 - node.stat.num_children;
            let (data, stat) = tree.get_data(path, &nobody, policy).unwrap();
            assert_eq!((data, stat), (node.data.as_deref(), Stat { cversion, ..node.stat }), "{path}");
            let (acl, _) = tree.get_acl(path, &nobody, policy).unwrap();
            let acl = acl.iter().map(|entry| (entry.id.scheme.clone(), entry.id.id.clone(), entry.perms.0));
            assert_eq!(acl.collect::<Vec<_>>(), node.acl, "{path}");
            let below = if path == "/" { path.clone() } else { format!("{path}/") };
            let inside: Vec<_> =
                self.nodes.keys().filter(|other| other.starts_with(&below) && *other != path).collect();
            assert_eq!(tree.descendant_count(path, &nobody, policy), Ok(inside.len()));
            let mut names: Vec<_> = tree.children(path, &nobody, policy).unwrap().0.collect();
            names.sort_unstable();
            let kids = inside.iter().filter_map(|other| other.strip_prefix(&below)).filter(|name| !name.contains('/'));
            assert_eq!(names, kids.collect::<Vec<_>>());
        }
        let bytes = self.nodes.iter().map(|(path, node)| path.len() + node.data.as_ref().map_or(0, Vec::len));
        assert_eq!(tree.data_bytes(), bytes.sum::<usize>() as u64);
        let mut sessions = self.sessions.clone();
        sessions.sort_unstable();
        assert_eq!(tree.sessions().map(|session| session.id().0).collect::<Vec<_>>(), sessions);
        let mut ephemeral_count = 0;
        for id in sessions {
            let mut paths: Vec<_> = tree.ephemerals(SessionId(id), "/").collect();
            paths.sort_unstable();
            let own = self.nodes.iter().filter(|(_, node)| node.owner == Owner::Session(id)).map(|(path, _)| path);
            assert!(paths.iter().eq(own));
            assert_eq!(tree.session(SessionId(id)).unwrap().ephemeral_count(), paths.len());
            ephemeral_count += paths.len();
        }
        assert_eq!(tree.ephemeral_count(), ephemeral_count);
        self.assert_reapable(tree);
    }

    fn assert_reapable(&self, tree: &Tree) {
        for now in [self.time_ms, self.time_ms + 51, self.time_ms + 1000] {
            let mut found = tree.reapable(now, 500, usize::MAX);
            found.sort_unstable();
            let due = self.nodes.iter().filter(|(_, node)| node.stat.num_children == 0).filter(|(_, node)| match node
                .owner
            {
                Owner::Container => node.creations > 0 || now - node.stat.mtime_ms > 500,
                Owner::Ttl(ttl_ms) => now - node.stat.mtime_ms > ttl_ms,
                _ => false,
            });
            assert!(found.iter().eq(due.map(|(path, _)| path)), "{found:?} at {now}");
        }
    }
}

/// Hands the command to the tree as a request.
fn write(run: &mut Run, session: i64, command: &Command) -> String {
    let acls = ACLS.map(acl_bytes);
    let lists = [0, 1, 2, 3, 4].map(|n: usize| AclList::decode(&mut Reader::new(&acls[n])).unwrap());
    match command {
        Command::Create { .. } | Command::Delete { .. } | Command::Set { .. } => {
            let request = match multi_op(command, &lists) {
                MultiOp::Create(create) => Request::Create(create),
                MultiOp::Delete(delete) => Request::Delete(delete),
                MultiOp::SetData(set) => Request::SetData(set),
                other => panic!("{other:?}"),
            };
            run.apply(session, &request)
        }
        // check stands in a multi only.
        Command::Check { .. } => {
            let result = write(run, session, &Command::Multi(vec![command.clone()]));
            result.trim_matches(['[', ']']).to_owned()
        }
        Command::SetAcl { path, acl, version } => {
            run.apply(session, &Request::SetAcl(SetAcl { path, acl: lists[*acl], version: *version }))
        }
        Command::Reap { path } => run.apply(session, &Request::DeleteContainer(path)),
        Command::Multi(commands) => {
            let mut bytes = Vec::new();
            put_ops(&mut bytes, commands.iter().map(|command| multi_op(command, &lists)));
            run.apply(session, &Request::decode(Op::Multi, &mut Reader::new(&bytes)).unwrap())
        }
        Command::Open => run.apply(session, &Request::CreateSession(5000)),
        Command::Close => run.apply(session, &Request::CloseSession),
        Command::Snapshot => String::new(),
    }
}

fn multi_op<'a>(command: &'a Command, lists: &[AclList<'a>; 5]) -> MultiOp<'a> {
    match command {
        Command::Create { path, data, flags, ttl_ms, acl } => MultiOp::Create(Create {
            op: if ttl_ms.is_some() { Op::CreateTtl } else { Op::Create },
            path,
            data: data.as_deref(),
            acl: lists[*acl],
            flags: *flags,
            ttl_ms: *ttl_ms,
        }),
        Command::Delete { path, version } => MultiOp::Delete(PathVersion { path, version: *version }),
        Command::Check { path, version } => MultiOp::Check(PathVersion { path, version: *version }),
        Command::Set { path, data, version } => {
            MultiOp::SetData(SetData { path, data: data.as_deref(), version: *version })
        }
        other => panic!("{other:?} is not part of a multi"),
    }
}

/// All chunks of a snapshot.
pub(crate) fn chunks(snapshot: &TreeSnapshot) -> Vec<Vec<u8>> {
    let chunk = |index| {
        let mut bytes = Vec::new();
        snapshot.encode_chunk(index, &mut bytes);
        bytes
    };
    (0..snapshot.chunk_count()).map(chunk).collect()
}

/// Reads chunks back, the last one first.
pub(crate) fn restore(chunks: &[Vec<u8>]) -> Tree {
    // Another key than the tree's own: nothing may depend on it.
    let mut builder = TreeBuilder::with_name_key(0x5eed);
    for chunk in chunks.iter().rev() {
        builder.add(TreeBuilder::decode_chunk(chunk).unwrap());
    }
    builder.finish().unwrap()
}

/// Runs commands on both and returns what came out of the tree, and its snapshot.
fn run_commands(commands: &[(i64, Command)]) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut run = Run::new();
    run.statement("auth digest u:h");
    let mut model = Model::new();
    model.write(1, &Command::Open).unwrap();
    for session in 2..4 {
        assert_eq!(write(&mut run, session, &Command::Open), model.write(session, &Command::Open).unwrap());
    }
    let mut kept: Vec<(Model, TreeSnapshot)> = Vec::new();
    let mut results = Vec::new();
    for (index, (session, command)) in commands.iter().enumerate() {
        if matches!(command, Command::Snapshot) {
            model.assert_equals(&run.tree);
            kept.push((model.clone(), run.tree.snapshot()));
            if index % 2 == 0 {
                // Go on with the tree that was read back: it must behave the same.
                run.tree = restore(&chunks(&run.tree.snapshot()));
            }
            continue;
        }
        model.time_ms += 7;
        run.statement(&format!("time {}", model.time_ms));
        let found = write(&mut run, *session, command);
        let expected = match model.write(*session, command) {
            Ok(result) if matches!(command, Command::Check { .. }) => result,
            Ok(result) => result + &model.changes,
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{command:?} by session {session}");
        results.push(found);
    }
    model.assert_equals(&run.tree);
    for (model, snapshot) in &kept {
        let restored = restore(&chunks(snapshot));
        model.assert_equals(&restored);
        assert_eq!((restored.digest(), restored.last_zxid()), (snapshot.digest(), snapshot.zxid()));
        assert_eq!(chunks(&restored.snapshot()), chunks(snapshot));
    }
    (results, chunks(&run.tree.snapshot()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_does_what_the_model_does(commands in proptest::collection::vec((1..4i64, command()), 1..250)) {
        let first = run_commands(&commands);
        // The same once more: nothing depends on anything but the commands.
        prop_assert_eq!(first, run_commands(&commands));
    }
}
