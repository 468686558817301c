//! The terminal belongs to one process group at a time: Ctrl-C goes there, and nobody else may read.

use std::io::{self, IsTerminal};

use nix::sys::signal::{SigSet, Signal};
use rustix::process::Pid;
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Tells whether standard input is a terminal, whoever may use it now.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// Tells whether a process group has the terminal.
pub(super) fn belongs_to(group: Pid) -> bool {
    is_there() && tcgetpgrp(io::stdin()).is_ok_and(|owner| owner == group)
}

/// Gives the terminal to a process group.
///
/// Fails only if the terminal or the group has gone, and then nobody is left to type.
pub(super) fn give(group: Pid) {
    // Who does not have the terminal is stopped for this call, unless that signal is blocked.
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTTOU);
    let is_blocked = mask.thread_block().is_ok();
    let _ = tcsetpgrp(io::stdin(), group);
    if is_blocked {
        let _ = mask.thread_unblock();
    }
}
