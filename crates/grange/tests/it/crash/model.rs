//! A stream of writes below one znode, and what must be there after each of them.
//!
//! One worker alone writes there, in order. So after a crash the znodes must look as they did after some number of its
//! requests: at least those that were answered, at most those that were sent. A multi counts as one request.

use std::collections::BTreeMap;

use grange_proto::frame::put_frame;
use grange_proto::multi::{MultiOp, put_ops};
use grange_proto::request::{Create, PathVersion, RequestHeader, SetData};
use grange_proto::{CreateMode, Op, Request, SessionId, Xid};

use crate::client::{Node, encoded, with_open_acl};

/// Persistent znodes of a worker.
const KEYS: u64 = 48;
/// Sequential and ephemeral znodes beyond which old ones are deleted rather than new ones created.
const OTHERS_MAX: usize = 60;

/// A worker's znodes. A key is a name; for sequential znodes, whose names are the server's choice, `seq:` and the data.
pub(crate) type State = BTreeMap<String, Node>;

/// A small generator of numbers that are the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a request does to the state if it succeeds.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put(String, Node),
    Remove(String),
}

pub(crate) fn apply(state: &mut State, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(key, node) => drop(state.insert(key.clone(), node.clone())),
            Change::Remove(key) => drop(state.remove(key)),
        }
    }
}

/// What the server must answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Success(Op),
    /// The reply names the znode with this key.
    Named(String),
    /// A multi that fails.
    Refusal,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) frame: Vec<u8>,
    pub(crate) changes: Vec<Change>,
    pub(crate) expected: Expected,
}

/// One operation on one znode, alone or in a multi.
#[derive(Debug)]
struct Part {
    path: String,
    what: What,
    change: Change,
}

#[derive(Debug)]
enum What {
    Create(CreateMode, Vec<u8>),
    Set(Vec<u8>),
    Delete,
}

/// Makes requests; each value is unique.
#[derive(Debug)]
pub(crate) struct Writes {
    pub(crate) random: Random,
    /// The worker's znode.
    pub(crate) root: String,
    pub(crate) session: SessionId,
    /// Marks the values of this run.
    pub(crate) label: String,
    /// The znodes as they are when everything that was made is applied.
    pub(crate) state: State,
    /// The names of the sequential znodes that are known.
    pub(crate) names: BTreeMap<String, String>,
    pub(crate) count: u32,
}

impl Writes {
    pub(crate) fn next_step(&mut self) -> Step {
        self.count += 1;
        let first = self.random.below(KEYS);
        let step = match self.random.below(100) {
            0..55 => {
                let part = self.part(first);
                let op = part.op();
                self.single(part, Expected::Success(op))
            }
            55..75 => self.multi(first, true),
            75..80 => self.multi(first, false),
            80..90 => self.sequential(),
            _ => self.ephemeral(),
        };
        apply(&mut self.state, &step.changes);
        step
    }

    fn value(&mut self) -> Vec<u8> {
        let bytes = match self.random.below(50) {
            0 => 30_000,
            _ => 10 + self.random.below(400),
        };
        let mut value = format!("{}-{}-", self.label, self.count).into_bytes();
        value.resize(value.len() + usize::try_from(bytes).unwrap(), b'x');
        value
    }

    /// Changes a persistent znode.
    fn part(&mut self, key: u64) -> Part {
        let key = format!("k{:02}", key % KEYS);
        let path = format!("{}/{key}", self.root);
        let is_there = self.state.contains_key(&key);
        if is_there && self.random.below(3) == 0 {
            return Part { path, what: What::Delete, change: Change::Remove(key) };
        }
        let data = self.value();
        let change = Change::Put(key, Node { data: data.clone(), owner: SessionId::NONE });
        let what = if is_there { What::Set(data) } else { What::Create(CreateMode::Persistent, data) };
        Part { path, what, change }
    }

