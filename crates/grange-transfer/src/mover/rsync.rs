//! Describes, runs and judges an rsync process.
//!
//! One process gets a whole batch as arguments, byte for byte and without a shell, each behind `./` and all behind
//! `--`, so that no name can be taken for an option, a host or a comment. A list on standard input (`--files-from`)
//! would cost more than the copy: rsync reads it with two system calls for each byte, and drops lines that begin with
//! `#` or `;` even with `--from0`. Measured for 10,000 small files: 0.55 against 1.1 s of processor time.
//! Directories are not sent (`--no-implied-dirs`, no `-r`): they are ours. `--ignore-times`, because it has been
//! decided already that every file of the batch differs.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use crate::mover::orphan::dies_with_parent;
use crate::mover::{ContentMover, Detail, Ends, MESSAGES_MAX, Messages, MoveError, MoveProgress};
use crate::path::RelPath;

/// Longest relative path that is given to rsync. Its own limit is 4,096 for path and temporary name together.
const PATH_BYTES_MAX: usize = 3800;

/// Bytes of paths that are given to one process, with 16 for what the kernel keeps of each. A system that has less than
/// 1 MiB for arguments (Linux: a quarter of the stack limit, 2 MiB by default) refuses to start it.
const ARGUMENT_BYTES_MAX: usize = 512 * 1024;

/// Longest line of rsync's output that is kept; the rest of such a line is dropped.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Runs rsync between two directories of this host.
#[derive(Debug)]
pub struct RsyncMover {
    program: PathBuf,
}

impl RsyncMover {
    /// Finds out whether `program` is an rsync that does what is needed.
    ///
    /// Errors: [`MoveError::Start`] if it does not run, [`MoveError::TooOld`] before 3.2.
    pub fn new(program: &Path) -> Result<Self, MoveError> {
        let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().map_err(MoveError::Start)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.lines().next().unwrap_or_default();
        let number = found.split_whitespace().skip_while(|&word| word != "version").nth(1).unwrap_or_default();
        let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if version < (3, 2) {
            return Err(MoveError::TooOld { found: found.to_owned() });
        }
        Ok(Self { program: program.to_owned() })
    }

    fn command(&self, ends: &Ends, detail: Detail) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"RSYNC_")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").arg("-lptgoD");
        if detail == Detail::Full {
            command.args(["--acls", "--xattrs", "--sparse"]);
        }
        command.args(["--numeric-ids", "--ignore-times", "--modify-window=-1", "--whole-file"]);
        command.args(["--relative", "--no-implied-dirs", "--info=progress2", "--no-human-readable", "--"]);
        command.current_dir(ends.source.path());
        command
    }

    fn run(&self, ends: &Ends, paths: &[RelPath], detail: Detail, count: impl Fn(u64)) -> Result<Messages, MoveError> {
        let mut command = self.command(ends, detail);
        for path in paths {
            command.arg(OsString::from_vec([b"./", path.as_bytes()].concat()));
        }
        // An absolute path: not taken for `host:path`. The final slash means the directory's contents.
        command.arg(ends.destination.path().join(""));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = dies_with_parent(&mut command).spawn().map_err(MoveError::Start)?;
        let (lines, status) = follow(&mut child, count).map_err(MoveError::Talk)?;
        Ok(Messages { lines, verdict: judge(status) })
    }
}

impl ContentMover for RsyncMover {
    fn move_files(
        &self,
        ends: &Arc<Ends>,
        paths: &[RelPath],
        detail: Detail,
        progress: &MoveProgress,
    ) -> Result<Messages, MoveError> {
        let mut all = Messages::default();
        for some in argument_lists(paths) {
            let before = progress.bytes();
            let messages = self.run(ends, some, detail, |bytes| progress.set_bytes(before + bytes))?;
            let room = MESSAGES_MAX - all.lines.len();
            all.lines.extend(messages.lines.into_iter().take(room));
            all.verdict = all.verdict.or(messages.verdict);
        }
        Ok(all)
    }

    fn takes(&self, path: &RelPath) -> bool {
        path.as_bytes().len() <= PATH_BYTES_MAX
    }
}

/// Cuts `paths` into runs of at most [`ARGUMENT_BYTES_MAX`].
fn argument_lists(paths: &[RelPath]) -> impl Iterator<Item = &[RelPath]> {
    let mut bytes = 0;
    let mut first_of_list = move |path: &RelPath| {
        let cost = path.as_bytes().len() + 16;
        bytes += cost;
        let is_over = bytes > ARGUMENT_BYTES_MAX;
        if is_over {
            bytes = cost;
        }
        is_over
    };
    paths.chunk_by(move |_, next| !first_of_list(next))
}

/// Reads both outputs to their ends and waits for the process.
fn follow(child: &mut Child, count: impl Fn(u64)) -> io::Result<(Vec<Vec<u8>>, ExitStatus)> {
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let lines = thread::scope(|scope| {
        let errors = scope.spawn(|| read_messages(stderr));
        let counted = read_progress(stdout, count);
        let errors = errors.join().expect("reading messages does not panic");
        counted.and(errors)
    });
    let status = child.wait()?;
    Ok((lines?, status))
}

