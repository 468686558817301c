//! Running a command for somebody: what `lock`, `semaphore`, `elect`, `barrier`, `watch` and `queue work` have in common.
//!
//! The command is a process group of its own ([`child`]). It gets the signals that we get ([`signals`]), the terminal if
//! we have it and its standard input is ours ([`terminal`]), and ends with us ([`orphan`]).

mod child;
mod orphan;
mod signals;
mod terminal;
mod under;

use std::ffi::OsString;
use std::io;

use anyhow::anyhow;
use rustix::process::Signal;

pub(crate) use self::child::{Child, Input, Status};
pub(crate) use self::signals::{Request, Signals};
pub(crate) use self::under::Turn;
use crate::error::CommandError;
use crate::output::harmless_line;

/// The exit status of a shell for a command that is not there, and for one that cannot be run.
const STATUS_NOT_FOUND: u8 = 127;
const STATUS_NOT_EXECUTABLE: u8 = 126;

/// Ends because the command could not be started, with the status that a shell has for that.
pub(crate) fn cannot_start(command: &[OsString], error: &io::Error) -> CommandError {
    let status = match error.kind() {
        io::ErrorKind::NotFound => STATUS_NOT_FOUND,
        _ => STATUS_NOT_EXECUTABLE,
    };
    CommandError::failure(anyhow!("{error}")).context(cannot_run(command)).with_status(status)
}

/// Says that a command cannot be run.
pub(crate) fn cannot_run(command: &[OsString]) -> String {
    let program = command.first().map(|program| harmless_line(&program.to_string_lossy()));
    format!("cannot run {}", program.unwrap_or_default())
}

/// Ends as the command has.
pub(crate) fn ended(status: Status) -> Result<(), CommandError> {
    match status.code() {
        0 => Ok(()),
        code => Err(CommandError::status(code)),
    }
}

/// Ends as a signal that is not caught would have ended us.
pub(crate) fn ended_by(signal: Signal) -> CommandError {
    CommandError::status(Status::Killed(signal.as_raw()).code())
}
