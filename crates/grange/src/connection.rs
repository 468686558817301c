//! The flags by which every tool finds its ensemble.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use grange_client::{Client, ConnectError, ConnectOptions, OptionsError, RawConnectOptions};
use tracing::debug;

use crate::error::CommandError;
use crate::output::harmless_line;

/// Where the ensemble is, and who asks.
#[derive(Debug, Default, Args)]
pub(crate) struct ConnectionArgs {
    /// The ensemble: HOST:PORT,HOST:PORT/CHROOT [default: $GRANGE_SERVERS, else $ZKHOST, else 127.0.0.1:2181]
    #[arg(long, global = true, value_name = "SERVERS", help_heading = "Connection")]
    pub(crate) servers: Option<String>,
    /// The znode that is used as the root
    #[arg(long, global = true, value_name = "PATH", help_heading = "Connection")]
    chroot: Option<String>,
    /// A file of mode 0600 with lines of SCHEME:CREDENTIAL, such as digest:user:password or sasl:user:password
    /// [default: $GRANGE_AUTH]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    auth_file: Option<PathBuf>,
    /// Use TLS, and trust the servers that these certificates have signed (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    tls_ca: Option<PathBuf>,
    /// The certificate by which the servers know this client (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, in a file of mode 0600 (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    tls_key: Option<PathBuf>,
    /// The session timeout to ask for, in seconds [default: 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, help_heading = "Connection")]
    session_timeout: Option<Duration>,
    /// How long to try to get a session, in seconds [default: 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, help_heading = "Connection")]
    connect_timeout: Option<Duration>,
    /// Read these settings from FILE only [default: $GRANGE_CONFIG, else ~/.config/grange/grange.toml and
    /// /etc/grange.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    config: Option<PathBuf>,
    /// Say on standard error which of these settings came from where
    #[arg(long, global = true, help_heading = "Connection")]
    verbose: bool,
}

/// Reads what was written for a time.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().map_err(|_| grange_client::SecondsError.to_string())?;
    grange_client::seconds(number).map_err(|error| error.to_string())
}

impl ConnectionArgs {
    /// Completes the flags from the environment and the configuration files.
    pub(crate) fn options(&self) -> Result<ConnectOptions, CommandError> {
        let raw = RawConnectOptions {
            config: self.config.clone(),
            servers: self.servers.clone(),
            chroot: self.chroot.clone(),
            session_timeout: self.session_timeout,
            connect_timeout: self.connect_timeout,
            auth_file: self.auth_file.clone(),
            tls_ca: self.tls_ca.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
        };
        let options = ConnectOptions::resolve(raw, |name| std::env::var(name).ok()).map_err(unusable)?;
        for decision in &options.decisions {
            debug!("{decision}");
            if self.verbose {
                eprintln!("{}", harmless_line(decision));
            }
        }
        Ok(options)
    }

    /// Returns flags that name servers and nothing else.
    pub(crate) fn to_servers(servers: String) -> ConnectionArgs {
        ConnectionArgs { servers: Some(servers), ..ConnectionArgs::default() }
    }

    /// Returns the flags again, for another process of this program in the same directory.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let seconds = |time: Option<Duration>| time.map(|time| OsString::from(time.as_secs_f64().to_string()));
        let flags = [
            ("--servers", self.servers.clone().map(OsString::from)),
            ("--chroot", self.chroot.clone().map(OsString::from)),
            ("--auth-file", self.auth_file.clone().map(OsString::from)),
            ("--tls-ca", self.tls_ca.clone().map(OsString::from)),
            ("--tls-cert", self.tls_cert.clone().map(OsString::from)),
            ("--tls-key", self.tls_key.clone().map(OsString::from)),
            ("--session-timeout", seconds(self.session_timeout)),
            ("--connect-timeout", seconds(self.connect_timeout)),
            ("--config", self.config.clone().map(OsString::from)),
        ];
        let given = flags.into_iter().filter_map(|(flag, value)| Some([flag.into(), value?]));
        given.flatten().collect()
    }

    /// Opens a session.
    pub(crate) async fn connect(&self) -> Result<Client, CommandError> {
        connect(&self.options()?).await
    }
}

fn unusable(error: OptionsError) -> CommandError {
    let hint = match &error {
        OptionsError::ConfigFile(_) => Some("--config FILE reads another file; --config /dev/null reads none"),
        _ => None,
    };
    let error = CommandError::usage(error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Opens a session, with advice when there is none.
pub(crate) async fn connect(options: &ConnectOptions) -> Result<Client, CommandError> {
    grange_client::connect(options).await.map_err(no_session)
}

/// Adds advice to the lack of a session.
pub(crate) fn no_session(error: ConnectError) -> CommandError {
    match error {
        ConnectError::NoServer { .. } => CommandError::failure(error)
            .hint("name the servers with --servers HOST:PORT or in $GRANGE_SERVERS, or start one: grange serve --data DIR")
            .hint("--verbose shows which settings are used and where they come from"),
        ConnectError::AuthRefused => {
            CommandError::failure(error).hint("look at the lines of --auth-file, or at $GRANGE_AUTH")
        }
        ConnectError::HostName(_) => {
            CommandError::usage(error).hint("name the server as its certificate does, or leave out --tls-ca")
        }
        ConnectError::Client { .. } => CommandError::failure(error),
    }
}
