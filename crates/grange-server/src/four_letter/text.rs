//! The answers' text. Source: what Apache ZooKeeper 3.8.0 prints.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

use grange_proto::{Role, SessionId};
use grange_replica::{ConnectionReport, Latency, Mode, SessionReport, Summary, WatchReport};
use jiff::{Timestamp, tz::TimeZone};

use super::process::{ServerFacts, directory_bytes, file_descriptors};

/// The ZooKeeper release whose protocol this server speaks, and its own version. Tools split it at the first `-`.
const VERSION: &str = concat!("3.9.0-grange-", env!("CARGO_PKG_VERSION"), ", built on Linux");
/// What `gtmk` answers on a server where nobody has set it.
pub(super) const TRACE_MASK: i64 = 306;

/// Appends a line; writing to a `String` cannot fail.
macro_rules! line {
    ($out:expr, $($format:tt)*) => {
        writeln!($out, $($format)*).expect("a String takes everything")
    };
}

pub(super) fn trace_mask(argument: &[u8]) -> String {
    argument.try_into().map_or(0, i64::from_be_bytes).to_string()
}

pub(super) fn conf(facts: &ServerFacts) -> String {
    let mut out = String::new();
    let per_address = facts.limits.connections_per_address_max.map_or(0, usize::from);
    line!(out, "clientPort={}", facts.local_addr.port());
    line!(out, "secureClientPort=-1");
    line!(out, "dataDir={}", facts.data_dir.display());
    line!(out, "dataDirSize={}", directory_bytes(&facts.data_dir));
    line!(out, "dataLogDir={}", facts.log_dir.display());
    line!(out, "dataLogSize={}", directory_bytes(&facts.log_dir));
    line!(out, "tickTime={}", facts.sessions.tick_ms);
    line!(out, "maxClientCnxns={per_address}");
    line!(out, "minSessionTimeout={}", facts.sessions.timeout_ms_min);
    line!(out, "maxSessionTimeout={}", facts.sessions.timeout_ms_max);
    line!(out, "clientPortListenBacklog={}", facts.backlog);
    line!(out, "serverId={}", facts.ensemble.server_id);
    put_ensemble(&mut out, facts);
    out
}

/// What `conf` says of a server that has others.
fn put_ensemble(out: &mut String, facts: &ServerFacts) {
    let ensemble = &facts.ensemble;
    let Some(own) = ensemble.own() else { return };
    let peer = &own.peers[0];
    line!(out, "initLimit={}", ensemble.init_limit);
    line!(out, "syncLimit={}", ensemble.sync_limit);
    // Apache's servers know no other one.
    line!(out, "electionAlg=3");
    line!(out, "electionPort={}", peer.election_port);
    line!(out, "quorumPort={}", peer.quorum_port);
    line!(out, "peerType={}", if own.role == Role::Observer { 1 } else { 0 });
    line!(out, "membership: ");
    let membership = facts.peers.get().map_or_else(|| ensemble.servers.clone(), |peers| peers.membership());
    for (server_id, spec) in membership {
        line!(out, "server.{server_id}={spec}");
    }
}

pub(super) fn dirs(facts: &ServerFacts) -> String {
    let (data, log) = (directory_bytes(&facts.data_dir), directory_bytes(&facts.log_dir));
    format!("datadir_size: {data}\nlogdir_size: {log}\n")
}

pub(super) fn envi() -> String {
    let mut out = String::from("Environment:\n");
    let system = rustix::system::uname();
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let directory = std::env::current_dir().unwrap_or_default();
    line!(out, "zookeeper.version={VERSION}");
    line!(out, "host.name={}", system.nodename().to_string_lossy());
    line!(out, "os.name={}", system.sysname().to_string_lossy());
    line!(out, "os.arch={}", system.machine().to_string_lossy());
    line!(out, "os.version={}", system.release().to_string_lossy());
    line!(out, "user.name={}", variable("USER"));
    line!(out, "user.home={}", variable("HOME"));
    line!(out, "user.dir={}", directory.display());
    out
}

