//! What a request costs in the member's own thread: no socket, no disk, one core.
//!
//! `cargo run --release -p grange-replica --example step_cost`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on says so by panicking")]

use std::time::Instant;

use bytes::Bytes;
use grange_proto::request::{Create, Request, SetData, Watchable, put_request};
use grange_proto::{Acl, AclList, Op, Reader, SessionId, Xid, Zxid, acl};
use grange_replica::{
    Action, ConnId, ConnectAttempt, EnsembleConfig, Event, Genesis, MemberId, Now, Reaping, Recovered, Replica,
    ReplicaConfig, SnapshotPolicy,
};
use grange_tree::Policy;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: u64 = 64;
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 500;
const NODES: usize = 100_000;

struct Bench {
    replica: Replica,
    now: Now,
    answered: u64,
}

impl Bench {
    fn new() -> Bench {
        let config = ReplicaConfig {
            ensemble: EnsembleConfig::alone(MemberId(1), 1),
            tick_ms: 2000,
            session_timeout_ms_min: 4000,
            session_timeout_ms_max: 40_000,
            policy: Policy::default(),
            super_digest: None,
            reaping: Reaping { interval_ms: 60_000, per_minute_max: 10_000, never_used_ms: 0 },
            snapshots: SnapshotPolicy { requests: u64::MAX, log_bytes: u64::MAX },
            genesis: Genesis { cluster_id: [0; 16], session_key: [0; 32] },
            seed: 1,
        };
        let now = Now { monotonic_us: 1, wall_ms: 1 };
        let mut bench = Bench { replica: Replica::start(config, Recovered::default(), now).unwrap(), now, answered: 0 };
        bench.step(Vec::new());
        let connects = (0..CONNECTIONS).map(|conn| {
            Event::Connect(ConnectAttempt {
                conn: ConnId(conn),
                peer: "127.0.0.1:1".parse().unwrap(),
                last_zxid_seen: Zxid::ZERO,
                timeout_ms: 40_000,
                session: SessionId::NONE,
                password: Vec::new(),
                read_only: None,
            })
        });
        bench.step(connects.collect());
        bench
    }

    /// Steps until nothing is left to sync, as a log that is never slow would have it.
    fn step(&mut self, mut events: Vec<Event>) {
        let mut actions = Vec::new();
        loop {
            self.replica.step(self.now, &mut events, &mut actions);
            for action in actions.drain(..) {
                match action {
                    Action::Append(batch) => events.push(Event::LogSynced(batch.number)),
                    Action::Send { answered, .. } => self.answered += u64::from(answered),
                    _ => {}
                }
            }
            if events.is_empty() {
                return;
            }
        }
    }

    fn round(request: impl Fn(usize, &mut Vec<u8>)) -> Vec<Event> {
        (0..CONNECTIONS)
            .map(|conn| {
                let mut frames = Vec::new();
                for i in 0..IN_FLIGHT {
                    request(usize::try_from(conn).unwrap() * IN_FLIGHT + i, &mut frames);
                }
                Event::Frames { conn: ConnId(conn), frames: Bytes::from(frames), received_us: 1 }
            })
            .collect()
    }

    fn measure(&mut self, what: &str, request: impl Fn(usize, usize, &mut Vec<u8>)) {
        let rounds: Vec<_> = (0..ROUNDS).map(|round| Self::round(|i, out| request(round, i, out))).collect();
        let before = self.answered;
        let start = Instant::now();
        for events in rounds {
            self.step(events);
        }
        let taken = start.elapsed();
        let requests = self.answered - before;
        println!("{what}: {} ns a request, {requests} requests", taken.as_nanos() / u128::from(requests));
    }
}

fn path(i: usize) -> String {
    format!("/n{:09}", i.wrapping_mul(7_919) % NODES)
}

fn main() {
    let mut bench = Bench::new();
    let mut list = Vec::new();
    acl::put_acls(&mut list, &Acl::open());
    let value = [b'x'; 100];
    let per_round = usize::try_from(CONNECTIONS).unwrap() * IN_FLIGHT;
    bench.measure("create ", |round, i, out| {
        let acl = AclList::decode(&mut Reader::new(&list)).unwrap();
        let path = format!("/n{:09}", round * per_round + i);
        let create = Create { op: Op::Create, path: &path, data: Some(&value), acl, flags: 0, ttl_ms: None };
        put_request(out, Xid(1), &Request::Create(create));
    });
    bench.measure("setData", |round, i, out| {
        let path = path(round * per_round + i);
        put_request(out, Xid(1), &Request::SetData(SetData { path: &path, data: Some(&value), version: -1 }));
    });
    bench.measure("getData", |round, i, out| {
        let path = path(round * per_round + i);
        put_request(out, Xid(1), &Request::GetData(Watchable { path: &path, watch: false }));
    });
}
