//! What a request costs in the member's own thread: no socket, no disk, one core.
//!
//! `cargo run --release -p grange-replica --example step_cost [single|multi]`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on says so by panicking")]

use bytes::Bytes;
use grange_proto::frame::put_frame;
use grange_proto::multi::{MultiOp, put_ops};
use grange_proto::request::{Create, Request, RequestHeader, SetData, Watchable, put_request};
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
/// Fresh members, multis for each, and how many creates without data fit into the frame of one.
const MEMBERS: usize = 20;
const MULTIS: usize = 10;
const MULTI_CREATES: usize = 18_000;

/// The time that this thread had a processor: steadier than the clock on a machine that is shared.
fn processor_nanos() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse().unwrap()
}

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
                    Action::SaveSnapshot(image) => events.push(Event::SnapshotSaved { index: image.index }),
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
        let start = processor_nanos();
        for events in rounds {
            self.step(events);
        }
        let taken = processor_nanos() - start;
        let requests = self.answered - before;
        println!("{what}: {} ns processor a request, {requests} requests", taken / requests);
    }
}

/// Multis of as many creates as fit into a frame, on fresh members: each is one step that others wait for.
fn measure_multis(acl: AclList<'_>) {
    let create = Create { op: Op::Create, path: "/m", data: Some(b""), acl, flags: 2, ttl_ms: None };
    let mut frame = Vec::new();
    put_frame(&mut frame, |out| {
        RequestHeader { xid: Xid(1), op_code: Op::Multi.code() }.encode(out);
        put_ops(out, std::iter::repeat_n(MultiOp::Create(create), MULTI_CREATES));
    });
    // The kernel counts by ticks of some milliseconds, so one multi alone cannot be measured.
    let mut taken_us: Vec<u64> = (0..MEMBERS)
        .map(|_| {
            let mut bench = Bench::new();
            let events: Vec<_> = (0..MULTIS)
                .map(|_| Event::Frames { conn: ConnId(0), frames: Bytes::from(frame.clone()), received_us: 1 })
                .collect();
            let start = processor_nanos();
            events.into_iter().for_each(|event| bench.step(vec![event]));
            (processor_nanos() - start) / 1000 / MULTIS as u64
        })
        .collect();
    taken_us.sort_unstable();
    let [least, median] = [0, MEMBERS / 2].map(|at| taken_us[at]);
    println!(
        "multi of {MULTI_CREATES} creates: {median} us processor, {least} us on the quickest of {MEMBERS} members"
    );
}

fn path(i: usize) -> String {
    format!("/n{:09}", i.wrapping_mul(7_919) % NODES)
}

fn main() {
    let mut list = Vec::new();
    acl::put_acls(&mut list, &Acl::open());
    let acl = AclList::decode(&mut Reader::new(&list)).unwrap();
    let only = std::env::args().nth(1);
    if only.as_deref() != Some("multi") {
        measure_single(acl);
    }
    if only.as_deref() != Some("single") {
        measure_multis(acl);
    }
}

fn measure_single(acl: AclList<'_>) {
    let mut bench = Bench::new();
    let value = [b'x'; 100];
    let per_round = usize::try_from(CONNECTIONS).unwrap() * IN_FLIGHT;
    bench.measure("create ", |round, i, out| {
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
