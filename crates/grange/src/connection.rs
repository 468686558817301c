//! The flags by which every tool finds its ensemble.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use grange_client::{Client, ConnectError, ConnectOptions, RawConnectOptions};

use crate::error::CommandError;

/// Where the ensemble is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// The ensemble: HOST:PORT,HOST:PORT/CHROOT [default: $GRANGE_SERVERS, else $ZKHOST, else 127.0.0.1:2181]
    #[arg(long, global = true, value_name = "SERVERS", help_heading = "Connection")]
    pub(crate) servers: Option<String>,
    /// A file of mode 0600 with lines of SCHEME:CREDENTIAL, such as digest:user:password [default: $GRANGE_AUTH]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    auth_file: Option<PathBuf>,
    /// The session timeout to ask for, in seconds
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    #[arg(help_heading = "Connection")]
    session_timeout: Duration,
    /// How long to try to get a session, in seconds
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    #[arg(help_heading = "Connection")]
    connect_timeout: Duration,
}

/// The longest timeout that can be asked for, in seconds: one day.
const TIMEOUT_SECONDS_MAX: f64 = 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= TIMEOUT_SECONDS_MAX => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("must be a number of seconds above 0 and up to {TIMEOUT_SECONDS_MAX}")),
    }
}

impl ConnectionArgs {
    /// Completes the flags from the environment.
    pub(crate) fn options(&self) -> Result<ConnectOptions, CommandError> {
        let raw = RawConnectOptions {
            servers: self.servers.clone(),
            session_timeout: Some(self.session_timeout),
            connect_timeout: Some(self.connect_timeout),
            auth_file: self.auth_file.clone(),
        };
        ConnectOptions::resolve(raw, |name| std::env::var(name).ok()).map_err(CommandError::usage)
    }

    /// Opens a session.
    pub(crate) async fn connect(&self) -> Result<Client, CommandError> {
        connect(&self.options()?).await
    }
}

/// Opens a session, with advice when there is none.
pub(crate) async fn connect(options: &ConnectOptions) -> Result<Client, CommandError> {
    grange_client::connect(options).await.map_err(no_session)
}

/// Adds advice to the lack of a session.
pub(crate) fn no_session(error: ConnectError) -> CommandError {
    match error {
        ConnectError::NoServer { .. } => CommandError::failure(error).hint(
            "name the servers with --servers HOST:PORT or in $GRANGE_SERVERS, or start one: grange serve --data DIR",
        ),
        ConnectError::AuthRefused => {
            CommandError::failure(error).hint("look at the lines of --auth-file, or at $GRANGE_AUTH")
        }
        ConnectError::Client { .. } => CommandError::failure(error),
    }
}
