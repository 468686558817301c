//! Why the log cannot be opened, read or written.

use std::io;
use std::path::PathBuf;

/// A failure of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed. After a failed write or sync nobody knows what is durable: the process must stop.
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
    /// The file system or the quota is full; the log is as it was before the call and works on when there is space.
    #[error("no space for the log in {}", .path.display())]
    Full {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Bytes that had been made durable have changed or are gone.
    #[error(
        "{}: damaged at byte {offset}: {what}; entries that were acknowledged are after that place, so nothing is \
         dropped: check the disk, then restore this member from a backup or, in an ensemble, start it with an empty \
         directory",
        .path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it the first bad frame is, or would have to be.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A segment between two others is not there.
    #[error(
        "{} is missing, though segments before and after it exist; put it back, or restore this member from a backup",
        .path.display()
    )]
    Missing {
        /// The segment.
        path: PathBuf,
    },
    /// A newer version of the program wrote this.
    #[error("{}: segment format {version} is newer than this program; use the version that wrote it", .path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// The format found.
        version: u32,
    },
    /// The batch does not fit a segment; nothing was written.
    #[error("a batch of {bytes} bytes is larger than a log segment can hold ({bytes_max} bytes)")]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// Largest size allowed.
        bytes_max: usize,
    },
    /// An earlier call failed in a way that leaves the state of the disk unknown.
    #[error("the log has failed before and takes no more writes; restart the process")]
    Failed,
}

impl LogError {
    /// Tells whether the process must stop; otherwise the log is intact and can be used on.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, LogError::Full { .. } | LogError::TooLarge { .. })
    }
}
