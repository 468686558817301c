//! The connection string: `host[:port],host[:port]…[/chroot]`.

use std::fmt;

use grange_proto::ZnodePath;
use grange_proto::path::PathError;

/// The port of a server that is named without one.
const DEFAULT_PORT: u16 = 2181;

/// One server of an ensemble, as it was named; the name is resolved at each attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The port for clients.
    pub port: u16,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why text is not a connection string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServersError {
    /// There is no server in it, or nothing between two commas.
    #[error("'{0}' names no server in one of its places; write host:port,host:port/chroot")]
    Empty(String),
    /// What follows the last colon is not a port.
    #[error("'{0}' does not end with a port from 1 to 65535; an IPv6 address is written [address]:port")]
    Port(String),
    /// A bracket is missing.
    #[error("'{0}' is not an address; an IPv6 address is written [address]:port")]
    Bracket(String),
    /// A chroot follows a server that is not the last one.
    #[error("'{0}' has a chroot in the middle; it follows the last server")]
    ChrootInTheMiddle(String),
    /// What follows the servers is not the path of a znode.
    #[error("the chroot '{chroot}' is not a znode's path: {why}")]
    Chroot {
        /// The text.
        chroot: String,
        /// What is wrong with it.
        why: PathError,
    },
}

/// The servers of one ensemble, and the znode that a tool sees as its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    addresses: Vec<ServerAddress>,
    chroot: Option<ZnodePath>,
}

impl Servers {
    /// Parses a connection string; blanks around the servers are ignored, `host` means `host:2181`.
    ///
    /// Source: `org.apache.zookeeper.client.ConnectStringParser`.
    pub fn parse(text: &str) -> Result<Servers, ServersError> {
        let (hosts, chroot) = match text.find('/') {
            None => (text, None),
            Some(slash) => {
                let (hosts, chroot) = text.split_at(slash);
                if chroot.contains(',') {
                    return Err(ServersError::ChrootInTheMiddle(text.to_owned()));
                }
                (hosts, parse_chroot(chroot.trim_end())?)
            }
        };
        let addresses = hosts
            .split(',')
            .map(|host| match host.trim() {
                "" => Err(ServersError::Empty(text.to_owned())),
                host => parse_address(host),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Servers { addresses, chroot })
    }

    /// These servers without a chroot; `None` if there are none.
    pub fn of(addresses: Vec<ServerAddress>) -> Option<Servers> {
        (!addresses.is_empty()).then_some(Servers { addresses, chroot: None })
    }

    /// Returns the servers in the order they were named; at least one.
    pub fn addresses(&self) -> &[ServerAddress] {
        &self.addresses
    }

    /// Returns the znode that is used as the root, unless that is the root itself.
    pub fn chroot(&self) -> Option<&ZnodePath> {
        self.chroot.as_ref()
    }

    /// Uses another znode as the root, or the root itself.
    pub(crate) fn set_chroot(&mut self, chroot: Option<ZnodePath>) {
        self.chroot = chroot;
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            address.fmt(f)?;
        }
        match &self.chroot {
            Some(chroot) => chroot.fmt(f),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for Servers {
    type Err = ServersError;

    fn from_str(text: &str) -> Result<Self, ServersError> {
        Servers::parse(text)
    }
}

/// Parses a chroot; the root is none.
pub(crate) fn parse_chroot(chroot: &str) -> Result<Option<ZnodePath>, ServersError> {
    if chroot == "/" {
        return Ok(None);
    }
    let path = ZnodePath::parse(chroot).map_err(|why| ServersError::Chroot { chroot: chroot.to_owned(), why })?;
    Ok(Some(path))
}

fn parse_address(text: &str) -> Result<ServerAddress, ServersError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(|| ServersError::Bracket(text.to_owned()))?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(ServersError::Bracket(text.to_owned())),
            }
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(ServersError::Empty(text.to_owned()));
    }
    let is_bare_ipv6 = !text.starts_with('[') && host.contains(':');
    let port = match port {
        None => Some(DEFAULT_PORT),
        Some(port) => port.parse().ok().filter(|&port| port != 0 && !is_bare_ipv6),
    };
    match port {
        Some(port) => Ok(ServerAddress { host: host.to_owned(), port }),
        None => Err(ServersError::Port(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_understood() {
        for (text, written) in [
            ("zk1", "zk1:2181"),
            ("zk1:2182", "zk1:2182"),
            ("zk1, zk2:99 ,10.0.0.1", "zk1:2181,zk2:99,10.0.0.1:2181"),
            ("zk1,zk2/apps/a b", "zk1:2181,zk2:2181/apps/a b"),
            ("zk1/", "zk1:2181"),
            ("[::1]:2182,[fe80::1]", "[::1]:2182,[fe80::1]:2181"),
        ] {
            assert_eq!(Servers::parse(text).map(|servers| servers.to_string()), Ok(written.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, message) in [
            ("", "'' names no server"),
            ("a,,b", "'a,,b' names no server"),
            (":2181", "':2181' names no server"),
            ("a:0", "'a:0' does not end with a port"),
            ("a:http", "'a:http' does not end with a port"),
            ("::1:2181", "an IPv6 address is written"),
            ("[::1", "'[::1' is not an address"),
            ("a/x,b/y", "it follows the last server"),
            ("a//x", "the chroot '//x' is not a znode's path: a path must not have an empty component"),
        ] {
            let error = Servers::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}
