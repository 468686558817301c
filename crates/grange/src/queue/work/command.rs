//! One run of the command for one item: in a process group of its own, with the item on standard input.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::command::orphan::dies_with_parent;

/// The variables by which a command knows its item.
const QUEUE: &str = "GRANGE_QUEUE";
const NAME: &str = "GRANGE_ITEM";
const ATTEMPT: &str = "GRANGE_ATTEMPT";

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
}

/// What a command is told of its item.
pub(super) struct About<'a> {
    pub(super) queue: &'a str,
    pub(super) name: &'a str,
    /// 1 for the first time.
    pub(super) attempt: u32,
}

impl Running {
    /// Starts the command; the kernel kills it if this process dies, so that nobody works on an item that comes back.
    pub(super) fn start(command: &[OsString], about: &About<'_>) -> io::Result<Running> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut start = Command::new(program);
        start.args(arguments).stdin(Stdio::piped()).process_group(0).kill_on_drop(true);
        start.env(QUEUE, about.queue).env(NAME, about.name).env(ATTEMPT, about.attempt.to_string());
        // The thread that starts it is one of the runtime's, and lives as long as that.
        dies_with_parent(start.as_std_mut());
        let child = start.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Running { child, group })
    }

    /// Hands over the item, and waits for the end. A command need not read its input.
    pub(super) async fn finish(&mut self, item: &[u8]) -> io::Result<ExitStatus> {
        let mut input = self.child.stdin.take();
        let write = async {
            if let Some(mut input) = input.take() {
                // A command that has seen enough closes its input.
                let _ = input.write_all(item).await;
            }
        };
        let (status, ()) = tokio::join!(self.child.wait(), write);
        status
    }

    /// Asks the command and all that it started to end, and ends them after `grace`.
    pub(super) async fn end(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        if timeout(grace, self.child.wait()).await.is_err() {
            self.send(Signal::KILL);
            // It cannot refuse.
            let _ = self.child.wait().await;
        }
    }

    fn send(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It fails only if there is nobody left.
            let _ = kill_process_group(group, signal);
        }
    }
}
