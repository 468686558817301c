//! Where the settings of a connection come from: flags first, then the environment, then `grange.toml`, then defaults.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grange_proto::ZnodePath;

use crate::auth::{AuthError, Credentials};
use crate::config_file::{self, ConfigFileError};
use crate::servers::{Servers, ServersError, parse_chroot};
use crate::tls::{Tls, TlsError};

/// Where a tool looks when nobody says where the ensemble is: a `grange serve` on this machine.
const DEFAULT_SERVERS: &str = "127.0.0.1:2181";

/// The session timeout that is asked for; the server may grant another one.
const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an attempt to get a session may take in all, over all servers and rounds.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the list of servers is gone through before a tool gives up.
const DEFAULT_ROUNDS_MAX: u32 = 4;

/// The longest timeout that can be asked for, in seconds: one day.
const TIMEOUT_SECONDS_MAX: f64 = 86_400.0;

/// Why a number is not a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of seconds above 0 and up to {TIMEOUT_SECONDS_MAX}")]
pub struct SecondsError;

/// Converts the seconds that somebody wrote for a timeout.
pub fn seconds(seconds: f64) -> Result<Duration, SecondsError> {
    match seconds > 0.0 && seconds <= TIMEOUT_SECONDS_MAX {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(SecondsError),
    }
}

