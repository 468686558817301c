//! The checkers: what must hold whatever happens. Each has a name, which a failing seed prints.

mod history;
mod members;
mod model;
mod replay;
mod watch;

pub(crate) use history::{Applied, History};
pub(crate) use members::parse as parse_members;
pub(crate) use model::Model;
pub(crate) use replay::{Frame, FrameKind, Observed, OpRecord, Reply, replay};

use std::fmt;

use crate::queue::Micros;

/// What a checker found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The checker's name.
    pub checker: &'static str,
    /// When it happened.
    pub at: Micros,
    /// What is wrong.
    pub what: String,
}

impl Violation {
    /// Makes one.
    pub fn new(checker: &'static str, at: Micros, what: impl Into<String>) -> Violation {
        Violation { checker, at, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}.{:06} s: {}", self.checker, self.at / 1_000_000, self.at % 1_000_000, self.what)
    }
}

impl std::error::Error for Violation {}
