//! Moves contents without another program: `copy_file_range` between two handles.
//!
//! Used for what rsync cannot take, paths beyond 4,096 bytes. Holes stay holes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::mover::{ContentMover, Detail, Ends, MESSAGES_MAX, Messages, MoveError, MoveProgress};
use crate::path::RelPath;
use crate::temporary::temporary_name;
use crate::tree::{Dir, Identity, Kind, XattrSupport, Xattrs, set_attributes};

/// Bytes of one `copy_file_range`, so that progress moves.
const COPY_BYTES: usize = 64 << 20;

/// Copies file by file in this process.
#[derive(Debug)]
pub struct NativeMover {
    identity: Identity,
    xattrs: XattrSupport,
}

impl NativeMover {
    /// A mover that sets what `identity` may set.
    pub fn new(identity: Identity) -> Self {
        let xattrs = XattrSupport::new(identity.is_privileged());
        Self { identity, xattrs }
    }

    fn move_file(&self, ends: &Ends, path: &RelPath, progress: &MoveProgress) -> io::Result<()> {
        let (parent, name) = path.split().ok_or(io::ErrorKind::IsADirectory)?;
        let from = ends.source.open_dir(&parent)?;
        let to = ends.destination.open_dir(&parent)?;
        let temporary = temporary_name();
        let copied = self.copy(&from, &to, name, &temporary, progress);
        let placed = copied.and_then(|()| Ok(fs::renameat(&to, &temporary[..], &to, name)?));
        if placed.is_err() {
            // Best effort: the file may not even have been made, and the next run removes it too.
            let _ = fs::unlinkat(&to, &temporary[..], AtFlags::empty());
        }
        placed
    }

    fn copy(&self, from: &Dir, to: &Dir, name: &[u8], temporary: &[u8], progress: &MoveProgress) -> io::Result<()> {
        let no_follow = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = fs::openat(from, name, OFlags::RDONLY | OFlags::NONBLOCK | no_follow, Mode::empty())?;
        let record = from.look(name)?;
        if record.kind != Kind::File {
            return Err(io::Error::other("it is no regular file any more"));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | no_follow;
        let target = fs::openat(to, temporary, flags, Mode::RUSR | Mode::WUSR)?;
        copy_data(&source, &target, record.size, progress)?;
        let wanted = Xattrs::read(from, name, record.id.device, &self.xattrs)?;
        let present = to.look(temporary)?;
        let has = Xattrs::read(to, temporary, present.id.device, &self.xattrs)?;
        set_attributes(to, temporary, &record, &present, &self.identity, Some((&wanted, &has)))
    }
}

impl ContentMover for NativeMover {
    fn move_files(
        &self,
        ends: &Arc<Ends>,
        paths: &[RelPath],
        _detail: Detail,
        progress: &MoveProgress,
    ) -> Result<Messages, MoveError> {
        let mut messages = Messages::default();
        for path in paths {
            if let Err(error) = self.move_file(ends, path, progress)
                && messages.lines.len() < MESSAGES_MAX
            {
                let quoted = [b"cannot copy \"", path.as_bytes(), b"\": ", error.to_string().as_bytes()].concat();
                messages.lines.push(quoted);
                messages.verdict = Some("some files could not be copied".to_owned());
            }
        }
        Ok(messages)
    }

    fn takes(&self, _path: &RelPath) -> bool {
        true
    }
}

/// Copies the ranges of `source` that hold data and leaves holes.
fn copy_data(source: &OwnedFd, target: &OwnedFd, size: u64, progress: &MoveProgress) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let (start, end) = match fs::seek(source, SeekFrom::Data(at)) {
            Ok(start) => (start, fs::seek(source, SeekFrom::Hole(start))?),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => (at, size),
            Err(error) => return Err(error.into()),
        };
        copy_range(source, target, start, end.min(size), progress)?;
        at = end;
    }
    Ok(fs::ftruncate(target, size)?)
}

fn copy_range(source: &OwnedFd, target: &OwnedFd, start: u64, end: u64, progress: &MoveProgress) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let (mut from, mut to) = (at, at);
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(COPY_BYTES);
        let copied = match fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), wanted) {
            Ok(copied) => copied,
            Err(Errno::INTR) => continue,
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                copy_through(source, target, at, wanted)?
            }
            Err(error) => return Err(error.into()),
        };
        if copied == 0 {
            // Truncated meanwhile: the caller's look at the result finds out.
            break;
        }
        let copied = u64::try_from(copied).expect("a count of bytes fits 64 bits");
        at += copied;
        progress.set_bytes(progress.bytes() + copied);
    }
    Ok(())
}

/// Reads and writes one piece, where the kernel cannot copy between the two file systems.
fn copy_through(source: &OwnedFd, target: &OwnedFd, at: u64, wanted: usize) -> io::Result<usize> {
    let mut buffer = vec![0; wanted.min(1 << 20)];
    let length = rustix::io::pread(source.as_fd(), &mut buffer[..], at)?;
    let mut written = 0;
    while written < length {
        let offset = at + u64::try_from(written).expect("a count of bytes fits 64 bits");
        written += rustix::io::pwrite(target.as_fd(), &buffer[written..length], offset)?;
    }
    Ok(length)
}
