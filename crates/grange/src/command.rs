//! Running a command for somebody: what `lock`, `semaphore`, `elect` and others have in common.
//!
//! The command is a process group of its own ([`child`]). It gets the terminal if we have it ([`terminal`]) and the
//! signals that we get ([`signals`]), and ends with us ([`orphan`]).

mod child;
pub(crate) mod orphan;
mod signals;
mod terminal;

pub(crate) use self::child::{Child, Event, Status};
pub(crate) use self::signals::Signals;
