//! Standard output and standard error of zkCli: as they are when piped, made harmless on a terminal.

use std::io::{self, Write};

use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};

/// Both streams. What is written to one is flushed before the other is written to, so that a terminal shows the order.
pub(super) struct Printer {
    cx: Context,
    out: Output,
}

impl Printer {
    pub(super) fn new(cx: &Context) -> Printer {
        Printer { cx: *cx, out: Output::new(cx) }
    }

    /// Prints a line.
    pub(super) fn line(&mut self, text: &str) -> Result<(), CommandError> {
        self.out.line(text)
    }

    /// Prints text that may have line breaks, and a line break.
    pub(super) fn text(&mut self, text: &str) -> Result<(), CommandError> {
        self.out.text(text)
    }

    /// Prints text without a line break, at once.
    pub(super) fn fragment(&mut self, text: &str) -> Result<(), CommandError> {
        self.out.fragment(text)?;
        self.out.flush()
    }

    /// Prints a message on standard error.
    pub(super) fn message(&mut self, text: &str) -> Result<(), CommandError> {
        self.out.flush()?;
        let text = if self.cx.is_stderr_terminal { harmless_lines(text) } else { text.to_owned() };
        // There is nobody left to tell when standard error cannot be written.
        let _ = writeln!(io::stderr().lock(), "{text}");
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), CommandError> {
        self.out.flush()
    }
}

fn harmless_lines(text: &str) -> String {
    text.split('\n').map(harmless_line).collect::<Vec<_>>().join("\n")
}
