use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_new_directory_is_private_and_keeps_its_id() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b");
    let id = {
        let dir = DataDir::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(dir.log_dir().is_dir() && dir.snapshot_dir().is_dir());
        dir.id()
    };
    assert_eq!(DataDir::open(&path).unwrap().id(), id);
    assert_ne!(DataDir::open(&temp.path().join("c")).unwrap().id(), id);
}

#[test]
fn a_locked_directory_names_the_process_that_has_it() {
    let temp = tempfile::tempdir().unwrap();
    let held = DataDir::open(temp.path()).unwrap();
    let error = DataDir::open(temp.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is in use by process {}", temp.path().display(), std::process::id()));
    drop(held);
    DataDir::open(temp.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    drop(DataDir::open(temp.path()).unwrap());
    std::fs::write(temp.path().join("format"), "version = 3\nshape = other\n").unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(OpenError::Newer { version: 3, .. })));
    std::fs::write(temp.path().join("format"), "version = 1\nid = 1\nlog = inside\n").unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(OpenError::Unreleased { version: 1, .. })));
    std::fs::write(temp.path().join("format"), "version = 2\nid = zz\n").unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(OpenError::Format { .. })));
    std::fs::remove_file(temp.path().join("format")).unwrap();
    std::fs::write(temp.path().join("log/0000000000000001.wal"), "").unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(OpenError::NoFormat { .. })));
}

#[test]
fn a_directory_of_apache_zookeeper_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("version-2")).unwrap();
    assert!(matches!(DataDir::open(temp.path()), Err(OpenError::Apache { .. })));
    assert!(!temp.path().join("format").exists());
}

#[test]
fn a_separate_log_belongs_to_one_data_directory() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b, log, other] = ["a", "b", "log", "other"].map(|name| temp.path().join(name));
    let dir = DataDir::open_with_log_dir(&a, &log).unwrap();
    assert_eq!(dir.log_dir(), log.join("log"));
    assert!(matches!(DataDir::open_with_log_dir(&b, &log), Err(OpenError::Locked { .. })));
    drop(dir);
    drop(DataDir::open_with_log_dir(&b, &other).unwrap());
    assert!(matches!(DataDir::open_with_log_dir(&a, &other), Err(OpenError::OtherLog { .. })));
    assert!(matches!(DataDir::open(&a), Err(OpenError::LogMoved { separate: true, .. })));
    DataDir::open_with_log_dir(&a, &log).unwrap();
}

#[test]
fn a_log_is_not_left_behind_when_a_separate_directory_is_named_later() {
    let temp = tempfile::tempdir().unwrap();
    let [a, log] = ["a", "log"].map(|name| temp.path().join(name));
    drop(DataDir::open_with_log_dir(&a, &a).unwrap());
    assert!(matches!(DataDir::open_with_log_dir(&a, &log), Err(OpenError::LogMoved { separate: false, .. })));
}

#[test]
fn every_start_has_a_higher_number_than_those_before() {
    let temp = tempfile::tempdir().unwrap();
    for expected in 1..4 {
        let dir = DataDir::open(temp.path()).unwrap();
        assert_ne!(dir.member_id().0, 0);
        assert_eq!(dir.next_run().unwrap(), expected);
    }
    let dir = DataDir::open(temp.path()).unwrap();
    // What a crash before the rename leaves.
    std::fs::write(temp.path().join("run.tmp"), "9").unwrap();
    assert_eq!(dir.next_run().unwrap(), 4);
    for damaged in ["", "x", &u64::MAX.to_string()] {
        std::fs::write(temp.path().join("run"), damaged).unwrap();
        assert!(matches!(dir.next_run(), Err(OpenError::Format { .. })), "{damaged:?}");
    }
    std::fs::remove_file(temp.path().join("run")).unwrap();
    assert!(matches!(dir.next_run(), Err(OpenError::Format { .. })), "numbers must not begin anew");
}
