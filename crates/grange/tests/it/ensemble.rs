//! `grange ensemble` on real members.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::{Outcome, grange, run};
use crate::server::{Apache, Member, Server, Signal};

/// How long an ensemble may take to be as it should.
const PATIENCE: Duration = Duration::from_secs(30);
/// The operator: `super:test` has the digest that the members are told.
const OPERATOR: &str = "digest:super:test";
const SETTINGS: &str = "reconfigEnabled=true\npreAllocSize=8192\ntickTime=500\n\
                        DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n";

/// Ports that were free a moment ago, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Three members on loopback, and what they live in.
struct Three {
    directory: TempDir,
    client_ports: Vec<u16>,
    members: Vec<Option<Member>>,
}

impl Three {
    fn start() -> Three {
        let directory = tempfile::tempdir().unwrap();
        let ports: [u16; 9] = free_ports();
        let mut lines = String::new();
        for (id, ports) in (1..).zip(ports.chunks(3)) {
            let (peer, election, client) = (ports[0], ports[1], ports[2]);
            writeln!(lines, "server.{id}=127.0.0.1:{peer}:{election};127.0.0.1:{client}").unwrap();
        }
        for id in 1..=3 {
            let data = directory.path().join(id.to_string());
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join("myid"), format!("{id}\n")).unwrap();
            std::fs::write(data.join("zoo.cfg"), format!("dataDir={}\n{SETTINGS}{lines}", data.display())).unwrap();
        }
        let client_ports = ports.chunks(3).map(|ports| ports[2]).collect();
        let mut three = Three { directory, client_ports, members: Vec::new() };
        three.members = (1..=3).map(|id| Some(Member::start(&three.config(id)))).collect();
        three.until(0);
        three
    }

    fn data(&self, id: usize) -> PathBuf {
        self.directory.path().join(id.to_string())
    }

    fn config(&self, id: usize) -> PathBuf {
        self.data(id).join("zoo.cfg")
    }

    fn servers(&self) -> String {
        let addresses: Vec<String> = self.client_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        addresses.join(",")
    }

    fn ensemble(&self, arguments: &[&str]) -> Outcome {
        ensemble(&self.servers(), arguments)
    }

    /// Waits until the status has this exit status.
    fn until(&self, status: i32) -> String {
        until(|| self.ensemble(&["status"]), |outcome| outcome.status == Some(status)).to_string()
    }

    fn leader(&self) -> String {
        until(|| self.ensemble(&["status", "--json"]), |outcome| outcome.status == Some(0)).json()["leader"].to_string()
    }

    fn kill(&mut self, id: usize) {
        self.members[id - 1].take().unwrap().end(Signal::Kill);
    }
}

fn ensemble(servers: &str, arguments: &[&str]) -> Outcome {
    let mut command = grange();
    command.env("GRANGE_AUTH", OPERATOR).args(["ensemble"]).args(arguments).args(["--servers", servers]);
    run(&mut command, b"")
}

