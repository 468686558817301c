//! What must never happen, whatever the source or the destination look like.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use grange_transfer::path::RelPath;
use grange_transfer::sync::{Change, Observer, Options, Reporting, Severity, SyncError};
use rustix::fs::{Mode, OFlags};

use crate::harness::{grange, grange_reporting, grange_whole, with_delete};
use crate::manifest::{assert_equal, manifest};

#[test]
fn overlapping_trees_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let (outer, inner) = (temp.path().join("outer"), temp.path().join("outer/inner"));
    fs::create_dir_all(&inner).unwrap();
    std::os::unix::fs::symlink(&inner, temp.path().join("alias")).unwrap();
    let refused = |source: &Path, destination: &Path| {
        let error = grange(source, destination, with_delete(), 1).unwrap_err();
        assert!(matches!(error, SyncError::Overlap), "{error}");
        assert!(error.is_usage());
    };
    refused(&outer, &inner);
    refused(&inner, &outer);
    refused(&outer, &outer);
    refused(&outer, &temp.path().join("alias"));
    assert!(inner.exists());
}

#[test]
fn a_missing_source_deletes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let destination = temp.path().join("destination");
    fs::create_dir(&destination).unwrap();
    fs::write(destination.join("precious"), "").unwrap();
    let error = grange(&temp.path().join("missing"), &destination, with_delete(), 2).unwrap_err();
    assert!(matches!(error, SyncError::Source { .. }), "{error}");
    assert!(destination.join("precious").exists());
}

#[test]
fn root_as_destination_needs_force() {
    let temp = tempfile::tempdir().unwrap();
    let error = grange(temp.path(), Path::new("/"), with_delete(), 1).unwrap_err();
    assert!(matches!(error, SyncError::Overlap | SyncError::RootDestination), "{error}");
}

/// Removes an entry of the source at the moment when the destination is about to be changed for it.
struct Remover(std::path::PathBuf);

impl Observer for Remover {
    fn change(&self, change: Change, path: &RelPath) {
        let full = self.0.join(path.as_path());
        if change == Change::Copy && path.as_bytes() == b"vanishes" {
            fs::remove_file(full).unwrap();
        } else if change == Change::Create && path.as_bytes() == b"vanishing-directory" {
            fs::remove_dir_all(full).unwrap();
        }
    }
}

#[test]
fn what_vanishes_during_the_run_is_reported_and_no_failure() {
    let temp = tempfile::tempdir().unwrap();
    let (source, destination) = (temp.path().join("source"), temp.path().join("destination"));
    fs::create_dir_all(source.join("vanishing-directory")).unwrap();
    for path in ["vanishes", "stays", "vanishing-directory/x"] {
        fs::write(source.join(path), "x").unwrap();
    }
    let reporting = Reporting { observer: Arc::new(Remover(source.clone())), ..Reporting::default() };
    let summary = grange_reporting(&source, &destination, with_delete(), 2, reporting).unwrap();
    let problems: Vec<_> =
        summary.problems.iter().map(|problem| (problem.path.to_string(), problem.severity)).collect();
    let vanished = |path: &str| (path.to_owned(), Severity::Vanished);
    assert_eq!(problems, [vanished("vanishes"), vanished("vanishing-directory")]);
    assert!(summary.is_complete());
    assert_eq!(fs::read(destination.join("stays")).unwrap(), b"x");
    grange_whole(&source, &destination, with_delete(), 2);
    assert_equal(&manifest(&source), &manifest(&destination), "afterwards");
}

#[test]
fn entries_beyond_the_longest_path_arrive_too() {
    let temp = tempfile::tempdir().unwrap();
    let (source, destination) = (temp.path().join("source"), temp.path().join("destination"));
    fs::create_dir(&source).unwrap();
    let name = "d".repeat(250);
    let bottom = |root: &Path, make: bool| {
        let mut dir = rustix::fs::open(root, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..20 {
            if make {
                rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
            }
            dir = rustix::fs::openat(&dir, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        dir
    };
    let file = OFlags::CREATE | OFlags::RDWR;
    let deep = rustix::fs::openat(bottom(&source, true), "deep", file, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::io::write(&deep, b"5,000 bytes below").unwrap();
    rustix::fs::fsetxattr(&deep, "user.note", b"too", rustix::fs::XattrFlags::empty()).unwrap();
    let before = rustix::fs::fstat(&deep).unwrap();
    grange_whole(&source, &destination, with_delete(), 2);
    let copy = rustix::fs::openat(bottom(&destination, false), "deep", OFlags::RDONLY, Mode::empty()).unwrap();
    let mut contents = [0; 100];
    let length = rustix::io::read(&copy, &mut contents).unwrap();
    assert_eq!(&contents[..length], b"5,000 bytes below");
    let after = rustix::fs::fstat(&copy).unwrap();
    assert_eq!(
        (before.st_mtime, before.st_mtime_nsec, before.st_mode),
        (after.st_mtime, after.st_mtime_nsec, after.st_mode)
    );
    let mut value = [0; 10];
    assert_eq!(rustix::fs::fgetxattr(&copy, "user.note", &mut value[..]).unwrap(), 3);
    assert_eq!(grange_whole(&source, &destination, with_delete(), 2).figures.transferred, 0);
    fs::remove_dir_all(&source).unwrap();
    fs::create_dir(&source).unwrap();
    grange_whole(&source, &destination, with_delete(), 2);
    assert_eq!(fs::read_dir(&destination).unwrap().count(), 0);
}

#[test]
fn a_dry_run_changes_nothing_and_counts_everything() {
    let temp = tempfile::tempdir().unwrap();
    let (source, destination) = (temp.path().join("source"), temp.path().join("destination"));
    fs::create_dir_all(source.join("new/inner")).unwrap();
    fs::create_dir_all(destination.join("old/inner")).unwrap();
    fs::write(source.join("new/inner/file"), "x").unwrap();
    fs::write(destination.join("old/inner/file"), "x").unwrap();
    let before = manifest(&destination);
    let figures = grange_whole(&source, &destination, Options { dry_run: true, ..with_delete() }, 2).figures;
    assert_equal(&before, &manifest(&destination), "dry run");
    assert_eq!((figures.created, figures.transferred, figures.deleted), (2, 1, 3), "{figures:?}");
}

#[test]
fn leftovers_of_a_killed_run_go_without_delete_too() {
    let temp = tempfile::tempdir().unwrap();
    let (source, destination) = (temp.path().join("source"), temp.path().join("destination"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&destination).unwrap();
    fs::write(destination.join(".grange~0123456789abcdef"), "").unwrap();
    fs::write(destination.join("kept"), "").unwrap();
    grange_whole(&source, &destination, Options::default(), 1);
    assert!(!destination.join(".grange~0123456789abcdef").exists());
    assert!(destination.join("kept").exists());
}

#[test]
fn a_link_in_the_destination_leads_nowhere_else() {
    let temp = tempfile::tempdir().unwrap();
    let [source, destination, outside] = ["source", "destination", "outside"].map(|name| temp.path().join(name));
    fs::create_dir_all(source.join("dir")).unwrap();
    fs::write(source.join("dir/file"), "x").unwrap();
    fs::create_dir(&destination).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "").unwrap();
    std::os::unix::fs::symlink(&outside, destination.join("dir")).unwrap();
    grange_whole(&source, &destination, with_delete(), 1);
    assert_equal(&manifest(&source), &manifest(&destination), "the link was replaced");
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["precious"]);
}
