//! The data directory: who may use it, which format it has, and where its parts are.
//!
//! `format` is the first file of a new directory and the last thing an older program understands: a newer format is
//! refused, never guessed at. A separate log directory holds a copy with the same id, so that the two halves of
//! different members are never mixed. `run` counts the starts: what a member sent before it was killed must not be taken
//! for what it sends now.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use grange_replica::MemberId;
use rustix::fs::FlockOperation;

use super::disk::{Disk, RealDisk, is_full};

/// Format that this program writes.
const FORMAT_VERSION: u32 = 2;
const FORMAT_FILE: &str = "format";
const RUN_FILE: &str = "run";
pub(crate) const LOCK_FILE: &str = "lock";
const LOG_DIR: &str = "log";
const SNAPSHOT_DIR: &str = "snapshot";
/// Where Apache ZooKeeper keeps its logs and snapshots below `dataDir`.
const APACHE_DIR: &str = "version-2";
/// Longest `format` and `lock` files that are read.
const SMALL_FILE_BYTES_MAX: u64 = 4096;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by {}", .path.display(), .pid.map_or("another process".into(), |pid| format!("process {pid}")))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that has the lock, if it wrote its id.
        pid: Option<u32>,
    },
    /// A newer version of the program wrote it.
    #[error(
        "{} has data format {version}, this program knows {FORMAT_VERSION}: use the version that wrote it, a downgrade \
         is not possible",
        .path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format found.
        version: u32,
    },
    /// A version from before the first release wrote it.
    #[error(
        "{} has data format {version}, which only unreleased versions wrote: this program starts with format \
         {FORMAT_VERSION}, choose an empty directory",
        .path.display()
    )]
    Unreleased {
        /// The directory.
        path: PathBuf,
        /// The format found.
        version: u32,
    },
    /// The file `format` or `run` is not one of ours.
    #[error("{} is not understood; restore it from a backup, the data cannot be used without it", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to Apache ZooKeeper.
    #[error(
        "{} holds data of Apache ZooKeeper ({APACHE_DIR}), which cannot be opened in place: choose an empty directory",
        .path.display()
    )]
    Apache {
        /// The directory.
        path: PathBuf,
    },
    /// It has files of ours but no `format`.
    #[error("{} has a log or snapshots but no file `format`: restore that file, or choose an empty directory", .path.display())]
    NoFormat {
        /// The directory.
        path: PathBuf,
    },
    /// The log directory belongs to another data directory.
    #[error("the log in {} belongs to another data directory than {}", .log_dir.display(), .path.display())]
    OtherLog {
        /// The data directory.
        path: PathBuf,
        /// The log directory.
        log_dir: PathBuf,
    },
    /// The log is elsewhere than it was.
    #[error(
        "{} was set up with its log {}; to move the log, stop the server, move the folder `{LOG_DIR}` and the file \
         `{FORMAT_FILE}`, and change the line `log` in both",
        .path.display(),
        if *.separate { "in a separate directory (dataLogDir), which is not given now" } else { "in the same directory" }
    )]
    LogMoved {
        /// The data directory.
        path: PathBuf,
        /// Whether the log was separate.
        separate: bool,
    },
}

/// An open data directory. Holds its lock until dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    log_dir: PathBuf,
    id: u128,
    _locks: Vec<File>,
}

impl DataDir {
    /// Opens the directory `path` with the log inside of it, or sets it up if it is missing or empty.
    pub fn open(path: &Path) -> Result<DataDir, OpenError> {
        DataDir::open_parts(path, None)
    }

    /// Like [`DataDir::open`], with the log in another directory (`dataLogDir`), for example on another disk.
    ///
    /// The same path twice means no separate directory.
    pub fn open_with_log_dir(path: &Path, log_path: &Path) -> Result<DataDir, OpenError> {
        DataDir::open_parts(path, (path != log_path).then_some(log_path))
    }

    fn open_parts(path: &Path, log_path: Option<&Path>) -> Result<DataDir, OpenError> {
        create_dir(path)?;
        let mut locks = vec![lock(path)?];
        if let Some(log_path) = log_path {
            create_dir(log_path)?;
            locks.push(lock(log_path)?);
        }
        let separate = log_path.is_some();
        let id = match Format::read(path)? {
            Some(format) if format.log_separate != separate => {
                return Err(OpenError::LogMoved { path: path.to_owned(), separate: format.log_separate });
            }
            Some(format) => {
                check_log_dir(path, log_path, format.id)?;
                format.id
            }
            None => set_up(path, log_path)?,
        };
        let dir = DataDir { root: path.to_owned(), log_dir: log_path.unwrap_or(path).join(LOG_DIR), id, _locks: locks };
        create_dir(&dir.log_dir)?;
        create_dir(&dir.snapshot_dir())?;
        for parent in [Some(path), log_path].into_iter().flatten() {
            RealDisk.sync_dir(parent).map_err(io_error("sync", parent))?;
        }
        Ok(dir)
    }

    /// Returns the directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of the log segments; it exists.
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// Returns the directory of the snapshot files; it exists.
    pub fn snapshot_dir(&self) -> PathBuf {
        self.root.join(SNAPSHOT_DIR)
    }

    /// Returns the id that was drawn when the directory was set up. It names this member's disk, also after a copy.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// Returns what this directory's member is called in everything that is voted on.
    pub fn member_id(&self) -> MemberId {
        let high = u64::try_from(self.id >> 64).expect("64 bits are left");
        // 0 stands for nobody. The other half is as random.
        MemberId(if high == 0 { 1 } else { high })
    }