fn until(look: impl Fn() -> Outcome, is_right: impl Fn(&Outcome) -> bool) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outcome = look();
        if is_right(&outcome) {
            return outcome;
        }
        assert!(Instant::now() < deadline, "this is still so after {PATIENCE:?}: {outcome}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The arguments of a server that is added in `data`, on free ports.
fn add(data: &Path) -> std::process::Command {
    let [peer, client] = free_ports();
    let mut command = grange();
    command.args(["ensemble", "add", "--data"]).arg(data).args(["--peer-port", &peer.to_string()]);
    command.args(["--listen", &format!("127.0.0.1:{client}"), "--token-file", "-"]);
    command
}

fn shell(servers: &str, arguments: &[&str]) -> String {
    run(grange().args(["shell", "--servers", servers]).args(arguments), b"").to_string()
}

#[test]
fn an_ensemble_grows_and_shrinks() {
    let three = Three::start();
    assert_eq!(shell(&three.servers(), &["create", "/kept", "data"]), "/kept\n");

    let table = three.until(0);
    assert_eq!(table.lines().filter(|line| line.contains("participant")).count(), 3, "{table}");
    assert_eq!(table.matches("follower").count(), 2, "{table}");

    let before = three.leader();
    let outcome = three.ensemble(&["transfer"]);
    assert!(outcome.to_string().ends_with(" leads\n"), "{outcome}");
    assert_ne!(three.leader(), before);
    assert_eq!(three.ensemble(&["transfer", "1"]).to_string(), "server 1 leads\n");
    assert!(three.leader().contains(&three.client_ports[0].to_string()));

    let invited = three.ensemble(&["invite", "--for", "5m"]);
    assert_eq!(invited.status, Some(0), "{invited}");
    assert!(invited.stderr.contains("the token is a secret"), "{invited}");
    let data = three.directory.path().join("new");
    let added = run(add(&data).arg("--exit"), &invited.stdout);
    assert_eq!(added.status, Some(0), "{added}");
    for line in ["joining as server 4 (127.0.0.1:", "server 4 votes", "server 4 is a member"] {
        assert!(added.stderr.contains(line), "{line}: {added}");
    }
    assert!(three.until(1).contains("server 4 does not answer"));
    let fourth = Member::start(&data.join("zoo.cfg"));
    let table = three.until(0);
    assert!(table.contains("\n4       participant"), "{table}");
    assert_eq!(shell(&fourth.servers(), &["get", "/kept"]), "data");
    assert_eq!(three.ensemble(&["invite", "--revoke-all"]).to_string(), "0 invitations are revoked\n", "it was used");

    // The one that leads hands over first.
    let outcome = three.ensemble(&["remove", "1"]);
    assert!(outcome.to_string().starts_with("server 1 is a member no more\n"), "{outcome}");
    let again = three.ensemble(&["remove", "1"]);
    assert!(again.stderr.contains("there is no server 1; there are servers 2, 3 and 4"), "{again}");
    let table = ensemble(&fourth.servers(), &["status"]);
    assert!(!table.to_string().contains("\n1 "), "{table}");
}

#[test]
fn one_survivor_starts_anew() {
    let mut three = Three::start();
    assert_eq!(shell(&three.servers(), &["create", "/kept", "data"]), "/kept\n");
    three.until(0);
    let config = three.config(2);
    let recover =
        |arguments: &[&str]| run(grange().args(["ensemble", "recover", "--config"]).arg(&config).args(arguments), b"");
    let refused = recover(&["--yes"]);
    assert!(refused.stderr.contains("there is a majority, and nothing to recover"), "{refused}");
    three.kill(1);
    three.kill(3);
    assert!(three.until(3).contains("there is no quorum"));
    let locked = recover(&["--yes"]);
    assert!(locked.stderr.contains("hint: stop that process first"), "{locked}");
    three.kill(2);
    assert_eq!(recover(&[]).status, Some(2), "nobody was asked");
    let recovered = recover(&["--yes"]);
    assert!(recovered.to_string().starts_with("server 2 is an ensemble of its own, at zxid 0x"), "{recovered}");
    assert!(recovered.stderr.contains("Acknowledged writes that had not reached this server are lost"), "{recovered}");

    let survivor = Member::start(&config);
    let servers = survivor.servers();
    until(|| ensemble(&servers, &["status"]), |outcome| outcome.status == Some(0));
    assert_eq!(shell(&servers, &["get", "/kept"]), "data");
    assert_eq!(shell(&servers, &["create", "/later"]), "/later\n");
    survivor.end(Signal::Kill);
    let survivor = Member::start(&config);
    assert_eq!(survivor.servers(), servers);
    until(|| ensemble(&servers, &["status"]), |outcome| outcome.status == Some(0));
    let invited = ensemble(&servers, &["invite"]);
    let data = three.directory.path().join("new");
    let added = run(add(&data).arg("--exit"), &invited.stdout);
    assert_eq!(added.status, Some(0), "{added}");
    let second = Member::start(&data.join("zoo.cfg"));
    let table = until(|| ensemble(&servers, &["status"]), |outcome| outcome.status == Some(0)).to_string();
    assert!(table.contains("\n1       participant") && table.contains("\n2       participant"), "{table}");
    assert_eq!(shell(&second.servers(), &["ls", "/"]), "kept\nlater\nzookeeper\n");
    assert!(ensemble(&servers, &["remove", "1"]).stderr.contains("one of the last two participants"));
}

#[test]
fn an_observer_joins_in_two_runs_and_gets_a_vote() {
    let three = Three::start();
    let servers = three.servers();
    let nobody = run(grange().args(["ensemble", "remove", "3", "--servers", &servers]), b"");
    assert!(nobody.stderr.contains("these credentials may not change the members"), "{nobody}");

    let token = three.ensemble(&["invite"]).stdout;
    let data = three.directory.path().join("new");
    // The first run ends because its port for clients is taken.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let [peer, client] = free_ports();
    let add = |listen: &str| {
        let mut command = grange();
        command.args(["ensemble", "add", "--observer", "--token-file", "-", "--exit", "--listen", listen, "--data"]);
        run(command.arg(&data).args(["--peer-port", &peer.to_string()]), &token)
    };
    let interrupted = add(&listen);
    assert!(interrupted.stderr.contains("is in use by another program"), "{interrupted}");
    let added = add(&format!("127.0.0.1:{client}"));
    assert_eq!(added.status, Some(0), "{added}");
    let again = add(&format!("127.0.0.1:{client}"));
    assert!(again.stderr.contains("going on as server 4") && again.status == Some(0), "{again}");

    let fourth = Member::start(&data.join("zoo.cfg"));
    assert!(three.until(0).contains("\n4       observer     observer"), "{}", three.until(0));
    assert!(three.ensemble(&["transfer", "4"]).stderr.contains("server 4 is an observer, which cannot lead"));
    assert_eq!(three.ensemble(&["promote", "4"]).to_string(), "server 4 votes\n");
    assert!(three.until(0).contains("\n4       participant"));
    assert!(three.ensemble(&["promote", "4"]).stderr.contains("server 4 votes already"));

    // A member that was taken out does not come back with its old data.
    assert_eq!(three.ensemble(&["remove", "4"]).status, Some(0));
    fourth.end(Signal::Kill);
    let token = three.ensemble(&["invite"]).stdout;
    let stale = run(grange().args(["ensemble", "add", "--token-file", "-", "--data"]).arg(&data), &token);
    assert!(stale.stderr.contains("server 4 was a member and is none any more"), "{stale}");
    assert_eq!(three.ensemble(&["invite", "--revoke-all"]).to_string(), "1 invitation is revoked\n");
    let blank = three.directory.path().join("blank");
    let revoked = run(
        grange().args(["ensemble", "add", "--token-file", "-", "--data"]).arg(&blank).args([
            "--peer-port",
            &peer.to_string(),
            "--listen",
            &format!("127.0.0.1:{client}"),
        ]),
        &token,
    );
    assert!(revoked.stderr.contains("the invitation was used or revoked"), "{revoked}");
}

#[test]
fn what_cannot_be_changed_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let server = crate::server::GrangeServer::start(&["--data", directory.path().to_str().unwrap()]);
    let alone = ensemble(&server.servers(), &["status"]);
    assert!(alone.to_string().contains("standalone") && alone.status == Some(0), "{alone}");
    for arguments in [&["remove", "1"][..], &["transfer"], &["invite"]] {
        let outcome = ensemble(&server.servers(), arguments);
        assert!(outcome.stderr.contains("this server stands alone"), "{arguments:?}: {outcome}");
        assert_eq!(outcome.status, Some(3));
    }
    for (token, status, message) in [
        ("", 2, "this is no join token"),
        // The end of 1970's first second is past.
        ("Z3JhbmdlLWludml0YXRpb24gMQpzZXJ2ZXJzPWE6MQpleHBpcmVzPTEKc2VjcmV0PXgKZW5k", 1, "was valid until 1970-01-01"),
    ] {
        let outcome = run(&mut add(&directory.path().join("new")), token.as_bytes());
        assert!(outcome.stderr.contains(message) && outcome.status == Some(status), "{outcome}");
    }
    assert!(!directory.path().join("new").exists());
}

#[test]
fn the_state_of_apaches_server_is_shown() {
    let Some(apache) = Apache::start() else { return };
    let outcome = ensemble(&apache.servers(), &["status", "--json"]);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    let object = outcome.json();
    assert_eq!(object["servers"][0]["mode"], "standalone");
    assert!(object["servers"][0]["version"].as_str().is_some_and(|version| version.starts_with("3.")), "{object}");
}
