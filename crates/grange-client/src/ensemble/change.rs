//! Changes of the members, by the protocol's reconfig.

use std::time::Duration;

use grange_proto::{Role, ServerSpec};
use tokio::time::sleep;
use zookeeper_client::{Client, EnsembleUpdate, Error as ClientError};

use super::members::{Members, MembersError, client_address, client_addresses};
use super::probe::{Mode, probe};
use crate::connect::{self, ConnectError};
use crate::options::ConnectOptions;
use crate::servers::Servers;

/// Where the members are written.
pub(super) const CONFIG_PATH: &str = "/zookeeper/config";
/// `NewConfigNoQuorum`, which the client library has no name for.
const NEW_CONFIG_NO_QUORUM: i32 = -13;
/// `ReconfigInProgress`, likewise.
const RECONFIG_IN_PROGRESS: i32 = -14;

/// How often the members are read while the connection is lost again and again.
const READS_MAX: u32 = 10;
/// How often a change is asked for again whose answer was lost, or that is under way since.
const CHANGES_MAX: u32 = 50;
/// The pause before they are read again.
const READ_PAUSE: Duration = Duration::from_millis(200);

/// Why the members are not changed, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// `reconfigEnabled` is not true.
    #[error("reconfig is switched off on the servers")]
    Disabled,
    /// The credentials do not allow it.
    #[error("these credentials may not change the members")]
    Denied,
    /// A server that is to vote is not there.
    #[error("a server that is to vote cannot be reached by the others, so nothing is changed")]
    Absent,
    /// Another one comes first.
    #[error("another change of the members is under way")]
    UnderWay,
    /// They are not what they were when the change was planned.
    #[error("the members have changed meanwhile")]
    Changed,
    /// The server has no others.
    #[error("this server stands alone")]
    Alone,
    /// The servers cannot do it, or will not.
    #[error("the servers refuse the change")]
    Refused,
    /// Two participants have to be left.
    #[error("server {0} is one of the last two participants")]
    TooFew(u8),
    /// There is no such server.
    #[error("there is no server {id}; there are {}", .members.describe())]
    NoServer {
        /// The number that was named.
        id: u8,
        /// Those there are.
        members: Members,
    },
    /// It votes already.
    #[error("server {0} votes already")]
    Votes(u8),
    /// It has no vote.
    #[error("server {0} is an observer, which cannot lead")]
    Observes(u8),
    /// Nobody could take over.
    #[error("no other participant follows, so nobody can take over")]
    NoHeir,
    /// The members cannot be read.
    #[error("the members cannot be read")]
    Members(#[from] MembersError),
    /// The connection failed, or the answer makes no sense. A change may have been made all the same.
    #[error("the servers do not answer as they should")]
    Client(#[source] ClientError),
}

impl ChangeError {
    /// Tells whether the connection was lost, so that nobody knows whether the change was made.
    pub fn is_connection(&self) -> bool {
        use ClientError::{ClientClosed, ConnectionLoss, Custom, SessionExpired, Timeout};
        matches!(self, ChangeError::Client(ConnectionLoss | SessionExpired | ClientClosed | Timeout | Custom(_)))
    }
}

impl From<ClientError> for ChangeError {
    fn from(error: ClientError) -> ChangeError {
        match error {
            ClientError::ReconfigDisabled => ChangeError::Disabled,
            ClientError::NoAuth => ChangeError::Denied,
            ClientError::UnexpectedErrorCode(NEW_CONFIG_NO_QUORUM) => ChangeError::Absent,
            ClientError::UnexpectedErrorCode(RECONFIG_IN_PROGRESS) => ChangeError::UnderWay,
            ClientError::BadVersion => ChangeError::Changed,
            ClientError::Unimplemented => ChangeError::Alone,
            ClientError::BadArguments(_) => ChangeError::Refused,
            other => ChangeError::Client(other),
        }
    }
}

/// A session with an ensemble, for its operator.
#[derive(Debug, Clone)]
pub struct Ensemble {
    pub(super) client: Client,
    asked: Servers,
}

/// What came of a request for another leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOver {
    /// The server that leads.
    pub leader: u8,
}

impl Ensemble {
    /// Opens a session; a chroot has no meaning here.
    pub async fn connect(options: &ConnectOptions) -> Result<Ensemble, ConnectError> {
        let asked = Servers::of(options.servers.addresses().to_vec()).unwrap_or_else(|| options.servers.clone());
        let client = connect::connect(&ConnectOptions { servers: asked.clone(), ..options.clone() }).await?;
        Ok(Ensemble { client, asked })
    }

    /// Ends the session.
    pub async fn close(self) {
        connect::close(self.client).await;
    }

    /// Reads who the members are now, from another server if the connection is lost: one that was taken out closes it.
    pub async fn members(&self) -> Result<Members, ChangeError> {
        for _ in 1..READS_MAX {
            match self.members_once().await {
                Err(error) if error.is_connection() => sleep(READ_PAUSE).await,
                other => return other,
            }
        }
        self.members_once().await
    }

    async fn members_once(&self) -> Result<Members, ChangeError> {
        // A follower may not have heard of the last change.
        self.client.sync(CONFIG_PATH).await?;
        let (data, _) = self.client.get_config().await?;
        Ok(Members::parse(&data)?)
    }

    /// Returns where clients reach the servers.
    pub(super) fn client_addresses(&self, members: &Members) -> Servers {
        let addresses = client_addresses(members, &self.asked);
        addresses.and_then(Servers::of).unwrap_or_else(|| self.asked.clone())
    }

