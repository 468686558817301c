//! `grange ensemble recover`.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use grange_client::ServerAddress;
use grange_client::ensemble::{Mode, probe};
use grange_server::config::Key;
use grange_server::storage::dir::OpenError;
use grange_server::{Config, RawConfig, RescueError, Rescued, new_member, rescue};

use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};
use crate::serve::{as_text, blocking};

/// Start anew from one server when the majority is lost for good
///
/// Makes a server that does not run an ensemble of its own, with what is on its disk. Acknowledged writes that had not
/// reached it are lost. As long as a majority can be brought back, bring it back instead.
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// The server's data directory [default: dataDir of the file]
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// The server's zoo.cfg [default: DIR/zoo.cfg]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The number of this server among the lines server.N [default: the file's myid, else DIR/myid]
    #[arg(long, value_name = "N")]
    id: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Go on even if another server says that it has a leader
    #[arg(long)]
    force: bool,
}

impl RecoverArgs {
    fn config(&self) -> Result<(PathBuf, Config), CommandError> {
        let beside = || self.data.as_deref().map(new_member::config_path);
        let path = self.config.clone().or_else(|| beside().filter(|path| path.exists())).ok_or_else(|| {
            CommandError::usage(anyhow!("which server this is stands in its zoo.cfg")).hint("name it: --config FILE")
        })?;
        let mut raw = RawConfig::default();
        raw.read_file(&path).map_err(CommandError::usage)?;
        if let Some(data) = &self.data {
            raw.set_flag(Key::DataDir, "--data", as_text("--data", data)?);
        }
        if let Some(id) = &self.id {
            raw.set_flag(Key::MyId, "--id", id);
        }
        let config = Config::try_from(raw).map_err(CommandError::usage)?;
        if config.ensemble.is_alone() {
            let error = anyhow!("{} has no lines server.N: this server has no others to lose", path.display());
            return Err(CommandError::usage(error));
        }
        Ok((path, config))
    }
}

pub(super) async fn run(cx: &Context, args: &RecoverArgs) -> Result<(), CommandError> {
    let (path, config) = args.config()?;
    let server_id = config.ensemble.server_id;
    if let Some((other, mode)) = find_leader(&config).await {
        let error = anyhow!("{other} is {}: there is a majority, and nothing to recover", mode.name());
        if !args.force {
            return Err(CommandError::failure(error)
                .hint(format!("start this server, and it catches up: grange serve --config {}", path.display()))
                .hint("if that server belongs to another ensemble: --force"));
        }
        eprintln!("{}", harmless_line(&error.to_string()));
    }
    eprint!("{}", warning(server_id));
    if !args.yes && !is_confirmed(cx, server_id)? {
        return Err(CommandError::negative(anyhow!("nothing is changed")));
    }
    let rescued = blocking(move || rescue(&config)).await.map_err(not_rescued)?;
    let Rescued { server_id, zxid, .. } = rescued;
    let mut out = Output::new(cx);
    out.line(&format!("server {server_id} is an ensemble of its own, at zxid {zxid}"))?;
    out.finish()?;
    eprintln!("hint: start it: grange serve --config {}", path.display());
    eprintln!(
        "hint: the other servers of its zoo.cfg join it when they are started with empty directories; others by: grange \
         ensemble invite"
    );
    Ok(())
}

fn warning(server_id: u8) -> String {
    format!(
        "\
This makes server {server_id} an ensemble of its own, with what is on its disk.
  - Acknowledged writes that had not reached this server are lost. If several servers are left, recover the one
    with the highest zxid.
  - Writes that were never acknowledged may appear.
  - Other members of the old ensemble can never join it with their data. If they still run, stop them for good first:
    clients could use two ensembles that know nothing of each other.
Nothing is deleted: the old log and snapshots stay until the server purges them.
"
    )
}

/// Has a person type the server's name.
fn is_confirmed(cx: &Context, server_id: u8) -> Result<bool, CommandError> {
    if !cx.can_ask() {
        return Err(CommandError::usage(anyhow!("this needs a confirmation, and there is no terminal to ask on"))
            .hint("confirm it with --yes"));
    }
    let wanted = format!("server {server_id}");
    eprint!("Type \"{wanted}\" to go on: ");
    // Nobody is there to see it if it cannot be written.
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| CommandError::failure(error).context("cannot read the answer"))?;
    Ok(line.trim() == wanted)
}

/// Asks the other servers; returns one that has a leader.
async fn find_leader(config: &Config) -> Option<(ServerAddress, Mode)> {
    let own = config.ensemble.server_id;
    for (id, spec) in &config.ensemble.servers {
        let (Some(peer), true) = (spec.peers.first(), *id != own) else { continue };
        let client = spec.client.as_ref();
        let host = client.map(|client| &client.host).filter(|host| !["0.0.0.0", "::"].contains(&host.as_str()));
        let address = ServerAddress {
            host: host.unwrap_or(&peer.host).clone(),
            port: client.map_or(config.listen.address.port(), |client| client.port),
        };
        if let Ok(report) = probe(&address).await
            && report.mode.has_leader()
        {
            return Some((address, report.mode));
        }
    }
    None
}

fn not_rescued(error: RescueError) -> CommandError {
    let is_locked = matches!(&error, RescueError::Directory(OpenError::Locked { .. }));
    let failure = CommandError::failure(error);
    if is_locked { failure.hint("stop that process first: the server must not run") } else { failure }
}
