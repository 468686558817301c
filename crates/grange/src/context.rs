//! What a command knows about the process it runs in.

use std::io::{self, IsTerminal};

/// The surroundings of a command: which of its three streams is a person's terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    /// Questions can be answered.
    pub(crate) is_stdin_terminal: bool,
    /// Data is for a person's eyes.
    pub(crate) is_stdout_terminal: bool,
    /// Messages and progress are for a person's eyes.
    pub(crate) is_stderr_terminal: bool,
}

impl Context {
    /// Looks at the process.
    pub(crate) fn from_process() -> Context {
        Context {
            is_stdin_terminal: io::stdin().is_terminal(),
            is_stdout_terminal: io::stdout().is_terminal(),
            is_stderr_terminal: io::stderr().is_terminal(),
        }
    }

    /// Returns true if a question can be shown to a person and answered.
    pub(crate) fn can_ask(&self) -> bool {
        self.is_stdin_terminal && self.is_stderr_terminal
    }
}