    /// Takes a server out.
    pub async fn remove(&self, id: u8) -> Result<(), ChangeError> {
        let members = self.members().await?;
        let spec = find(&members, id)?;
        if spec.role == Role::Participant && members.participants().count() <= 2 {
            return Err(ChangeError::TooFew(id));
        }
        let change = Change { leaving: Some(id.to_string()), ..Change::default() };
        self.see_through(&change, members.version, |members| !members.servers.contains_key(&id)).await
    }

    /// Gives an observer a vote.
    pub async fn promote(&self, id: u8) -> Result<(), ChangeError> {
        let members = self.members().await?;
        let spec = find(&members, id)?;
        if spec.role == Role::Participant {
            return Err(ChangeError::Votes(id));
        }
        let spec = ServerSpec { role: Role::Participant, ..spec.clone() };
        let change = Change::joining(id, &spec);
        let votes = |members: &Members| members.participants().any(|other| other == id);
        self.see_through(&change, members.version, votes).await
    }

    /// Adds a server, or changes its line.
    pub(super) async fn add(&self, id: u8, spec: &ServerSpec) -> Result<(), ChangeError> {
        self.reconfig(&Change::joining(id, spec), None).await
    }

    /// Makes a server lead, or any participant but the one that leads. Only Grange's servers can.
    ///
    /// Errors: [`ChangeError::Absent`] if it could not take over.
    pub async fn hand_over(&self, to: Option<u8>) -> Result<HandOver, ChangeError> {
        let members = self.members().await?;
        let leader = match to {
            Some(id) if find(&members, id)?.role == Role::Observer => return Err(ChangeError::Observes(id)),
            Some(id) => id,
            None => self.heir(&members).await?,
        };
        // Asked again, a server that leads already answers at once.
        let change = Change { joining: Some(format!("leader={leader}")), ..Change::default() };
        self.see_through(&change, None, |_| false).await?;
        Ok(HandOver { leader })
    }

    /// Finds the follower that has got furthest.
    async fn heir(&self, members: &Members) -> Result<u8, ChangeError> {
        if members.servers.is_empty() {
            return Err(ChangeError::Alone);
        }
        let mut best = None;
        for (&id, spec) in &members.servers {
            if spec.role == Role::Participant
                && let Ok(report) = probe(&client_address(spec, &self.asked)).await
                && report.mode == Mode::Follower
            {
                best = best.max(Some((report.zxid, id)));
            }
        }
        best.map(|(_, id)| id).ok_or(ChangeError::NoHeir)
    }

    /// Asks for a change, again if the connection is lost before the answer, until `is_done` says that it was made.
    ///
    /// A session with the very server that is taken out is lost so.
    async fn see_through(
        &self,
        change: &Change,
        version: Option<i64>,
        is_done: impl Fn(&Members) -> bool,
    ) -> Result<(), ChangeError> {
        let mut answer = self.reconfig(change, version).await;
        if !answer.as_ref().is_err_and(ChangeError::is_connection) {
            return answer;
        }
        for _ in 0..CHANGES_MAX {
            match answer {
                Err(ChangeError::UnderWay) => {}
                Err(error) if error.is_connection() => {}
                other => return other,
            }
            sleep(READ_PAUSE).await;
            if is_done(&self.members().await?) {
                return Ok(());
            }
            answer = self.reconfig(change, None).await;
        }
        answer
    }

    async fn reconfig(&self, change: &Change, version: Option<i64>) -> Result<(), ChangeError> {
        let update = EnsembleUpdate::Incremental {
            joinings: change.joining.iter().map(String::as_str),
            leavings: change.leaving.iter().map(String::as_str),
        };
        self.client.update_ensemble(update, version).await?;
        Ok(())
    }
}

/// What a reconfig asks for.
#[derive(Debug, Default)]
struct Change {
    joining: Option<String>,
    leaving: Option<String>,
}

impl Change {
    fn joining(id: u8, spec: &ServerSpec) -> Change {
        Change { joining: Some(format!("server.{id}={spec}")), leaving: None }
    }
}

fn find(members: &Members, id: u8) -> Result<&ServerSpec, ChangeError> {
    if members.servers.is_empty() {
        return Err(ChangeError::Alone);
    }
    members.servers.get(&id).ok_or_else(|| ChangeError::NoServer { id, members: members.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_reason() {
        for (error, text) in [
            (ClientError::UnexpectedErrorCode(-13), "cannot be reached by the others"),
            (ClientError::UnexpectedErrorCode(-14), "is under way"),
            (ClientError::ReconfigDisabled, "switched off"),
            (ClientError::NoAuth, "may not change"),
            (ClientError::BadVersion, "changed meanwhile"),
            (ClientError::Unimplemented, "stands alone"),
        ] {
            let error = ChangeError::from(error);
            assert!(error.to_string().contains(text), "{error}");
            assert!(!error.is_connection());
        }
        assert!(ChangeError::from(ClientError::ConnectionLoss).is_connection());
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_those_that_are() {
        let members = Members::parse(b"server.1=a:1:2\nserver.2=b:1:2\n").unwrap();
        assert_eq!(find(&members, 3).unwrap_err().to_string(), "there is no server 3; there are servers 1 and 2");
        assert!(matches!(find(&Members::default(), 1), Err(ChangeError::Alone)));
    }
}