/// What the user said on the command line, all of it optional.
#[derive(Debug, Clone, Default)]
pub struct RawConnectOptions {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--servers`.
    pub servers: Option<String>,
    /// `--chroot`.
    pub chroot: Option<String>,
    /// `--session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `--connect-timeout`.
    pub connect_timeout: Option<Duration>,
    /// `--auth-file`.
    pub auth_file: Option<PathBuf>,
    /// `--tls-ca`.
    pub tls_ca: Option<PathBuf>,
    /// `--tls-cert`.
    pub tls_cert: Option<PathBuf>,
    /// `--tls-key`.
    pub tls_key: Option<PathBuf>,
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag(&'static str),
    /// In the environment.
    Variable(&'static str),
    /// In a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// 0 for the file that wins over the others.
        rank: u8,
    },
    /// Nowhere.
    Default,
}

impl Origin {
    /// The place in the order of who wins; a smaller one wins.
    fn rank(&self) -> u16 {
        match self {
            Origin::Flag(_) => 0,
            Origin::Variable(_) => 1,
            Origin::File { rank, .. } => 2 + u16::from(*rank),
            Origin::Default => u16::MAX,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => f.write_str(name),
            Origin::Variable(name) => write!(f, "${name}"),
            Origin::File { path, line, .. } => write!(f, "{}:{line}", path.display()),
            Origin::Default => f.write_str("the default"),
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// What one source says: the command line, the environment, or one file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer {
    pub(crate) servers: Option<Setting<String>>,
    pub(crate) chroot: Option<Setting<String>>,
    /// Credentials themselves, which only the environment may hold.
    pub(crate) auth: Option<Setting<String>>,
    pub(crate) auth_file: Option<Setting<PathBuf>>,
    pub(crate) tls_ca: Option<Setting<PathBuf>>,
    pub(crate) tls_cert: Option<Setting<PathBuf>>,
    pub(crate) tls_key: Option<Setting<PathBuf>>,
    pub(crate) session_timeout: Option<Setting<Duration>>,
    pub(crate) connect_timeout: Option<Setting<Duration>>,
}

impl Layer {
    fn from_flags(raw: RawConnectOptions) -> Layer {
        Layer {
            servers: flag("--servers", raw.servers),
            chroot: flag("--chroot", raw.chroot),
            auth: None,
            auth_file: flag("--auth-file", raw.auth_file),
            tls_ca: flag("--tls-ca", raw.tls_ca),
            tls_cert: flag("--tls-cert", raw.tls_cert),
            tls_key: flag("--tls-key", raw.tls_key),
            session_timeout: flag("--session-timeout", raw.session_timeout),
            connect_timeout: flag("--connect-timeout", raw.connect_timeout),
        }
    }

    /// An empty variable counts as absent.
    fn from_environment(variable: &impl Fn(&str) -> Option<String>) -> Result<Layer, OptionsError> {
        let text = |name: &'static str| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some(Setting { value, origin: Origin::Variable(name) })
        };
        let path = |name| text(name).map(|setting| Setting { value: setting.value.into(), origin: setting.origin });
        let timeout = |name| {
            let Some(Setting { value, origin }) = text(name) else { return Ok(None) };
            match value.trim().parse().map_err(|_| SecondsError).and_then(seconds) {
                Ok(value) => Ok(Some(Setting { value, origin })),
                Err(source) => Err(OptionsError::Seconds { origin, source }),
            }
        };
        Ok(Layer {
            servers: text("GRANGE_SERVERS").or_else(|| text("ZKHOST")),
            chroot: text("GRANGE_CHROOT"),
            auth: text("GRANGE_AUTH"),
            auth_file: path("GRANGE_AUTH_FILE"),
            tls_ca: path("GRANGE_TLS_CA"),
            tls_cert: path("GRANGE_TLS_CERT"),
            tls_key: path("GRANGE_TLS_KEY"),
            session_timeout: timeout("GRANGE_SESSION_TIMEOUT")?,
            connect_timeout: timeout("GRANGE_CONNECT_TIMEOUT")?,
        })
    }

    /// Takes from `weaker` what is not said here. Credentials are one setting, whether they are given or a file is named.
    fn or(self, weaker: Layer) -> Layer {
        let has_auth = self.auth.is_some() || self.auth_file.is_some();
        let (auth, auth_file) = if has_auth { (None, None) } else { (weaker.auth, weaker.auth_file) };
        Layer {
            servers: self.servers.or(weaker.servers),
            chroot: self.chroot.or(weaker.chroot),
            auth: self.auth.or(auth),
            auth_file: self.auth_file.or(auth_file),
            tls_ca: self.tls_ca.or(weaker.tls_ca),
            tls_cert: self.tls_cert.or(weaker.tls_cert),
            tls_key: self.tls_key.or(weaker.tls_key),
            session_timeout: self.session_timeout.or(weaker.session_timeout),
            connect_timeout: self.connect_timeout.or(weaker.connect_timeout),
        }
    }
}

fn flag<T>(name: &'static str, value: Option<T>) -> Option<Setting<T>> {
    value.map(|value| Setting { value, origin: Origin::Flag(name) })
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
    /// Who asks; sent to each server a connection is made to.
    pub credentials: Credentials,
    /// What protects the connections; without it they are plain.
    pub tls: Option<Tls>,
    /// What was decided, one sentence per setting, with where it came from; nothing secret.
    pub decisions: Vec<String>,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A configuration file cannot be used.
    #[error(transparent)]
    ConfigFile(#[from] ConfigFileError),
    /// The connection string is wrong.
    #[error("{origin} is wrong")]
    Servers {
        /// Where it was written.
        origin: Origin,
        /// What is wrong.
        #[source]
        source: ServersError,
    },
    /// There are two chroots.
    #[error("{servers} ends with a chroot, and {chroot} names another one; keep one of the two")]
    TwoChroots {
        /// Where the servers were written.
        servers: Origin,
        /// Where the chroot was written.
        chroot: Origin,
    },
    /// A timeout in the environment is wrong.
    #[error("{origin} {source}")]
    Seconds {
        /// The variable.
        origin: Origin,
        /// What is allowed.
        source: SecondsError,
    },
    /// Credentials cannot be used.
    #[error("the credentials of {origin} cannot be used")]
    Auth {
        /// Where they, or their file, were written.
        origin: Origin,
        /// What is wrong.
        #[source]
        source: AuthError,
    },
    /// Certificates cannot be used.
    #[error("{origin} cannot be used")]
    Tls {
        /// Where the file was named.
        origin: Origin,
        /// What is wrong.
        #[source]
        source: Box<TlsError>,
    },
    /// Of the certificate and its key, only one is named.
    #[error("{origin} is only half: a client's certificate and its key are named together, by tls-cert and tls-key")]
    HalfIdentity {
        /// Where the other half was written.
        origin: Origin,
    },
    /// A certificate is named, and nobody to trust.
    #[error(
        "{origin} is of no use without tls-ca, the certificates of the authorities that the servers' are signed by"
    )]
    NoCa {
        /// Where the certificate was named.
        origin: Origin,
    },
}

impl ConnectOptions {
    /// Returns the settings for `servers`, everything else by default and nobody's identity.
    pub fn new(servers: Servers) -> ConnectOptions {
        ConnectOptions {
            servers,
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            rounds_max: DEFAULT_ROUNDS_MAX,
            credentials: Credentials::default(),
            tls: None,
            decisions: Vec::new(),
        }
    }

