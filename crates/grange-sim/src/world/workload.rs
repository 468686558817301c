//! What clients ask for: few paths, so that requests meet.

use grange_proto::acl::put_acls;
use grange_proto::multi::{MultiOp, put_ops};
use grange_proto::request::{Create, PathVersion, Request, SetData, Watchable};
use grange_proto::{Acl, AclList, Op, Reader};

use super::{ClientIndex, World};
use crate::random::Random;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A kind of request.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Create,
    Set,
    Delete,
    Multi,
    Get,
    Exists,
    Children,
    SyncAndGet,
    AddWatch,
    Ephemerals,
}

const KINDS: &[(Kind, u32)] = &[
    (Kind::Create, 26),
    (Kind::Set, 24),
    (Kind::Delete, 12),
    (Kind::Multi, 8),
    (Kind::Get, 10),
    (Kind::Exists, 8),
    (Kind::Children, 8),
    (Kind::SyncAndGet, 5),
    (Kind::AddWatch, 1),
    (Kind::Ephemerals, 2),
];

/// A create's operation, flags and time to live.
type Mode = (Op, i32, Option<i64>);

fn draw_mode(random: &mut Random) -> Mode {
    let ttl_ms = Some(i64::try_from(random.range(50, 2_000)).expect("it is below the bound"));
    random.weighted(&[
        ((Op::Create, 0, None), 10),
        ((Op::Create2, 0, None), 3),
        ((Op::Create, 1, None), 8),
        ((Op::Create2, 2, None), 1),
        ((Op::Create, 3, None), 3),
        ((Op::CreateContainer, 4, None), 1),
        ((Op::CreateTtl, 5, ttl_ms), 1),
        ((Op::CreateTtl, 6, ttl_ms), 1),
    ])
}

fn draw_path(random: &mut Random) -> String {
    let depth = random.weighted(&[(1, 4), (2, 5), (3, 2)]);
    (0..depth).map(|_| format!("/{}", random.pick(&NAMES))).collect()
}

fn draw_version(random: &mut Random) -> i32 {
    if random.chance(800) { -1 } else { i32::try_from(random.below(4)).expect("it is below the bound") }
}

/// The list that lets everyone do everything, encoded.
fn open_acl() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_acls(&mut bytes, &Acl::open());
    bytes
}

impl World {
    /// Adds the next request of a client, or two that belong together.
    pub(crate) fn draw_requests(&mut self, client: ClientIndex, out: &mut Vec<(Op, Vec<u8>)>) {
        let acl = open_acl();
        let acl = AclList::decode(&mut Reader::new(&acl)).expect("it was just encoded");
        let own = &mut self.clients[client];
        if self.setup.reconfig && own.random.chance(if own.is_operator { 100 } else { 5 }) {
            return self.draw_config_requests(client, out);
        }
        let own = &mut self.clients[client];
        let kind = own.random.weighted(KINDS);
        let data = next_data(client, &mut own.counter, &mut own.random);
        let random = &mut own.random;
        let path = draw_path(random);
        let path = path.as_str();
        let watch = random.chance(400);
        let version = draw_version(random);
        let request = match kind {
            Kind::Create => {
                let (op, flags, ttl_ms) = draw_mode(random);
                Request::Create(Create { op, path, data: Some(&data), acl, flags, ttl_ms })
            }
            Kind::Set => Request::SetData(SetData { path, data: Some(&data), version }),
            Kind::Delete if random.chance(500) && !own.created.is_empty() => {
                let at = random.index(own.created.len());
                let path = own.created.swap_remove(at);
                return out.push(encoded(&Request::Delete(PathVersion { path: &path, version: -1 })));
            }
            Kind::Delete => Request::Delete(PathVersion { path, version }),
            Kind::Multi => return out.push((Op::Multi, draw_multi(random, &data, acl))),
            Kind::Get => Request::GetData(Watchable { path, watch }),
            Kind::Exists => Request::Exists(Watchable { path, watch }),
            Kind::Children if random.chance(500) => Request::GetChildren(Watchable { path, watch }),
            Kind::Children => Request::GetChildren2(Watchable { path: if watch { path } else { "/" }, watch }),
            Kind::SyncAndGet => {
                out.push(encoded(&Request::Sync(path)));
                Request::GetData(Watchable { path, watch: false })
            }
            Kind::AddWatch => Request::AddWatch(path, i32::from(random.chance(500))),
            Kind::Ephemerals => Request::GetEphemerals("/"),
        };
        out.push(encoded(&request));
    }
}

pub(crate) fn encoded(request: &Request<'_>) -> (Op, Vec<u8>) {
    let mut body = Vec::new();
    request.encode(&mut body);
    (request.op(), body)
}

/// Data that nobody else writes.
fn next_data(client: ClientIndex, counter: &mut u64, random: &mut Random) -> Vec<u8> {
    *counter += 1;
    let mut data = format!("{client}:{counter}").into_bytes();
    // A log segment must hold what all clients send at once.
    let padding = if random.chance(40) { random.index(2_000) } else { random.index(120) };
    data.resize(data.len() + padding, b'.');
    data
}

fn draw_multi(random: &mut Random, data: &[u8], acl: AclList<'_>) -> Vec<u8> {
    let count = random.range(1, 5);
    let parts: Vec<(u64, String, i32, Mode)> =
        (0..count).map(|_| (random.below(4), draw_path(random), draw_version(random), draw_mode(random))).collect();
    let ops = parts.iter().map(|(kind, path, version, mode)| {
        let (path, version) = (path.as_str(), *version);
        match kind {
            0 => {
                let &(op, flags, ttl_ms) = mode;
                MultiOp::Create(Create { op, path, data: Some(data), acl, flags, ttl_ms })
            }
            1 => MultiOp::Delete(PathVersion { path, version }),
            2 => MultiOp::SetData(SetData { path, data: Some(data), version }),
            _ => MultiOp::Check(PathVersion { path, version }),
        }
    });
    let mut body = Vec::new();
    put_ops(&mut body, ops);
    body
}
