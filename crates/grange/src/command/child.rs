//! The command as a process group.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpgrp, kill_process_group, waitid, waitpid};
use tokio::sync::mpsc;

use super::orphan::dies_with_parent;
use super::{signals, terminal};

/// What happens to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
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
}

/// A command that runs. Dropping the value kills it: without us it must not go on.
#[derive(Debug)]
pub(crate) struct Child {
    group: Pid,
    events: mpsc::UnboundedReceiver<Event>,
    has_ended: bool,
}

impl Child {
    /// Starts a command in a process group of its own, which gets the terminal if we have it.
    ///
    /// To be called on the main thread: the kernel kills the command when the thread that started it ends.
    pub(crate) fn start(command: &[OsString], environment: &[(&str, String)]) -> io::Result<Child> {
        let (program, arguments) = command.split_first().expect("the arguments demand a command");
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value))).process_group(0);
        let child = dies_with_parent(&mut command).spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        let (sender, events) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("command".into()).spawn(move || watch(group, &sender))?;
        let child = Child { group, events, has_ended: false };
        child.resume();
        Ok(child)
    }

    /// Returns what happens next. Nothing does after the end.
    pub(crate) async fn event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => {
                self.has_ended |= matches!(event, Event::Ended(_));
                event
            }
            None => std::future::pending().await,
        }
    }

    /// Sends a signal to the command and everything in its group.
    pub(crate) fn send(&self, signal: Signal) {
        // Fails only if all of them have ended.
        let _ = kill_process_group(self.group, signal);
    }

    /// Lets the command go on, in the foreground if we are there.
    pub(crate) fn resume(&self) {
        if terminal::belongs_to(getpgrp()) {
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
    pub(crate) fn stop(&self) {
        self.send(Signal::TSTP);
        if !terminal::is_there() {
            signals::stop();
        }
    }

    /// After the command has stopped: stops our own process group too, as Ctrl-Z would have done if the command were in
    /// it, so that the shell notices. Without a terminal it was stopped by somebody who meant it alone. Returns true if
    /// we are going to be stopped, until SIGCONT.
    pub(crate) fn stopped(&self) -> bool {
        let is_meant = terminal::is_there() && self.is_stopped();
        if is_meant {
            self.take_terminal_back();
            // Fails only if there is no such group, and we are in it.
            let _ = kill_process_group(getpgrp(), Signal::STOP);
        }
        is_meant
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
        if !self.has_ended {
            self.send(Signal::KILL);
        }
        self.take_terminal_back();
        // Until now its process id, and so the group's, could not be given to anybody else.
        let _ = waitpid(Some(self.group), WaitOptions::empty());
    }
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
