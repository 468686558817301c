//! Servers on ports of their own, which end with the value that holds them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where Debian's package `zookeeper` puts Apache's server.
const APACHE_JAR: &str = "/usr/share/java/zookeeper.jar";

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server that serves.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Server {
    /// Starts Apache ZooKeeper, or returns `None` where it is not installed and `$GRANGE_TEST_APACHE` does not insist.
    pub(crate) fn apache() -> Option<Server> {
        if !Path::new(APACHE_JAR).exists() {
            assert!(
                std::env::var_os("GRANGE_TEST_APACHE").is_none(),
                "{APACHE_JAR} is missing: apt-get install zookeeper default-jre-headless"
            );
            eprintln!("skipped: {APACHE_JAR} is missing: apt-get install zookeeper default-jre-headless");
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let address = free_address();
        let config = directory.path().join("zoo.cfg");
        let data = directory.path().display();
        let text = format!(
            "dataDir={data}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\nforceSync=no\n",
            address.port()
        );
        std::fs::write(&config, text).expect("the configuration can be written");
        let process = Command::new("java")
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.extendedTypesEnabled=true"])
            .args(["-Dzookeeper.jmx.log4j.disable=true", "-cp", APACHE_JAR])
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("java starts");
        Some(Server { process, address, _directory: directory }.served())
    }

    /// The connection string of the server.
    pub(crate) fn servers(&self) -> String {
        self.address.to_string()
    }

    /// Waits until the server says that it serves.
    fn served(mut self) -> Server {
        let deadline = Instant::now() + START_TIMEOUT;
        while !answers(self.address) {
            let status = self.process.try_wait().expect("the process can be waited for");
            assert!(status.is_none(), "the server ended with {status:?} before it served");
            assert!(Instant::now() < deadline, "the server does not serve after {START_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// Asks for the server's state in the four letters that need no session.
fn answers(address: SocketAddr) -> bool {
    let mut answer = String::new();
    TcpStream::connect(address)
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"srvr")?;
            stream.read_to_string(&mut answer)
        })
        .is_ok_and(|_| answer.contains("Mode: standalone"))
}
