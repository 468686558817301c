//! Apache ZooKeeper from Debian's package, on a port of its own. The tests of the program use this file too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian's packages put Apache's server.
const APACHE_JAR: &str = "/usr/share/java/zookeeper.jar";

/// How long the server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the server until standard input ends, which it does with the process that holds the other end, however that ends.
const UNTIL_INPUT_ENDS: &str = "java \"$@\" </dev/null & read -r _; kill -9 $!; wait";

/// Apache ZooKeeper, standalone, until the value is dropped or the process ends.
pub(crate) struct Apache {
    process: Child,
    address: SocketAddr,
}

impl Apache {
    /// Starts one with its data in `directory`, or returns `None` where it is not installed and `$GRANGE_TEST_APACHE`
    /// does not insist.
    pub(crate) fn start(directory: &Path) -> Option<Apache> {
        if !Path::new(APACHE_JAR).exists() {
            let advice = format!("{APACHE_JAR} is missing: apt-get install libzookeeper-java default-jre-headless");
            assert!(std::env::var_os("GRANGE_TEST_APACHE").is_none(), "{advice}");
            eprintln!("skipped: {advice}");
            return None;
        }
        let address = free_address();
        let config = directory.join("zoo.cfg");
        let text = format!(
            "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\ntickTime=500\nmaxSessionTimeout=60000\n\
             maxClientCnxns=0\nadmin.enableServer=false\nforceSync=no\n4lw.commands.whitelist=*\n",
            directory.display(),
            address.port()
        );
        std::fs::write(&config, text).expect("the configuration can be written");
        let process = Command::new("sh")
            .args(["-c", UNTIL_INPUT_ENDS, "java"])
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.extendedTypesEnabled=true"])
            .args(["-Dzookeeper.jmx.log4j.disable=true", "-cp", APACHE_JAR])
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        Some(Apache { process, address }.served())
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server says that it serves.
    fn served(self) -> Apache {
        let deadline = Instant::now() + PATIENCE;
        while !answers(self.address) {
            assert!(Instant::now() < deadline, "the server does not serve after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Fails only if somebody else has waited for the process.
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
