//! Four-letter words as an operator's tools send them.

use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use grange_server::config::Key;

use crate::client::{Client, start};

const EPHEMERAL: i32 = 1;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn ask(address: SocketAddr, word: &[u8]) -> String {
    let mut client = Client::connect(address);
    client.send(word);
    client.rest()
}

/// Replaces what differs from run to run: ports, and numbers in hexadecimal that are longer than a zxid here.
fn check(text: &str, expected: &Expect) {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("127.0.0.1:").map(|at| at + 10).or_else(|| rest.find("0x").map(|at| at + 2)) {
        let is_port = rest[..at].ends_with(':');
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let digits = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        shown.push_str(if is_port || digits > 4 { "…" } else { &rest[..digits] });
        rest = &rest[digits..];
    }
    shown.push_str(rest);
    expected.assert_eq(&shown);
}

#[test]
fn words_outside_the_whitelist_say_so() {
    let (server, _dir) = start(&[]);
    check(&ask(server.local_addr(), b"ruok"), &expect!["ruok is not executed because it is not in the whitelist.\n"]);
    assert!(ask(server.local_addr(), b"srvr").starts_with("Zookeeper version: "));
}

#[test]
fn words_that_need_no_server_state() {
    let (server, _dir) = start(&[(Key::FourLetterWhitelist, "*")]);
    let address = server.local_addr();
    check(&ask(address, b"ruok"), &expect!["imok"]);
    check(&ask(address, b"isro"), &expect!["rw"]);
    check(&ask(address, b"gtmk"), &expect!["306"]);
    check(&ask(address, b"stmk\0\0\0\0\0\0\x01\x01"), &expect!["257"]);
    check(&ask(address, b"srst"), &expect!["Server stats reset.\n"]);
    check(&ask(address, b"crst"), &expect!["Connection stats reset.\n"]);
    assert!(ask(address, b"envi").starts_with("Environment:\nzookeeper.version="));
    assert!(ask(address, b"conf").contains("\ntickTime=50\nmaxClientCnxns=60\n"));
    assert!(ask(address, b"dirs").starts_with("datadir_size: "));
    // `echo ruok | nc` closes its side at once.
    let mut client = Client::connect(address);
    client.send(b"ruok");
    client.shut_down(Shutdown::Write);
    assert_eq!(client.rest(), "imok");
}

#[test]
fn words_about_clients_read_like_apaches() {
    let (server, _dir) = start(&[(Key::FourLetterWhitelist, "*")]);
    let address = server.local_addr();
    let (mut client, session) = Client::open(address, 30_000);
    assert_eq!(client.create("/a", b"x", 0), 0);
    assert_eq!(client.create("/a/e", b"x", EPHEMERAL), 0);
    let watch = grange_proto::request::Watchable { path: "/a", watch: true };
    assert_eq!(client.call(&grange_proto::Request::GetData(watch)).header.err, 0);
    let session = session.id.to_string();
    check(&ask(address, b"wchs"), &expect!["1 connections watching 1 paths\nTotal watches:1\n"]);
    assert_eq!(ask(address, b"wchc"), format!("{session}\n\t/a\n\n"));
    assert_eq!(ask(address, b"wchp"), format!("/a\n\t{session}\n\n"));
    let dump = ask(address, b"dump");
    assert!(
        dump.contains(&format!("ephemeral nodes dump:\nSessions with Ephemerals (1):\n{session}:\n\t/a/e\n")),
        "{dump}"
    );
    // The connections of the words before are closed when the server has noticed.
    let deadline = Instant::now() + PATIENCE;
    let srvr = std::iter::repeat_with(|| ask(address, b"srvr"))
        .take_while(|_| Instant::now() < deadline)
        .find(|srvr| srvr.contains("Connections: 2\n"))
        .expect("one for the client and one for the word");
    let figures: String =
        srvr.lines().skip(2).filter(|line| !line.starts_with("Outst")).map(|line| line.to_owned() + "\n").collect();
    check(
        &figures,
        &expect![[r#"
            Received: 4
            Sent: 4
            Connections: 2
            Zxid: 0x3
            Mode: standalone
            Node count: 7
        "#]],
    );
    let cons = ask(address, b"cons");
    assert!(cons.contains(&format!(",recved=4,sent=4,sid={session},lop=GETD,est=")), "{cons}");
    let mntr = ask(address, b"mntr");
    for line in
        ["zk_server_state\tstandalone\n", "zk_znode_count\t7\n", "zk_ephemerals_count\t1\n", "zk_watch_count\t1\n"]
    {
        assert!(mntr.contains(line), "{line} in {mntr}");
    }
}

#[test]
fn what_is_no_word_is_a_length() {
    let (server, _dir) = start(&[(Key::FourLetterWhitelist, "*")]);
    assert_eq!(ask(server.local_addr(), b"abcd"), "");
}
