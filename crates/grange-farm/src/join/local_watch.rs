//! When the configuration on this host has changed.
//!
//! inotify tells of what this host's processes write. It is silent about writes that another host makes to the same
//! network file system, and it can lose events, so the configuration is looked at now and then in any case.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// How often the configuration is looked at without a sign of a change.
const LOOK_PAUSE: Duration = Duration::from_secs(30);

/// The same where the kernel cannot tell.
const LOOK_PAUSE_BLIND: Duration = Duration::from_secs(2);

/// The most directories that are watched; changes in others are found by looking.
const DIRECTORIES_MAX: usize = 10_000;

/// How deep directories are watched; what is deeper is found by looking.
const DEPTH_MAX: usize = 32;

/// Room for the events of one read; one event may need 16 + 256 bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// A file is read when its writer has closed it, not while it is half-written.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One file, which editors replace.
    File,
    /// A directory with everything below it.
    Directory,
}

/// Tells that the configuration may have changed.
#[derive(Debug)]
pub(super) struct LocalWatch {
    path: PathBuf,
    shape: Shape,
    /// `None` if the kernel has no watches left.
    inotify: Option<AsyncFd<OwnedFd>>,
    directories: HashMap<i32, PathBuf>,
    look_at: Instant,
}

impl LocalWatch {
    /// Watches the configuration at `path`, which may come later.
    pub(super) fn new(path: &Path, shape: Shape) -> LocalWatch {
        let inotify = match open() {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                warn!(%error, "cannot watch files; the configuration is looked at every {LOOK_PAUSE_BLIND:?}");
                None
            }
        };
        let now = Instant::now();
        // A relative path has no parent to watch, or one by another name.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut watch = LocalWatch { path, shape, inotify, directories: HashMap::new(), look_at: now };
        watch.arm();
        watch
    }

    /// Waits until the configuration may have changed. What is read after that is at least as new as the change.
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) {
        loop {
            let Some(inotify) = &self.inotify else {
                sleep_until(self.look_at).await;
                break;
            };
            tokio::select! {
                ready = inotify.readable() => match ready {
                    Ok(mut guard) => {
                        let is_told = self.take_events();
                        guard.clear_ready();
                        match is_told {
                            Ok(true) => break,
                            Ok(false) => {}
                            Err(error) => self.go_blind(&error),
                        }
                    }
                    Err(error) => self.go_blind(&error),
                },
                () = sleep_until(self.look_at) => break,
            }
        }
        // Before anything is read: what changes from here on has an event of its own.
        self.arm();
    }

    fn go_blind(&mut self, error: &io::Error) {
        warn!(%error, "cannot watch files any longer; the configuration is looked at every {LOOK_PAUSE_BLIND:?}");
        self.inotify = None;
    }

    /// Reads all events there are; tells whether one of them matters.
    fn take_events(&self) -> io::Result<bool> {
        let Some(inotify) = &self.inotify else { return Ok(false) };
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(inotify.get_ref(), &mut buffer);
        let mut matters = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    matters |= self.matters(event.wd(), event.events(), name);
                }
                Err(Errno::AGAIN) => return Ok(matters),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn matters(&self, watch: i32, events: ReadFlags, name: Option<&OsStr>) -> bool {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            return true;
        }
        let Some(directory) = self.directories.get(&watch) else { return false };
        let Some(name) = name else { return true };
        let path = directory.join(name);
        let is_ours = match self.shape {
            Shape::File => self.places().contains(&path),
            // Hidden files are nobody's properties; the directory itself may be hidden.
            Shape::Directory => path == self.path || (directory.starts_with(&self.path) && !is_hidden(name)),
        };
        // Whoever creates a file will close it; a link is complete at once.
        is_ours
            && !(events == ReadFlags::CREATE && fs::symlink_metadata(&path).is_ok_and(|found| is_being_made(&found)))
    }

    /// Returns where the file is, and where it is said to be if that is a link.
    fn places(&self) -> Vec<PathBuf> {
        let mut places = vec![self.path.clone()];
        places.extend(fs::canonicalize(&self.path));
        places
    }

    /// Sets every watch that is missing. One that is set already stays.
    fn arm(&mut self) {
        self.look_at = Instant::now() + if self.inotify.is_some() { LOOK_PAUSE } else { LOOK_PAUSE_BLIND };
        if self.inotify.is_none() {
            return;
        }
        self.directories.clear();
        // Its parent tells when it is replaced as a whole.
        for place in self.places() {
            if let Some(parent) = place.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                self.watch(parent);
            }
        }
        if self.shape == Shape::Directory {
            self.watch_below(&self.path.clone(), 0);
        }
    }

    fn watch_below(&mut self, directory: &Path, depth: usize) {
        if depth > DEPTH_MAX || self.directories.len() >= DIRECTORIES_MAX || !self.watch(directory) {
            return;
        }
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            if !is_hidden(&entry.file_name()) && fs::metadata(entry.path()).is_ok_and(|found| found.is_dir()) {
                self.watch_below(&entry.path(), depth + 1);
            }
        }
    }

    /// Watches a directory; false if it is not there, or is watched already.
    fn watch(&mut self, directory: &Path) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        match inotify::add_watch(inotify.get_ref(), directory, EVENTS | WatchFlags::ONLYDIR) {
            Ok(watch) => self.directories.insert(watch, directory.to_owned()).is_none(),
            Err(Errno::NOSPC) => {
                self.go_blind(&Errno::NOSPC.into());
                false
            }
            // Not there, or not any more.
            Err(_) => false,
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, and asks for what an OwnedFd is: one open file until it is dropped"
)]
fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    AsyncFd::with_interest(inotify, Interest::READABLE)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

