//! Servers on ports of their own, which end with the value that holds them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::{Outcome, grange};

/// How long a server may take until it answers, and until it has ended.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server that serves until the value is dropped.
pub(crate) trait Server {
    /// The connection string.
    fn servers(&self) -> String;
}

/// Apache ZooKeeper, standalone.
pub(crate) struct Apache {
    server: crate::apache::Apache,
    _directory: TempDir,
}

impl Apache {
    /// Starts one, or returns `None` where it is not installed and `$GRANGE_TEST_APACHE` does not insist.
    pub(crate) fn start() -> Option<Apache> {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let server = crate::apache::Apache::start(directory.path())?;
        Some(Apache { server, _directory: directory })
    }
}

impl Server for Apache {
    fn servers(&self) -> String {
        self.server.address().to_string()
    }
}

/// `grange serve` on a free port.
pub(crate) struct GrangeServer {
    process: Child,
    address: String,
    /// Collects what the server prints, and ends with it.
    stderr: Option<JoinHandle<String>>,
}

/// A member of an ensemble, as its `zoo.cfg` says.
pub(crate) struct Member(GrangeServer);

impl Member {
    pub(crate) fn start(config: &Path) -> Member {
        let started = GrangeServer::spawn(grange().args(["serve", "--config"]).arg(config));
        Member(started.unwrap_or_else(|outcome| panic!("the member does not listen: {outcome}")))
    }

    /// Sends a signal, waits for the end, and returns what it came to.
    pub(crate) fn end(self, signal: Signal) -> Outcome {
        self.0.end(signal)
    }
}

impl Server for Member {
    fn servers(&self) -> String {
        self.0.servers()
    }
}

/// What a server can be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    Terminate,
    Interrupt,
    Kill,
    Stop,
    Continue,
}

impl GrangeServer {
    /// Starts one with these arguments besides `--listen`; returns once it has said that it listens.
    pub(crate) fn start(arguments: &[&str]) -> GrangeServer {
        Self::try_start(arguments).unwrap_or_else(|outcome| panic!("grange serve does not listen: {outcome}"))
    }

    /// Like [`GrangeServer::start`]; what came of it if it ended instead.
    pub(crate) fn try_start(arguments: &[&str]) -> Result<GrangeServer, Outcome> {
        Self::spawn(grange().args(["serve", "--listen", "127.0.0.1:0"]).args(arguments))
    }

    fn spawn(serve: &mut Command) -> Result<GrangeServer, Outcome> {
        let mut process = serve.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("grange starts");
        let lines = BufReader::new(process.stderr.take().expect("standard error is piped")).lines();
        let (listening, address) = mpsc::channel();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            for line in lines.map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on ") {
                    // Nobody waits for a second one.
                    let _ = listening.send(address.to_owned());
                }
                text += &format!("{line}\n");
            }
            text
        });
        match address.recv_timeout(PATIENCE) {
            Ok(address) => Ok(GrangeServer { process, address, stderr: Some(stderr) }),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = process.wait().expect("the process can be waited for").code();
                Err(Outcome { status, stdout: Vec::new(), stderr: stderr.join().expect("the reader does not panic") })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                end(&mut process);
                panic!("grange serve neither listens nor ends: {}", stderr.join().unwrap_or_default());
            }
        }
    }

    /// Starts one and kills it so long after, whether it listens by then or not.
    pub(crate) fn kill_while_it_starts(arguments: &[&str], delay: Duration) {
        let mut serve = grange();
        let serve = serve.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut process = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("grange starts");
        std::thread::sleep(delay);
        let ended = process.try_wait().expect("the process can be waited for");
        assert_eq!(ended, None, "it ended by itself");
        end(&mut process);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn send(&self, signal: Signal) {
        let name = match signal {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status();
        assert!(sent.is_ok_and(|status| status.success()), "the server has ended before the signal");
    }

    /// Sends a signal, waits for the end, and returns what it came to.
    pub(crate) fn end(mut self, signal: Signal) -> Outcome {
        self.send(signal);
        let status = self.wait();
        let stderr = self.stderr.take().expect("a server ends once").join().expect("the reader does not panic");
        Outcome { status: status.code(), stdout: Vec::new(), stderr }
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("the process can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "grange serve has not ended after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Server for GrangeServer {
    fn servers(&self) -> String {
        self.address.clone()
    }
}

impl Drop for GrangeServer {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn end(process: &mut Child) {
    // Both fail only if the process has ended by itself.
    let _ = process.kill();
    let _ = process.wait();
}
