//! Who a tool is: `scheme:credential` lines from the environment or from a file that only its owner can read.

use std::fmt;
use std::path::Path;

use crate::private_file::{self, PrivateFileError};

/// The scheme of a line that is a login by SASL instead of an identity that is added to the connection.
const SASL_SCHEME: &str = "sasl";

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
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// A login by SASL DIGEST-MD5, which the server checks before it takes requests.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslLogin {
    user: String,
    password: String,
}

impl SaslLogin {
    /// Returns the user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for SaslLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslLogin").finish_non_exhaustive()
    }
}

/// Everything by which a tool says who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Identities that are added to each connection.
    pub auths: Vec<Auth>,
    /// The login of each connection.
    pub sasl: Option<SaslLogin>,
}

impl From<Auth> for Credentials {
    fn from(auth: Auth) -> Credentials {
        Credentials { auths: vec![auth], sasl: None }
    }
}

impl Credentials {
    /// Parses lines of `scheme:credential`, such as `digest:user:password`; empty lines and `#` lines are skipped.
    ///
    /// `sasl:user:password` logs in by SASL DIGEST-MD5. `origin` names the file or the variable in an error.
    pub fn parse_lines(text: &str, origin: &str) -> Result<Credentials, AuthError> {
        let mut credentials = Credentials::default();
        for (index, line) in text.lines().enumerate() {
            let (line, line_number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some((SASL_SCHEME, login)) => match (login.split_once(':'), &credentials.sasl) {
                    (Some(_), Some(_)) => {
                        return Err(AuthError::SecondLogin { origin: origin.to_owned(), line_number });
                    }
                    (Some((user, password)), None) if !user.is_empty() && !password.is_empty() => {
                        let login = SaslLogin { user: user.to_owned(), password: password.to_owned() };
                        credentials.sasl = Some(login);
                    }
                    _ => return Err(AuthError::Login { origin: origin.to_owned(), line_number }),
                },
                Some((scheme, credential)) if !scheme.is_empty() && !credential.is_empty() => {
                    let auth = Auth { scheme: scheme.to_owned(), credential: credential.as_bytes().to_vec() };
                    credentials.auths.push(auth);
                }
                _ => return Err(AuthError::Line { origin: origin.to_owned(), line_number }),
            }
        }
        Ok(credentials)
    }

    /// Reads a file of such lines, which nobody but its owner may have access to.
    pub fn read_file(path: &Path) -> Result<Credentials, AuthError> {
        Credentials::parse_lines(&private_file::read(path)?, &path.display().to_string())
    }

    /// Says of which kinds they are, without the credentials.
    pub(crate) fn kinds(&self) -> String {
        let mut kinds: Vec<_> = self.auths.iter().map(Auth::scheme).collect();
        kinds.extend(self.sasl.as_ref().map(|_| "SASL DIGEST-MD5"));
        match kinds.is_empty() {
            true => "none".to_owned(),
            false => kinds.join(" and "),
        }
    }
}

/// Why credentials cannot be used. Never holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file cannot be read, or not by its owner only.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// A line is not in the form `scheme:credential`.
    #[error("line {line_number} of {origin} is not of the form scheme:credential, such as digest:user:password")]
    Line {
        /// The file or the variable.
        origin: String,
        /// Counted from 1.
        line_number: usize,
    },
    /// A login lacks its user or its password.
    #[error("line {line_number} of {origin} is not of the form sasl:user:password")]
    Login {
        /// The file or the variable.
        origin: String,
        /// Counted from 1.
        line_number: usize,
    },
    /// A connection has one login.
    #[error("line {line_number} of {origin} is a second login by SASL; a connection has one")]
    SecondLogin {
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
    fn lines_become_identities_and_a_login() {
        let text = "# mine\n\ndigest:user:pass:word\n sasl:u:p:q \nip:127.0.0.1";
        let credentials = Credentials::parse_lines(text, "test").unwrap();
        let found: Vec<_> = credentials.auths.iter().map(|auth| (auth.scheme(), auth.credential())).collect();
        assert_eq!(found, [("digest", &b"user:pass:word"[..]), ("ip", b"127.0.0.1")]);
        let login = credentials.sasl.clone().unwrap();
        assert_eq!((login.user(), login.password()), ("u", "p:q"));
        assert_eq!(credentials.kinds(), "digest and ip and SASL DIGEST-MD5");
    }

    #[test]
    fn an_error_and_debug_output_never_show_the_credential() {
        for (text, message) in [
            ("digest:a:b\nsecret", "line 2 of $GRANGE_AUTH is not of the form scheme:"),
            ("sasl:secret", "line 1 of $GRANGE_AUTH is not of the form sasl:"),
            ("sasl:secret:", "line 1 of $GRANGE_AUTH is not of the form sasl:"),
            ("sasl:a:b\nsasl:c:secret", "line 2 of $GRANGE_AUTH is a second login"),
        ] {
            let error = Credentials::parse_lines(text, "$GRANGE_AUTH").unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
        let credentials = Credentials::parse_lines("digest:user:hidden\nsasl:user:hidden", "test").unwrap();
        assert!(!format!("{credentials:?}").contains("hidden"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth");
        fs::write(&path, "digest:user:password\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = Credentials::read_file(&path).unwrap_err();
        assert!(error.to_string().contains("has mode 0640"), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Credentials::read_file(&path).unwrap().auths.len(), 1);
    }
}
