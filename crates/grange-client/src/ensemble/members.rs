//! The data of `/zookeeper/config`: lines `server.N=…` and the version.

use std::collections::BTreeMap;

use grange_proto::server_spec::ServerSpecError;
use grange_proto::{Role, ServerSpec};

use crate::servers::{ServerAddress, Servers};

/// The hosts that mean every address of a machine: no address to connect to.
const UNSPECIFIED: [&str; 3] = ["0.0.0.0", "::", "0:0:0:0:0:0:0:0"];

/// The servers of an ensemble by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Every server's line; empty for a server that stands alone.
    pub servers: BTreeMap<u8, ServerSpec>,
    /// The transaction that made them so; a change can be made on condition of it.
    pub version: Option<i64>,
}

/// Why the members cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// A line is not one of a server.
    #[error("the line server.{number} of /zookeeper/config cannot be understood")]
    Line {
        /// What follows the point.
        number: String,
        /// What is wrong with it.
        #[source]
        source: ServerSpecError,
    },
    /// What follows the point is not a server's number.
    #[error("server.{0} of /zookeeper/config has no number from 0 to 255")]
    Number(String),
    /// The data is not text.
    #[error("/zookeeper/config is not text")]
    NotText,
}

impl Members {
    /// Parses the data of `/zookeeper/config`; what is neither a server nor the version, such as weights, is skipped.
    pub fn parse(data: &[u8]) -> Result<Members, MembersError> {
        let text = std::str::from_utf8(data).map_err(|_| MembersError::NotText)?;
        let mut members = Members::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            if let Some(number) = key.trim().strip_prefix("server.") {
                let id = number.parse().map_err(|_| MembersError::Number(number.to_owned()))?;
                let spec = value.parse().map_err(|source| MembersError::Line { number: number.to_owned(), source })?;
                members.servers.insert(id, spec);
            } else if key.trim() == "version" {
                members.version = i64::from_str_radix(value.trim(), 16).ok();
            }
        }
        Ok(members)
    }

    /// Returns the numbers of those that vote.
    pub fn participants(&self) -> impl Iterator<Item = u8> {
        self.servers.iter().filter(|(_, spec)| spec.role == Role::Participant).map(|(&id, _)| id)
    }

    /// Says which servers there are: `servers 1, 2 and 3`.
    pub fn describe(&self) -> String {
        let names: Vec<String> = self.servers.keys().map(u8::to_string).collect();
        match &names[..] {
            [] => "no servers".to_owned(),
            [one] => format!("server {one}"),
            [first @ .., last] => format!("servers {} and {last}", first.join(", ")),
        }
    }
}

/// Returns where clients reach a server.
///
/// A line that names no host for clients means the one for members; one without a port, as many a `zoo.cfg` has it, the
/// port that `asked` names for that host, else the first port there.
pub(super) fn client_address(spec: &ServerSpec, asked: &Servers) -> ServerAddress {
    let peer = spec.peers.first().map(|peer| peer.host.as_str()).unwrap_or_default();
    if let Some(client) = &spec.client {
        let host = if UNSPECIFIED.contains(&client.host.as_str()) { peer } else { &client.host };
        return ServerAddress { host: host.to_owned(), port: client.port };
    }
    let addresses = asked.addresses();
    let same = addresses.iter().find(|address| address.host == peer);
    ServerAddress { host: peer.to_owned(), port: same.unwrap_or(&addresses[0]).port }
}

/// Returns where clients reach the servers; `None` if two of them would be in one place, because several lines of one host
/// name no port for clients.
pub(super) fn client_addresses(members: &Members, asked: &Servers) -> Option<Vec<ServerAddress>> {
    let addresses: Vec<_> = members.servers.values().map(|spec| client_address(spec, asked)).collect();
    let is_same = |(at, address): (usize, &ServerAddress)| addresses[..at].contains(address);
    (!addresses.iter().enumerate().any(is_same)).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "server.1=a:1:2:participant;0.0.0.0:3\nserver.2=b:1:2:observer;c:4\nserver.3=d:1:2\n\
                        weight.1=1\nversion=1f";

    #[test]
    fn lines_become_members() {
        let members = Members::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(members.version, Some(0x1f));
        assert_eq!(members.participants().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(members.describe(), "servers 1, 2 and 3");
        assert_eq!(Members::parse(b"").unwrap(), Members::default());
    }

    #[test]
    fn clients_are_sent_to_a_host_that_can_be_reached() {
        let members = Members::parse(TEXT.as_bytes()).unwrap();
        let asked = Servers::parse("x:7,d:8").unwrap();
        let found: Vec<_> = members.servers.values().map(|spec| client_address(spec, &asked).to_string()).collect();
        assert_eq!(found, ["a:3", "c:4", "d:8"]);
        let asked = Servers::parse("x:7").unwrap();
        assert_eq!(client_address(&members.servers[&3], &asked).to_string(), "d:7");
    }

    #[test]
    fn two_servers_are_not_taken_for_one() {
        let members = Members::parse(b"server.1=a:1:2\nserver.2=a:3:4\n").unwrap();
        assert_eq!(client_addresses(&members, &Servers::parse("a:7,a:8").unwrap()), None);
        let members = Members::parse(b"server.1=a:1:2\nserver.2=b:1:2\n").unwrap();
        let found = client_addresses(&members, &Servers::parse("a:7").unwrap()).unwrap();
        assert_eq!(Servers::of(found).unwrap().to_string(), "a:7,b:7");
    }

    #[test]
    fn nonsense_is_named() {
        assert!(Members::parse(b"server.1=a").unwrap_err().to_string().contains("server.1"));
        assert!(Members::parse(b"server.x=a:1:2").unwrap_err().to_string().contains("server.x"));
        assert_eq!(Members::parse(b"\xff"), Err(MembersError::NotText));
    }
}
