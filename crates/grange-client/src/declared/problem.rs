//! What is wrong with a file, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    file: Arc<Path>,
    line_number: usize,
}

impl Location {
    /// The line `line_number`, counted from 1.
    pub(crate) fn new(file: Arc<Path>, line_number: usize) -> Location {
        Location { file, line_number }
    }
}

/// `FILE:LINE`, as compilers write it.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line_number)
    }
}

/// One mistake in a file. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub location: Location,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(location: &Location, message: impl Into<String>) -> Problem {
        Problem { location: location.clone(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

/// Why there is no declaration.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is longer than [`FILE_BYTES_MAX`](super::file::FILE_BYTES_MAX).
    #[error("{} is longer than {limit} bytes", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit: u64,
    },
    /// Everything that is wrong with the files, in their order.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
    /// An overlay is laid over a file of zkinitree's, or is one.
    #[error("{}: overlays and variables belong to the TOML form", .0.display())]
    NoOverlays(PathBuf),
    /// A variable on the command line is not `NAME=VALUE`.
    #[error("'{0}' is not of the form NAME=VALUE")]
    Variable(String),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