fn read_messages(mut stderr: ChildStderr) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    read_lines(&mut stderr, |line| {
        // The summary at the end says what the exit status says.
        if !line.is_empty() && !line.starts_with(b"rsync error:") && lines.len() < MESSAGES_MAX {
            lines.push(line.to_vec());
        }
    })?;
    Ok(lines)
}

/// Lines of `--info=progress2` look like `      1234567  45%   12.34MB/s    0:00:05 (xfr#12, to-chk=5/100)`.
fn read_progress(mut stdout: ChildStdout, count: impl Fn(u64)) -> io::Result<()> {
    read_lines(&mut stdout, |line| {
        let first = line.split(|&b| b == b' ').find(|word| !word.is_empty()).unwrap_or_default();
        if let Some(bytes) = std::str::from_utf8(first).ok().and_then(|word| word.replace(',', "").parse().ok()) {
            count(bytes);
        }
    })
}

/// Calls `take` with each piece that ends in a newline or a carriage return.
fn read_lines(input: &mut impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut chunk = [0; 8192];
    let mut line = Vec::new();
    loop {
        let length = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for &byte in &chunk[..length] {
            if byte == b'\n' || byte == b'\r' {
                take(&line);
                line.clear();
            } else if line.len() < LINE_BYTES_MAX {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        take(&line);
    }
    Ok(())
}

/// rsync's exit status in words; `None` if all is well. Source: rsync(1), "EXIT VALUES".
fn judge(status: ExitStatus) -> Option<String> {
    let Some(code) = status.code() else { return Some(format!("rsync was ended: {status}")) };
    let meaning = match code {
        0 => return None,
        1 => "syntax or usage error",
        2 => "protocol incompatibility",
        3 => "cannot select the files or directories",
        4 => "an action is not supported",
        5 => "cannot start the protocol between its processes",
        10 | 12 => "its processes lost each other",
        11 => "reading or writing a file failed",
        14 => "its processes cannot talk to each other",
        19 | 20 => "it was stopped by a signal",
        22 => "out of memory",
        23 => "some files or attributes could not be transferred",
        24 => "some files vanished before they could be transferred",
        30 => "timeout",
        _ => "unexpected exit status",
    };
    Some(format!("rsync exit status {code}: {meaning}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Base;

    fn ends(source: &Path, destination: &Path) -> Arc<Ends> {
        Arc::new(Ends { source: Base::open(source).unwrap(), destination: Base::open(destination).unwrap() })
    }

    #[test]
    fn names_that_look_like_options_comments_or_lines_arrive() {
        let (source, destination) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = ["-rf", "#c", ";d", "a\nb", " lead", "trail ", "*", "--", "host:x"];
        for name in names {
            std::fs::write(source.path().join(name), name).unwrap();
        }
        let paths: Vec<RelPath> = names.iter().map(|name| RelPath::root().join(name.as_bytes())).collect();
        let progress = MoveProgress::default();
        let mover = RsyncMover::new(Path::new("rsync")).unwrap();
        let messages = mover.move_files(&ends(source.path(), destination.path()), &paths, Detail::Plain, &progress);
        let messages = messages.unwrap();
        assert_eq!((messages.verdict, messages.lines.len()), (None, 0));
        for name in names {
            assert_eq!(std::fs::read(destination.path().join(name)).unwrap(), name.as_bytes());
        }
        assert_eq!(progress.bytes(), names.iter().map(|name| name.len() as u64).sum::<u64>());
    }

    #[test]
    fn a_missing_file_is_explained_in_rsyncs_words() {
        let (source, destination) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(destination.path().join("taken\n")).unwrap();
        std::fs::create_dir(destination.path().join("taken\n/x")).unwrap();
        std::fs::write(source.path().join("taken\n"), "").unwrap();
        let paths = [RelPath::root().join(b"taken\n"), RelPath::root().join(b"gone")];
        let mover = RsyncMover::new(Path::new("rsync")).unwrap();
        let ends = ends(source.path(), destination.path());
        let messages = mover.move_files(&ends, &paths, Detail::Full, &MoveProgress::default()).unwrap();
        assert!(messages.verdict.as_ref().unwrap().contains("exit status 23"), "{messages:?}");
        let about = |at: usize| messages.about(&paths[at]).unwrap_or_else(|| panic!("{messages:?}"));
        assert!(about(1).contains("No such file or directory"), "{}", about(1));
        assert!(!about(0).contains('\n'));
    }

    #[test]
    fn long_batches_are_cut_and_nothing_is_left_out() {
        let paths: Vec<RelPath> = (0..2_000).map(|n| RelPath::root().join(format!("{n:01000}").as_bytes())).collect();
        let lists: Vec<_> = argument_lists(&paths).collect();
        assert!(lists.len() > 3);
        assert_eq!(lists.concat(), paths);
        for list in lists {
            assert!(list.iter().map(|path| path.as_bytes().len() + 16).sum::<usize>() <= ARGUMENT_BYTES_MAX + 1016);
        }
        assert_eq!(argument_lists(&[]).count(), 0);
    }

    #[test]
    fn a_program_that_is_no_rsync_is_refused() {
        assert!(matches!(RsyncMover::new(Path::new("/nonexistent/rsync")), Err(MoveError::Start(_))));
        assert!(matches!(RsyncMover::new(Path::new("true")), Err(MoveError::TooOld { .. })));
    }
}
