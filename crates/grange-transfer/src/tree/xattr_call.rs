//! `listxattrat(2)`, which Linux has from 6.13 on and libraries not yet.
//!
//! It asks relative to a directory handle. The way around it, a path through `/proc/self/fd`, costs three times as much
//! (8 against 2.8 µs), and a run that finds nothing to do consists of such calls for every entry on both sides.
#![expect(unsafe_code, reason = "no library has a safe interface for this system call yet")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// The number is the same on all architectures that number new calls alike; none where they do not.
const LISTXATTRAT: Option<libc::c_long> =
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")) { Some(465) } else { None };

/// Writes the NUL-terminated names of the attributes of the entry `name` of `dir`, not followed, into `buffer`.
/// An empty `name` is the directory itself. Returns how many bytes there are.
///
/// Errors: [`Errno::NOSYS`] if the kernel does not know the call, [`Errno::RANGE`] if `buffer` is too small.
pub(super) fn list_names_at(dir: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let Some(number) = LISTXATTRAT else { return Err(Errno::NOSYS) };
    let flags = libc::AT_SYMLINK_NOFOLLOW | if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: the kernel reads `name` up to its NUL and writes at most `buffer.len()` bytes to `buffer`; both live
    // until it returns, and `dir` is open.
    let length =
        unsafe { libc::syscall(number, dir.as_raw_fd(), name.as_ptr(), flags, buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(length).map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
