//! Lines from a pipe or a file, with their numbers.

use std::io::{self, BufRead, Read};

use tokio::sync::mpsc;

use crate::error::CommandError;

/// The most bytes of a line; a longer one ends the script.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The lines.
pub(super) struct Script {
    lines: mpsc::Receiver<io::Result<String>>,
    number: usize,
}

impl Script {
    /// Begins to read standard input, one line ahead.
    pub(super) fn start() -> Script {
        let (sender, lines) = mpsc::channel(1);
        std::thread::spawn(move || {
            let mut input = io::stdin().lock();
            loop {
                let mut line = Vec::new();
                let line = match (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                    Ok(0) => return,
                    Ok(_) if line.len() as u64 == LINE_BYTES_MAX => Err(io::Error::other("the line is too long")),
                    Ok(_) => String::from_utf8(line).map_err(|_| io::Error::other("the line is not UTF-8")),
                    Err(error) => Err(error),
                };
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Script { lines, number: 0 }
    }

    /// Returns the next line, or `None` at the end.
    pub(super) async fn line(&mut self) -> Result<Option<String>, CommandError> {
        self.number += 1;
        match self.lines.recv().await {
            None => Ok(None),
            Some(Ok(line)) => Ok(Some(line)),
            Some(Err(error)) => Err(self.locate(CommandError::failure(error))),
        }
    }

    /// Says in which line an error happened.
    pub(super) fn locate(&self, error: CommandError) -> CommandError {
        error.context(format!("line {}", self.number))
    }
}
