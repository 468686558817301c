//! Opening a session, with an error that says what is wrong with which server, and closing it.

use std::fmt;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;
use zookeeper_client::{Client, Error as ClientError, SaslOptions};

use crate::options::ConnectOptions;
use crate::servers::{ServerAddress, Servers};
use crate::tls::Tls;

/// The pause after the first round, give or take half of it; it triples with each round.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two rounds.
const ROUND_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a look at one server may take, once there was no session to be had.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the answer to the end of a session is waited for; the server expires the session in any case.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What was wrong with one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The server.
    pub address: ServerAddress,
    /// What a look at it showed.
    pub why: String,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.why)
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No server gave one in time.
    #[error("no server gave a session within {:.1} s ({})", .waited.as_secs_f64(), list(.tried))]
    NoServer {
        /// How long was tried.
        waited: Duration,
        /// Every server that was tried, and what was wrong with it.
        tried: Vec<Unreachable>,
    },
    /// A server refused the credentials.
    #[error("the server refused the credentials")]
    AuthRefused,
    /// No certificate can be for a host of this name.
    #[error("'{0}' is not a name that a certificate can be for, and TLS was asked for")]
    HostName(String),
    /// The client library refused the settings, or met something it does not understand.
    #[error("cannot open a session with {servers}")]
    Client {
        /// The servers.
        servers: Servers,
        /// Why.
        #[source]
        source: ClientError,
    },
}

fn list(tried: &[Unreachable]) -> String {
    tried.iter().map(Unreachable::to_string).collect::<Vec<_>>().join("; ")
}

/// Opens a session.
///
/// Goes through the servers in random order, `rounds_max` times at most and for `connect_timeout` at most. The client
/// that is returned reconnects by itself for as long as its session lives.
pub async fn connect(options: &ConnectOptions) -> Result<Client, ConnectError> {
    if options.tls.is_some()
        && let Some(address) = options.servers.addresses().iter().find(|address| !Tls::can_name(&address.host))
    {
        return Err(ConnectError::HostName(address.host.clone()));
    }
    let started = Instant::now();
    let deadline = started + options.connect_timeout;
    let mut pause = ROUND_PAUSE;
    for round in 1..=options.rounds_max {
        match timeout_at(deadline, connect_once(options)).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(ClientError::AuthFailed)) => return Err(ConnectError::AuthRefused),
            Ok(Err(error @ (ClientError::NoHosts | ClientError::Timeout | ClientError::ConnectionLoss))) => {
                debug!(servers = %options.servers, round, %error, "no session");
            }
            Ok(Err(source)) => return Err(ConnectError::Client { servers: options.servers.clone(), source }),
            Err(_elapsed) => break,
        }
        let jittered = pause.mul_f64(0.5 + random_fraction());
        if round == options.rounds_max || Instant::now() + jittered >= deadline {
            break;
        }
        sleep(jittered).await;
        pause = ROUND_PAUSE_MAX.min(pause * 3);
    }
    let waited = started.elapsed();
    Err(ConnectError::NoServer { waited, tried: probe_all(options).await })
}

async fn connect_once(options: &ConnectOptions) -> Result<Client, ClientError> {
    let mut connector = Client::connector().with_session_timeout(options.session_timeout).with_fail_eagerly();
    for auth in &options.credentials.auths {
        connector = connector.with_auth(auth.scheme(), auth.credential());
    }
    if let Some(login) = &options.credentials.sasl {
        let login = SaslOptions::digest_md5(login.user().to_owned(), login.password().to_owned());
        connector = connector.with_sasl(login);
    }
    match &options.tls {
        Some(tls) => connector.with_tls(tls.options()).secure_connect(&options.servers.to_string()).await,
        None => connector.connect(&options.servers.to_string()).await,
    }
}

/// A number from 0 to 1, so that clients that lost a server together do not come back together.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness, which no kernel of today lacks, clients are merely less well spread.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

/// Looks at each server once, at the same time, to say what is wrong with it.
async fn probe_all(options: &ConnectOptions) -> Vec<Unreachable> {
    let addresses = options.servers.addresses().iter().cloned();
    let probes: Vec<_> = addresses
        .map(|address| {
            let tls = options.tls.clone();
            tokio::spawn(async move {
                let why = probe(&address, tls).await;
                Unreachable { address, why }
            })
        })
        .collect();
    let mut tried = Vec::with_capacity(probes.len());
    for probe in probes {
        tried.push(probe.await.expect("a probe neither panics nor is it cancelled"));
    }
    tried
}

async fn probe(address: &ServerAddress, tls: Option<Tls>) -> String {
    let stream = match timeout(PROBE_TIMEOUT, TcpStream::connect((address.host.as_str(), address.port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return plain(&error),
        Err(_elapsed) => return "no answer".into(),
    };
    let Some(tls) = tls else {
        return "accepts connections but gives no session; is it a ZooKeeper server with a quorum, and without TLS?"
            .into();
    };
    let host = address.host.clone();
    let handshake = tokio::task::spawn_blocking(move || {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
        tls.handshake(&host, stream)
    });
    match handshake.await.expect("a handshake neither panics nor is it cancelled") {
        Ok(()) => "speaks TLS but gives no session; is it a ZooKeeper server with a quorum?".into(),
        Err(error) => format!("no TLS: {}", plain(&error)),
    }
}

/// The message of the operating system without its number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((message, _)) => message.to_lowercase(),
        None => text,
    }
}

/// Ends the session and waits until the server has confirmed it, for two seconds at most.
///
/// Without it, a process that ends leaves its session and its ephemeral znodes to the session timeout. Other clones of
/// the client keep the session alive, and the wait in vain.
pub async fn close(client: Client) {
    let mut states = client.state_watcher();
    if states.state().is_terminated() {
        return;
    }
    drop(client);
    let ended = async { while !states.changed().await.is_terminated() {} };
    if timeout(CLOSE_TIMEOUT, ended).await.is_err() {
        debug!("the end of the session was not confirmed in time");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn options(servers: &str) -> ConnectOptions {
        ConnectOptions {
            rounds_max: 2,
            connect_timeout: Duration::from_secs(1),
            ..ConnectOptions::new(Servers::parse(servers).unwrap())
        }
    }

    #[tokio::test]
    async fn a_failure_names_each_server_and_what_is_wrong_with_it() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent_port = silent.local_addr().unwrap().port();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed_port = closed.local_addr().unwrap().port();
        drop(closed);
        let error = connect(&options(&format!("127.0.0.1:{closed_port},127.0.0.1:{silent_port}"))).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1:{closed_port}: connection refused")), "{text}");
        assert!(text.contains(&format!("127.0.0.1:{silent_port}: accepts connections but gives no session")), "{text}");
    }

    #[tokio::test]
    async fn giving_up_is_bounded_by_rounds_when_nobody_listens() {
        let started = Instant::now();
        let mut options = options("127.0.0.1:1");
        options.connect_timeout = Duration::from_secs(60);
        assert!(matches!(connect(&options).await, Err(ConnectError::NoServer { .. })));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
