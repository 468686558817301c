//! `kill -9`, SIGTERM and SIGSTOP at any moment: what was acknowledged is there, what was not is whole or absent.

mod model;
mod worker;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::server::{GrangeServer, Signal};
use model::Random;
use worker::{Counts, Worker};

/// Kills in a row on one data directory.
const KILLS: usize = 100;
const WORKERS: usize = 4;
/// Longer than a run and the check after it take.
const SESSION_TIMEOUT_MS: i32 = 6000;
const SESSION_TIMEOUT: Duration = Duration::from_millis(SESSION_TIMEOUT_MS.cast_unsigned() as u64);
/// Milliseconds in which a start is over, in the debug build.
const START_MS: u64 = 50;
/// How long a clean stop may take, whatever clients do.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
/// How late a session may expire on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Snapshots and segments so small that a run of a tenth of a second meets their making and their removal.
const SETTINGS: &str =
    "tickTime=100\nminSessionTimeout=500\nmaxSessionTimeout=60000\nsnapCount=500\npreAllocSize=8192\n";

/// A place for a data directory, with a file of settings.
pub(crate) struct Site {
    directory: PathBuf,
    config: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Site {
    pub(crate) fn new(settings: &str) -> Site {
        let temporary = tempfile::tempdir().unwrap();
        let site = Site::at(temporary.path(), settings);
        Site { _temporary: Some(temporary), ..site }
    }

    /// Uses a directory that exists and is empty.
    pub(crate) fn at(directory: &Path, settings: &str) -> Site {
        let config = directory.join("zoo.cfg");
        std::fs::write(&config, settings).unwrap();
        Site { directory: directory.to_owned(), config, _temporary: None }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The arguments of `grange serve`.
    pub(crate) fn arguments(&self) -> [String; 4] {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        ["--config".to_owned(), text(&self.config), "--data".to_owned(), text(&self.data())]
    }

    pub(crate) fn start(&self) -> GrangeServer {
        GrangeServer::start(&self.arguments().each_ref().map(String::as_str))
    }
}

/// Returns the seed of this run: `$GRANGE_CRASH_SEED`, or always the same.
fn seed() -> u64 {
    std::env::var("GRANGE_CRASH_SEED").map_or(1, |text| text.parse().expect("GRANGE_CRASH_SEED is a number"))
}

fn unfinished_files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map_while(Result::ok);
    entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "tmp")).count()
}

/// Starts the server, lets all workers check what is there, and ends the server while they write.
///
/// Returns how long it has run, its start included.
fn run(site: &Site, workers: &mut [Worker], label: &str, may_expire: bool, end: impl FnOnce(GrangeServer)) -> Duration {
    let started = Instant::now();
    let server = site.start();
    let clients: Vec<_> = std::thread::scope(|scope| {
        let server = &server;
        let verify = |worker: &'_ mut Worker| worker.verify(server, may_expire);
        let threads: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(move || verify(worker))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panic!("after {label}"))).collect()
    });
    std::thread::scope(|scope| {
        for (worker, (client, session)) in workers.iter_mut().zip(clients) {
            scope.spawn(move || worker.write_until_the_end(client, session, label));
        }
        end(server);
    });
    started.elapsed()
}

fn workers(random: &mut Random) -> Vec<Worker> {
    (0..WORKERS).map(|number| Worker::new(number, random.below(u64::MAX))).collect()
}

#[test]
fn a_hundred_kills_lose_nothing_that_was_acknowledged() {
    let seed = seed();
    println!("GRANGE_CRASH_SEED={seed}");
    let began = Instant::now();
    let mut random = Random(seed);
    let site = Site::new(SETTINGS);
    let mut workers = workers(&mut random);
    let (mut in_start, mut in_snapshot, mut in_segment) = (0, 0, 0);
    let mut may_expire = false;
    for kill in 0..KILLS {
        if random.below(4) == 0 {
            in_start += 1;
            let delay = Duration::from_millis(random.below(START_MS));
            GrangeServer::kill_while_it_starts(&site.arguments().each_ref().map(String::as_str), delay);
        }
        let delay = Duration::from_millis(20 + random.below(280));
        let took = run(&site, &mut workers, &format!("{kill}"), may_expire, |server| {
            wait_or_segment(&site, delay);
            server.end(Signal::Kill);
        });
        may_expire = took > SESSION_TIMEOUT;
        in_snapshot += unfinished_files(&site.data().join("snapshot"));
        in_segment += unfinished_files(&site.data().join("log"));
    }
    let abandoned = check_expiry(&site, &mut workers, may_expire);
    let mut all = Counts::default();
    workers.iter().for_each(|worker| all.add(worker.counts));
    println!("{KILLS} kills in {:.0?}: {all}", began.elapsed());
    println!("kills met a snapshot {in_snapshot} times, a segment in the making {in_segment} times");
    println!("{in_start} more kills met the start; {abandoned} sessions expired");
    assert!(all.acknowledged > KILLS && all.open_and_done > 0 && all.sessions_taken_up > KILLS, "{all}");
    assert!(abandoned > 0, "no session was left to expire");
}

