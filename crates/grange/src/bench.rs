//! `grange bench`: load on any ZooKeeper ensemble, and what it takes.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use grange_bench::{Afterwards, BenchError, Extent, Operation, Plan};

use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

const SESSIONS_DEFAULT: u64 = 10_000;
const NODES_DEFAULT: u64 = 10_000;
const FILL_DEFAULT: u64 = 1_000_000;

/// Put load on a ZooKeeper server and measure throughput, latency and cost
///
/// Works against any server of the protocol. Every reply is checked; if one carries an error, or a connection is
/// lost, the run says so and exits with status 1.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure: set, create, get, exists, children, mixed:READS, delete, ephemeral, watch, sessions, sync, fill
    ///
    /// mixed:READS sets and gets with so many reads in a hundred. fill creates --nodes znodes and delete deletes them.
    /// ephemeral creates and deletes in turn, watch reads with a watch and fires it in turn. sessions opens --count
    /// sessions and keeps them idle for --hold.
    #[arg(long, default_value = "set")]
    op: Operation,
    /// Servers to connect to, in turns
    #[arg(
        long,
        env = "GRANGE_SERVERS",
        value_delimiter = ',',
        default_value = "127.0.0.1:2181",
        value_name = "HOST:PORT"
    )]
    servers: Vec<String>,
    /// Connections, each with its own session
    #[arg(long, short, default_value_t = 64)]
    connections: usize,
    /// Requests in flight per connection; for sessions: handshakes under way per thread
    #[arg(long, short, default_value_t = 64)]
    in_flight: usize,
    /// Threads that generate load
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Size of the data of each znode
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    value_bytes: usize,
    /// Znodes to work on, made before the measurement [default: 10000, for fill 1000000]
    #[arg(long, value_name = "N")]
    nodes: Option<u64>,
    /// Seconds to measure
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS", conflicts_with = "count")]
    duration: Duration,
    /// Operations to measure, instead of a duration; for sessions: how many [default there: 10000]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Seconds to run before measuring
    #[arg(long, default_value = "2", value_parser = seconds, value_name = "SECONDS")]
    warmup: Duration,
    /// Requests per second in all, due whether or not the server keeps up; latency counts from when they were due
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// The znode to work below; it is created and deleted
    #[arg(long, default_value = "/grange-bench", value_name = "PATH")]
    root: String,
    /// Leave the znodes there
    #[arg(long)]
    keep: bool,
    /// Report CPU time and memory of this process, the server's; of several, with commas between them, the sum
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Session timeout to ask for, in seconds
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    session_timeout: Duration,
    /// For sessions: keep them idle so many seconds, with pings
    #[arg(long, default_value = "0", value_parser = seconds, value_name = "SECONDS")]
    hold: Duration,
    /// For sessions: connect from so many addresses 127.0.0.1, 127.0.0.2, ..., for a limit per address
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=250))]
    source_addresses: u8,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the benchmark and prints its report; error replies and lost connections are a negative answer.
pub(crate) fn run(cx: &Context, args: &BenchArgs) -> Result<(), CommandError> {
    let plan = args.plan()?;
    let report = grange_bench::run(&plan).map_err(|error| match error {
        BenchError::Plan(_) => CommandError::usage(error),
        _ => CommandError::failure(error),
    })?;
    let mut out = Output::new(cx);
    if args.json {
        out.json(&serde_json::to_value(&report).map_err(CommandError::failure)?)?;
    } else {
        report.to_string().lines().try_for_each(|line| out.line(line))?;
    }
    out.finish()?;
    if report.is_clean() {
        return Ok(());
    }
    let errors: u64 = report.errors.iter().map(|error| error.count).sum();
    let lost = report.connections_lost;
    Err(CommandError::negative(anyhow!("{errors} error replies, {lost} connections lost: the figures are not valid")))
}

impl BenchArgs {
    fn plan(&self) -> Result<Plan, CommandError> {
        let servers = self.servers.iter().map(|server| resolve(server)).collect::<anyhow::Result<_>>();
        let servers = servers.map_err(CommandError::usage)?;
        let extent = match (self.op, self.count) {
            (Operation::Sessions, count) => Extent::Count(count.unwrap_or(SESSIONS_DEFAULT)),
            (_, Some(count)) => Extent::Count(count),
            (_, None) => Extent::Time(self.duration),
        };
        Ok(Plan {
            servers,
            operation: self.op,
            connections: self.connections,
            in_flight: self.in_flight,
            threads: self.threads,
            value_bytes: self.value_bytes,
            nodes: self.nodes.unwrap_or(if self.op == Operation::Fill { FILL_DEFAULT } else { NODES_DEFAULT }),
            extent,
            warmup: self.warmup,
            root: self.root.clone(),
            afterwards: if self.keep { Afterwards::Keep } else { Afterwards::Delete },
            rate: self.rate,
            server_pids: self.server_pid.clone(),
            session_timeout: self.session_timeout,
            hold: self.hold,
            source_addresses: self.source_addresses,
        })
    }
}

fn resolve(server: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses = server.to_socket_addrs().with_context(|| format!("cannot resolve the server {server:?}"))?;
    addresses.next().with_context(|| format!("the server {server:?} has no address"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
