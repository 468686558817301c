//! The command as a process group.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fmt, io};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpgrp, kill_process_group, waitid, waitpid};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::orphan::dies_with_parent;
use super::signals::{self, Signals};
use super::terminal;

/// What happens to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// It has ended.
    Ended(Status),
    /// A signal has stopped it.
    Stopped,
}

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Exited(i32),
    Killed(i32),
}

impl Status {
    /// Returns the exit status by which a shell would report it.
    pub(crate) fn code(self) -> u8 {
        let code = match self {
            Status::Exited(code) => code,
            Status::Killed(signal) => 128 + signal,
        };
        u8::try_from(code & 0xff).expect("eight bits fit")
    }

    pub(crate) fn is_success(self) -> bool {
        self == Status::Exited(0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Exited(code) => write!(f, "status {code}"),
            Status::Killed(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What a command reads from standard input.
#[derive(Debug)]
pub(crate) enum Input {
    /// The same as we do. If that is a terminal that we have, the command gets it.
    Ours,
    /// These bytes. It need not read them.
    Bytes(Vec<u8>),
}

/// A command that runs. Dropping the value kills it: without us it must not go on.
#[derive(Debug)]
pub(crate) struct Child {
    group: Pid,
    events: mpsc::UnboundedReceiver<Event>,
    has_ended: bool,
    /// Writes its input, if that is not ours.
    writer: Option<AbortHandle>,
    /// How long it may take to end after it has got a signal that asks it to.
    patience: Option<Duration>,
    kill_at: Option<Instant>,
    /// A stop is ours too, until SIGCONT.
    are_stopped: bool,
}

impl Child {
    /// Starts a command in a process group of its own.
    ///
    /// To be called on a thread that lives as long as we do, such as the main one: the kernel kills the command when the
    /// thread that started it ends.
    pub(crate) fn start(command: &[OsString], environment: &[(&str, String)], input: Input) -> io::Result<Child> {
        let (program, arguments) = command.split_first().expect("the arguments demand a command");
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value))).process_group(0);
        if let Input::Bytes(_) = input {
            command.stdin(Stdio::piped());
        }
        let mut started = dies_with_parent(&mut command).spawn()?;
        let group = i32::try_from(started.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        let (sender, events) = mpsc::unbounded_channel();
        let mut child =
            Child { group, events, has_ended: false, writer: None, patience: None, kill_at: None, are_stopped: false };
        // An error from here on drops the child, which kills it.
        std::thread::Builder::new().name("command".into()).spawn(move || watch(group, &sender))?;
        if let (Input::Bytes(bytes), Some(pipe)) = (input, started.stdin.take()) {
            child.writer = Some(write(ChildStdin::from_std(pipe)?, bytes));
        }
        child.resume();
        Ok(child)
    }

    /// Has it killed when it has not ended so long after a signal that asks it to was passed on.
    pub(crate) fn with_patience(mut self, patience: Duration) -> Child {
        self.patience = Some(patience);
        self
    }

    /// Waits for the end, and passes on the signals that come meanwhile. Dropping the future loses nothing.
    pub(crate) async fn run(&mut self, signals: &mut Signals) -> Status {
        loop {
            tokio::select! {
                status = self.ended() => return status,
                signal = signals.next() => self.pass_on(signal),
            }
        }
    }

    /// Waits for the end, once. Dropping the future loses nothing.
    pub(crate) async fn ended(&mut self) -> Status {
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(Event::Ended(status)) => {
                        self.has_ended = true;
                        return status;
                    }
                    Some(Event::Stopped) => self.stopped(),
                    None => std::future::pending().await,
                },
                () = sleep_until(self.kill_at.unwrap_or_else(Instant::now)), if self.kill_at.is_some() => {
                    self.kill_at = None;
                    self.send(Signal::KILL);
                }
            }
        }
    }

    /// Asks it and everything in its group to end, and kills them all after `grace`.
    pub(crate) fn end_within(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        self.kill_after(grace);
    }

    /// Kills the command and everything in its group.
    pub(crate) fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn kill_after(&mut self, grace: Duration) {
        // One that is stopped would not see what it was asked.
        self.send(Signal::CONT);
        self.kill_at.get_or_insert(Instant::now() + grace);
    }

    fn pass_on(&mut self, signal: Signal) {
        match signal {
            Signal::CONT => {
                self.are_stopped = false;
                self.resume();
            }
            Signal::TSTP => self.stop(),
            signal => self.send(signal),
        }
        if let Some(patience) = self.patience
            && signals::asks_to_end(signal)
        {
            self.kill_after(patience);
        }
    }

    /// Sends a signal to the command and everything in its group.
    fn send(&self, signal: Signal) {
        // Fails only if all of them have ended.
        let _ = kill_process_group(self.group, signal);
    }

    /// Tells whether the command uses our terminal, when we have it.
    fn shares_terminal(&self) -> bool {
        self.writer.is_none() && terminal::is_there()
    }

    /// Lets the command go on, in the foreground if we are there.
    fn resume(&self) {
        if self.shares_terminal() && terminal::belongs_to(getpgrp()) {
            terminal::give(self.group);
        }
        // One that read from the terminal before it had it was stopped.
        self.send(Signal::CONT);
    }

    /// Takes the terminal back if the command has it.
    fn take_terminal_back(&self) {
        if terminal::belongs_to(self.group) {
            terminal::give(getpgrp());
        }
    }

    /// Stops the command, and us too: with a terminal as soon as it has stopped.
    fn stop(&mut self) {
        self.send(Signal::TSTP);
        if !self.shares_terminal() {
            self.are_stopped = true;
            signals::stop();
        }
    }

    /// After the command has stopped: stops our own process group too, as Ctrl-Z would have done if the command were in
    /// it, so that the shell notices. Without a terminal it was stopped by somebody who meant it alone.
    fn stopped(&mut self) {
        // One of several stops may be reported only when we have been continued.
        if self.are_stopped || !self.is_stopped() {
            return;
        }
        if self.shares_terminal() {
            self.are_stopped = true;
            self.take_terminal_back();
            // Fails only if there is no such group, and we are in it.
            let _ = kill_process_group(getpgrp(), Signal::STOP);
        } else if self.writer.is_some() {
            warn!(pid = self.group.as_raw_pid(), "the command is stopped; it cannot have the terminal");
        }
    }

    /// Tells whether the command is stopped now, as the kernel shows it.
    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.group.as_raw_pid())).unwrap_or_default();
        // Behind the name, which may contain anything.
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
        if !self.has_ended {
            self.send(Signal::KILL);
        }
        self.take_terminal_back();
        // Until now its process id, and so the group's, could not be given to anybody else.
        let _ = waitpid(Some(self.group), WaitOptions::empty());
    }
}

