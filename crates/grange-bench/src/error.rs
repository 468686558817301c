//! Why a benchmark could not be run.
//!
//! What goes wrong *during* a measurement is a result, not an error: see [`crate::Failures`].

use std::io;
use std::net::SocketAddr;

use grange_proto::{DecodeError, ErrorCode};

/// Why a benchmark could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The plan contradicts itself.
    #[error("{0}")]
    Plan(String),
    /// No connection to a server.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// A connection without a session.
    #[error("no session on {address}: {reason}")]
    Handshake {
        /// The server.
        address: SocketAddr,
        /// What it answered instead.
        reason: String,
    },
    /// The znodes to work on could not be made or deleted.
    #[error("cannot {what} {path}: {code}")]
    Tree {
        /// What was tried.
        what: &'static str,
        /// The znode.
        path: String,
        /// The server's answer.
        code: ErrorText,
    },
    /// A znode of somebody else's is in the way.
    #[error("{0} exists and was not made by this benchmark; name another root")]
    NotOurs(String),
    /// The znodes to work on could not all be made.
    #[error("the preload failed: {0}")]
    Preload(String),
    /// A reply that is not what the protocol prescribes.
    #[error("a reply to the control connection cannot be read")]
    Reply(#[from] DecodeError),
    /// A system call failed.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The process whose cost was asked for cannot be read.
    #[error("cannot read the process {pid}")]
    Process {
        /// The process.
        pid: u32,
        /// The reason.
        source: io::Error,
    },
}

/// An error code of the protocol as text, known or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorText(pub i32);

impl std::fmt::Display for ErrorText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match ErrorCode::from_code(self.0) {
            Some(code) => write!(f, "{code} ({})", self.0),
            None => write!(f, "error {}", self.0),
        }
    }
}
