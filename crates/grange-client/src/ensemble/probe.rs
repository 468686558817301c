//! What one server says about itself: the four-letter word `srvr`, which needs no session.

use std::time::Duration;

use grange_proto::Zxid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::plain;
use crate::servers::ServerAddress;

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most of an answer that is read; real ones have 300 bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// What a server does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It leads.
    Leader,
    /// It follows and votes.
    Follower,
    /// It follows and does not vote.
    Observer,
    /// It has no others.
    Standalone,
    /// It has no leader, and serves reads to clients that want them.
    ReadOnly,
    /// It has no leader.
    NotServing,
}

impl Mode {
    /// Returns the word that servers use.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
            Mode::Standalone => "standalone",
            Mode::ReadOnly => "read-only",
            Mode::NotServing => "not serving",
        }
    }

    /// Tells whether the server has a leader, or leads.
    pub fn has_leader(self) -> bool {
        matches!(self, Mode::Leader | Mode::Follower | Mode::Observer | Mode::Standalone)
    }

    fn from_name(name: &str) -> Option<Mode> {
        [Mode::Leader, Mode::Follower, Mode::Observer, Mode::Standalone, Mode::ReadOnly, Mode::NotServing]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// The answer of a server; a server of Apache's that does not serve says nothing but that.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerReport {
    /// What it does.
    pub mode: Mode,
    /// Its version, up to the first comma. Text from the network.
    pub version: Option<String>,
    /// The last transaction it has.
    pub zxid: Option<Zxid>,
    /// Connections of clients, the one that asked included.
    pub connections: Option<u64>,
    /// The average latency of requests in milliseconds.
    pub latency_ms: Option<f64>,
}

impl ServerReport {
    /// Parses an answer to `srvr`; `None` if it is not one.
    pub fn parse(text: &str) -> Option<ServerReport> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(str::trim);
        let mode = match value("Mode") {
            Some(name) => Mode::from_name(name)?,
            None if text.contains("not currently serving requests") => Mode::NotServing,
            None => return None,
        };
        let version = value("Zookeeper version").map(|text| text.split(',').next().unwrap_or(text).to_owned());
        let zxid = value("Zxid").and_then(|text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok());
        let latency = value("Latency min/avg/max").and_then(|text| text.split('/').nth(1));
        Some(ServerReport {
            mode,
            version,
            zxid: zxid.map(|zxid| Zxid(zxid.cast_signed())),
            connections: value("Connections").and_then(|text| text.parse().ok()),
            latency_ms: latency.and_then(|text| text.parse().ok()).filter(|ms: &f64| ms.is_finite()),
        })
    }
}

/// Asks a server how it is, for two seconds at most.
///
/// Errors: why there is no answer, in words.
pub async fn probe(address: &ServerAddress) -> Result<ServerReport, String> {
    match timeout(TIMEOUT, ask(address)).await {
        Ok(Ok(answer)) => ServerReport::parse(&answer).ok_or_else(|| explain(&answer)),
        Ok(Err(error)) => Err(plain(&error)),
        Err(_elapsed) => Err("no answer".to_owned()),
    }
}

async fn ask(address: &ServerAddress) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.write_all(b"srvr").await?;
    let mut answer = Vec::new();
    (&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn explain(answer: &str) -> String {
    if answer.contains("not in the whitelist") {
        "srvr is not in its 4lw.commands.whitelist".to_owned()
    } else if answer.is_empty() {
        "closes the connection".to_owned()
    } else {
        "is no ZooKeeper server".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_understood() {
        let text = "Zookeeper version: 3.8.0-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f, built on 2022-02-25\n\
                    Latency min/avg/max: 0/0.3571/9\nReceived: 15\nSent: 14\nConnections: 2\nOutstanding: 0\n\
                    Zxid: 0x100000003\nMode: follower\nNode count: 5\n";
        let report = ServerReport::parse(text).unwrap();
        assert_eq!(report.mode, Mode::Follower);
        assert_eq!(report.version.as_deref(), Some("3.8.0-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f"));
        assert_eq!(report.zxid, Some(Zxid(0x1_0000_0003)));
        assert_eq!((report.connections, report.latency_ms), (Some(2), Some(0.3571)));
        let silent = ServerReport::parse("This ZooKeeper instance is not currently serving requests\n").unwrap();
        assert_eq!((silent.mode, silent.zxid), (Mode::NotServing, None));
    }

    #[test]
    fn what_is_no_answer_is_explained() {
        assert_eq!(ServerReport::parse("HTTP/1.1 400 Bad Request\r\n"), None);
        assert_eq!(ServerReport::parse("Mode: \x1b[2J"), None);
        assert_eq!(
            explain("srvr is not executed because it is not in the whitelist.\n"),
            "srvr is not in its 4lw.commands.whitelist"
        );
        assert_eq!(explain("x"), "is no ZooKeeper server");
    }
}