/// Waits for so long, or until a log segment is being made: that is seldom, and over soon.
fn wait_or_segment(site: &Site, delay: Duration) {
    let until = Instant::now() + delay;
    while Instant::now() < until && unfinished_files(&site.data().join("log")) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// After the last kill: sessions that are taken up live, those left alone expire on time. Returns the number of those.
fn check_expiry(site: &Site, workers: &mut [Worker], may_expire: bool) -> usize {
    let started = Instant::now();
    let server = site.start();
    let mut clients: Vec<Client> = workers.iter_mut().map(|worker| worker.verify(&server, may_expire).0).collect();
    let abandoned: Vec<_> =
        workers.iter().flat_map(|worker| worker.abandoned.iter().map(|(session, _)| *session)).collect();
    let mut left_after_look = || {
        for (worker, client) in workers.iter_mut().zip(&mut clients) {
            assert_eq!(client.ping(), 0);
            worker.verify_again(client, started + SESSION_TIMEOUT);
        }
        workers.iter().map(|worker| worker.abandoned.len()).sum::<usize>()
    };
    while left_after_look() > 0 {
        assert!(started.elapsed() < SESSION_TIMEOUT + LATE_MAX, "sessions that were left alone do not expire");
        std::thread::sleep(Duration::from_millis(100));
    }
    for session in &abandoned {
        assert!(Client::attach(&server, *session, grange_proto::Zxid::ZERO).is_none(), "{session:?} has expired");
    }
    assert_eq!(server.end(Signal::Terminate).status, Some(0));
    abandoned.len()
}

#[test]
fn a_clean_stop_under_load_is_quick_and_loses_nothing() {
    let mut random = Random(seed());
    let site = Site::new(SETTINGS);
    let mut workers = workers(&mut random);
    for stop in 0..5 {
        let delay = Duration::from_millis(100 + random.below(200));
        run(&site, &mut workers, &format!("{stop}"), false, |server| {
            std::thread::sleep(delay);
            let asked = Instant::now();
            let outcome = server.end(Signal::Terminate);
            assert_eq!(outcome.status, Some(0), "{outcome}");
            let took = asked.elapsed();
            assert!(took < STOP_TIME_MAX, "{took:?}: {outcome}");
        });
    }
    run(&site, &mut workers, "last", false, drop);
}

#[test]
fn a_server_that_was_suspended_hears_its_clients_before_it_expires_them() {
    let site = Site::new(SETTINGS);
    let server = site.start();
    let (mut alive, session) = Client::open(&server, 1000);
    let (mut silent, _) = Client::open(&server, 1000);
    assert_eq!((alive.create("/alive", b"", 1), silent.create("/silent", b"", 1)), (0, 0));
    for _ in 0..3 {
        server.send(Signal::Stop);
        // The clients go on as long as they have patience: three timeouts. What they send waits in the socket.
        for _ in 0..12 {
            alive.send_ping();
            std::thread::sleep(Duration::from_millis(250));
        }
        server.send(Signal::Continue);
        (0..12).for_each(|_| assert_eq!(alive.reply().expect("the session lives").header.err, 0));
        assert_eq!(alive.get("/alive").map(|node| node.owner), Some(session.id));
    }
    // Others do not wait: they come back on a new connection.
    server.send(Signal::Stop);
    // How long the server stands still is what is tested.
    std::thread::sleep(Duration::from_secs(2));
    drop(alive);
    server.send(Signal::Continue);
    let mut alive = Client::attach(&server, session, grange_proto::Zxid::ZERO).expect("the session lives");
    assert!(alive.get("/alive").is_some());
    let deadline = Instant::now() + LATE_MAX;
    while alive.get("/silent").is_some() {
        assert!(Instant::now() < deadline, "the session of a silent client does not expire");
        std::thread::sleep(Duration::from_millis(50));
    }
}
