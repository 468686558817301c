//! Handshakes, re-attachment, expiry.

use grange_proto::connect::ConnectRequest;
use grange_proto::{Request, SessionId, Xid, Zxid};

use crate::client::{Client, PATIENCE, Session, connect_request, encoded, request, start};

const EPHEMERAL: i32 = 1;

#[test]
fn the_answer_has_the_form_of_the_request() {
    let (server, _dir) = start(&[]);
    for (password, read_only, answer_bytes) in
        [(Some(&[0; 16][..]), Some(false), 37), (Some(&[0; 16][..]), None, 36), (None, Some(true), 37)]
    {
        let mut client = Client::connect(server.local_addr());
        client.send(&encoded(&ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 10_000,
            session: SessionId::NONE,
            password,
            read_only,
        }));
        let answer = client.frame().unwrap();
        assert_eq!(answer.len(), answer_bytes, "{read_only:?}");
    }
}

#[test]
fn timeouts_are_brought_into_their_range() {
    let (server, _dir) = start(&[]);
    for (wished, granted) in [(1, 100), (5000, 5000), (i32::MAX, 60_000), (-1, 100)] {
        let mut client = Client::connect(server.local_addr());
        client.send(&connect_request(None, wished));
        assert_eq!(client.connect_response().unwrap().timeout_ms, granted);
    }
}

#[test]
fn a_client_from_the_future_is_closed_without_an_answer() {
    let (server, _dir) = start(&[]);
    let mut client = Client::connect(server.local_addr());
    client.send(&encoded(&ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(i64::MAX),
        timeout_ms: 10_000,
        session: SessionId::NONE,
        password: None,
        read_only: None,
    }));
    assert!(client.frame().is_none());
}

#[test]
fn a_session_outlives_its_connection_and_is_taken_up_by_another() {
    let (server, _dir) = start(&[]);
    let (mut first, session) = Client::open(server.local_addr(), 30_000);
    assert_eq!(first.create("/e", b"", EPHEMERAL), 0);
    let mut second = Client::connect(server.local_addr());
    second.send(&connect_request(Some(session), 30_000));
    let answer = second.connect_response().unwrap();
    assert_eq!((answer.session, answer.password), (session.id, session.password));
    assert!(first.frame().is_none(), "the older connection of a session is closed");
    assert!(second.get("/e").is_some());
}

#[test]
fn a_wrong_password_is_refused_and_does_not_disturb_the_owner() {
    let (server, _dir) = start(&[]);
    let (mut owner, session) = Client::open(server.local_addr(), 30_000);
    let wrong = Session { password: [7; 16], ..session };
    let mut other = Client::connect(server.local_addr());
    other.send(&connect_request(Some(wrong), 30_000));
    let answer = other.connect_response().unwrap();
    assert_eq!((answer.timeout_ms, answer.session, answer.password), (0, SessionId::NONE, [0; 16]));
    assert!(other.frame().is_none(), "a refused connection is closed");
    assert_eq!(owner.create("/a", b"", 0), 0);
}

#[test]
fn a_silent_session_expires_with_its_ephemerals() {
    let (server, _dir) = start(&[]);
    let (mut silent, session) = Client::open(server.local_addr(), 100);
    assert_eq!(silent.create("/e", b"", EPHEMERAL), 0);
    let (mut other, _) = Client::open(server.local_addr(), 30_000);
    assert!(silent.frame().is_none(), "the connection of an expired session is closed");
    assert!(other.get("/e").is_none());
    let mut again = Client::connect(server.local_addr());
    again.send(&connect_request(Some(session), 100));
    assert_eq!(again.connect_response().unwrap().timeout_ms, 0);
}

#[test]
fn pings_keep_a_session_alive() {
    let (server, _dir) = start(&[]);
    let (mut client, _) = Client::open(server.local_addr(), 1000);
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    let started = std::time::Instant::now();
    while started.elapsed().as_millis() < 2500 {
        client.send(&request(Xid::PING.0, &Request::Ping));
        let reply = client.reply().expect("the session is alive");
        assert_eq!((reply.header.xid, reply.header.err), (Xid::PING, 0));
        // The pause of a client that has nothing else to say.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(client.create("/a", b"", 0), 0);
}

#[test]
fn closing_a_session_is_answered_and_ends_the_connection() {
    let (server, _dir) = start(&[]);
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    assert_eq!(client.create("/e", b"", EPHEMERAL), 0);
    assert_eq!(client.call(&Request::CloseSession).header.err, 0);
    assert!(client.frame().is_none());
    let (mut other, _) = Client::open(server.local_addr(), 30_000);
    assert!(other.get("/e").is_none());
}
