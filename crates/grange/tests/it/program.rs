//! Runs the program under test.

use std::fmt;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Outcome {
        Outcome {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    }
}

impl Outcome {
    /// Returns standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|_| panic!("this is no JSON: {self}"))
    }
}

/// The form that expectations are written in.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.stdout))?;
        for line in self.stderr.lines() {
            writeln!(f, "! {line}")?;
        }
        match self.status {
            Some(0) => Ok(()),
            Some(status) => writeln!(f, "exit {status}"),
            None => writeln!(f, "ended by a signal"),
        }
    }
}

/// Returns the program, without the variables that a developer may have set.
pub(crate) fn grange() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grange"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GRANGE_") || text == "ZKHOST" {
            command.env_remove(name);
        }
    }
    // Nor a file of settings.
    command.env("GRANGE_CONFIG", "/dev/null");
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end, with `input` on standard input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Outcome {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("grange starts");
    // A program that does not read its input closes the pipe.
    let _ = child.stdin.take().expect("standard input is piped").write_all(input);
    child.wait_with_output().expect("grange ends").into()
}