pub(super) fn srvr(summary: &Summary, facts: &ServerFacts) -> String {
    let mut out = format!("Zookeeper version: {VERSION}\n");
    put_figures(&mut out, summary, facts);
    out
}

pub(super) fn stat(
    peer: SocketAddr,
    connections: &[ConnectionReport],
    summary: &Summary,
    facts: &ServerFacts,
) -> String {
    let mut out = format!("Zookeeper version: {VERSION}\nClients:\n");
    put_asking_connection(&mut out, peer);
    for connection in connections {
        line!(
            out,
            " /{}[1](queued={},recved={},sent={})",
            connection.peer,
            connection.outstanding,
            connection.received,
            connection.sent
        );
    }
    out.push('\n');
    put_figures(&mut out, summary, facts);
    out
}

pub(super) fn cons(peer: SocketAddr, connections: &[ConnectionReport]) -> String {
    let mut out = String::new();
    put_asking_connection(&mut out, peer);
    for connection in connections {
        put_connection(&mut out, connection);
    }
    out.push('\n');
    out
}

pub(super) fn dump(
    peer: SocketAddr,
    sessions: &[SessionReport],
    connections: &[ConnectionReport],
    facts: &ServerFacts,
) -> String {
    let mut out = String::from("SessionTracker dump:\n");
    let expiries = by_expiry(sessions.iter().map(|one| (one.expires_in_ms, one.session)), facts.sessions.tick_ms);
    line!(out, "Session Sets ({})/({}):", expiries.len(), sessions.len());
    for (at_ms, members) in &expiries {
        line!(out, "{} expire at {}:", members.len(), java_date(*at_ms));
        for session in members {
            line!(out, "\t{session}");
        }
    }
    let owners: Vec<&SessionReport> = sessions.iter().filter(|session| !session.ephemerals.is_empty()).collect();
    line!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", owners.len());
    for owner in owners {
        line!(out, "{}:", owner.session);
        for path in &owner.ephemerals {
            line!(out, "\t{path}");
        }
    }
    // The connection that asks is there too; it would be closed like one that never opens a session.
    let asking = (u64::try_from(facts.limits.handshake_time_max.as_millis()).ok(), (peer, SessionId::NONE));
    let others = connections.iter().map(|one| (u64::try_from(one.timeout_ms).ok(), (one.peer, one.session)));
    let idle = by_expiry(std::iter::once(asking).chain(others), facts.sessions.tick_ms);
    line!(out, "Connections dump:\nConnections Sets ({})/({}):", idle.len(), connections.len() + 1);
    for (at_ms, members) in &idle {
        line!(out, "{} expire at {}:", members.len(), java_date(*at_ms));
        for (peer, session) in members {
            line!(out, "\tip: /{peer} sessionId: {session}");
        }
    }
    out
}

pub(super) fn watches_by_session(watches: &[WatchReport]) -> String {
    let mut out = String::new();
    for watch in watches {
        line!(out, "{}", watch.session);
        for path in &watch.paths {
            line!(out, "\t{path}");
        }
    }
    out.push('\n');
    out
}

pub(super) fn watches_by_path(watches: &[WatchReport]) -> String {
    let mut by_path: BTreeMap<&str, Vec<SessionId>> = BTreeMap::new();
    for watch in watches {
        for path in &watch.paths {
            by_path.entry(path).or_default().push(watch.session);
        }
    }
    let mut out = String::new();
    for (path, sessions) in by_path {
        line!(out, "{path}");
        for session in sessions {
            line!(out, "\t{session}");
        }
    }
    out.push('\n');
    out
}

pub(super) fn watch_summary(summary: &Summary) -> String {
    let watches = summary.watches;
    format!("{} connections watching {} paths\nTotal watches:{}\n", watches.connections, watches.paths, watches.total)
}

pub(super) fn hash(summary: &Summary) -> String {
    format!("{:x}: {}\n", summary.zxid.0, summary.digest.cast_signed())
}

