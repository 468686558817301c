//! How every server of an ensemble is.

use std::time::Duration;

use grange_proto::Role;
use tokio::task::JoinHandle;

use super::members::{Members, client_addresses};
use super::probe::{Mode, ServerReport, probe};
use crate::connect::{close, connect};
use crate::options::ConnectOptions;
use crate::servers::{ServerAddress, Servers};

/// How long the members may take to be read, once a server has said that it serves.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Every server of an ensemble.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// In the order of their numbers, or as they were named.
    pub servers: Vec<ServerStatus>,
    /// Why the members could not be read: then these are the servers that were named.
    pub members_unknown: Option<String>,
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerStatus {
    /// Its number, if the members are known.
    pub id: Option<u8>,
    /// The part it is to play, if the members are known.
    pub role: Option<Role>,
    /// Where it was asked. The host may be text from the network.
    pub address: ServerAddress,
    /// What it said, or why it did not.
    pub answer: Result<ServerReport, String>,
}

/// Whether all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// There is a leader, and everybody follows.
    Good,
    /// There is a leader, but a server is missing.
    Missing,
    /// Nobody leads or follows.
    NoQuorum,
}

/// How far a server is behind the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// By so many transactions, when both were asked.
    Transactions(u64),
    /// By a change of leader at least.
    Epoch,
}

impl Status {
    /// Returns the server that leads or stands alone.
    pub fn leader(&self) -> Option<&ServerStatus> {
        let leads = |server: &&ServerStatus| matches!(server.mode(), Some(Mode::Leader | Mode::Standalone));
        self.servers.iter().find(leads)
    }

    /// Judges.
    pub fn health(&self) -> Health {
        let follows = |server: &ServerStatus| server.mode().is_some_and(Mode::has_leader);
        if !self.servers.iter().any(follows) {
            return Health::NoQuorum;
        }
        if self.servers.iter().all(follows) && self.leader().is_some() { Health::Good } else { Health::Missing }
    }

    /// Returns how far a server is behind the leader; `None` for the leader, and where one of the two is not known.
    pub fn behind(&self, server: &ServerStatus) -> Option<Behind> {
        let leader = self.leader().filter(|leader| *leader != server)?;
        let zxid = |server: &ServerStatus| server.answer.as_ref().ok()?.zxid;
        let (leader, own) = (zxid(leader)?.0, zxid(server)?.0);
        // It may have been asked a moment after the leader.
        let count = u64::try_from(leader.saturating_sub(own)).unwrap_or(0);
        Some(if leader >> 32 > own >> 32 { Behind::Epoch } else { Behind::Transactions(count) })
    }

    /// Says what is not well, a line for each server.
    pub fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for server in &self.servers {
            let name = server.id.map_or_else(|| server.address.to_string(), |id| id.to_string());
            match &server.answer {
                Err(_) => lines.push(format!("server {name} does not answer")),
                Ok(report) if !report.mode.has_leader() => lines.push(format!("server {name} has no leader")),
                Ok(_) => {}
            }
        }
        if self.health() == Health::NoQuorum {
            lines.push("there is no quorum: nobody that was asked leads or follows".to_owned());
        } else if self.leader().is_none() {
            lines.push("the leader is not among the servers that answer".to_owned());
        }
        lines
    }
}

impl ServerStatus {
    /// Returns what the server does, if it has answered.
    pub fn mode(&self) -> Option<Mode> {
        self.answer.as_ref().ok().map(|report| report.mode)
    }
}

/// Looks at every server: those that `/zookeeper/config` names, else those of `options`.
pub async fn status(options: &ConnectOptions) -> Status {
    let named = options.servers.addresses();
    let targets = named.iter().map(|address| (None, None, address.clone())).collect();
    let servers = probe_all(targets).await;
    let serving: Vec<ServerAddress> = servers
        .iter()
        .filter(|server| server.mode().is_some_and(Mode::has_leader))
        .map(|server| server.address.clone())
        .collect();
    let Some(serving) = Servers::of(serving) else {
        return Status { servers, members_unknown: Some("no server that was named serves".to_owned()) };
    };
    match members(options, serving).await {
        Ok(members) if members.servers.is_empty() => Status { servers, members_unknown: None },
        Ok(members) => match client_addresses(&members, &options.servers) {
            Some(addresses) => {
                let lines = members.servers.iter().zip(addresses);
                let targets = lines.map(|((&id, spec), address)| (Some(id), Some(spec.role), address)).collect();
                Status { servers: probe_all(targets).await, members_unknown: None }
            }
            None => {
                let why = "several lines of one host in /zookeeper/config name no port for clients";
                Status { servers, members_unknown: Some(why.to_owned()) }
            }
        },
        Err(why) => Status { servers, members_unknown: Some(why) },
    }
}