    /// Counts a start; the number is durable, and larger than at every start before, when this returns.
    pub fn next_run(&self) -> Result<u64, OpenError> {
        let path = self.root.join(RUN_FILE);
        let last = match read_small(&path)? {
            Some(text) => text.trim().parse::<u64>().map_err(|_| OpenError::Format { path: path.clone() })?,
            // Written before `format`, so it is there from the first start on.
            None => return Err(OpenError::Format { path }),
        };
        let run = last.checked_add(1).ok_or_else(|| OpenError::Format { path: path.clone() })?;
        match write_small(&self.root, RUN_FILE, &run_text(run)) {
            // A full disk must not keep a server from serving reads. The new number takes the place of the old one within
            // a sector, for which no room is needed.
            Err(OpenError::Io { source, .. }) if is_full(&source) => {
                let written = OpenOptions::new().write(true).open(&path).and_then(|file| {
                    file.write_all_at(run_text(run).as_bytes(), 0)?;
                    file.sync_all()
                });
                written.map_err(io_error("write", &path))?;
            }
            written => written?,
        }
        Ok(run)
    }
}

/// Tells whether a directory has been set up as a data directory.
pub(crate) fn is_set_up(path: &Path) -> bool {
    path.join(FORMAT_FILE).exists()
}

/// Tells whether a data directory has a snapshot, the first thing that a member gets from others.
pub(crate) fn has_snapshots(path: &Path) -> bool {
    has_files(&path.join(SNAPSHOT_DIR))
}

/// The contents of the file `format`.
#[derive(Debug, PartialEq, Eq)]
struct Format {
    id: u128,
    log_separate: bool,
}

impl Format {
    fn read(dir: &Path) -> Result<Option<Format>, OpenError> {
        let path = dir.join(FORMAT_FILE);
        let Some(text) = read_small(&path)? else { return Ok(None) };
        let value = |key: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once('=')?;
                (name.trim() == key).then(|| value.trim())
            })
        };
        let not_understood = || OpenError::Format { path: path.clone() };
        // The version first: what follows may mean something else in a newer one.
        let version = value("version").and_then(|value| value.parse::<u32>().ok()).ok_or_else(not_understood)?;
        if version > FORMAT_VERSION {
            return Err(OpenError::Newer { path: dir.to_owned(), version });
        }
        if version < FORMAT_VERSION {
            return Err(OpenError::Unreleased { path: dir.to_owned(), version });
        }
        let id = value("id").and_then(|value| u128::from_str_radix(value, 16).ok()).ok_or_else(not_understood)?;
        let log_separate = match value("log") {
            Some("inside") => false,
            Some("separate") => true,
            _ => return Err(not_understood()),
        };
        Ok(Some(Format { id, log_separate }))
    }

    fn write(&self, dir: &Path) -> Result<(), OpenError> {
        let log = if self.log_separate { "separate" } else { "inside" };
        let text = format!(
            "# Grange data directory; do not edit\nversion = {FORMAT_VERSION}\nid = {:032x}\nlog = {log}\n",
            self.id
        );
        write_small(dir, FORMAT_FILE, &text)
    }
}

/// Gives a new directory its format and id.
fn set_up(path: &Path, log_path: Option<&Path>) -> Result<u128, OpenError> {
    for dir in [Some(path), log_path].into_iter().flatten() {
        if dir.join(APACHE_DIR).exists() {
            return Err(OpenError::Apache { path: dir.to_owned() });
        }
        if Format::read(dir)?.is_some() && has_files(&dir.join(LOG_DIR)) {
            return Err(OpenError::OtherLog { path: path.to_owned(), log_dir: dir.to_owned() });
        }
        if [LOG_DIR, SNAPSHOT_DIR].iter().any(|name| has_files(&dir.join(name))) {
            return Err(OpenError::NoFormat { path: dir.to_owned() });
        }
    }
    let random = || RealDisk.random_u64().map_err(io_error("draw an id for", path));
    let id = u128::from(random()?) << 64 | u128::from(random()?);
    let format = Format { id, log_separate: log_path.is_some() };
    // The data directory last: without its file the set-up is begun again, with a new id.
    if let Some(log_path) = log_path {
        format.write(log_path)?;
    }
    write_small(path, RUN_FILE, &run_text(0))?;
    format.write(path)?;
    Ok(id)
}

fn check_log_dir(path: &Path, log_path: Option<&Path>, id: u128) -> Result<(), OpenError> {
    let Some(log_path) = log_path else { return Ok(()) };
    match Format::read(log_path)? {
        Some(format) if format.id == id => Ok(()),
        _ => Err(OpenError::OtherLog { path: path.to_owned(), log_dir: log_path.to_owned() }),
    }
}

/// A number of a start, always of the same length.
fn run_text(run: u64) -> String {
    format!("{run:020}\n")
}

/// Reads a file of a few lines, `None` if it is not there.
fn read_small(path: &Path) -> Result<Option<String>, OpenError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { action: "open", path: path.to_owned(), source }),
    };
    let mut text = Vec::new();
    file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut text).map_err(io_error("read", path))?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

fn write_small(dir: &Path, name: &str, text: &str) -> Result<(), OpenError> {
    replace_file(dir, name, text).map_err(io_error("write", &dir.join(name)))
}

/// Puts a small file, which only its owner may read, in the place of the one before, durably: after a crash it is one or
/// the other, whole.
pub(crate) fn replace_file(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let unfinished = dir.join(format!("{name}.tmp"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, dir.join(name))?;
    RealDisk.sync_dir(dir)
}

fn has_files(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn create_dir(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(OpenError::Locked { path: dir.to_owned(), pid: lock_owner(&file) });
        }
        Err(error) => return Err(OpenError::Io { action: "lock", path, source: error.into() }),
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0)).map_err(io_error("write", &path))?;
    Ok(file)
}

fn lock_owner(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