    /// Completes what the user said from the environment (`variable` looks one up), configuration files, and defaults.
    ///
    /// A flag `--some-name` wins over `$GRANGE_SOME_NAME`, which wins over the key `some-name` of a file. For the
    /// servers `$ZKHOST` comes behind `$GRANGE_SERVERS`. The file is `--config`, else `$GRANGE_CONFIG`, else the user's
    /// and behind it the machine's.
    pub fn resolve(
        raw: RawConnectOptions,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<ConnectOptions, OptionsError> {
        let named =
            raw.config.clone().or_else(|| variable("GRANGE_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from));
        let mut layer = Layer::from_flags(raw).or(Layer::from_environment(&variable)?);
        match named {
            Some(path) => layer = layer.or(config_file::read(&path, 0)?),
            None => {
                for (rank, path) in (0..).zip(config_file::search_path(&variable)) {
                    layer = layer.or(config_file::read_if_there(&path, rank)?.unwrap_or_default());
                }
            }
        }
        Self::from_layer(layer)
    }

    fn from_layer(layer: Layer) -> Result<ConnectOptions, OptionsError> {
        let mut decisions = Vec::new();
        let servers = resolve_servers(layer.servers, layer.chroot, &mut decisions)?;
        let credentials = resolve_credentials(layer.auth, layer.auth_file, &mut decisions)?;
        let tls = resolve_tls(layer.tls_ca, layer.tls_cert, layer.tls_key, &mut decisions)?;
        let mut timeout = |name: &str, setting: Option<Setting<Duration>>, default: Duration| {
            let Setting { value, origin } = setting.unwrap_or(Setting { value: default, origin: Origin::Default });
            decisions.push(format!("{name} is {} s, from {origin}", value.as_secs_f64()));
            value
        };
        let session_timeout = timeout("session-timeout", layer.session_timeout, DEFAULT_SESSION_TIMEOUT);
        let connect_timeout = timeout("connect-timeout", layer.connect_timeout, DEFAULT_CONNECT_TIMEOUT);
        let defaults = ConnectOptions::new(servers);
        Ok(ConnectOptions { session_timeout, connect_timeout, credentials, tls, decisions, ..defaults })
    }
}

fn resolve_servers(
    servers: Option<Setting<String>>,
    chroot: Option<Setting<String>>,
    decisions: &mut Vec<String>,
) -> Result<Servers, OptionsError> {
    let written = servers.unwrap_or(Setting { value: DEFAULT_SERVERS.to_owned(), origin: Origin::Default });
    let origin = written.origin;
    let mut servers =
        Servers::parse(&written.value).map_err(|source| OptionsError::Servers { origin: origin.clone(), source })?;
    decisions.push(format!("servers are {servers}, from {origin}"));
    let Some(Setting { value, origin: chroot_origin }) = chroot else { return Ok(servers) };
    let chroot: Option<ZnodePath> =
        parse_chroot(&value).map_err(|source| OptionsError::Servers { origin: chroot_origin.clone(), source })?;
    if servers.chroot().is_some() {
        match chroot_origin.rank().cmp(&origin.rank()) {
            std::cmp::Ordering::Greater => return Ok(servers),
            std::cmp::Ordering::Equal if servers.chroot() != chroot.as_ref() => {
                return Err(OptionsError::TwoChroots { servers: origin, chroot: chroot_origin });
            }
            _ => {}
        }
    }
    decisions.push(format!("chroot is {value}, from {chroot_origin}"));
    servers.set_chroot(chroot);
    Ok(servers)
}

fn resolve_credentials(
    text: Option<Setting<String>>,
    file: Option<Setting<PathBuf>>,
    decisions: &mut Vec<String>,
) -> Result<Credentials, OptionsError> {
    let (origin, read) = match (text, file) {
        (Some(Setting { value, origin }), _) => {
            let read = Credentials::parse_lines(&value, &origin.to_string());
            (origin, read)
        }
        (None, Some(Setting { value, origin })) => (origin, Credentials::read_file(&value)),
        (None, None) => return Ok(Credentials::default()),
    };
    let credentials = read.map_err(|source| OptionsError::Auth { origin: origin.clone(), source })?;
    decisions.push(format!("credentials are {}, from {origin}", credentials.kinds()));
    Ok(credentials)
}

fn resolve_tls(
    ca: Option<Setting<PathBuf>>,
    cert: Option<Setting<PathBuf>>,
    key: Option<Setting<PathBuf>>,
    decisions: &mut Vec<String>,
) -> Result<Option<Tls>, OptionsError> {
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(half), None) | (None, Some(half)) => return Err(OptionsError::HalfIdentity { origin: half.origin }),
    };
    let Some(ca) = ca else {
        return match identity {
            None => Ok(None),
            Some((cert, _)) => Err(OptionsError::NoCa { origin: cert.origin }),
        };
    };
    let at = |origin: &Origin| {
        let origin = origin.clone();
        move |source| OptionsError::Tls { origin, source: Box::new(source) }
    };
    let mut tls = Tls::trusting(&ca.value).map_err(at(&ca.origin))?;
    decisions.push(format!("TLS trusts {}, from {}", shown(&ca.value), ca.origin));
    if let Some((cert, key)) = identity {
        let chain = Tls::read_chain(&cert.value).map_err(at(&cert.origin))?;
        tls = tls.with_identity(chain, &key.value).map_err(at(&key.origin))?;
        decisions.push(format!("the client's certificate is {}, from {}", shown(&cert.value), cert.origin));
        decisions.push(format!("its key is {}, from {}", shown(&key.value), key.origin));
    }
    Ok(Some(tls))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Environment<'a> = &'a [(&'a str, &'a str)];

    /// Resolves with a configuration file of this text; without one nothing of the machine is read.
    fn resolved(
        raw: RawConnectOptions,
        environment: Environment<'_>,
        file: &str,
    ) -> Result<ConnectOptions, OptionsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grange.toml");
        std::fs::write(&path, file).unwrap();
        ConnectOptions::resolve(RawConnectOptions { config: Some(path), ..raw }, |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn flags(servers: Option<&str>, chroot: Option<&str>) -> RawConnectOptions {
        RawConnectOptions {
            servers: servers.map(str::to_owned),
            chroot: chroot.map(str::to_owned),
            ..RawConnectOptions::default()
        }
    }

    const FILE: &str = "[connection]\nservers = 'f'\nchroot = '/file'\nsession-timeout = 3\n";

    #[test]
    fn flags_win_over_variables_over_the_file_over_the_default() {
        let both = [("GRANGE_SERVERS", "g"), ("ZKHOST", "z")];
        let servers =
            |flag, environment, file| resolved(flags(flag, None), environment, file).unwrap().servers.to_string();
        assert_eq!(servers(Some("s"), &both, FILE), "s:2181/file");
        assert_eq!(servers(None, &both, ""), "g:2181");
        assert_eq!(servers(None, &both[1..], FILE), "z:2181/file");
        assert_eq!(servers(None, &[("GRANGE_SERVERS", "")], FILE), "f:2181/file");
        assert_eq!(servers(None, &[], ""), "127.0.0.1:2181");
    }

    #[test]
    fn of_two_chroots_the_one_nearer_to_the_command_line_wins() {
        let servers = |raw, environment| resolved(raw, environment, FILE).map(|options| options.servers.to_string());
        assert_eq!(servers(flags(Some("s/own"), None), &[]).unwrap(), "s:2181/own");
        assert_eq!(servers(flags(None, Some("/flag")), &[("ZKHOST", "z/own")]).unwrap(), "z:2181/flag");
        assert_eq!(servers(flags(Some("s/a"), Some("/a")), &[]).unwrap(), "s:2181/a");
        assert_eq!(servers(flags(Some("s"), Some("/")), &[]).unwrap(), "s:2181");
        let error = servers(flags(Some("s/a"), Some("/b")), &[]).unwrap_err().to_string();
        assert_eq!(error, "--servers ends with a chroot, and --chroot names another one; keep one of the two");
    }

    #[test]
    fn every_decision_names_its_origin() {
        let environment = [("GRANGE_AUTH", "digest:u:hidden"), ("GRANGE_CONNECT_TIMEOUT", "1.5")];
        let options = resolved(flags(Some("s"), None), &environment, FILE).unwrap();
        assert_eq!(options.session_timeout, Duration::from_secs(3));
        let decisions = options.decisions.join("\n");
        for part in [
            "servers are s:2181, from --servers",
            "chroot is /file, from ",
            "grange.toml:3",
            "credentials are digest, from $GRANGE_AUTH",
            "session-timeout is 3 s, from ",
            "grange.toml:4",
            "connect-timeout is 1.5 s, from $GRANGE_CONNECT_TIMEOUT",
        ] {
            assert!(decisions.contains(part), "{part}: {decisions}");
        }
        assert!(!format!("{options:?}").contains("hidden"));
    }

    #[test]
    fn an_error_names_where_the_value_came_from() {
        let error = |raw, environment: Environment<'_>, file| resolved(raw, environment, file).unwrap_err().to_string();
        assert_eq!(error(flags(None, None), &[("ZKHOST", "a:b")], ""), "$ZKHOST is wrong");
        assert_eq!(error(flags(Some(""), None), &[], ""), "--servers is wrong");
        assert_eq!(error(flags(None, Some("x")), &[], ""), "--chroot is wrong");
        let in_file = error(flags(None, None), &[], "[connection]\n\nservers = 'a,,b'\n");
        assert!(in_file.ends_with("grange.toml:3 is wrong"), "{in_file}");
        assert_eq!(
            error(flags(None, None), &[("GRANGE_SESSION_TIMEOUT", "soon")], ""),
            "$GRANGE_SESSION_TIMEOUT must be a number of seconds above 0 and up to 86400"
        );
        assert!(error(flags(None, None), &[("GRANGE_TLS_KEY", "k")], "").starts_with("$GRANGE_TLS_KEY is only half"));
        let both = [("GRANGE_TLS_KEY", "k"), ("GRANGE_TLS_CERT", "c")];
        assert!(error(flags(None, None), &both, "").starts_with("$GRANGE_TLS_CERT is of no use without tls-ca"));
        assert_eq!(error(flags(None, None), &[("GRANGE_TLS_CA", "/absent")], ""), "$GRANGE_TLS_CA cannot be used");
        assert_eq!(
            error(flags(None, None), &[("GRANGE_AUTH", "x")], ""),
            "the credentials of $GRANGE_AUTH cannot be used"
        );
    }

    #[test]
    fn a_named_file_must_be_there() {
        let raw = RawConnectOptions { config: Some("/absent/grange.toml".into()), ..RawConnectOptions::default() };
        let error = ConnectOptions::resolve(raw, |_| None).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the configuration file /absent/grange.toml");
    }
}
