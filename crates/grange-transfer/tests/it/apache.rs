//! Apache ZooKeeper on a loopback port, from Debian's package, for one test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use grange_client::{Client, ConnectOptions, Servers};
use tempfile::TempDir;

const JARS: [&str; 6] = ["zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "netty-all", "metrics-core"];

/// A running server; ends with the value.
pub(crate) struct Apache {
    process: Child,
    port: u16,
    _data: TempDir,
}

impl Apache {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = data.path().join("zoo.cfg");
        let directory = data.path().display();
        let text = format!(
            "dataDir={directory}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=500\nadmin.enableServer=false\n"
        );
        std::fs::write(&config, text).unwrap();
        let jars = JARS.map(|jar| format!("/usr/share/java/{jar}.jar")).join(":");
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &jars]);
        command.args([
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "org.apache.zookeeper.server.ZooKeeperServerMain",
        ]);
        let process = command.arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, port, _data: data }
    }

    /// A session of its own.
    pub(crate) async fn connect(&self) -> Client {
        let deadline = Instant::now() + Duration::from_secs(30);
        let servers = Servers::parse(&format!("127.0.0.1:{}", self.port)).unwrap();
        let mut options = ConnectOptions::new(servers);
        options.session_timeout = Duration::from_secs(2);
        loop {
            match grange_client::connect(&options).await {
                Ok(client) => return client,
                Err(error) if Instant::now() > deadline => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
