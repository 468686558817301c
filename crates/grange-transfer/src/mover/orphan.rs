//! A child process must not outlive us.
//!
//! After `kill -9` of grange an rsync that goes on would work on the same files as the next run. The kernel offers a
//! signal for that, which has to be asked for between `fork` and `exec`.
#![expect(unsafe_code, reason = "the parent-death signal can only be set between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Makes the kernel end the child with SIGTERM when the thread that starts it ends.
///
/// SIGTERM, because rsync then removes its temporary file.
pub(super) fn dies_with_parent(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    let before_exec = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // The parent may have died before the line above.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
    };
    // SAFETY: the closure runs in the child after fork, where only async-signal-safe calls are allowed. It makes two
    // system calls and allocates nothing.
    unsafe { command.pre_exec(before_exec) }
}
