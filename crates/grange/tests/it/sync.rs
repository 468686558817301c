//! `grange sync local` as a process: output, exit status, death in the middle, and a user who may not read everything.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{grange, run};

const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that every user may enter.
fn open_directory() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), Permissions::from_mode(0o777)).unwrap();
    temp
}

fn sync(source: &Path, destination: &Path, flags: &[&str]) -> Command {
    let mut command = grange();
    command.args(["sync", "local"]).arg(source).arg(destination).args(flags);
    command
}

/// What `rsync` would still have to do.
fn differences(source: &Path, destination: &Path) -> String {
    let mut command = Command::new("rsync");
    command.args(["-naHAXi", "--delete", "--checksum"]).arg(source.join("")).arg(destination.join(""));
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn the_summary_says_what_was_done() {
    let temp = open_directory();
    let (source, destination) = (temp.path().join("s"), temp.path().join("d"));
    fs::create_dir_all(source.join("dir")).unwrap();
    fs::write(source.join("dir/file"), vec![b'x'; 2048]).unwrap();
    fs::write(source.join("ev\x1bil\n"), "").unwrap();
    let dry = run(&mut sync(&source, &destination, &["-n"]), b"");
    assert_eq!(dry.status, Some(3), "the destination is not made: {dry}");
    fs::create_dir(&destination).unwrap();
    let dry = run(&mut sync(&source, &destination, &["-n", "-j1"]), b"").to_string();
    assert!(dry.contains("create     dir\n"), "{dry}");
    assert!(dry.contains("copy       ev\\x1bil\\n\n"), "{dry}");
    let first = run(&mut sync(&source, &destination, &["--delete"]), b"");
    assert_eq!(first.status, Some(0), "{first}");
    let text = first.to_string();
    assert!(text.contains("compared  3 entries: 2 files of 2.0 KiB, 1 directories\n"), "{text}");
    assert!(text.contains("copied    2 files, 2.0 KiB\n"), "{text}");
    let second = run(&mut sync(&source, &destination, &["--json"]), b"").to_string();
    let summary: serde_json::Value = serde_json::from_str(second.lines().last().unwrap()).unwrap();
    assert_eq!(summary["complete"], true);
    assert_eq!(summary["figures"]["matched"], 3);
    assert_eq!(differences(&source, &destination), "");
}

#[test]
fn wrong_usage_is_status_2_and_a_missing_source_3() {
    let temp = open_directory();
    let source = temp.path().join("s");
    fs::create_dir(&source).unwrap();
    assert_eq!(run(&mut sync(&source, &source.join("inner"), &[]), b"").status, Some(2));
    assert_eq!(run(&mut sync(&source, &temp.path().join("d"), &["--exclude", ""]), b"").status, Some(2));
    assert_eq!(run(&mut sync(&source, &temp.path().join("d"), &["--rsync", "/nonexistent"]), b"").status, Some(3));
    assert_eq!(run(&mut sync(&temp.path().join("missing"), &source, &["--delete"]), b"").status, Some(3));
}

fn as_nobody(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped
}

#[test]
fn a_user_who_may_not_read_everything_loses_nothing_at_the_destination() {
    let temp = open_directory();
    let (source, destination) = (temp.path().join("s"), temp.path().join("d"));
    for directory in ["s/closed", "s/open", "s/read-only/inner"] {
        fs::create_dir_all(temp.path().join(directory)).unwrap();
    }
    for file in ["s/closed/precious", "s/open/file", "s/open/secret", "s/read-only/inner/file", "s/gone"] {
        fs::write(temp.path().join(file), "x").unwrap();
    }
    let nobody = ["-R", "65534:65534"];
    assert!(Command::new("chown").args(nobody).arg(&source).status().unwrap().success());
    for directory in ["s/read-only/inner", "s/read-only"] {
        fs::set_permissions(temp.path().join(directory), Permissions::from_mode(0o555)).unwrap();
    }
    let first = run(&mut as_nobody(&sync(&source, &destination, &["--delete"])), b"");
    assert_eq!(first.status, Some(0), "{first}");
    assert_eq!(differences(&source, &destination), "");

    fs::set_permissions(source.join("closed"), Permissions::from_mode(0o000)).unwrap();
    fs::write(source.join("open/secret"), "changed").unwrap();
    fs::set_permissions(source.join("open/secret"), Permissions::from_mode(0o000)).unwrap();
    fs::write(source.join("read-only/inner/file"), "changed too").unwrap();
    fs::remove_file(source.join("gone")).unwrap();
    let second = run(&mut as_nobody(&sync(&source, &destination, &["--delete"])), b"");
    let text = second.to_string();
    assert_eq!(second.status, Some(3), "{text}");
    assert!(text.contains("failed   closed: cannot open the source directory: Permission denied"), "{text}");
    assert!(text.contains("failed   open/secret: rsync: [sender] send_files failed to open"), "{text}");
    assert_eq!(fs::read(destination.join("closed/precious")).unwrap(), b"x");
    assert_eq!(fs::read(destination.join("read-only/inner/file")).unwrap(), b"changed too");
    assert!(!destination.join("gone").exists());

    for path in ["closed", "open/secret"] {
        fs::set_permissions(source.join(path), Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(run(&mut as_nobody(&sync(&source, &destination, &["--delete"])), b"").status, Some(0));
    assert_eq!(differences(&source, &destination), "");
}

fn tree(root: PathBuf) -> PathBuf {
    for directory in 0..30 {
        let directory = root.join(format!("d{directory}/inner"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..200 {
            fs::write(directory.join(format!("f{file}")), vec![b'x'; file * 40]).unwrap();
        }
        fs::hard_link(directory.join("f1"), directory.join("linked")).unwrap();
    }
    root
}

#[test]
fn after_kill_9_in_the_middle_the_same_command_gives_the_exact_result() {
    let temp = open_directory();
    let source = tree(temp.path().join("s"));
    // At different moments: each time the destination has come a bit further.
    for moment in 1..=6 {
        let destination = temp.path().join(format!("d{moment}"));
        let mut child = sync(&source, &destination, &["--delete", "-j2"]).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let count = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
        while count(&destination) < moment * 5 && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "nothing arrives");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let again = run(&mut sync(&source, &destination, &["--delete", "-j2"]), b"");
        assert_eq!(again.status, Some(0), "{again}");
        assert_eq!(differences(&source, &destination), "");
        let third = run(&mut sync(&source, &destination, &["--json"]), b"").to_string();
        assert!(third.contains(r#""transferred":0"#), "nothing was left to do: {third}");
    }
}
