//! Two thousand contenders: the end of one wakes one.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use grange_client::recipes::{Held, Lock, LockError};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::server::{Fixture, Kind, PATIENCE, open};

const CONTENDERS: usize = 2000;
const SESSIONS: usize = 8;

/// How long it may take until all stand in line: each looks at the whole line, without optimisation in a test.
const ASSEMBLY_PATIENCE: Duration = Duration::from_secs(180);

/// The longest session that the servers grant.
const SESSION: Duration = Duration::from_secs(60);

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How many of them have their turn.
const RELEASES: u64 = 50;

/// Reads a figure of the server's own account.
fn metric(address: SocketAddr, name: &str) -> u64 {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"mntr").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    let value = value.unwrap_or_else(|| panic!("no {name} in {answer}"));
    // Apache writes some counts with a fraction.
    value.trim_end_matches(".0").parse().unwrap()
}

/// `woken` is what the server calls the number of watches that the end of znodes has set off.
async fn herd(kind: Kind, woken: &str) {
    // The assembly keeps two processors busy, and a holder that gets none for long loses the lock, as it should.
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(fixture) = Fixture::alone(kind) else { return };
    let path: grange_client::ZnodePath = format!("{}/herd", fixture.path).parse().unwrap();
    let first = Lock::new(&open(fixture.address, SESSION).await, path.clone(), "").acquire().await.unwrap();
    let mut waiting: JoinSet<Result<Held, LockError>> = JoinSet::new();
    for _ in 0..SESSIONS {
        let client = open(fixture.address, SESSION).await;
        for _ in 1..=CONTENDERS / SESSIONS {
            let lock = Lock::new(&client, path.clone(), "");
            waiting.spawn(async move { lock.acquire().await });
        }
    }
    let address = fixture.address;
    // Everybody watches the one before, and the holder itself.
    let everybody = u64::try_from(CONTENDERS).unwrap() + 1;
    let deadline = Instant::now() + ASSEMBLY_PATIENCE;
    while metric(address, "zk_watch_count") < everybody {
        assert!(Instant::now() < deadline, "{} wait; {:?}", metric(address, "zk_watch_count"), first.loss());
        sleep(Duration::from_millis(100)).await;
    }
    let before = metric(address, woken);
    let mut holders = VecDeque::from([first]);
    for _ in 0..RELEASES {
        holders.pop_front().unwrap().release().await.unwrap();
        let next = timeout(PATIENCE, waiting.join_next()).await.expect("somebody is woken");
        holders.push_back(next.unwrap().unwrap().unwrap());
        assert!(waiting.try_join_next().is_none(), "two hold it");
    }
    // The next one, and the holder's own watch over its znode where it was set by then.
    let woken = metric(address, woken) - before;
    assert!((RELEASES..=2 * RELEASES).contains(&woken), "{RELEASES} releases woke {woken}");
    // Nobody is interested in the rest: the sessions end with the runtime.
    waiting.detach_all();
    std::mem::forget(holders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grange_wakes_one_per_release() {
    herd(Kind::Grange, "zk_cnt_node_deleted_watch_count").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_wakes_one_per_release() {
    herd(Kind::Apache, "zk_sum_node_deleted_watch_count").await;
}
