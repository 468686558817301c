//! What must never happen, whatever the source or the destination look like.

use std::fs;
use std::path::Path;

use grange_transfer::sync::SyncError;

use crate::harness::{grange, with_delete};

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
