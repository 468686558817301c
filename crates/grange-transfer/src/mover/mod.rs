//! Moving contents: the seam between deciding that a file's contents differ and getting them across.
//!
//! Grange does the namespace, a [`ContentMover`] the contents. It gets batches of paths of regular files whose
//! directories exist at the destination, and must make each appear whole under its name (by renaming), with owner,
//! mode, time, ACL and extended attributes of the source. The caller looks at the result itself: what a mover says
//! about failures is only the explanation for a file that did not arrive.

mod native;
mod orphan;
mod rsync;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use native::NativeMover;
pub use rsync::RsyncMover;

use crate::path::RelPath;
use crate::tree::Base;

/// Both ends of a job.
#[derive(Debug)]
pub struct Ends {
    /// Where contents come from.
    pub source: Base,
    /// Where they go.
    pub destination: Base,
}

/// What a group of files needs beyond contents, owner, mode and time; each costs system calls for every file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing: there are no extended attributes, ACLs or holes on either side.
    Plain,
    /// ACLs, extended attributes and holes.
    Full,
}

/// How far a running batch is, in bytes of contents.
#[derive(Debug, Default)]
pub struct MoveProgress {
    bytes: AtomicU64,
    total: Arc<AtomicU64>,
}

impl MoveProgress {
    /// Counts into `total`, which several batches share.
    pub fn counting_into(total: Arc<AtomicU64>) -> Self {
        Self { bytes: AtomicU64::new(0), total }
    }

    /// Bytes that have arrived so far, of files that may not be complete.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Notes how many bytes of the batch have arrived in all; never less than before.
    pub fn set_bytes(&self, bytes: u64) {
        let before = self.bytes.fetch_max(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes.saturating_sub(before), Ordering::Relaxed);
    }
}

/// What a mover said about a batch, for the report.
#[derive(Debug, Default)]
pub struct Messages {
    /// Lines about single files or the batch, in the mover's own words, at most [`MESSAGES_MAX`].
    pub lines: Vec<Vec<u8>>,
    /// The mover's judgement of the batch; `None` if it found everything in order.
    pub verdict: Option<String>,
}

/// Most lines of a mover that are kept for one batch; further ones are dropped.
pub const MESSAGES_MAX: usize = 10_000;

impl Messages {
    /// The line that speaks about `path`: the mover's own message for that file, made harmless for a terminal.
    pub fn about(&self, path: &RelPath) -> Option<String> {
        let plain = path.as_bytes();
        // rsync writes bytes that it finds unprintable as `\#ooo`.
        let print = |&b: &u8| if (b' '..0x7f).contains(&b) { vec![b] } else { format!("\\#{b:03o}").into_bytes() };
        let printed: Vec<u8> = plain.iter().flat_map(print).collect();
        let about = |line: &&Vec<u8>| [plain, &printed].iter().any(|name| speaks_about(line, name));
        self.lines.iter().find(about).map(|line| crate::path::escape(line))
    }
}

/// Whether a message names the file: `"dir/name"` below some base, or its temporary file `dir/.name.XXXXXX`.
fn speaks_about(line: &[u8], path: &[u8]) -> bool {
    let cut = path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    let temporary = [&path[..cut], b".", &path[cut..], b"."].concat();
    let before: [&[u8]; 3] = [b"/", b"\"", b" "];
    let after: [&[u8]; 3] = [b"\"", b":", b" "];
    before.iter().any(|b| {
        let named = [*b, path].concat();
        line.ends_with(&named)
            || after.iter().any(|a| contains(line, &[&named, *a].concat()))
            || contains(line, &[*b, &temporary].concat())
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Moves contents of regular files.
pub trait ContentMover: fmt::Debug + Send + Sync {
    /// Moves the files at `paths` and returns when all have been tried.
    ///
    /// Errors: only if the mover itself could not run. A file that did not arrive is no error of the call.
    fn move_files(
        &self,
        ends: &Arc<Ends>,
        paths: &[RelPath],
        detail: Detail,
        progress: &MoveProgress,
    ) -> Result<Messages, MoveError>;

    /// Whether it can move the file at `path`: not every mover takes paths of every length.
    fn takes(&self, path: &RelPath) -> bool;
}

/// Why a mover could not run.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The program is missing or cannot be started.
    #[error("cannot start rsync (3.2 or newer is needed)")]
    Start(#[source] io::Error),
    /// The program is older than 3.2.
    #[error("rsync is too old: {found}; 3.2 or newer is needed")]
    TooOld {
        /// The first line that it printed about itself.
        found: String,
    },
    /// Handing over the list or reading its output failed.
    #[error("cannot talk to rsync")]
    Talk(#[source] io::Error),
}
