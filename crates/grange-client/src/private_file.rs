//! Files that only their owner may have access to: passwords and private keys.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most bytes read from such a file; a longer file is refused.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Permission bits of group and others, none of which such a file may have.
const NOT_THE_OWNER: u32 = 0o077;

/// Why a file that holds a secret is not used. Never holds what is in it.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else may read or change the file.
    #[error("{} has mode {mode:04o}, and only its owner may have access to it (chmod 600)", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file has more than 64 KiB.
    #[error("{} is too long (64 KiB at most)", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file of text.
///
/// Errors: [`PrivateFileError::Exposed`] if anybody but its owner may read or write it, so that a secret which leaks is
/// noticed before it is used.
pub(crate) fn read(path: &Path) -> Result<String, PrivateFileError> {
    let failed = |source| PrivateFileError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & NOT_THE_OWNER != 0 {
        return Err(PrivateFileError::Exposed { path: path.to_owned(), mode: mode & 0o7777 });
    }
    let mut text = String::new();
    let read = (&mut file).take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(read).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(PrivateFileError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}
