//! Who a tool is: `scheme:credential` lines from the environment or from a file that only its owner can read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most bytes read from a file of credentials; a longer file is refused.
const AUTH_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Permission bits of group and others, none of which a file of credentials may have.
const NOT_THE_OWNER: u32 = 0o077;

/// One identity of a connection: what zkCli's `addauth SCHEME CREDENTIAL` sends.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    scheme: String,
    credential: Vec<u8>,
}

impl Auth {
    /// The identity that `credential` proves to a server which knows `scheme`.
    pub fn new(scheme: impl Into<String>, credential: impl Into<Vec<u8>>) -> Auth {
        Auth { scheme: scheme.into(), credential: credential.into() }
    }

    /// The identity `digest:user:password`.
    pub(crate) fn digest(user: &str, password: &str) -> Auth {
        Auth { scheme: "digest".to_owned(), credential: format!("{user}:{password}").into_bytes() }
    }

    /// Returns the scheme: `digest`, for one.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns what proves the identity: `user:password` for `digest`.
    pub fn credential(&self) -> &[u8] {
        &self.credential
    }

    /// Parses lines of `scheme:credential`, such as `digest:user:password`; empty lines and `#` lines are skipped.
    ///
    /// `origin` names the file or the variable in an error.
    pub fn parse_lines(text: &str, origin: &str) -> Result<Vec<Auth>, AuthError> {
        let mut auths = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some((scheme, credential)) if !scheme.is_empty() && !credential.is_empty() => {
                    auths.push(Auth { scheme: scheme.to_owned(), credential: credential.as_bytes().to_vec() });
                }
                _ => return Err(AuthError::Line { origin: origin.to_owned(), line_number: index + 1 }),
            }
        }
        Ok(auths)
    }

    /// Reads a file of such lines.
    ///
    /// Errors: [`AuthError::Exposed`] if anybody but its owner may read or write it, so that a password which leaks is
    /// noticed before it is used.
    pub fn read_file(path: &Path) -> Result<Vec<Auth>, AuthError> {
        let open = |source| AuthError::Open { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(open)?;
        let mode = file.metadata().map_err(open)?.mode();
        if mode & NOT_THE_OWNER != 0 {
            return Err(AuthError::Exposed { path: path.to_owned(), mode: mode & 0o7777 });
        }
        let mut text = String::new();
        let read = (&mut file).take(AUTH_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(open)?;
        if u64::try_from(read).is_ok_and(|bytes| bytes > AUTH_FILE_BYTES_MAX) {
            return Err(AuthError::TooLong { path: path.to_owned() });
        }
        Auth::parse_lines(&text, &path.display().to_string())
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// Why credentials cannot be used. Never holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file cannot be read.
    #[error("cannot read credentials from {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else may read or change the file.
    #[error("{} has mode {mode:04o}, and only its owner may have access to credentials", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file has more than 64 KiB.
    #[error("{} is too long for a file of credentials (64 KiB)", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is not in the form `scheme:credential`.
    #[error("line {line_number} of {origin} is not of the form scheme:credential, such as digest:user:password")]
    Line {
        /// The file or the variable.
        origin: String,
        /// Counted from 1.
        line_number: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn lines_become_identities() {
        let auths = Auth::parse_lines("# mine\n\ndigest:user:pass:word\n sasl:x \n", "test").unwrap();
        let found: Vec<_> = auths.iter().map(|auth| (auth.scheme(), auth.credential())).collect();
        assert_eq!(found, [("digest", &b"user:pass:word"[..]), ("sasl", b"x")]);
    }

    #[test]
    fn an_error_and_debug_output_never_show_the_credential() {
        let error = Auth::parse_lines("digest:a:b\nsecret", "$GRANGE_AUTH").unwrap_err();
        assert!(error.to_string().starts_with("line 2 of $GRANGE_AUTH is not"), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"));
        let auths = Auth::parse_lines("digest:user:hidden", "test").unwrap();
        assert!(!format!("{auths:?}").contains("hidden"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth");
        fs::write(&path, "digest:user:password\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = Auth::read_file(&path).unwrap_err();
        assert!(error.to_string().contains("has mode 0640"), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Auth::read_file(&path).unwrap().len(), 1);
    }
}