async fn members(options: &ConnectOptions, serving: Servers) -> Result<Members, String> {
    let connect_timeout = options.connect_timeout.min(MEMBERS_TIMEOUT);
    let options = ConnectOptions { servers: serving, connect_timeout, ..options.clone() };
    let client = connect(&options).await.map_err(|error| error.to_string())?;
    let read = tokio::time::timeout(MEMBERS_TIMEOUT, client.get_config()).await;
    close(client).await;
    let (data, _) =
        read.map_err(|_| "/zookeeper/config does not come".to_owned())?.map_err(|error| error.to_string())?;
    Members::parse(&data).map_err(|error| error.to_string())
}

/// Asks all of them at the same time.
async fn probe_all(targets: Vec<(Option<u8>, Option<Role>, ServerAddress)>) -> Vec<ServerStatus> {
    let probes: Vec<JoinHandle<ServerStatus>> = targets
        .into_iter()
        .map(|(id, role, address)| {
            tokio::spawn(async move {
                let answer = probe(&address).await;
                ServerStatus { id, role, address, answer }
            })
        })
        .collect();
    let mut servers = Vec::with_capacity(probes.len());
    for probe in probes {
        servers.push(probe.await.expect("a probe neither panics nor is it cancelled"));
    }
    servers
}

#[cfg(test)]
mod tests {
    use grange_proto::Zxid;

    use super::*;

    fn server(id: u8, mode: Option<Mode>, zxid: i64) -> ServerStatus {
        let report =
            |mode| ServerReport { mode, version: None, zxid: Some(Zxid(zxid)), connections: None, latency_ms: None };
        ServerStatus {
            id: Some(id),
            role: Some(Role::Participant),
            address: ServerAddress { host: format!("h{id}"), port: 1 },
            answer: mode.map(report).ok_or_else(|| "no answer".to_owned()),
        }
    }

    fn status(servers: Vec<ServerStatus>) -> Status {
        Status { servers, members_unknown: None }
    }

    #[test]
    fn an_ensemble_is_judged() {
        let (leader, follower) = (server(1, Some(Mode::Leader), 9), server(2, Some(Mode::Follower), 9));
        let (gone, alone) = (server(3, None, 0), server(3, Some(Mode::NotServing), 9));
        assert_eq!(status(vec![leader.clone(), follower.clone()]).health(), Health::Good);
        assert_eq!(status(vec![leader.clone(), gone.clone()]).health(), Health::Missing);
        assert_eq!(status(vec![gone.clone(), follower.clone()]).health(), Health::Missing, "it follows somebody");
        let lost = status(vec![gone, alone]);
        assert_eq!(lost.health(), Health::NoQuorum);
        assert_eq!(lost.complaints()[..2], ["server 3 does not answer", "server 3 has no leader"]);
        assert!(status(vec![leader, follower]).complaints().is_empty());
    }

    #[test]
    fn how_far_a_server_is_behind() {
        let leader = server(1, Some(Mode::Leader), 0x2_0000_0009);
        let behind = |zxid| status(vec![leader.clone()]).behind(&server(2, Some(Mode::Follower), zxid));
        assert_eq!(behind(0x2_0000_0002), Some(Behind::Transactions(7)));
        assert_eq!(behind(0x2_0000_000a), Some(Behind::Transactions(0)), "asked a moment later");
        assert_eq!(behind(0x1_0000_0009), Some(Behind::Epoch));
        assert_eq!(status(vec![leader.clone()]).behind(&leader), None);
    }
}
