//! `grange serve` from its start to its end.

use expect_test::expect;

use crate::program::{grange, run};
use crate::server::{GrangeServer, Server, Signal};

fn shell(servers: &str, arguments: &[&str]) -> String {
    run(grange().args(["shell", "--servers", servers]).args(arguments), b"").to_string()
}

#[test]
fn what_was_written_is_there_after_a_clean_end() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("made/by/serve");
        let server = GrangeServer::start(&["--data", data.to_str().unwrap()]);
        assert_eq!(shell(&server.servers(), &["create", "/kept", "data"]), "/kept\n");
        assert_eq!(server.end(signal).status, Some(0), "{signal:?}");
        let server = GrangeServer::start(&["--data", data.to_str().unwrap()]);
        assert_eq!(shell(&server.servers(), &["get", "/kept"]), "data");
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let server = GrangeServer::start(&["--data", data]);
    assert_eq!(shell(&server.servers(), &["create", "/kept", "data"]), "/kept\n");
    server.end(Signal::Kill);
    let server = GrangeServer::start(&["--data", data]);
    assert_eq!(shell(&server.servers(), &["get", "/kept"]), "data");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let outcome = run(grange().arg("serve").arg("--data").arg(directory.path()).args(["--listen", &address]), b"");
    assert_eq!(outcome.status, Some(3));
    assert!(outcome.stderr.contains(&format!("{address} is in use by another program")), "{outcome}");
    assert!(outcome.stderr.contains("hint: to take a free port: --listen 127.0.0.1:0"), "{outcome}");
}

#[test]
fn a_directory_that_is_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let server = GrangeServer::start(&["--data", data]);
    let outcome = run(grange().args(["serve", "--listen", "127.0.0.1:0", "--data", data]), b"");
    assert_eq!(outcome.status, Some(3));
    let expected = format!("{data} is in use by process {}", server.pid());
    assert!(outcome.stderr.contains(&expected), "{expected}: {outcome}");
    assert!(outcome.stderr.contains("hint: stop that process"), "{outcome}");
}

#[test]
fn every_mistake_in_a_file_is_listed_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("zoo.cfg");
    std::fs::write(&config, "tickTime=2000\nclientPort=70000\nminSessionTimeout=60000\n").unwrap();
    let outcome = run(grange().current_dir(directory.path()).args(["serve", "--config", "zoo.cfg"]), b"");
    expect![[r#"
        ! error: zoo.cfg:2: clientPort is 70000; it must be a number from 0 to 65535
        ! dataDir is missing: say where data is kept
        ! zoo.cfg:3: minSessionTimeout is 60000 ms; it must not exceed maxSessionTimeout (40000 ms)
        exit 2
    "#]]
    .assert_eq(&outcome.to_string());
}

#[test]
fn flags_win_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let config = directory.path().join("zoo.cfg");
    std::fs::write(&config, "clientPort=1\ndataDir=/nowhere\nleaderServes=yes\nextendedTypesEnabled=true\n").unwrap();
    let server = GrangeServer::start(&["--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert_eq!(shell(&server.servers(), &["create", "-t", "60000", "/ttl"]), "/ttl\n");
    let outcome = server.end(Signal::Terminate);
    assert!(outcome.stderr.contains("leaderServes"), "keys without effect are listed: {outcome}");
}

#[test]
fn a_place_for_data_is_needed() {
    assert_eq!(run(grange().arg("serve"), b"").status, Some(2));
}

#[test]
fn the_super_identity_comes_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let digest = directory.path().join("digest");
    // The digest of the password `test`, as Apache's DigestAuthenticationProvider prints it.
    std::fs::write(&digest, "super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n").unwrap();
    let data = directory.path().join("data");
    let arguments = ["--super-digest-file", digest.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let server = GrangeServer::start(&arguments);
    let as_user = |user: &str, arguments: &[&str]| {
        let mut command = grange();
        command.env("GRANGE_AUTH", user).args(["shell", "--servers", &server.servers()]).args(arguments);
        run(&mut command, b"").to_string()
    };
    assert_eq!(as_user("digest:owner:secret", &["create", "/mine", "data", "auth::cdrwa"]), "/mine\n");
    assert_eq!(as_user("digest:super:test", &["get", "/mine"]), "data");
    assert!(as_user("digest:super:wrong", &["get", "/mine"]).contains("Insufficient permission"));
}
