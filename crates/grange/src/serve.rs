//! `grange serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use grange_server::config::Key;
use grange_server::storage::dir::OpenError;
use grange_server::{Config, ConfigError, ListenError, RawConfig, Server, ServerFailure, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Context;
use crate::error::CommandError;

/// Run the server
///
/// Prints `listening on ADDRESS:PORT` on standard error as soon as clients can connect. A member of an ensemble, which the
/// file describes, serves them once there is a leader, and logs that. SIGTERM or SIGINT ends it: what
/// is in flight is answered, and sessions live on until their timeout.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where data is kept; made if it is missing [default: dataDir of the file]
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// Where clients connect; port 0 takes a free one [default: the file's, else 127.0.0.1:2181]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// A zoo.cfg; flags win over it, and keys without an effect are listed in one warning
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The number of this server among the lines server.N of the file [default: the file's myid, else DATA/myid]
    #[arg(long, value_name = "N")]
    id: Option<String>,
    /// A file with super:HASH, the digest identity that no ACL applies to
    #[arg(long, value_name = "FILE")]
    super_digest_file: Option<PathBuf>,
}

impl ServeArgs {
    fn config(&self) -> Result<Config, CommandError> {
        let mut raw = RawConfig::default();
        if let Some(path) = &self.config {
            raw.read_file(path).map_err(CommandError::usage)?;
        }
        if let Some(path) = &self.data {
            raw.set_flag(Key::DataDir, "--data", as_text("--data", path)?);
        }
        if let Some(address) = &self.listen {
            raw.set_flag(Key::Listen, "--listen", address);
        }
        if let Some(id) = &self.id {
            raw.set_flag(Key::MyId, "--id", id);
        }
        if let Some(path) = &self.super_digest_file {
            let digest = std::fs::read_to_string(path).map_err(|error| {
                CommandError::usage(error).context(format!("cannot read the digest from {}", path.display()))
            })?;
            raw.set_flag(Key::SuperDigest, "--super-digest-file", digest.trim());
        }
        Config::try_from(raw).map_err(|error: ConfigError| CommandError::usage(error))
    }
}

pub(crate) fn as_text<'a>(flag: &str, path: &'a Path) -> Result<&'a str, CommandError> {
    path.to_str().ok_or_else(|| CommandError::usage(anyhow!("{flag} {} is not UTF-8", path.display())))
}

pub(crate) async fn run(_cx: &Context, args: &ServeArgs) -> Result<(), CommandError> {
    let server = start(args.config()?).await?;
    let signals = EndSignals::listen()?;
    eprintln!("listening on {}", server.local_addr());
    attend(server, signals).await
}

/// Starts a server.
pub(crate) async fn start(config: Config) -> Result<Server, CommandError> {
    // Reading the data takes its time. A signal meanwhile ends the process at once, which does no harm.
    blocking(|| Server::start(config)).await.map_err(start_failed)
}

/// Waits until a signal ends the server, or it ends by itself.
pub(crate) async fn attend(server: Server, mut signals: EndSignals) -> Result<(), CommandError> {
    tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "the server stops");
            stop(server).await
        }
        failure = server.failed() => Err(failed(&failure)),
    }
}

/// Ends a server cleanly.
pub(crate) async fn stop(server: Server) -> Result<(), CommandError> {
    blocking(|| server.stop()).await.map_err(|failure| failed(&failure))
}

/// Runs what waits for disks and threads where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work neither panics nor is it cancelled")
}

/// The signals that ask for a clean end.
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    pub(crate) fn listen() -> Result<EndSignals, CommandError> {
        let listen =
            |kind| signal(kind).map_err(|error| CommandError::failure(error).context("cannot listen for signals"));
        Ok(EndSignals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for one of them, and returns its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn start_failed(error: StartError) -> CommandError {
    let hint = match &error {
        StartError::Listen(ListenError::InUse { .. }) => Some("to take a free port: --listen 127.0.0.1:0"),
        StartError::Directory(OpenError::Locked { .. }) => {
            Some("stop that process, or name another directory: --data DIR")
        }
        StartError::ListenToMembers(ListenError::Refused { .. } | ListenError::Name { .. }) => Some(
            "this server's line server.N must name an address of this machine; behind a NAT: quorumListenOnAllIPs=true",
        ),
        _ => None,
    };
    let failure = CommandError::failure(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

pub(crate) fn failed(failure: &Arc<ServerFailure>) -> CommandError {
    CommandError::failure(Arc::clone(failure)).context("the server has stopped by itself")
}
