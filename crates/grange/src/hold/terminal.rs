//! The terminal belongs to one process group at a time: Ctrl-C goes there, and nobody else may read.

use std::io::{self, IsTerminal};

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Tells whether standard input is a terminal and ours to give away.
pub(super) fn is_ours() -> bool {
    io::stdin().is_terminal() && tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
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

/// Takes the terminal back.
pub(super) fn take_back() {
    give(getpgrp());
}
