//! A new server: its number, its address, and the way in.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use grange_proto::server_spec::{ClientAddress, PeerAddress};
use grange_proto::{Role, ServerSpec};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::change::{ChangeError, Ensemble};
use super::members::Members;
use crate::connect::ConnectError;
use crate::options::ConnectOptions;
use crate::servers::Servers;

/// How long a server may take to accept the connection that shows which address this machine has.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before a request that could not be made, or may have been made, is looked at again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often in a row the connection may be lost on the way in.
const LOSSES_MAX: u32 = 30;
/// What is added to the port for members for the one that Apache's servers would elect on.
const ELECTION_PORT_OFFSET: u16 = 1000;

/// What is known of a server that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewServer {
    /// Its number.
    pub id: u8,
    /// Its line.
    pub spec: ServerSpec,
}

/// Why a server cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// All numbers are taken.
    #[error("there are 255 servers already")]
    Full,
    /// Another server has the number.
    #[error("server {0} is another one, which has the address {1}")]
    Taken(u8, String),
    /// Another server has the address.
    #[error("server {0} has the address {1} already")]
    SameAddress(u8, String),
    /// This machine's address cannot be found out.
    #[error("cannot find out by which address this machine reaches {0}")]
    Address(Servers, #[source] io::Error),
    /// The ensemble refuses.
    #[error("the ensemble does not take this server")]
    Change(#[from] ChangeError),
    /// There is no session.
    #[error("the ensemble cannot be reached")]
    Connect(#[from] ConnectError),
}

impl NewServer {
    /// Describes a new server that members reach at `host` and `peer_port`.
    pub fn spec(host: &str, peer_port: u16, client: ClientAddress, role: Role) -> ServerSpec {
        // Nobody listens there, but the two must differ.
        let election_port = peer_port.checked_add(ELECTION_PORT_OFFSET).unwrap_or(peer_port - ELECTION_PORT_OFFSET);
        let peers = vec![PeerAddress { host: host.to_owned(), quorum_port: peer_port, election_port }];
        ServerSpec { peers, role, client: Some(client), secure_client: None }
    }

    /// Gives a server a number: `id`, or the lowest that is free.
    ///
    /// Errors: the number or the address belongs to another server.
    pub fn choose(members: &Members, id: Option<u8>, spec: ServerSpec) -> Result<NewServer, JoinError> {
        let address = |spec: &ServerSpec| {
            spec.peers.first().map(|peer| format!("{}:{}", peer.host, peer.quorum_port)).unwrap_or_default()
        };
        let own = address(&spec);
        if let Some((&other, _)) = members.servers.iter().find(|(_, other)| address(other) == own) {
            return Err(JoinError::SameAddress(other, own));
        }
        let id = match id {
            Some(id) => id,
            None => (1..=u8::MAX).find(|id| !members.servers.contains_key(id)).ok_or(JoinError::Full)?,
        };
        match members.servers.get(&id) {
            Some(other) => Err(JoinError::Taken(id, address(other))),
            None => Ok(NewServer { id, spec }),
        }
    }

    /// Tells whether the members are such that this server is one of them, in the part it is to play.
    fn is_in(&self, members: &Members) -> bool {
        self.is_among(members) && members.servers.get(&self.id).is_some_and(|spec| spec.role == self.spec.role)
    }

    /// Tells whether the server is known by its number and address, in whatever part.
    pub fn is_among(&self, members: &Members) -> bool {
        members.servers.get(&self.id).is_some_and(|spec| spec.peers == self.spec.peers)
    }

    /// Asks for the membership until it is there, whoever leads meanwhile; returns a session for what follows.
    ///
    /// A participant is a member when it has caught up; an observer as soon as it is expected. Ends at once if an earlier
    /// run got so far. Errors: the ensemble refuses, or cannot be reached for a while.
    pub async fn join(&self, options: &ConnectOptions) -> Result<Ensemble, JoinError> {
        let mut losses = 0;
        loop {
            let ensemble = Ensemble::connect(options).await?;
            match self.join_once(&ensemble).await {
                Ok(()) => return Ok(ensemble),
                Err(JoinError::Change(ChangeError::UnderWay)) => {}
                Err(JoinError::Change(error)) if error.is_connection() && losses < LOSSES_MAX => losses += 1,
                Err(error) => {
                    ensemble.close().await;
                    return Err(error);
                }
            }
            ensemble.close().await;
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn join_once(&self, ensemble: &Ensemble) -> Result<(), JoinError> {
        let members = ensemble.members().await?;
        if self.is_in(&members) {
            return Ok(());
        }
        if let Some(other) = members.servers.get(&self.id).filter(|_| !self.is_among(&members)) {
            return Err(JoinError::Taken(self.id, other.to_string()));
        }
        Ok(ensemble.add(self.id, &self.spec).await?)
    }
}

/// Finds out by which of its addresses this machine reaches the ensemble.
///
/// Errors: no server accepts a connection.
pub async fn own_address(servers: &Servers) -> Result<IpAddr, JoinError> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in servers.addresses() {
        match timeout(ADDRESS_TIMEOUT, TcpStream::connect((address.host.as_str(), address.port))).await {
            Ok(Ok(stream)) => match stream.local_addr() {
                Ok(own) => return Ok(own.ip()),
                Err(error) => last = error,
            },
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(JoinError::Address(servers.clone(), last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(host: &str, port: u16) -> ServerSpec {
        let client = ClientAddress { host: host.to_owned(), port: 2181 };
        NewServer::spec(host, port, client, Role::Participant)
    }

    #[test]
    fn a_server_gets_the_lowest_free_number() {
        let members = Members::parse(b"server.1=a:2888:3888\nserver.3=c:2888:3888\n").unwrap();
        let id = |wanted, spec| NewServer::choose(&members, wanted, spec).map(|server| server.id);
        assert_eq!(id(None, spec("d", 2888)).unwrap(), 2);
        assert_eq!(id(Some(7), spec("d", 2888)).unwrap(), 7);
        assert!(matches!(id(Some(3), spec("d", 2888)), Err(JoinError::Taken(3, _))));
        assert!(matches!(id(None, spec("c", 2888)), Err(JoinError::SameAddress(3, _))));
    }

    #[test]
    fn its_line_is_one_that_servers_read() {
        assert_eq!(spec("fd00::1", 2888).to_string(), "[fd00::1]:2888:3888:participant;[fd00::1]:2181");
        let high = spec("a", 65_000).to_string();
        assert_eq!(high, "a:65000:64000:participant;a:2181");
        assert!(high.parse::<ServerSpec>().is_ok());
    }

    #[test]
    fn an_earlier_run_may_have_got_in() {
        let server = NewServer { id: 2, spec: spec("b", 2888) };
        let members = |text: &str| Members::parse(text.as_bytes()).unwrap();
        assert!(server.is_in(&members("server.2=b:2888:3888:participant;2181")));
        assert!(!server.is_in(&members("server.2=b:2888:3888:observer;2181")), "not yet");
        assert!(!server.is_in(&members("server.2=c:2888:3888:participant;2181")));
    }
}
