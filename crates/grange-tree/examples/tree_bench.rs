//! Prints what operations cost and what a znode takes: `cargo run --release --example tree_bench [ZNODES [PARENTS]]`.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads a clock; the tree does not"
)]

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use grange_proto::acl::put_acls;
use grange_proto::request::{Create, SetData};
use grange_proto::{Acl, AclList, Op, Reader, Request, SessionId, Zxid};
use grange_tree::{Changes, Identities, Policy, Tree, TreeBuilder, WARM_MAX, WriteContext};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DATA_BYTES: usize = 100;

/// The process's resident memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages: usize = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("statm has seven numbers");
    pages * 4096
}

/// The time that this thread had a processor: steadier than the clock on a machine that is shared.
fn processor_nanos() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has /proc");
    schedstat.split(' ').next().and_then(|field| field.parse().ok()).expect("schedstat has three numbers")
}

fn measure(what: &str, count: usize, each: impl FnMut(usize)) {
    let (nanos, start) = (processor_nanos(), Instant::now());
    (0..count).for_each(each);
    let (nanos, elapsed) = (processor_nanos() - nanos, start.elapsed());
    let count = count.max(1) as u64;
    println!("{what:<46} {:>8} ns processor, {:>8} ns", nanos / count, elapsed.as_nanos() / u128::from(count));
}

/// A server with one session, and numbers that look random.
struct Bench {
    tree: Tree,
    changes: Changes,
    identities: Identities,
    random: u64,
}

impl Bench {
    fn new() -> Bench {
        let mut bench =
            Bench { tree: Tree::new(), changes: Changes::new(), identities: Identities::new(), random: 0x9e37_79b9 };
        bench.apply(&Request::CreateSession(30_000));
        bench
    }

    fn context(&self) -> WriteContext<'static> {
        static NOBODY: LazyLock<Identities> = LazyLock::new(Identities::new);
        WriteContext {
            member: 0,
            zxid: self.tree.last_zxid().next(),
            time_ms: 1_700_000_000_000,
            session: SessionId(1),
            identities: &NOBODY,
            policy: Policy::default(),
        }
    }

    fn apply(&mut self, request: &Request<'_>) {
        let cx = self.context();
        self.changes.clear();
        black_box(self.tree.apply(&cx, request, &mut self.changes)).expect("the benchmark writes what can be written");
    }

    fn go_on_closing(&mut self) {
        let cx = self.context();
        self.changes.clear();
        black_box(self.tree.end_session(&cx, &mut self.changes)).expect("the session is there");
    }

    fn next_random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 8).expect("56 bits") % below
    }

    fn create(&mut self, path: &str, data: &[u8], acl: AclList<'_>, flags: i32) {
        let create = Create { op: Op::Create, path, data: Some(data), acl, flags, ttl_ms: None };
        self.apply(&Request::Create(create));
    }
}

fn path(parents: usize, n: usize) -> String {
    format!("/bench/p{:04}/{n:011}", n % parents)
}

fn run(parents: usize, count: usize) {
    println!("{count} znodes of {DATA_BYTES} bytes under {parents} parents");
    let mut open = Vec::new();
    put_acls(&mut open, &Acl::open());
    let acl = AclList::decode(&mut Reader::new(&open)).expect("just written");
    let mut bench = Bench::new();
    bench.create("/bench", b"", acl, 0);
    for parent in 0..parents {
        bench.create(&format!("/bench/p{parent:04}"), b"", acl, 0);
    }
    let paths: Vec<String> = (0..count).map(|n| path(parents, n)).collect();
    let mut data = vec![7; DATA_BYTES];
    let before = resident_bytes();
    measure("create", count, |n| bench.create(&paths[n], &data, acl, 0));
    println!("{:<46} {:>8} bytes", "resident per znode", resident_bytes().saturating_sub(before) / count);
    let random: Vec<String> = (0..count).map(|_| path(parents, bench.next_random(count))).collect();
    let set = |bench: &mut Bench, n: usize, data: &[u8]| {
        bench.apply(&Request::SetData(SetData { path: &random[n], data: Some(data), version: -1 }));
    };
    measure("setData, random", count, |n| {
        data[n % DATA_BYTES] = data[n % DATA_BYTES].wrapping_add(1);
        set(&mut bench, n, &data);
    });
    measure("setData, random, looked ahead", count, |n| {
        if n % WARM_MAX == 0 {
            bench.tree.warm(random[n..].iter().map(String::as_str));
        }
        set(&mut bench, n, &data);
    });
    measure("setData, one znode", count, |_| set(&mut bench, 0, &data));
    measure("getData, random", count, |n| {
        black_box(bench.tree.get_data(&random[n], &bench.identities, Policy::default())).expect("it exists");
    });
    measure("snapshot, taken", 10, |_| drop(black_box(bench.tree.snapshot())));
    let snapshot = bench.tree.snapshot();
    measure("setData, random, a snapshot alive", count, |n| set(&mut bench, n, &data));
    let chunks = encode(&snapshot);
    drop(snapshot);
    measure("create and close 10^5 ephemerals, each", 1, |_| ephemerals(&mut bench, acl));
    drop(bench);
    restore(&chunks, count);
}

fn encode(snapshot: &grange_tree::TreeSnapshot) -> Vec<Vec<u8>> {
    let mut chunks = vec![Vec::new(); snapshot.chunk_count()];
    let mut buffer = Vec::new();
    measure("snapshot, encoded, per chunk of 256", chunks.len(), |n| {
        buffer.clear();
        snapshot.encode_chunk(n, &mut buffer);
    });
    chunks.iter_mut().enumerate().for_each(|(n, chunk)| snapshot.encode_chunk(n, chunk));
    println!("{:<46} {:>8} MB", "snapshot", chunks.iter().map(Vec::len).sum::<usize>() / 1_000_000);
    chunks
}

fn restore(chunks: &[Vec<u8>], count: usize) {
    let before = resident_bytes();
    let start = Instant::now();
    let nanos = processor_nanos();
    let decoded: Vec<_> =
        chunks.iter().map(|chunk| TreeBuilder::decode_chunk(chunk).expect("it was just written")).collect();
    println!("{:<46} {:>8} ms", "snapshot, decoded by one thread", start.elapsed().as_millis());
    let mut builder = TreeBuilder::new();
    decoded.into_iter().for_each(|chunk| builder.add(chunk));
    let tree = builder.finish().expect("it was just written");
    let elapsed = (processor_nanos() - nanos) / 1_000_000;
    println!("{:<46} {:>8} ms processor", "snapshot, decoded and put together", elapsed);
    println!("{:<46} {:>8} bytes", "resident per znode", resident_bytes().saturating_sub(before) / count);
    assert!(tree.last_zxid() > Zxid::ZERO);
}

fn ephemerals(bench: &mut Bench, acl: AclList<'_>) {
    for n in 0..100_000 {
        bench.create(&format!("/bench/e{n}"), b"", acl, 1);
    }
    let start = Instant::now();
    let mut steps = 1;
    bench.apply(&Request::CloseSession);
    while bench.tree.session(SessionId(1)).is_some() {
        bench.go_on_closing();
        steps += 1;
    }
    println!("{:<46} {:>8} us per step", "closing a session of 10^5 ephemerals", start.elapsed().as_micros() / steps);
}

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let parents = std::env::args().nth(2).and_then(|count| count.parse().ok()).unwrap_or(1000);
    run(parents, count);
}