    fn multi(&mut self, first: u64, succeeds: bool) -> Step {
        let count = 2 + self.random.below(5);
        let mut parts: Vec<Part> = (first..first + count).map(|key| self.part(key)).collect();
        if !succeeds {
            let missing = "/missing".to_owned();
            parts.push(Part { path: missing.clone(), what: What::Delete, change: Change::Remove(missing) });
        }
        let mut frame = Vec::new();
        put_frame(&mut frame, |out| {
            RequestHeader { xid: Xid(1), op_code: Op::Multi.code() }.encode(out);
            with_open_acl(|acl| put_ops(out, parts.iter().map(|part| part.in_multi(acl))));
        });
        let changes = if succeeds { parts.into_iter().map(|part| part.change).collect() } else { Vec::new() };
        let expected = if succeeds { Expected::Success(Op::Multi) } else { Expected::Refusal };
        Step { frame, changes, expected }
    }

    fn single(&mut self, part: Part, expected: Expected) -> Step {
        Step { frame: part.alone(), changes: vec![part.change], expected }
    }

    fn sequential(&mut self) -> Step {
        let known: Vec<&String> = self.names.keys().filter(|key| self.state.contains_key(*key)).collect();
        if known.len() > OTHERS_MAX {
            let key = known[0].clone();
            let path = format!("{}/{}", self.root, self.names[&key]);
            let part = Part { path, what: What::Delete, change: Change::Remove(key) };
            return self.single(part, Expected::Success(Op::Delete));
        }
        let data = self.value();
        let key = sequential_key(&data);
        let node = Node { data: data.clone(), owner: SessionId::NONE };
        let what = What::Create(CreateMode::PersistentSequential, data);
        let part = Part { path: format!("{}/s-", self.root), what, change: Change::Put(key.clone(), node) };
        self.single(part, Expected::Named(key))
    }

    fn ephemeral(&mut self) -> Step {
        let mut mine = self.state.iter().filter(|(_, node)| node.owner == self.session).map(|(key, _)| key);
        let (oldest, count) = (mine.next().cloned(), 1 + mine.count());
        if let Some(key) = oldest.filter(|_| count > OTHERS_MAX) {
            let part = Part { path: format!("{}/{key}", self.root), what: What::Delete, change: Change::Remove(key) };
            return self.single(part, Expected::Success(Op::Delete));
        }
        let key = format!("e-{}-{}", self.label, self.count);
        let data = self.value();
        let change = Change::Put(key.clone(), Node { data: data.clone(), owner: self.session });
        let what = What::Create(CreateMode::Ephemeral, data);
        self.single(Part { path: format!("{}/{key}", self.root), what, change }, Expected::Success(Op::Create))
    }
}

/// Returns the key of a sequential znode with this data.
pub(crate) fn sequential_key(data: &[u8]) -> String {
    format!("seq:{}", String::from_utf8_lossy(data))
}

impl Part {
    fn op(&self) -> Op {
        match self.what {
            What::Create(..) => Op::Create,
            What::Set(_) => Op::SetData,
            What::Delete => Op::Delete,
        }
    }

    fn alone(&self) -> Vec<u8> {
        with_open_acl(|acl| {
            encoded(
                1,
                &match self.in_multi(acl) {
                    MultiOp::Create(body) => Request::Create(body),
                    MultiOp::SetData(body) => Request::SetData(body),
                    MultiOp::Delete(body) => Request::Delete(body),
                    other => panic!("nobody makes {other:?}"),
                },
            )
        })
    }

    fn in_multi<'a>(&'a self, acl: grange_proto::AclList<'a>) -> MultiOp<'a> {
        let path = self.path.as_str();
        match &self.what {
            What::Create(mode, data) => {
                let flags = *mode as i32;
                MultiOp::Create(Create { op: Op::Create, path, data: Some(data), acl, flags, ttl_ms: None })
            }
            What::Set(data) => MultiOp::SetData(SetData { path, data: Some(data), version: -1 }),
            What::Delete => MultiOp::Delete(PathVersion { path, version: -1 }),
        }
    }
}
