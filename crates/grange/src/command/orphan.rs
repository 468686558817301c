//! A command must not go on without the process that knows whether what it works under is still held.
#![expect(unsafe_code, reason = "the parent-death signal can only be set between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Makes the kernel kill the child when the thread that starts it ends; to be called on the main thread.
///
/// SIGKILL, because nobody is left who could insist after a SIGTERM. It reaches the child itself, not what the child has
/// started.
pub(super) fn dies_with_parent(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let before_exec = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
    };
    // SAFETY: the closure runs in the child after fork, where only async-signal-safe calls are allowed. It makes two
    // system calls and allocates nothing.
    unsafe { command.pre_exec(before_exec) }
}
