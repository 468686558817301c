//! A server's line in a configuration: `host:port:port[:role][|…][;[address:]port][;[address:]port]`.
//!
//! It stands behind `server.N=` in a `zoo.cfg`, in the data of `/zookeeper/config`, and in a reconfig request.
//! Source: `QuorumPeer.QuorumServer`.

use std::fmt;
use std::str::FromStr;

/// Whether a member has a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Role {
    /// It votes and may lead.
    #[default]
    Participant,
    /// It follows only.
    Observer,
}

/// An address for other members. Apache's servers need both ports; Grange's listen on the first one only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// Name or address, without brackets.
    pub host: String,
    /// Where members connect.
    pub quorum_port: u16,
    /// Where Apache's servers elect a leader.
    pub election_port: u16,
}

/// An address for clients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientAddress {
    /// Name or address, without brackets; `0.0.0.0` if only a port was written.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// One server of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerSpec {
    /// Where other members reach it, at least one.
    pub peers: Vec<PeerAddress>,
    /// The part it plays.
    pub role: Role,
    /// Where clients reach it.
    pub client: Option<ClientAddress>,
    /// Where clients reach it with TLS.
    pub secure_client: Option<ClientAddress>,
}

/// Why a text names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}: {why}; the form is HOST:PORT:PORT[:participant|:observer][;[ADDRESS:]CLIENTPORT]")]
pub struct ServerSpecError {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Role {
    /// Returns the word that configurations use.
    pub fn name(self) -> &'static str {
        match self {
            Role::Participant => "participant",
            Role::Observer => "observer",
        }
    }

    fn from_name(name: &str) -> Option<Role> {
        [Role::Participant, Role::Observer].into_iter().find(|role| name.eq_ignore_ascii_case(role.name()))
    }
}

impl ServerSpec {
    /// A server that others cannot reach: one that stands alone. Its text cannot be parsed.
    pub fn nowhere() -> ServerSpec {
        ServerSpec { peers: Vec::new(), role: Role::Participant, client: None, secure_client: None }
    }
}

impl FromStr for ServerSpec {
    type Err = ServerSpecError;

    fn from_str(text: &str) -> Result<ServerSpec, ServerSpecError> {
        let refused = |why| ServerSpecError { text: text.to_owned(), why };
        let mut parts = text.trim().split(';');
        let peers_text = parts.next().unwrap_or_default();
        let client = parts.next().filter(|part| !part.trim().is_empty()).map(client_address).transpose();
        let secure_client = parts.next().filter(|part| !part.trim().is_empty()).map(client_address).transpose();
        if parts.next().is_some() {
            return Err(refused("there are too many `;`"));
        }
        let mut role = None;
        let mut peers = Vec::new();
        for part in peers_text.split('|') {
            let (peer, own_role) = peer_address(part.trim()).map_err(refused)?;
            if own_role.is_some_and(|own| role.replace(own).is_some_and(|other| other != own)) {
                return Err(refused("its addresses have different roles"));
            }
            peers.push(peer);
        }
        Ok(ServerSpec {
            peers,
            role: role.unwrap_or_default(),
            client: client.map_err(refused)?,
            secure_client: secure_client.map_err(refused)?,
        })
    }
}

/// Takes a host, in brackets if it is an IPv6 address, off the front of `text`; the rest starts behind the colon.
fn split_host(text: &str) -> Result<(&str, &str), &'static str> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']').ok_or("a bracket is not closed")?;
            (host, rest.strip_prefix(':').ok_or("a port is missing")?)
        }
        None => text.split_once(':').ok_or("a port is missing")?,
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
        return Err("the host is not a name or an address");
    }
    Ok((host, rest))
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.trim().parse().map_err(|_| "a port must be a number from 0 to 65535")
}

fn peer_address(text: &str) -> Result<(PeerAddress, Option<Role>), &'static str> {
    let (host, rest) = split_host(text)?;
    let mut parts = rest.split(':');
    let quorum_port = port(parts.next().unwrap_or_default())?;
    let election_port = port(parts.next().ok_or("the second port is missing")?)?;
    let role = match parts.next() {
        None => None,
        Some(name) => Some(Role::from_name(name.trim()).ok_or("the role must be participant or observer")?),
    };
    if parts.next().is_some() {
        return Err("there are too many `:`");
    }
    if quorum_port == election_port && quorum_port != 0 {
        return Err("the two ports must differ");
    }
    Ok((PeerAddress { host: host.to_owned(), quorum_port, election_port }, role))
}

fn client_address(text: &str) -> Result<ClientAddress, &'static str> {
    let text = text.trim();
    if text.contains(':') {
        let (host, rest) = split_host(text)?;
        return Ok(ClientAddress { host: host.to_owned(), port: port(rest)? });
    }
    Ok(ClientAddress { host: "0.0.0.0".to_owned(), port: port(text)? })
}

/// Writes a host so that it can be told from the port behind it.
fn put_host(f: &mut fmt::Formatter<'_>, host: &str) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        put_host(f, &self.host)?;
        write!(f, ":{}", self.port)
    }
}

impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, peer) in self.peers.iter().enumerate() {
            if at > 0 {
                f.write_str("|")?;
            }
            put_host(f, &peer.host)?;
            write!(f, ":{}:{}", peer.quorum_port, peer.election_port)?;
        }
        write!(f, ":{}", self.role.name())?;
        match (&self.client, &self.secure_client) {
            (None, None) => Ok(()),
            (Some(client), None) => write!(f, ";{client}"),
            (None, Some(secure)) => write!(f, ";;{secure}"),
            (Some(client), Some(secure)) => write!(f, ";{client};{secure}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, canonical: &str) {
        let spec: ServerSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), canonical);
        assert_eq!(canonical.parse::<ServerSpec>().unwrap(), spec);
    }

    fn refused(text: &str, why: &str) {
        assert_eq!(text.parse::<ServerSpec>().unwrap_err().why, why, "{text}");
    }

    #[test]
    fn every_form_is_understood_and_written_in_full() {
        check("zk1:2888:3888", "zk1:2888:3888:participant");
        check("zk1:2888:3888:observer;2181", "zk1:2888:3888:observer;0.0.0.0:2181");
        check("[fd00::1]:2888:3888:PARTICIPANT;[::]:2181", "[fd00::1]:2888:3888:participant;[::]:2181");
        check("a:1:2|b:3:4;127.0.0.1:5;6", "a:1:2|b:3:4:participant;127.0.0.1:5;0.0.0.0:6");
        check("a:1:2;;1237", "a:1:2:participant;;0.0.0.0:1237");
    }

    #[test]
    fn what_names_no_server_is_refused_with_a_reason() {
        refused("zk1", "a port is missing");
        refused("zk1:2888", "the second port is missing");
        refused("zk1:2888:2888", "the two ports must differ");
        refused("zk1:2888:70000", "a port must be a number from 0 to 65535");
        refused("zk1:1:2:leader", "the role must be participant or observer");
        refused("zk1:1:2:observer|zk2:1:2:participant", "its addresses have different roles");
        refused(":1:2", "the host is not a name or an address");
        refused("[::1:1:2", "a bracket is not closed");
        refused("a:1:2;1;2;3", "there are too many `;`");
    }
}
