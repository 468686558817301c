//! `grange ensemble add`.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use grange_client::ensemble::{Ensemble, Invitation, Mode, NewServer, own_address, probe};
use grange_client::{ConnectError, ConnectOptions, ServerAddress};
use grange_proto::server_spec::{ClientAddress, ServerSpecError};
use grange_proto::{Role, ServerSpec};
use grange_server::new_member::{self, Found, NewMember};
use grange_server::{Config, RawConfig, Server};
use tokio::time::sleep;

use super::answer::{not_joined, refused};
use super::invite::{now_s, time_text};
use crate::context::Context;
use crate::error::CommandError;
use crate::output::harmless_line;
use crate::serve::{EndSignals, attend, failed, start, stop};

/// The most bytes that are read of a token or of further settings.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// The port for clients unless it is said.
const CLIENT_PORT: u16 = 2181;
/// How often the new server is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often is said that it is still waited for.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Make this blank machine a member, and serve
///
/// Takes a token that `grange ensemble invite` printed elsewhere. Writes DIR/zoo.cfg and DIR/myid, starts the server, has it
/// added, and goes on like `grange serve`. Interrupted, the same command goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = "To start the member later: grange serve --config DIR/zoo.cfg")]
pub(super) struct AddArgs {
    /// Where data is kept; made if it is missing, and must be empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The token's file; - for standard input [default: $GRANGE_JOIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The number of this server [default: the lowest that is free]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    id: Option<u8>,
    /// Where the other members reach this machine [default: the address by which it reaches them]
    #[arg(long, value_name = "HOST")]
    address: Option<String>,
    /// The port for members
    #[arg(long, value_name = "PORT", default_value = "2888", value_parser = clap::value_parser!(u16).range(1..))]
    peer_port: u16,
    /// Where clients connect [default: port 2181 of the same address]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Follow without a vote
    #[arg(long)]
    observer: bool,
    /// Append these lines to zoo.cfg: what the servers have in common, such as sslQuorum
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// End once this machine is a member
    #[arg(long)]
    exit: bool,
}

pub(super) async fn run(_cx: &Context, args: &AddArgs) -> Result<(), CommandError> {
    let invitation = invitation(args)?;
    let options =
        ConnectOptions { credentials: invitation.auth().into(), ..ConnectOptions::new(invitation.servers.clone()) };
    prepare(args, &options).await?;
    let (config, own) = read_back(&args.data)?;
    let server = start(config).await?;
    let mut signals = EndSignals::listen()?;
    eprintln!("server {} runs and waits to be added", own.id);
    let joined = tokio::select! {
        joined = join(&own, &options, &invitation, server.local_addr()) => joined,
        failure = server.failed() => return Err(failed(&failure)),
        name = signals.next() => {
            stop(server).await?;
            return Err(CommandError::failure(anyhow!("{name} came before server {} was a member", own.id))
                .hint("the same command goes on"));
        }
    };
    if let Err(error) = joined {
        stop(server).await?;
        return Err(error);
    }
    eprintln!("server {} is a member", own.id);
    go_on(args, server, signals).await
}

async fn go_on(args: &AddArgs, server: Server, signals: EndSignals) -> Result<(), CommandError> {
    if args.exit {
        stop(server).await?;
        let config = new_member::config_path(&args.data);
        eprintln!("hint: to start it: grange serve --config {}", config.display());
        return Ok(());
    }
    eprintln!("listening on {}", server.local_addr());
    attend(server, signals).await
}

fn invitation(args: &AddArgs) -> Result<Invitation, CommandError> {
    let token = match &args.token_file {
        Some(path) if path.as_os_str() == "-" => read_bounded(std::io::stdin().lock(), "standard input")?,
        Some(path) => read_file(path)?,
        None => std::env::var("GRANGE_JOIN_TOKEN").map_err(|_| {
            CommandError::usage(anyhow!("there is no join token"))
                .hint("name its file with --token-file FILE, or set $GRANGE_JOIN_TOKEN")
                .hint("to make one, where the ensemble is: grange ensemble invite")
        })?,
    };
    let invitation = Invitation::parse(&token).map_err(CommandError::usage)?;
    if invitation.is_expired(now_s()) {
        let error = anyhow!("the join token was valid until {}", time_text(invitation.expires_s));
        return Err(
            CommandError::negative(error).hint("for another one, where the ensemble is: grange ensemble invite")
        );
    }
    Ok(invitation)
}

fn read_file(path: &Path) -> Result<String, CommandError> {
    let name = path.display().to_string();
    let file =
        std::fs::File::open(path).map_err(|error| CommandError::usage(error).context(format!("cannot read {name}")))?;
    read_bounded(file, &name)
}

