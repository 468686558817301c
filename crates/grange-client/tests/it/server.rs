//! What tests run against: our server in this process, and Apache's where it is installed.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use grange_client::{Client, ConnectOptions, ServerAddress, Servers};
use grange_server::config::Key;
use grange_server::{Config, RawConfig, Server};
use tempfile::TempDir;

use crate::apache::Apache;
use crate::proxy::Proxy;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The timeout of a session that is not to expire while the test runs.
pub(crate) const LONG_SESSION: Duration = Duration::from_secs(30);

/// The shortest timeout that both servers grant (two ticks).
pub(crate) const SHORT_SESSION: Duration = Duration::from_secs(1);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Grange,
    Apache,
}

enum Process {
    Grange(Box<Server>),
    Apache(Apache),
}

/// A server with a data directory of its own, which can be started again.
pub(crate) struct TestServer {
    kind: Kind,
    process: Option<Process>,
    directory: TempDir,
}

impl TestServer {
    /// Starts one; `None` if it is Apache's and not installed.
    pub(crate) fn start(kind: Kind) -> Option<TestServer> {
        let directory = tempfile::tempdir().unwrap();
        let process = Some(TestServer::process(kind, &directory)?);
        Some(TestServer { kind, process, directory })
    }

    fn process(kind: Kind, directory: &TempDir) -> Option<Process> {
        match kind {
            Kind::Grange => Some(Process::Grange(Box::new(Server::start(config(directory)).unwrap()))),
            Kind::Apache => Apache::start(directory.path()).map(Process::Apache),
        }
    }

    /// Ends the server and starts it again on the same data, at another address.
    pub(crate) fn restart(&mut self) {
        self.process = None;
        self.process = TestServer::process(self.kind, &self.directory);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self.process.as_ref().unwrap() {
            Process::Grange(server) => server.local_addr(),
            Process::Apache(server) => server.address(),
        }
    }
}

fn config(directory: &TempDir) -> Config {
    let mut raw = RawConfig::default();
    for (key, value) in [
        (Key::Listen, "127.0.0.1:0"),
        (Key::DataDir, directory.path().to_str().unwrap()),
        (Key::TickTime, "500"),
        (Key::MaxSessionTimeout, "60000"),
        (Key::MaxClientCnxns, "0"),
        (Key::ForceSync, "no"),
        (Key::FourLetterWhitelist, "*"),
    ] {
        raw.set_flag(key, "test", value);
    }
    Config::try_from(raw).unwrap()
}

/// What one test works on: a server, and a znode that no other test uses.
pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    /// A path below which there is nothing yet.
    pub(crate) path: String,
    /// Ours is one per test; Apache's takes seconds to start and is shared.
    _server: Option<TestServer>,
}

impl Fixture {
    /// `None` if the server is not installed.
    pub(crate) fn new(kind: Kind) -> Option<Fixture> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static APACHE: OnceLock<Option<TestServer>> = OnceLock::new();
        let path = format!("/test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        match kind {
            Kind::Grange => {
                let server = TestServer::start(kind)?;
                Some(Fixture { address: server.address(), path, _server: Some(server) })
            }
            Kind::Apache => {
                let server = APACHE.get_or_init(|| TestServer::start(kind)).as_ref()?;
                Some(Fixture { address: server.address(), path, _server: None })
            }
        }
    }

    /// One whose server nobody else uses, for who counts what that does.
    pub(crate) fn alone(kind: Kind) -> Option<Fixture> {
        let server = TestServer::start(kind)?;
        Some(Fixture { address: server.address(), path: "/test".to_owned(), _server: Some(server) })
    }

    /// A session that nothing happens to.
    pub(crate) async fn client(&self) -> Client {
        open(self.address, LONG_SESSION).await
    }

    /// A session by way of a proxy, to do harm to.
    pub(crate) async fn proxied(&self, session_timeout: Duration) -> (Client, Proxy) {
        let proxy = Proxy::start(self.address).await;
        (open(proxy.address(), session_timeout).await, proxy)
    }
}

/// Opens a session.
pub(crate) async fn open(address: SocketAddr, session_timeout: Duration) -> Client {
    let server = ServerAddress { host: address.ip().to_string(), port: address.port() };
    let mut options = ConnectOptions::new(Servers::of(vec![server]).unwrap());
    options.session_timeout = session_timeout;
    grange_client::connect(&options).await.unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holds).await.is_ok(), "not after {PATIENCE:?}: {what}");
}

/// Makes a test of each function for each server: `grange::NAME` and `apache::NAME`.
macro_rules! on_each_server {
    ($($name:ident),+ $(,)?) => {
        mod grange {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::server::Fixture::new(crate::server::Kind::Grange).unwrap()).await;
                }
            )+
        }
        mod apache {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(fixture) = crate::server::Fixture::new(crate::server::Kind::Apache) {
                        super::$name(fixture).await;
                    }
                }
            )+
        }
    };
}
pub(crate) use on_each_server;
