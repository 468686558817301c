//! What all workers of a job share, and the checks before it begins.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::filter::Filter;
use crate::links::LinkGroups;
use crate::mover::{ContentMover, Ends, MoveError, NativeMover};
use crate::sync::queue::QueueError;
use crate::sync::report::Report;
use crate::tree::{Base, Dir, FileId, Identity, XattrSupport};

/// How long to wait for the mover processes of a run that was killed to let go of the destination.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Remove what the source does not have.
    pub delete: bool,
    /// Change nothing, only report what would be changed.
    pub dry_run: bool,
    /// What to leave out.
    pub filter: Filter,
    /// Allow `/` as the destination.
    pub force: bool,
}

/// Why a job could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The source is missing, unreadable or no directory.
    #[error("cannot open the source {}", crate::path::escape(path_bytes(.path)))]
    Source {
        /// As it was given.
        path: PathBuf,
        /// Of opening it.
        #[source]
        source: io::Error,
    },
    /// The destination cannot be opened or made.
    #[error("cannot open the destination {}", crate::path::escape(path_bytes(.path)))]
    Destination {
        /// As it was given.
        path: PathBuf,
        /// Of opening or making it.
        #[source]
        source: io::Error,
    },
    /// One is the other or inside it.
    #[error("source and destination overlap: one is the other, or inside it")]
    Overlap,
    /// The destination is the root of this system.
    #[error("the destination is /; that needs --force")]
    RootDestination,
    /// Another run writes to the same destination.
    #[error("another grange sync is writing to the destination")]
    Busy,
    /// Finding out who we are failed.
    #[error("cannot find out the groups of this process")]
    Identity(#[source] io::Error),
    /// The mover cannot run.
    #[error(transparent)]
    Mover(#[from] MoveError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A thread could not be started.
    #[error("cannot start a worker")]
    Spawn(#[source] io::Error),
}

impl SyncError {
    /// Whether the command was wrong, rather than that something failed: exit status 2.
    pub fn is_usage(&self) -> bool {
        matches!(self, SyncError::Overlap | SyncError::RootDestination)
    }
}

fn path_bytes(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

/// Everything that the workers of one job share in one process.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ends: Arc<Ends>,
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    pub(crate) source_xattrs: XattrSupport,
    pub(crate) destination_xattrs: XattrSupport,
    pub(crate) links: LinkGroups,
    pub(crate) report: Report,
    pub(crate) mover: Arc<dyn ContentMover>,
    pub(crate) native: NativeMover,
    /// The destination's base directory, which must never turn up below the source.
    pub(crate) destination_id: Option<FileId>,
    /// Held until the last process that writes to the destination has ended.
    pub(crate) _lock: Option<OwnedFd>,
}

impl Job {
    /// Opens both ends and checks that the job makes sense.
    pub(crate) fn open(
        source: &Path,
        destination: &Path,
        options: Options,
        mover: Arc<dyn ContentMover>,
        report: Report,
    ) -> Result<Self, SyncError> {
        let source = Base::open(source).map_err(|error| SyncError::Source { path: source.into(), source: error })?;
        let destination = open_destination(destination, options.dry_run)
            .map_err(|error| SyncError::Destination { path: destination.into(), source: error })?;
        let overlap = overlaps(&source, &destination).map_err(|error| destination.error(error))?;
        if overlap {
            return Err(SyncError::Overlap);
        }
        if destination.path() == Path::new("/") && !options.force {
            return Err(SyncError::RootDestination);
        }
        let lock = if options.dry_run { None } else { lock(destination.root())? };
        let identity = Identity::of_process().map_err(SyncError::Identity)?;
        let destination_id = destination.root().record().map_err(|error| destination.error(error))?.id;
        Ok(Self {
            ends: Arc::new(Ends { source, destination }),
            source_xattrs: XattrSupport::new(identity.is_privileged()),
            destination_xattrs: XattrSupport::new(identity.is_privileged()),
            native: NativeMover::new(identity.clone()),
            links: LinkGroups::default(),
            options,
            identity,
            report,
            mover,
            destination_id: Some(destination_id),
            _lock: lock,
        })
    }
}

impl Base {
    fn error(&self, source: io::Error) -> SyncError {
        SyncError::Destination { path: self.path().into(), source }
    }
}

/// Opens the destination, and makes the last component of its path if it is missing, as rsync does.
fn open_destination(path: &Path, dry_run: bool) -> io::Result<Base> {
    match Base::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !dry_run => {
            fs::create_dir(path)?;
            Base::open(path)
        }
        opened => opened,
    }
}

/// Whether one base is the other or lies below it, found out by walking up from each, so that neither symbolic links
/// nor bind mounts of one place hide it.
fn overlaps(one: &Base, other: &Base) -> io::Result<bool> {
    Ok(lies_in(one.root(), other.root().record()?.id)? || lies_in(other.root(), one.root().record()?.id)?)
}

fn lies_in(dir: &Dir, ancestor: FileId) -> io::Result<bool> {
    let mut id = dir.record()?.id;
    let mut at = dir.parent()?;
    loop {
        if id == ancestor {
            return Ok(true);
        }
        let parent = at.record()?.id;
        if parent == id {
            return Ok(false);
        }
        id = parent;
        at = at.parent()?;
    }
}

/// Takes the lock of the destination, which child processes inherit: when a run was killed, the next one waits until
/// its last child is gone. `None` where the file system has no locks.
fn lock(root: &Dir) -> Result<Option<OwnedFd>, SyncError> {
    let failed = |error: Errno| SyncError::Destination { path: PathBuf::from("."), source: error.into() };
    let shared = root.reopen().map_err(|error| SyncError::Destination { path: PathBuf::from("."), source: error })?;
    // Not closed on exec: this is what makes children inherit the lock.
    rustix::io::fcntl_setfd(&shared, rustix::io::FdFlags::empty()).map_err(failed)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&shared, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(shared)),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(Errno::WOULDBLOCK) => return Err(SyncError::Busy),
            Err(_) => return Ok(None),
        }
    }
}