fn read_bounded(from: impl Read, name: &str) -> Result<String, CommandError> {
    let mut text = String::new();
    let doing = format!("cannot read {name}");
    let bytes = from
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| CommandError::usage(error).context(doing))?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(CommandError::usage(anyhow!("{name} is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Gives this machine a number and an address, and writes them down, unless an earlier run got further.
async fn prepare(args: &AddArgs, options: &ConnectOptions) -> Result<(), CommandError> {
    let found = new_member::look(&args.data).map_err(CommandError::failure)?;
    if found == Found::Other {
        let error = anyhow!("{} is not empty, and nothing there was begun by this command", args.data.display());
        return Err(CommandError::failure(error).hint("name another directory with --data"));
    }
    let ensemble = Ensemble::connect(options).await.map_err(|error| unreachable(error, options))?;
    let members = ensemble.members().await;
    ensemble.close().await;
    let members = members.map_err(refused)?;
    if let Found::Begun { has_data } = found {
        let (_, own) = read_back(&args.data)?;
        if own.is_among(&members) {
            eprintln!("going on as server {}", own.id);
            return Ok(());
        }
        if has_data {
            let error = anyhow!("server {} was a member and is none any more", own.id);
            return Err(CommandError::failure(error).hint(format!("empty {}, then again", args.data.display())));
        }
    }
    let own = NewServer::choose(&members, args.id, spec(args, options).await?).map_err(not_joined)?;
    let address = own.spec.peers.first().map(|peer| format!("{}:{}", peer.host, peer.quorum_port));
    let address = address.unwrap_or_default();
    eprintln!("joining as server {} ({address}) the ensemble of {}", own.id, members.describe());
    let mut servers = members.servers;
    servers.insert(own.id, own.spec);
    let servers: Vec<_> = servers.into_iter().collect();
    let settings = args.settings.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let member = NewMember { server_id: own.id, servers: &servers, settings: &settings };
    new_member::prepare(&args.data, &member).map_err(CommandError::failure)
}

fn unreachable(error: ConnectError, options: &ConnectOptions) -> CommandError {
    let is_nobody_there = matches!(error, ConnectError::NoServer { .. });
    let failure = CommandError::failure(anyhow!(harmless_line(&format!("{:#}", anyhow!(error)))));
    match is_nobody_there {
        true => failure.hint(format!(
            "the token names {} for clients; it takes their addresses from /zookeeper/config",
            harmless_line(&options.servers.to_string())
        )),
        false => failure,
    }
}

/// Describes this machine as the others are to know it.
async fn spec(args: &AddArgs, options: &ConnectOptions) -> Result<ServerSpec, CommandError> {
    let host = match &args.address {
        Some(host) => host.clone(),
        None => own_address(&options.servers).await.map_err(not_joined)?.to_string(),
    };
    let client = match args.listen {
        Some(listen) => ClientAddress { host: listen.ip().to_string(), port: listen.port() },
        None => ClientAddress { host: host.clone(), port: CLIENT_PORT },
    };
    let role = if args.observer { Role::Observer } else { Role::Participant };
    let spec = NewServer::spec(&host, args.peer_port, client, role);
    // What cannot be read back must not be written.
    spec.to_string().parse().map_err(|error: ServerSpecError| CommandError::usage(error).context("--address is wrong"))
}

/// Reads what was written, by this run or an earlier one.
fn read_back(data: &Path) -> Result<(Config, NewServer), CommandError> {
    let path = new_member::config_path(data);
    let mut raw = RawConfig::default();
    raw.read_file(&path).map_err(CommandError::usage)?;
    let config = Config::try_from(raw).map_err(CommandError::usage)?;
    let spec = config.ensemble.own().cloned().ok_or_else(|| {
        CommandError::usage(anyhow!("{} has no line for this server", path.display()))
            .hint("empty the directory, and begin anew")
    })?;
    let own = NewServer { id: config.ensemble.server_id, spec };
    Ok((config, own))
}

/// Has this server added, shows how it gets in, and takes the invitation back.
async fn join(
    own: &NewServer,
    options: &ConnectOptions,
    invitation: &Invitation,
    local_addr: SocketAddr,
) -> Result<(), CommandError> {
    // An observer is expected before it is there; a participant may not know yet that it votes.
    let added = own.join(options);
    let (added, ()) = tokio::try_join!(async { added.await.map_err(not_joined) }, async {
        watch(own, local_addr).await;
        Ok(())
    })?;
    let withdrawn = added.withdraw(invitation).await;
    added.close().await;
    if let Err(error) = withdrawn {
        eprintln!("the invitation could not be taken back ({error})");
        eprintln!("hint: where the ensemble is: grange ensemble invite --revoke-all");
    }
    Ok(())
}

/// Says what this server does as it gets in; returns when it plays its part.
async fn watch(own: &NewServer, local_addr: SocketAddr) {
    let address = ServerAddress { host: local_addr.ip().to_string(), port: local_addr.port() };
    let mut last_word = Instant::now();
    let mut is_following = false;
    loop {
        match probe(&address).await.map(|report| report.mode) {
            Ok(Mode::Observer) if !is_following => {
                eprintln!("server {} follows", own.id);
                (is_following, last_word) = (true, Instant::now());
            }
            Ok(Mode::Leader | Mode::Follower) => {
                eprintln!("server {} votes", own.id);
                return;
            }
            _ => {}
        }
        if is_following && own.spec.role == Role::Observer {
            return;
        }
        if last_word.elapsed() > REPEAT_AFTER {
            eprintln!("server {} still {}", own.id, if is_following { "catches up" } else { "waits for its data" });
            last_word = Instant::now();
        }
        sleep(LOOK_INTERVAL).await;
    }
}
