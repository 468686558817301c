//! Configuration that others change, full disks, and writers that are killed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grange_farm::Properties;
use grange_farm::conf::{Candidate, ConfError, Format, InstallError, read, write};
use serde_json::{Value, json};

use crate::conf_dir::{names, properties};

/// How often a writer is killed.
const KILLS: u64 = 25;
/// How often the hostile writer's victim writes.
const ROUNDS: usize = 150;
/// What tells a copy of this test program that it is the writer that gets killed.
const VICTIM: &str = "GRANGE_TEST_CONF_VICTIM";

/// The two states between which a writer goes back and forth; files become directories, and large ones differ throughout.
fn states() -> [Properties; 2] {
    let long = |letter: &str| letter.repeat(100_000);
    [
        properties(json!({"a": long("a"), "b": {"x": long("x"), "y": "1"}, "c": "text", "d": {"one": "1"}})),
        properties(json!({"a": long("b"), "b": {"x": long("z"), "z": "2"}, "c": {"deep": {"er": "3"}}, "d": "gone"})),
    ]
}

fn formats(root: &Path) -> [(Format, PathBuf); 2] {
    [(Format::Dir, root.join("conf")), (Format::Json, root.join("conf.json"))]
}

/// Not a test by itself: what [`a_writer_may_be_killed_at_any_moment`] starts.
#[test]
fn writer_that_is_killed() {
    let Ok(root) = std::env::var(VICTIM) else { return };
    println!("writing");
    for round in 0.. {
        for (format, path) in formats(Path::new(&root)) {
            write(format, &path, &states()[round % 2], None).unwrap();
        }
    }
}

/// Every field has its old or its new value, and nothing of either is in the other's.
fn is_between(there: &Value, one: &Value, other: &Value) -> bool {
    if there == one || there == other {
        return true;
    }
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (one, other) = (fields(one), fields(other));
    let Some(there) = there.as_object() else { return false };
    there.iter().all(|(name, value)| {
        let of = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
        is_between(value, &of(&one), &of(&other))
    })
}

#[test]
fn a_writer_may_be_killed_at_any_moment() {
    let temp = tempfile::tempdir().unwrap();
    let [one, other] = states();
    for (format, path) in formats(temp.path()) {
        write(format, &path, &one, None).unwrap();
    }
    for kill in 0..KILLS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "conf_hostile::writer_that_is_killed", "--nocapture"])
            .env(VICTIM, temp.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("writing")));
        // Another moment each time: the kill is the point, not the wait.
        std::thread::sleep(Duration::from_micros(kill * 1_700 % 23_000));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let [(_, directory), (_, file)] = formats(temp.path());
        let there = read(Format::Dir, &directory).unwrap();
        assert_eq!(there.problems, []);
        assert!(is_between(&there.properties.into(), &one.clone().into(), &other.clone().into()), "kill {kill}");
        let there = read(Format::Json, &file).unwrap().properties;
        assert!(there == one || there == other, "kill {kill}");
    }
    for (format, path) in formats(temp.path()) {
        write(format, &path, &one, None).unwrap();
        write(format, &path, &other, None).unwrap();
        assert_eq!(read(format, &path).unwrap().properties, other);
    }
    assert_eq!(names(temp.path()), ["conf", "conf.json"], "the next writers have cleared up");
    assert_eq!(names(&temp.path().join("conf")), ["a", "b", "c", "d"]);
}

/// A host's other user puts links into a directory while it is written.
#[test]
fn nobody_leads_a_writer_out_of_its_directory() {
    let temp = tempfile::tempdir().unwrap();
    let (conf, outside) = (temp.path().join("conf"), temp.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("x"), "mine").unwrap();
    fs::write(outside.join("y"), "mine").unwrap();
    let [one, other] = [
        properties(json!({"o": {"x": "1", "y": {"z": "1"}}, "f": "1"})),
        properties(json!({"o": {"x": "2"}, "f": {"x": "1", "y": "2"}})),
    ];
    write(Format::Dir, &conf, &one, None).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for name in ["o", "f"] {
                    let (link, aside) = (conf.join(".link"), conf.join(".aside"));
                    let _ = symlink(&outside, &link);
                    let _ = fs::rename(conf.join(name), &aside);
                    let _ = fs::rename(&link, conf.join(name));
                    let _ = fs::remove_dir_all(&aside);
                    let _ = fs::remove_file(&aside);
                }
            }
        });
        for round in 0..ROUNDS {
            // It may fail, and may have to be done again; it must not touch what is not its own.
            let _ = write(Format::Dir, &conf, if round % 2 == 0 { &other } else { &one }, None);
            let _ = read(Format::Dir, &conf);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(names(&outside), ["x", "y"]);
    assert_eq!(fs::read(outside.join("x")).unwrap(), b"mine");
    assert_eq!(fs::read(outside.join("y")).unwrap(), b"mine");
    write(Format::Dir, &conf, &other, None).unwrap();
    assert_eq!(read(Format::Dir, &conf).unwrap().properties, other);
}

#[test]
fn files_that_come_and_go_while_they_are_read_are_no_error() {
    let temp = tempfile::tempdir().unwrap();
    let conf = temp.path().join("conf");
    write(Format::Dir, &conf, &properties(json!({"stays": "1", "o": {"stays": "1"}})), None).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for name in ["comes", "o/comes"] {
                    fs::write(conf.join(name), "1").unwrap();
                    fs::remove_file(conf.join(name)).unwrap();
                }
                fs::create_dir(conf.join("folder")).unwrap();
                fs::write(conf.join("folder/comes"), "1").unwrap();
                fs::remove_dir_all(conf.join("folder")).unwrap();
            }
        });
        for _ in 0..20 * ROUNDS {
            let there = read(Format::Dir, &conf).unwrap();
            assert_eq!(there.problems, []);
            assert_eq!(there.properties.get(&"stays".parse().unwrap()), Some(&json!("1")));
            assert_eq!(there.properties.get(&"o.stays".parse().unwrap()), Some(&json!("1")));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// A small file system, until this is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Mounted> {
        let temp = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "grange-test"])
            .arg(temp.path())
            .stderr(Stdio::null())
            .status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Mounted(temp));
        }
        eprintln!("skipped: no file system can be mounted here");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmount = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmount.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_full_disk_is_an_error_that_loses_nothing() {
    let Some(disk) = Mounted::new() else { return };
    let root = disk.0.path();
    let small = properties(json!({"a": "1", "o": {"b": "2"}}));
    let large = properties(json!({"a": "x".repeat(200_000), "o": {"b": "y".repeat(200_000)}}));
    for (format, path) in formats(root) {
        write(format, &path, &small, None).unwrap();
        let error = write(format, &path, &large, None).unwrap_err();
        let message = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(message.ends_with("No space left on device (os error 28)"), "{message}");
        let there = read(format, &path).unwrap();
        if format == Format::Json {
            assert_eq!(there.properties, small);
            assert!(matches!(error, ConfError::Install(InstallError::Io { .. })) && error.hint().is_some());
        }
        // In a directory the first file may have got its new value.
        assert!(is_between(&there.properties.into(), &small.clone().into(), &large.clone().into()));
        write(format, &path, &small, None).unwrap();
        assert_eq!(read(format, &path).unwrap().properties, small);
    }
    let target = root.join("target");
    assert!(Candidate::new(&target, &vec![b'x'; 400_000]).is_err());
    assert_eq!(names(root), ["conf", "conf.json"]);
    assert_eq!(names(&root.join("conf")), ["a", "o"]);
}