/// Writes what the command is to read, in the background.
fn write(mut pipe: ChildStdin, bytes: Vec<u8>) -> AbortHandle {
    let written = tokio::spawn(async move {
        // A command that has seen enough closes its input.
        let _ = pipe.write_all(&bytes).await;
    });
    written.abort_handle()
}

/// Reports what happens to a child, until it has ended; it is left to be waited for.
fn watch(child: Pid, events: &mpsc::UnboundedSender<Event>) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    loop {
        let status = match waitid(WaitId::Pid(child), options) {
            Ok(Some(status)) => status,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            // It has been waited for.
            Err(_) => return,
        };
        let event = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Event::Ended(Status::Exited(code)),
            (None, Some(signal)) => Event::Ended(Status::Killed(signal)),
            (None, None) => {
                // Takes note of the stop and of nothing else.
                let _ = waitid(WaitId::Pid(child), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
                Event::Stopped
            }
        };
        if events.send(event).is_err() || matches!(event, Event::Ended(_)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: Input) -> Child {
        let command: Vec<OsString> = ["sh", "-c", script].into_iter().map(OsString::from).collect();
        Child::start(&command, &[], input).unwrap()
    }

    #[tokio::test]
    async fn a_command_need_not_read_its_input() {
        let input = vec![b'x'; 1 << 20];
        assert_eq!(shell("test $(wc -c) = 1048576", Input::Bytes(input.clone())).ended().await, Status::Exited(0));
        assert_eq!(shell("exit 3", Input::Bytes(input)).ended().await, Status::Exited(3));
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_killed_when_patience_is_over() {
        // It is stopped when it no longer minds SIGTERM; again, because starting it may have continued it.
        let script = "trap '' TERM; while :; do kill -STOP $$; done";
        let mut stubborn = shell(script, Input::Bytes(Vec::new())).with_patience(Duration::from_millis(100));
        let Some(Event::Stopped) = stubborn.events.recv().await else { panic!("it has not stopped") };
        stubborn.pass_on(Signal::TERM);
        assert_eq!(stubborn.ended().await, Status::Killed(Signal::KILL.as_raw()));
    }
}
