//! `grange.toml`: every flag of a connection as a key, so that a fleet's machines know their ensemble.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::options::{Layer, Origin, SecondsError, Setting, seconds};

/// The file for all users of a machine.
const SYSTEM_FILE: &str = "/etc/grange.toml";

/// The file of one user, below `$XDG_CONFIG_HOME` or `~/.config`.
const USER_FILE: &str = "grange/grange.toml";

/// The most bytes read from a configuration file; a longer one is refused.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The keys, for the error about one that is unknown.
const KEYS: &str =
    "servers, chroot, auth-file, tls-ca, tls-cert, tls-key, session-timeout and connect-timeout, below [connection]";

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It was named, and cannot be read.
    #[error("cannot read the configuration file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no TOML, has an unknown key, or a value of the wrong type.
    #[error("{}:{line}: {message}; the keys are {KEYS}", .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A timeout is out of range.
    #[error("{}:{line}: {key} {source}", .path.display())]
    Seconds {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// What is allowed.
        source: SecondsError,
    },
}

/// The file as it is written: all keys optional, unknown ones refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    connection: RawConnection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawConnection {
    servers: Option<Spanned<String>>,
    chroot: Option<Spanned<String>>,
    auth_file: Option<Spanned<PathBuf>>,
    tls_ca: Option<Spanned<PathBuf>>,
    tls_cert: Option<Spanned<PathBuf>>,
    tls_key: Option<Spanned<PathBuf>>,
    session_timeout: Option<Spanned<f64>>,
    connect_timeout: Option<Spanned<f64>>,
}

/// Returns the files that are looked for when none is named, the one that wins first.
pub(crate) fn search_path(variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    user.map(|directory| directory.join(USER_FILE)).into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

/// Reads a file that somebody named.
pub(crate) fn read(path: &Path, rank: u8) -> Result<Layer, ConfigFileError> {
    let read = |source| ConfigFileError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
        return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 64 KiB")));
    }
    parse(path, rank, &fs::read_to_string(path).map_err(read)?)
}

/// Reads a file that may be absent.
pub(crate) fn read_if_there(path: &Path, rank: u8) -> Result<Option<Layer>, ConfigFileError> {
    match read(path, rank) {
        Ok(layer) => Ok(Some(layer)),
        // A file below a home that this user may not enter is not this user's file.
        Err(ConfigFileError::Read { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn parse(path: &Path, rank: u8, text: &str) -> Result<Layer, ConfigFileError> {
    let file: RawFile = toml::from_str(text).map_err(|error| ConfigFileError::Text {
        path: path.to_owned(),
        line: line_of(text, error.span()),
        message: error.message().to_owned(),
    })?;
    let raw = file.connection;
    let reader = Reader { path, rank, text };
    Ok(Layer {
        servers: raw.servers.map(|value| reader.setting(value)),
        chroot: raw.chroot.map(|value| reader.setting(value)),
        auth: None,
        auth_file: raw.auth_file.map(|value| reader.path(value)),
        tls_ca: raw.tls_ca.map(|value| reader.path(value)),
        tls_cert: raw.tls_cert.map(|value| reader.path(value)),
        tls_key: raw.tls_key.map(|value| reader.path(value)),
        session_timeout: reader.seconds("session-timeout", raw.session_timeout)?,
        connect_timeout: reader.seconds("connect-timeout", raw.connect_timeout)?,
    })
}

/// Turns values into settings that know their line.
struct Reader<'a> {
    path: &'a Path,
    rank: u8,
    text: &'a str,
}

impl Reader<'_> {
    fn setting<T>(&self, value: Spanned<T>) -> Setting<T> {
        let line = line_of(self.text, Some(value.span()));
        let origin = Origin::File { path: self.path.to_owned(), line, rank: self.rank };
        Setting { value: value.into_inner(), origin }
    }

    /// A relative path is one beside the file that names it.
    fn path(&self, value: Spanned<PathBuf>) -> Setting<PathBuf> {
        let Setting { value, origin } = self.setting(value);
        let directory = self.path.parent().unwrap_or(Path::new("."));
        Setting { value: directory.join(value), origin }
    }

    fn seconds(
        &self,
        key: &'static str,
        value: Option<Spanned<f64>>,
    ) -> Result<Option<Setting<std::time::Duration>>, ConfigFileError> {
        let Some(value) = value else { return Ok(None) };
        let line = line_of(self.text, Some(value.span()));
        let Setting { value, origin } = self.setting(value);
        match seconds(value) {
            Ok(value) => Ok(Some(Setting { value, origin })),
            Err(source) => Err(ConfigFileError::Seconds { path: self.path.to_owned(), line, key, source }),
        }
    }
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let end = span.map_or(0, |span| span.start).min(text.len());
    text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Layer, ConfigFileError> {
        parse(Path::new("/etc/grange.toml"), 0, text)
    }

    #[test]
    fn every_flag_is_a_key_and_knows_its_line() {
        let layer = parsed(
            "# the fleet's\n[connection]\nservers = 'zk1,zk2'\nchroot = '/apps'\nauth-file = 'secret'\n\
             tls-ca = '/ca.pem'\ntls-cert = 'cert.pem'\ntls-key = 'key.pem'\nsession-timeout = 4\n\
             connect-timeout = 2.5\n",
        )
        .unwrap();
        assert_eq!(layer.servers.unwrap().origin.to_string(), "/etc/grange.toml:3");
        assert_eq!(layer.auth_file.unwrap().value, Path::new("/etc/secret"));
        assert_eq!(layer.tls_ca.unwrap().value, Path::new("/ca.pem"));
        assert_eq!(layer.session_timeout.unwrap().value.as_millis(), 4000);
        assert_eq!(layer.connect_timeout.unwrap().value.as_millis(), 2500);
    }

    #[test]
    fn a_mistake_is_named_with_file_and_line() {
        for (text, message) in [
            ("[connection]\nserver = 'a'\n", "/etc/grange.toml:2: unknown field `server`"),
            ("\n[conection]\n", "/etc/grange.toml:2: unknown field `conection`"),
            ("[connection]\nservers = 3\n", "/etc/grange.toml:2: invalid type: integer `3`, expected a string"),
            ("[connection]\nservers = \n", "/etc/grange.toml:2: "),
            (
                "[connection]\n\nsession-timeout = 0\n",
                "/etc/grange.toml:3: session-timeout must be a number of seconds",
            ),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_users_file_comes_before_the_machines() {
        let paths = |environment: &[(&str, &str)]| {
            let found = search_path(|name| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            });
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(paths(&[]), "/etc/grange.toml");
        assert_eq!(paths(&[("HOME", "/h")]), "/h/.config/grange/grange.toml /etc/grange.toml");
        assert_eq!(paths(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), "/x/grange/grange.toml /etc/grange.toml");
        assert_eq!(paths(&[("HOME", "relative")]), "/etc/grange.toml");
    }
}
