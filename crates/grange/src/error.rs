//! Why a command ends without success: a kind, which is the exit status, a chain of causes, and hints.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// What an unsuccessful end means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Whoever read the output has seen enough; not an error. Exit status 0.
    ClosedPipe,
    /// The question was answered, with no. Exit status 1.
    Negative,
    /// The same, and what was printed, or not, says so. Exit status 1.
    SilentlyNegative,
    /// Something is different from what a file says, and the output says what; not an error. Exit status 2.
    Differs,
    /// Arguments, the environment or a configuration file are wrong. Exit status 2.
    Usage,
    /// Everything else. Exit status 3.
    Failure,
    /// Ctrl-C. Exit status 130, as shells have it.
    Interrupted,
    /// A command that ran under this one has ended like this, and has said why itself.
    Command(u8),
}

impl ErrorKind {
    fn status(self) -> u8 {
        match self {
            ErrorKind::ClosedPipe => 0,
            ErrorKind::Negative | ErrorKind::SilentlyNegative => 1,
            ErrorKind::Differs | ErrorKind::Usage => 2,
            ErrorKind::Failure => 3,
            ErrorKind::Interrupted => 130,
            ErrorKind::Command(status) => status,
        }
    }
}

/// The unsuccessful end of a command.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: ErrorKind,
    cause: anyhow::Error,
    hints: Vec<String>,
    is_shown: bool,
    /// Instead of that of the kind.
    status: Option<u8>,
}

impl CommandError {
    /// An answer that is no: there is no such znode.
    pub(crate) fn negative(cause: impl Into<anyhow::Error>) -> CommandError {
        CommandError::new(ErrorKind::Negative, cause)
    }

    /// An answer that is no where printing nothing says it: nothing was found.
    pub(crate) fn silently_negative() -> CommandError {
        CommandError::new(ErrorKind::SilentlyNegative, anyhow::anyhow!("nothing was found"))
    }

    /// Tells whether the question was answered, with no.
    pub(crate) fn is_negative(&self) -> bool {
        matches!(self.kind, ErrorKind::Negative | ErrorKind::SilentlyNegative)
    }

    /// A mistake in arguments, environment or configuration.
    pub(crate) fn usage(cause: impl Into<anyhow::Error>) -> CommandError {
        CommandError::new(ErrorKind::Usage, cause)
    }

    /// Something that went wrong.
    pub(crate) fn failure(cause: impl Into<anyhow::Error>) -> CommandError {
        CommandError::new(ErrorKind::Failure, cause)
    }

    /// Somebody stopped it.
    pub(crate) fn interrupted(cause: impl Into<anyhow::Error>) -> CommandError {
        CommandError::new(ErrorKind::Interrupted, cause)
    }

    /// Tells whether somebody stopped it.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.kind == ErrorKind::Interrupted
    }

    /// The end of a command that has printed differences.
    pub(crate) fn differs() -> CommandError {
        CommandError::new(ErrorKind::Differs, anyhow::anyhow!("there are differences"))
    }

    /// The same error with exit status 3, where 2 has a meaning of its own.
    pub(crate) fn into_failure(mut self) -> CommandError {
        self.kind = ErrorKind::Failure;
        self
    }

    /// Standard output cannot be written; a reader that has gone away is no error.
    pub(crate) fn output(cause: io::Error) -> CommandError {
        match cause.kind() {
            io::ErrorKind::BrokenPipe => CommandError::new(ErrorKind::ClosedPipe, cause),
            _ => CommandError::failure(cause).context("cannot write to standard output"),
        }
    }

    /// A command that ran under this one, and ended with this status.
    pub(crate) fn status(status: u8) -> CommandError {
        CommandError::new(ErrorKind::Command(status), anyhow::anyhow!("the command ended with status {status}"))
    }

    fn new(kind: ErrorKind, cause: impl Into<anyhow::Error>) -> CommandError {
        CommandError { kind, cause: cause.into(), hints: Vec::new(), is_shown: false, status: None }
    }

    /// Ends with another exit status than is usual.
    pub(crate) fn with_status(mut self, status: u8) -> CommandError {
        self.status = Some(status);
        self
    }

    /// Says what was being done when it happened.
    pub(crate) fn context(mut self, doing: impl fmt::Display + Send + Sync + 'static) -> CommandError {
        self.cause = self.cause.context(doing);
        self
    }

    /// Tells whether the reader of the output has gone away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.kind == ErrorKind::ClosedPipe
    }

    /// Tells whether nothing is printed about it.
    pub(crate) fn is_silent(&self) -> bool {
        let says_nothing =
            [ErrorKind::ClosedPipe, ErrorKind::SilentlyNegative, ErrorKind::Differs].contains(&self.kind);
        says_nothing || matches!(self.kind, ErrorKind::Command(_)) || self.is_shown
    }

    /// Says that it was printed already: only the exit status is left.
    pub(crate) fn shown(mut self) -> CommandError {
        self.is_shown = true;
        self
    }

    /// Adds advice: what to look at, or the next command to type.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hints.push(hint.into());
        self
    }

    /// Returns what happened with its causes, in one line and without the hints.
    pub(crate) fn headline(&self) -> String {
        format!("{:#}", self.cause)
    }

    /// Prints the error with its causes and hints, and returns the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.is_silent() {
            // There is nobody left to tell when standard error cannot be written.
            let _ = io::stderr().lock().write_all(self.to_string().as_bytes());
        }
        ExitCode::from(self.status.unwrap_or(self.kind.status()))
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {:#}", self.cause)?;
        for hint in &self.hints {
            writeln!(f, "hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_its_causes_and_hints() {
        let error =
            CommandError::failure(io::Error::other("disk on fire")).context("cannot save").hint("call for help");
        assert_eq!(error.to_string(), "error: cannot save: disk on fire\nhint: call for help\n");
        assert_eq!(error.kind.status(), 3);
    }

    #[test]
    fn a_reader_that_has_gone_away_is_no_error() {
        let error = CommandError::output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.kind.status(), 0);
    }
}
