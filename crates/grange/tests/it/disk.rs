//! Disks that tear, flip and fill up: the server starts with what was acknowledged, or says why not and touches nothing.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use grange_proto::ErrorCode;

use crate::client::{Client, Session};
use crate::crash::Site;
use crate::program::Outcome;
use crate::server::{GrangeServer, Signal};

const PATIENCE: Duration = Duration::from_secs(30);
/// How soon writes must succeed after space was freed.
const ROOM_NOTICED_MAX: Duration = Duration::from_secs(5);
const LOG_SETTINGS: &str = "preAllocSize=8192\n";
/// Bytes in the header of a frame of the log, and where in it they are: see `storage::log::frame`.
const FRAME_MAGIC: &[u8] = b"Gwal";
const FRAME_MAGIC_OFFSET: usize = 12;
const FRAME_HEADER_BYTES: u64 = 32;
const SEGMENT_HEADER_BYTES: usize = 4096;

/// Waits until `condition` holds.
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn paths(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    paths.sort();
    paths
}

/// Returns everything below a data directory but the file `lock`, which names the last process.
fn contents(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents = BTreeMap::new();
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.file_name().is_none_or(|name| name != "lock") {
                contents.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    contents
}

fn put_back(data: &Path, saved: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in contents(data).keys().filter(|path| !saved.contains_key(*path)) {
        std::fs::remove_file(path).unwrap();
    }
    saved.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// Returns where the frames of a segment start.
fn frames(segment: &Path) -> Vec<u64> {
    let bytes = std::fs::read(segment).unwrap();
    let starts = (SEGMENT_HEADER_BYTES..bytes.len() - usize::try_from(FRAME_HEADER_BYTES).unwrap()).step_by(8);
    let is_frame = |start: &usize| bytes[start + FRAME_MAGIC_OFFSET..].starts_with(FRAME_MAGIC);
    starts.filter(is_frame).map(|start| start as u64).collect()
}

/// Writes `/n0`, `/n1` and so on, one after the other, so that each has a place of its own in the log.
fn write_one_by_one(client: &mut Client, count: usize) {
    for number in 0..count {
        assert_eq!(client.create(&format!("/n{number}"), format!("value {number}").as_bytes(), 0), 0);
    }
}

/// Returns how many of those are there, after a look that none is missing before the last one.
fn count_there(client: &mut Client) -> usize {
    let mut names = client.children("/");
    names.retain(|name| name.starts_with('n'));
    for number in 0..names.len() {
        let node = client.get(&format!("/n{number}")).unwrap_or_else(|| panic!("/n{number} of {names:?}"));
        assert_eq!(node.data, format!("value {number}").as_bytes());
    }
    names.len()
}

/// A site whose server was killed after so many writes, with the segment that they are in.
fn killed_after(count: usize) -> (Site, PathBuf) {
    let site = Site::new(LOG_SETTINGS);
    let log = site.data().join("log");
    let server = site.start();
    write_one_by_one(&mut Client::open(&server, 10_000).0, count);
    wait_for("the next segment is made", || paths(&log, "wal").len() == 2);
    server.end(Signal::Kill);
    let segment = paths(&log, "wal").remove(0);
    (site, segment)
}

fn refused(site: &Site) -> Outcome {
    match GrangeServer::try_start(&site.arguments().each_ref().map(String::as_str)) {
        Ok(_) => panic!("the server started"),
        Err(outcome) => outcome,
    }
}

#[test]
fn a_torn_last_record_is_cut_and_everything_before_it_is_there() {
    const WRITES: usize = 50;
    let (site, segment) = killed_after(WRITES);
    let saved = contents(&site.data());
    let last = *frames(&segment).last().unwrap();
    let end = saved[&segment].iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
    // Whether there is a warning: without its header, a batch cannot be told from the end of the log.
    type Tear = fn(&std::fs::File, u64, u64);
    let tears: [(&str, bool, Tear); 5] = [
        ("cut within the header", false, |file, last, _| file.set_len(last + 10).unwrap()),
        ("cut within the body", true, |file, _, end| file.set_len(end - 1).unwrap()),
        ("header missing", false, |file, last, _| file.write_all_at(&[0; 32], last).unwrap()),
        ("body missing", true, |file, last, end| {
            let body = last + FRAME_HEADER_BYTES;
            file.write_all_at(&vec![0; usize::try_from(end - body).unwrap()], body).unwrap();
        }),
        ("garbage behind", true, |file, last, end| {
            let body = last + FRAME_HEADER_BYTES;
            file.write_all_at(&[0xa5; 3000][..usize::try_from(end - body).unwrap() + 100], body).unwrap();
        }),
    ];
    for (name, is_recognised, tear) in tears {
        put_back(&site.data(), &saved);
        tear(&OpenOptions::new().write(true).open(&segment).unwrap(), last, end);
        let server = site.start();
        let (mut client, _) = Client::open(&server, 10_000);
        let there = count_there(&mut client);
        assert!(there >= WRITES - 1, "{name}: {there} of {WRITES}");
        assert_eq!(client.create("/after", b"", 0), 0, "{name}");
        let outcome = server.end(Signal::Kill);
        let expected = format!("path={} offset={last}", segment.display());
        assert_eq!(outcome.stderr.contains(&expected), is_recognised, "{name}: a warning with {expected}: {outcome}");
        let server = site.start();
        let (mut client, _) = Client::open(&server, 10_000);
        assert_eq!((count_there(&mut client), client.get("/after").is_some()), (there, true), "{name}");
    }
}

#[test]
fn a_flipped_byte_in_the_log_is_named_and_nothing_is_changed() {
    let (site, segment) = killed_after(50);
    let saved = contents(&site.data());
    let frames = frames(&segment);
    // In headers and in bodies, from the first frame to the last but some, which a later one proves to be synced.
    for (number, within) in [(0, 5), (1, 40), (20, 0), (25, 33), (40, 20)] {
        put_back(&site.data(), &saved);
        flip(&segment, frames[number] + within);
        let damaged = contents(&site.data());
        for attempt in 0..2 {
            let outcome = refused(&site);
            assert_eq!(outcome.status, Some(3), "{outcome}");
            let expected = format!("{}: damaged at byte {}", segment.display(), frames[number]);
            assert!(outcome.stderr.contains(&expected), "{expected}, attempt {attempt}: {outcome}");
            assert!(contents(&site.data()) == damaged, "the refusal has changed files");
        }
    }
    put_back(&site.data(), &saved);
    assert_eq!(count_there(&mut Client::open(&site.start(), 10_000).0), 50, "the damage was all that was wrong");
}

#[test]
fn a_flipped_byte_in_a_snapshot_is_named() {
    let site = Site::new("snapCount=100\npreAllocSize=8192\n");
    let snapshots = site.data().join("snapshot");
    let log = site.data().join("log");
    let server = site.start();
    let (mut client, _) = Client::open(&server, 10_000);
    write_one_by_one(&mut client, 120);
    wait_for("a snapshot is saved", || paths(&snapshots, "snap").len() == 2);
    wait_for("the next segment is made", || paths(&log, "wal").len() == 2);
    server.end(Signal::Terminate);
    let only = paths(&snapshots, "snap").pop().unwrap();
    // The one that the server began with could stand in for it.
    std::fs::remove_file(paths(&snapshots, "snap").remove(0)).unwrap();
    let saved = contents(&site.data());
    for part in [0, 10, 50, 90, 99] {
        put_back(&site.data(), &saved);
        flip(&only, saved[&only].len() as u64 * part / 100);
        let damaged = contents(&site.data());
        let outcome = refused(&site);
        assert_eq!(outcome.status, Some(3), "{outcome}");
        let expected = format!("{}: damaged at byte ", only.display());
        assert!(outcome.stderr.contains(&expected), "{expected}: {outcome}");
        assert!(contents(&site.data()) == damaged, "the refusal has changed files");
    }
    // With an older snapshot and the log behind it, the newest one can be done without.
    put_back(&site.data(), &saved);
    let server = site.start();
    let (mut client, _) = Client::open(&server, 10_000);
    for round in 0..200 {
        assert_eq!(client.set("/n0", format!("round {round}").as_bytes()), 0);
    }
    assert_eq!(client.set("/n0", b"value 0"), 0);
    wait_for("a second snapshot is saved", || paths(&snapshots, "snap").len() > 1);
    server.end(Signal::Kill);
    let newest = paths(&snapshots, "snap").pop().unwrap();
    flip(&newest, std::fs::metadata(&newest).unwrap().len() / 2);
    let server = site.start();
    assert_eq!(count_there(&mut Client::open(&server, 10_000).0), 120);
    let outcome = server.end(Signal::Terminate);
    assert!(outcome.stderr.contains(newest.to_str().unwrap()), "the damage is named: {outcome}");
}

/// Set in a process that may mount, since it has name spaces of its own.
const MAY_MOUNT: &str = "GRANGE_TEST_MAY_MOUNT";

/// A file system of its own, so small that it can be filled up.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    const MIB: u64 = 192;

    /// Mounts one. Without the right to do so, runs the test called `name` again in a process that has it, and returns
    /// `None` if it has passed there.
    fn mount(name: &str) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={}m", SmallDisk::MIB);
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path()).output().unwrap();
        if mount.status.success() {
            return Some(SmallDisk { directory });
        }
        let why = String::from_utf8_lossy(&mount.stderr);
        assert!(std::env::var_os(MAY_MOUNT).is_none(), "no file system can be mounted: {why}");
        let again = Command::new("unshare")
            .arg("--map-root-user")
            .arg("--mount")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(MAY_MOUNT, "1")
            .status();
        assert!(again.is_ok_and(|status| status.success()), "{name} needs root or user name spaces: {why}");
        None
    }

    fn filler(&self) -> PathBuf {
        self.directory.path().join("filler")
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.filler()).unwrap();
        for bytes in [1 << 20, 4096] {
            let zeros = vec![0; bytes];
            while file.write_all(&zeros).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that a server that outlives a failed test does not keep it.
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

const REFUSED: i32 = ErrorCode::SystemError as i32;
/// Writes of [`BLOCK`] that the log takes at most before it looks at the disk again.
const WRITES_UNTIL_NOTICED_MAX: usize = 1000;
const BLOCK: [u8; 16 << 10] = [b'x'; 16 << 10];

/// A client that counts what was acknowledged.
struct Writer {
    client: Client,
    session: Session,
    acknowledged: usize,
}

impl Writer {
    fn open(server: &GrangeServer) -> Writer {
        let (client, session) = Client::open(server, 2000);
        Writer { client, session, acknowledged: 0 }
    }

    fn attach(&mut self, server: &GrangeServer) {
        self.client = Client::attach(server, self.session, self.client.zxid).expect("the session lives");
    }

    /// Appends a znode; returns the error code.
    fn write(&mut self) -> i32 {
        let mut data = self.acknowledged.to_string().into_bytes();
        data.extend_from_slice(&BLOCK);
        let code = self.client.create(&format!("/block{}", self.acknowledged), &data, 0);
        self.acknowledged += usize::from(code == 0);
        code
    }

    fn write_until_refused(&mut self) {
        for _ in 0..WRITES_UNTIL_NOTICED_MAX {
            match self.write() {
                0 => {}
                code => return assert_eq!(code, REFUSED),
            }
        }
        panic!("the full disk is not noticed");
    }

    fn check(&mut self) {
        for number in 0..self.acknowledged {
            let node = self.client.get(&format!("/block{number}")).unwrap_or_else(|| panic!("/block{number} is lost"));
            assert!(node.data.starts_with(number.to_string().as_bytes()), "/block{number}");
        }
        let there = self.client.children("/").iter().filter(|name| name.starts_with("block")).count();
        assert_eq!(there, self.acknowledged, "what was refused was done");
    }

    fn write_when_there_is_room(&mut self) {
        let freed = Instant::now();
        while self.write() != 0 {
            assert!(freed.elapsed() < ROOM_NOTICED_MAX, "writes are still refused");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else_until_there_is_room() {
    let name = "disk::a_full_disk_refuses_writes_and_nothing_else_until_there_is_room";
    let Some(disk) = SmallDisk::mount(name) else { return };
    let site = Site::at(disk.directory.path(), &format!("tickTime=100\nsnapCount=200\n{LOG_SETTINGS}"));
    let server = site.start();
    let mut writer = Writer::open(&server);
    let (mut other, _) = Client::open(&server, 2000);
    assert_eq!((writer.write(), other.create("/ephemeral", b"", 1)), (0, 0));
    disk.fill();
    writer.write_until_refused();
    // For longer than the sessions' timeouts, everything but writes goes on.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        for client in [&mut writer.client, &mut other] {
            assert_eq!(client.ping(), 0);
            assert!(client.get("/ephemeral").is_some());
            assert_eq!(client.set("/block0", b"refused"), REFUSED);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    disk.free();
    writer.write_when_there_is_room();
    assert_eq!(other.ping(), 0);
    writer.check();

    disk.fill();
    writer.write_until_refused();
    server.end(Signal::Kill);
    // The disk is still full: a server starts, and serves those who have a session.
    let server = site.start();
    writer.attach(&server);
    writer.check();
    assert_eq!(writer.write(), REFUSED);
    disk.free();
    writer.write_when_there_is_room();
    assert_eq!(server.end(Signal::Terminate).status, Some(0));
    let server = site.start();
    writer.attach(&server);
    writer.check();
    drop(server);
}
