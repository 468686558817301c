//! A tool that runs a command, while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tempfile::TempDir;

use crate::program::{Outcome, grange, run};
use crate::server::{GrangeServer, Server, Signal};

/// Our server with its data.
pub(crate) struct Ours {
    server: GrangeServer,
    _data: TempDir,
}

impl Ours {
    pub(crate) fn start() -> Ours {
        Ours::configured("")
    }

    /// Starts one with these lines in its `zoo.cfg`.
    pub(crate) fn configured(settings: &str) -> Ours {
        let directory = tempfile::tempdir().unwrap();
        let (data, config) = (directory.path().join("data"), directory.path().join("zoo.cfg"));
        std::fs::write(&config, format!("dataDir={}\n{settings}", data.display())).unwrap();
        let server = GrangeServer::start(&["--config", config.to_str().unwrap()]);
        Ours { server, _data: directory }
    }

    /// Lets it answer nobody from now on, without closing connections.
    pub(crate) fn stop(&self) {
        self.server.send(Signal::Stop);
    }

    /// Ends [`Ours::stop`].
    pub(crate) fn go_on(&self) {
        self.server.send(Signal::Continue);
    }
}

impl Server for Ours {
    fn servers(&self) -> String {
        self.server.servers()
    }
}

/// Runs a subcommand to its end.
pub(crate) fn on(server: &dyn Server, arguments: &[&str]) -> Outcome {
    run(grange().env("GRANGE_SERVERS", server.servers()).args(arguments), b"")
}

/// How long a subcommand may run; then it is killed, and the test sees how it ended.
const PATIENCE: Duration = Duration::from_secs(120);

/// A subcommand whose command says words on standard output when it runs. It does not outlive the value.
pub(crate) struct Running {
    process: Child,
    /// Dropped before the process is waited for: its number may belong to another one afterwards.
    watchdog: Option<Sender<()>>,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn start(server: &dyn Server, arguments: &[&str]) -> Running {
        let mut command = grange();
        command.env("GRANGE_SERVERS", server.servers()).args(arguments);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (watchdog, ended) = channel();
        let id = process.id();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                send("KILL", id);
            }
        });
        Running { process, watchdog: Some(watchdog), stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the next line of the command.
    pub(crate) fn line(&mut self) -> String {
        line(&mut self.stdout)
    }

    /// Waits for the next line on standard error.
    pub(crate) fn message(&mut self) -> String {
        line(&mut self.stderr)
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(send(name, self.process.id()), "it has ended before the signal");
    }

    /// Waits for the end; what was read as lines is not in the outcome.
    pub(crate) fn end(mut self) -> Outcome {
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        std::thread::scope(|scope| {
            scope.spawn(|| self.stderr.read_to_string(&mut stderr).unwrap());
            self.stdout.read_to_end(&mut stdout).unwrap();
        });
        self.watchdog = None;
        Outcome { status: self.process.wait().unwrap().code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watchdog = None;
        // Both fail only if it has been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn send(signal: &str, process: u32) -> bool {
    Command::new("sh").arg("-c").arg(format!("kill -{signal} {process}")).status().unwrap().success()
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
