//! Running both programs.

use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use grange_transfer::filter::Filter;
use grange_transfer::mover::RsyncMover;
use grange_transfer::sync::{self, MemoryQueue, Options, Reporting, Request, Summary, SyncError};

/// As `grange sync local --delete`.
pub(crate) fn with_delete() -> Options {
    Options { delete: true, ..Options::default() }
}

/// Options with these `--exclude` patterns.
pub(crate) fn excluding(patterns: &[&str]) -> Options {
    let mut filter = Filter::default();
    for pattern in patterns {
        filter.push_exclude(pattern.as_bytes()).unwrap();
    }
    Options { delete: true, filter, ..Options::default() }
}

/// Runs our side.
pub(crate) fn grange(
    source: &Path,
    destination: &Path,
    options: Options,
    workers: usize,
) -> Result<Summary, SyncError> {
    grange_reporting(source, destination, options, workers, Reporting::default())
}

/// Runs our side with an observer.
pub(crate) fn grange_reporting(
    source: &Path,
    destination: &Path,
    options: Options,
    workers: usize,
    reporting: Reporting,
) -> Result<Summary, SyncError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mover = Arc::new(RsyncMover::new(Path::new("rsync")).unwrap());
    let request = Request { source, destination, options, worker_count: NonZero::new(workers).unwrap() };
    sync::run(request, mover, &MemoryQueue::default(), runtime.handle(), reporting)
}

/// Runs our side, which must bring everything.
pub(crate) fn grange_whole(source: &Path, destination: &Path, options: Options, workers: usize) -> Summary {
    let summary = grange(source, destination, options, workers).unwrap();
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
    assert!(summary.is_complete());
    summary
}

/// Runs the reference, with further arguments.
pub(crate) fn rsync(source: &Path, destination: &Path, further: &[&str]) {
    let mut command = Command::new("rsync");
    command.args(["-aHAX", "--numeric-ids", "--modify-window=-1"]).args(further);
    let status = command.arg(source.join("")).arg(destination.join("")).status().unwrap();
    assert!(status.success(), "{status}");
}

/// Runs a program that prepares a tree.
pub(crate) fn shell(program: &str, arguments: &[&std::ffi::OsStr]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}
