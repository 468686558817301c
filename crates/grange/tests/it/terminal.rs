//! A terminal of its own for a program, which can be seen and typed on.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long a terminal may show nothing that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal, made by `script`, and what it has been sent.
pub(crate) struct Terminal {
    child: Child,
    input: Option<ChildStdin>,
    pieces: Receiver<Vec<u8>>,
    shown: String,
    /// How much of it was seen before something was typed.
    seen: usize,
}

impl Terminal {
    /// Runs a line of shell on one; `script` has the program's name and its environment.
    pub(crate) fn start(script: &mut Command, line: &str) -> Terminal {
        script.args(["-qec", line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = script.spawn().unwrap();
        let (input, mut output) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut piece) {
                sender.send(piece[..read].to_vec()).unwrap_or_default();
            }
        });
        Terminal { child, input, pieces, shown: String::new(), seen: 0 }
    }

    /// Waits until something is shown that was not there when something was typed last.
    pub(crate) fn wait_for(&mut self, awaited: &str) {
        while !self.shown[self.seen..].contains(awaited) {
            let Ok(piece) = self.pieces.recv_timeout(PATIENCE) else {
                self.child.kill().unwrap();
                panic!("no {awaited:?} in {:?}", self.shown);
            };
            self.shown += &String::from_utf8_lossy(&piece);
        }
    }

    /// Types text.
    pub(crate) fn enter(&mut self, text: &str) {
        self.look_away();
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// What has been shown so far is not waited for any more.
    pub(crate) fn look_away(&mut self) {
        self.seen = self.shown.len();
    }

    /// Returns all that has been shown so far.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Types nothing any more, waits for the end, and returns all that was shown.
    pub(crate) fn end(mut self) -> String {
        self.input = None;
        self.child.wait().unwrap();
        while let Ok(piece) = self.pieces.recv() {
            self.shown += &String::from_utf8_lossy(&piece);
        }
        self.shown.replace("\r\n", "\n")
    }
}
