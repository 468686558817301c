//! Where the settings of a connection come from: flags first, then the environment, then defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{Auth, AuthError};
use crate::servers::{Servers, ServersError};

/// Where a tool looks when nobody says where the ensemble is: a `grange serve` on this machine.
const DEFAULT_SERVERS: &str = "127.0.0.1:2181";

/// The session timeout that is asked for; the server may grant another one.
const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an attempt to get a session may take in all, over all servers and rounds.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the list of servers is gone through before a tool gives up.
const DEFAULT_ROUNDS_MAX: u32 = 4;

/// What the user said, all of it optional.
#[derive(Debug, Clone, Default)]
pub struct RawConnectOptions {
    /// `--servers`.
    pub servers: Option<String>,
    /// `--session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `--connect-timeout`.
    pub connect_timeout: Option<Duration>,
    /// `--auth-file`.
    pub auth_file: Option<PathBuf>,
}

/// Everything that is needed to open a session.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The servers and the chroot.
    pub servers: Servers,
    /// The session timeout to ask for.
    pub session_timeout: Duration,
    /// When to give up, over all servers and rounds.
    pub connect_timeout: Duration,
    /// How often the list of servers is gone through at most, with a growing pause between the rounds.
    pub rounds_max: u32,
    /// Sent to each server a connection is made to.
    pub auths: Vec<Auth>,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The connection string is wrong.
    #[error("{origin} is wrong")]
    Servers {
        /// The flag or the variable it came from.
        origin: &'static str,
        /// What is wrong.
        #[source]
        source: ServersError,
    },
    /// Credentials cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl ConnectOptions {
    /// Returns the settings for `servers`, everything else by default and nobody's identity.
    pub fn new(servers: Servers) -> ConnectOptions {
        ConnectOptions {
            servers,
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            rounds_max: DEFAULT_ROUNDS_MAX,
            auths: Vec::new(),
        }
    }

    /// Completes what the user said from the environment (`variable` looks one up) and the defaults.
    ///
    /// Servers: `--servers`, else `$GRANGE_SERVERS`, else `$ZKHOST`, else `127.0.0.1:2181`. Credentials: `--auth-file`,
    /// else `$GRANGE_AUTH`. An empty variable counts as absent.
    pub fn resolve(
        raw: RawConnectOptions,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<ConnectOptions, OptionsError> {
        let (origin, text) = match raw.servers {
            Some(servers) => ("--servers", servers),
            None => servers_from_environment(&variable).unwrap_or(("the default", DEFAULT_SERVERS.to_owned())),
        };
        let servers = Servers::parse(&text).map_err(|source| OptionsError::Servers { origin, source })?;
        let auths = match (raw.auth_file, variable("GRANGE_AUTH")) {
            (Some(path), _) => Auth::read_file(&path)?,
            (None, Some(lines)) => Auth::parse_lines(&lines, "$GRANGE_AUTH")?,
            (None, None) => Vec::new(),
        };
        let defaults = ConnectOptions::new(servers);
        Ok(ConnectOptions {
            session_timeout: raw.session_timeout.unwrap_or(defaults.session_timeout),
            connect_timeout: raw.connect_timeout.unwrap_or(defaults.connect_timeout),
            auths,
            ..defaults
        })
    }
}

fn servers_from_environment(variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    [("$GRANGE_SERVERS", "GRANGE_SERVERS"), ("$ZKHOST", "ZKHOST")]
        .into_iter()
        .find_map(|(origin, name)| Some((origin, variable(name).filter(|value| !value.is_empty())?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(flag: Option<&str>, environment: &[(&str, &str)]) -> Result<ConnectOptions, OptionsError> {
        let raw = RawConnectOptions { servers: flag.map(str::to_owned), ..RawConnectOptions::default() };
        ConnectOptions::resolve(raw, |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_flag_wins_over_the_environment() {
        let both = [("GRANGE_SERVERS", "g"), ("ZKHOST", "z")];
        let servers = |flag, environment| resolved(flag, environment).unwrap().servers.to_string();
        assert_eq!(servers(Some("f"), &both), "f:2181");
        assert_eq!(servers(None, &both), "g:2181");
        assert_eq!(servers(None, &both[1..]), "z:2181");
        assert_eq!(servers(None, &[("GRANGE_SERVERS", "")]), "127.0.0.1:2181");
    }

    #[test]
    fn an_error_names_where_the_value_came_from() {
        assert_eq!(resolved(None, &[("ZKHOST", "a:b")]).unwrap_err().to_string(), "$ZKHOST is wrong");
        assert_eq!(resolved(Some(""), &[]).unwrap_err().to_string(), "--servers is wrong");
    }

    #[test]
    fn credentials_come_from_the_environment() {
        let options = resolved(None, &[("GRANGE_AUTH", "digest:u:p")]).unwrap();
        assert_eq!(options.auths[0].scheme(), "digest");
    }
}