pub(super) fn mntr(summary: &Summary, facts: &ServerFacts) -> String {
    let (open_files, open_files_max) = file_descriptors();
    let stats = &facts.stats;
    let mut out = String::new();
    let mut put = |name: &str, value: &dyn std::fmt::Display| line!(out, "zk_{name}\t{value}");
    put("version", &VERSION);
    put("server_state", &mode_text(summary.mode));
    put("ephemerals_count", &summary.ephemerals);
    put("num_alive_connections", &summary.connections);
    put("avg_latency", &average_ms(&summary.latency()));
    put("min_latency", &(summary.latency().min_us / 1000));
    put("max_latency", &(summary.latency().max_us / 1000));
    put("outstanding_requests", &summary.outstanding);
    put("znode_count", &znode_count(summary));
    put("watch_count", &summary.watches.total);
    put("global_sessions", &summary.sessions);
    put("local_sessions", &0);
    put("packets_sent", &summary.sent);
    put("packets_received", &summary.received);
    put("approximate_data_size", &summary.data_bytes);
    put("open_file_descriptor_count", &open_files);
    put("max_file_descriptor_count", &open_files_max);
    put("uptime", &facts.started.elapsed().as_millis());
    put("bytes_received_count", &stats.bytes_received.get());
    put("connection_request_count", &stats.connections_accepted.get());
    put("connection_drop_count", &stats.connections_closed.get());
    put("connection_drop_probability", &"0.0");
    put("connection_rejected", &stats.connections_refused.get());
    put("sessionless_connections_expired", &stats.sessionless_expired.get());
    put("stale_sessions_expired", &summary.sessions_expired);
    put("snap_count", &stats.snapshots.count());
    put("auth_failed_count", &summary.auth_failed);
    let events = summary.watch_events;
    put("watch_bytes", &events.bytes);
    for (name, count) in [
        ("created", events.created),
        ("deleted", events.deleted),
        ("changed", events.changed),
        ("children", events.children),
    ] {
        put(&format!("cnt_node_{name}_watch_count"), &count);
    }
    // Of an ensemble, and of failures that end this server at once.
    for name in ["connection_revalidate_count", "commit_count", "diff_count", "unrecoverable_error_count"] {
        put(name, &0);
    }
    for (name, latency) in [("readlatency", summary.read_latency), ("updatelatency", summary.update_latency)] {
        put(&format!("avg_{name}"), &average_ms(&latency));
        put(&format!("min_{name}"), &(latency.min_us / 1000));
        put(&format!("max_{name}"), &(latency.max_us / 1000));
        put(&format!("cnt_{name}"), &latency.count);
        put(&format!("sum_{name}"), &(latency.total_us / 1000));
    }
    for (name, durations) in [("fsynctime", &stats.syncs), ("snapshottime", &stats.snapshots)] {
        put(&format!("avg_{name}"), &one_average_ms(durations.total_us(), durations.count()));
        put(&format!("max_{name}"), &(durations.max_us() / 1000));
        put(&format!("cnt_{name}"), &durations.count());
        put(&format!("sum_{name}"), &(durations.total_us() / 1000));
    }
    if !facts.ensemble.is_alone() {
        let peers = &stats.peers;
        for (name, counter) in [
            ("peer_bytes_sent", &peers.bytes_sent),
            ("peer_bytes_received", &peers.bytes_received),
            ("peer_messages_sent", &peers.messages_sent),
            ("peer_messages_received", &peers.messages_received),
            ("peer_links_made", &peers.links),
            ("peer_connections_refused", &peers.refused),
            ("peer_snapshot_bytes_sent", &peers.snapshot_bytes_sent),
            ("peer_snapshots_sent", &peers.snapshots_sent),
            ("peer_snapshots_received", &peers.snapshots_received),
        ] {
            put(name, &counter.get());
        }
    }
    for (op, count) in &summary.requests_by_op {
        put(&format!("op_count_{}", op.name()), count);
    }
    out
}

fn put_figures(out: &mut String, summary: &Summary, facts: &ServerFacts) {
    let latency = &summary.latency();
    let (min, max) = (latency.min_us / 1000, latency.max_us / 1000);
    line!(out, "Latency min/avg/max: {min}/{}/{max}", average_ms(latency));
    line!(out, "Received: {}", summary.received);
    line!(out, "Sent: {}", summary.sent);
    line!(out, "Connections: {}", facts.admission.count());
    line!(out, "Outstanding: {}", summary.outstanding);
    line!(out, "Zxid: {}", summary.zxid);
    line!(out, "Mode: {}", mode_text(summary.mode));
    line!(out, "Node count: {}", znode_count(summary));
}

