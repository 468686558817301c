//! Starting, stopping, starting again.

use grange_server::config::Key;
use grange_server::{Config, Server, StartError};

use crate::client::{Client, config, connect_request, request, set_data, start};

const EPHEMERAL: i32 = 1;

#[test]
fn a_restart_keeps_data_and_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path(), &[])).unwrap();
    let (mut client, session) = Client::open(server.local_addr(), 30_000);
    assert_eq!(client.create("/a", b"kept", 0), 0);
    assert_eq!(client.create("/a/e", b"", EPHEMERAL), 0);
    server.stop().unwrap();
    assert!(client.frame().is_none(), "a stopped server closes its connections");
    let server = Server::start(config(dir.path(), &[])).unwrap();
    let mut client = Client::connect(server.local_addr());
    client.send(&connect_request(Some(session), 30_000));
    assert_eq!(client.connect_response().unwrap().session, session.id);
    assert_eq!(client.get("/a").unwrap(), b"kept");
    assert!(client.get("/a/e").is_some(), "the session lives on, and so do its ephemerals");
}

#[test]
fn a_restart_from_a_snapshot_and_the_log_behind_it_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let often = [(Key::SnapCount, "100")];
    let server = Server::start(config(dir.path(), &often)).unwrap();
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    for number in 0..1050 {
        assert_eq!(client.create(&format!("/n{number}"), number.to_string().as_bytes(), 0), 0);
    }
    server.stop().unwrap();
    let snapshots = std::fs::read_dir(dir.path().join("snapshot")).unwrap().count();
    assert!((1..=4).contains(&snapshots), "{snapshots} snapshots are kept");
    let server = Server::start(config(dir.path(), &often)).unwrap();
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    for number in 0..1050 {
        assert_eq!(client.get(&format!("/n{number}")).unwrap(), number.to_string().as_bytes());
    }
}

#[test]
fn stopping_answers_what_is_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path(), &[])).unwrap();
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    assert_eq!(client.create("/a", b"", 0), 0);
    let bytes: Vec<u8> = (1..=500).flat_map(|xid| request(xid, &set_data("/a", &xid.to_be_bytes()))).collect();
    client.send(&bytes);
    // With the first answer the others are with the server.
    assert!(client.reply().is_some());
    server.stop().unwrap();
    let mut last = 1_i32;
    while let Some(reply) = client.reply() {
        assert_eq!(reply.header.err, 0);
        last = reply.header.xid.0;
    }
    let server = Server::start(config(dir.path(), &[])).unwrap();
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    assert_eq!(client.get("/a").unwrap(), last.to_be_bytes(), "what was answered is there, and nothing else");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (server, _dir) = start(&[]);
    let address = server.local_addr().to_string();
    let other = tempfile::tempdir().unwrap();
    let error = Server::start(config(other.path(), &[(Key::Listen, &address)])).unwrap_err();
    let StartError::Listen(error) = error else { panic!("{error}") };
    assert!(error.to_string().starts_with(&format!("{address} is in use by another program")), "{error}");
}

#[test]
fn a_directory_that_is_in_use_is_refused() {
    let (_server, dir) = start(&[]);
    let error = Server::start(config(dir.path(), &[])).unwrap_err();
    let StartError::Directory(error) = error else { panic!("{error}") };
    let pid = std::process::id();
    assert!(error.to_string().ends_with(&format!("is in use by process {pid}")), "{error}");
}

#[test]
fn an_embedded_server_serves_until_it_is_dropped() {
    let server = Server::start(Config::embedded()).unwrap();
    let address = server.local_addr();
    assert!(address.ip().is_loopback());
    let (mut client, _) = Client::open(address, 10_000);
    assert_eq!(client.create("/a", b"", 0), 0);
    drop(server);
    assert!(client.frame().is_none());
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}
