//! The signals that are passed on to the command.

use std::io;

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that arrive faster than they are passed on, beyond so many, are dropped: like the kernel, which keeps one of
/// each kind.
const WAITING_MAX: usize = 64;

/// What is passed on. `SIGTSTP` stops us too, and `SIGCONT` continues us.
const PASSED_ON: [Signal; 10] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::WINCH,
    Signal::TSTP,
    Signal::CONT,
];

/// What a signal asks of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// To end in order.
    End,
    /// To read again what it was configured with.
    Reload,
    /// To go on with what it has refused.
    Accept,
}

/// The signals sent to this process, from when the value was made.
#[derive(Debug)]
pub(crate) struct Signals {
    receiver: mpsc::Receiver<Signal>,
    /// The last one that asked us to end, SIGHUP only if there was no other.
    asked_by: Option<Signal>,
}

impl Signals {
    /// Catches all of them, except those that whoever started us wants ignored (`nohup`).
    pub(crate) fn catch() -> io::Result<Signals> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let ignored = ignored();
        for number in PASSED_ON.into_iter().filter(|number| ignored & mask(*number) == 0) {
            let mut arrivals = signal(SignalKind::from_raw(number.as_raw()))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while arrivals.recv().await.is_some() {
                    // Full: as good as passed on, see WAITING_MAX.
                    let _ = sender.try_send(number);
                }
            });
        }
        Ok(Signals { receiver, asked_by: None })
    }

    /// Returns the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.receiver.recv().await {
            Some(signal) => {
                if asks_to_end(signal) && (signal != Signal::HUP || self.asked_by.is_none()) {
                    self.asked_by = Some(signal);
                }
                signal
            }
            // Every one is ignored.
            None => std::future::pending().await,
        }
    }

    /// Returns the next one that asks us to end.
    pub(crate) async fn end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if asks_to_end(signal) {
                return signal;
            }
            if signal == Signal::TSTP {
                stop();
            }
        }
    }

    /// Returns what a service is asked to do next. It ends on SIGTERM, SIGINT and SIGQUIT.
    pub(crate) async fn request(&mut self) -> Request {
        loop {
            match self.next().await {
                Signal::TERM | Signal::INT | Signal::QUIT => return Request::End,
                Signal::HUP => return Request::Reload,
                Signal::USR1 => return Request::Accept,
                Signal::TSTP => stop(),
                _ => {}
            }
        }
    }

    /// Returns the one that has asked us to end, if one has.
    pub(crate) fn asked_by(&self) -> Option<Signal> {
        self.asked_by
    }

    /// The same for who runs a command that SIGHUP may only ask to read its configuration again.
    pub(crate) fn asked_by_other_than_hangup(&self) -> Option<Signal> {
        self.asked_by.filter(|signal| *signal != Signal::HUP)
    }
}

/// Does what SIGTSTP does to who does not catch it. Returns when we are continued.
pub(super) fn stop() {
    // A process may always signal itself.
    let _ = kill_process(getpid(), Signal::STOP);
}

/// Tells whether a process that gets this signal is to end.
pub(super) fn asks_to_end(signal: Signal) -> bool {
    matches!(signal, Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT)
}

/// Returns the signals that this process was told to ignore, as the kernel shows them.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn mask(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}