fn is_being_made(found: &Metadata) -> bool {
    found.is_file() && found.nlink() == 1
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// No test here needs so long, on whatever machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn told(watch: &mut LocalWatch, change: impl FnOnce()) {
        // Whatever is told before the change is not what is waited for.
        while timeout(Duration::ZERO, watch.changed()).await.is_ok() {}
        change();
        timeout(PATIENCE, watch.changed()).await.expect("a change is told");
    }

    async fn not_told(watch: &mut LocalWatch, change: impl FnOnce(), sign: impl FnOnce()) {
        while timeout(Duration::ZERO, watch.changed()).await.is_ok() {}
        change();
        // inotify keeps the order: when the sign has not been told, nothing before it was.
        assert!(!watch.take_events().unwrap());
        sign();
        timeout(PATIENCE, watch.changed()).await.expect("a change is told");
    }

    #[tokio::test]
    async fn everything_in_a_directory_is_told() {
        let root = tempfile::tempdir().unwrap();
        let conf = root.path().join("conf");
        let mut watch = LocalWatch::new(&conf, Shape::Directory);
        told(&mut watch, || fs::create_dir(&conf).unwrap()).await;
        told(&mut watch, || fs::write(conf.join("enabled"), "1").unwrap()).await;
        told(&mut watch, || fs::create_dir(conf.join("mysql")).unwrap()).await;
        told(&mut watch, || fs::write(conf.join("mysql/delay"), "1").unwrap()).await;
        told(&mut watch, || fs::rename(conf.join("mysql"), conf.join("db")).unwrap()).await;
        told(&mut watch, || fs::write(conf.join("db/delay"), "2").unwrap()).await;
        told(&mut watch, || fs::remove_file(conf.join("enabled")).unwrap()).await;
        told(&mut watch, || std::os::unix::fs::symlink("db", conf.join("link")).unwrap()).await;
        // The whole directory is replaced.
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        told(&mut watch, || fs::rename(&conf, root.path().join("old")).unwrap()).await;
        told(&mut watch, || fs::rename(&other, &conf).unwrap()).await;
        told(&mut watch, || fs::write(conf.join("enabled"), "0").unwrap()).await;
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_not_told() {
        let root = tempfile::tempdir().unwrap();
        let conf = root.path().join("conf");
        fs::create_dir(&conf).unwrap();
        let mut watch = LocalWatch::new(&conf, Shape::Directory);
        let file = fs::File::create(root.path().join("elsewhere")).unwrap();
        let open = || {
            fs::write(conf.join(".hidden"), "1").unwrap();
            fs::write(root.path().join("beside"), "1").unwrap();
            std::mem::forget(fs::File::create(conf.join("open")).unwrap());
        };
        not_told(&mut watch, open, || fs::write(conf.join("done"), "1").unwrap()).await;
        drop(file);
    }

    #[tokio::test]
    async fn a_file_is_followed_when_it_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let conf = root.path().join("conf.json");
        let mut watch = LocalWatch::new(&conf, Shape::File);
        told(&mut watch, || fs::write(&conf, "{}").unwrap()).await;
        let new = root.path().join("new");
        fs::write(&new, "{\"a\": 1}").unwrap();
        told(&mut watch, || fs::rename(&new, &conf).unwrap()).await;
        told(&mut watch, || fs::remove_file(&conf).unwrap()).await;
        // A link to a file in another directory.
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("real"), "{}").unwrap();
        told(&mut watch, || std::os::unix::fs::symlink(elsewhere.path().join("real"), &conf).unwrap()).await;
        told(&mut watch, || fs::write(elsewhere.path().join("real"), "{\"b\": 1}").unwrap()).await;
    }

    #[tokio::test]
    async fn a_path_may_be_relative() {
        let conf = tempfile::Builder::new().prefix("watched-").suffix(".json").tempfile_in(".").unwrap();
        let name = Path::new(conf.path().file_name().unwrap()).to_owned();
        let mut watch = LocalWatch::new(&name, Shape::File);
        told(&mut watch, || drop(conf)).await;
        told(&mut watch, || fs::write(&name, "{}").unwrap()).await;
        told(&mut watch, || fs::write(&name, "{\"a\": 1}").unwrap()).await;
        fs::remove_file(&name).unwrap();
    }
}