/// Apache's servers count the root twice, under both of its names.
fn znode_count(summary: &Summary) -> u64 {
    summary.znodes + 1
}

/// The connection that asks is a client too, one without a session.
fn put_asking_connection(out: &mut String, peer: SocketAddr) {
    line!(out, " /{peer}[0](queued=0,recved=1,sent=0)");
}

fn put_connection(out: &mut String, connection: &ConnectionReport) {
    let ConnectionReport { peer, session, outstanding, received, sent, latency, .. } = connection;
    write!(out, " /{peer}[1](queued={outstanding},recved={received},sent={sent}").expect("a String takes everything");
    if *session != SessionId::NONE {
        let op = connection.last.map_or("NA", |(op, ..)| op.short_name());
        let (est, to) = (connection.established_ms, connection.timeout_ms);
        write!(out, ",sid={session},lop={op},est={est},to={to}").expect("a String takes everything");
        let zxid = match connection.last {
            Some((_, xid, zxid)) => {
                write!(out, ",lcxid=0x{:x}", xid.0).expect("a String takes everything");
                zxid.0
            }
            None => -1,
        };
        let (min, max) = (latency.min_us / 1000, latency.max_us / 1000);
        let average = latency.total_us.checked_div(latency.count).unwrap_or(0) / 1000;
        write!(
            out,
            ",lzxid=0x{zxid:x},lresp={},llat={},minlat={min},avglat={average},maxlat={max}",
            connection.last_reply_ms,
            connection.last_latency_us / 1000
        )
        .expect("a String takes everything");
    }
    out.push_str(")\n");
}

fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Standalone => "standalone",
        Mode::Leader => "leader",
        Mode::Follower => "follower",
        Mode::Observer => "observer",
        Mode::ReadOnly => "read-only",
        Mode::NotServing => "not serving",
    }
}

fn average_ms(latency: &Latency) -> String {
    one_average_ms(latency.total_us, latency.count)
}

/// An average of microseconds as milliseconds with at most four decimals, and at least one.
fn one_average_ms(total_us: u64, count: u64) -> String {
    let tenths_of_us = (u128::from(total_us) * 10).checked_div(u128::from(count)).unwrap_or(0);
    let text = format!("{}.{:04}", tenths_of_us / 10_000, tenths_of_us % 10_000);
    let trimmed = text.trim_end_matches('0');
    if trimmed.ends_with('.') { format!("{trimmed}0") } else { trimmed.to_owned() }
}

/// Groups items by when they expire, in milliseconds since 1970, rounded up to the tick.
fn by_expiry<T>(items: impl Iterator<Item = (Option<u64>, T)>, tick_ms: u32) -> BTreeMap<u64, Vec<T>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut groups: BTreeMap<u64, Vec<T>> = BTreeMap::new();
    for (expires_in_ms, item) in items {
        let at = now_ms.saturating_add(expires_in_ms.unwrap_or(0)).div_ceil(u64::from(tick_ms));
        groups.entry(at.saturating_mul(u64::from(tick_ms))).or_default().push(item);
    }
    groups
}

/// The form of Java's `Date.toString`, in UTC.
fn java_date(at_ms: u64) -> String {
    let timestamp = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    timestamp.to_zoned(TimeZone::UTC).strftime("%a %b %d %H:%M:%S UTC %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_look_like_doubles() {
        assert_eq!(one_average_ms(4000, 2), "2.0");
        assert_eq!(one_average_ms(1000, 6), "0.1666");
        assert_eq!(one_average_ms(0, 0), "0.0");
        assert_eq!(one_average_ms(12_345_600, 100), "123.456");
    }

    #[test]
    fn dates_look_like_those_of_java() {
        assert_eq!(java_date(1_795_177_211_000), "Fri Nov 20 12:20:11 UTC 2026");
    }
}
