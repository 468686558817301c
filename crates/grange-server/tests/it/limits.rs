//! Clients at their bounds, and beyond.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use grange_server::config::Key;

use crate::client::{Client, get_data, request, start};

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let (server, _dir) = start(&[(Key::MaxClientCnxns, "2")]);
    let (first, _) = Client::open(server.local_addr(), 30_000);
    let (_second, _) = Client::open(server.local_addr(), 30_000);
    let mut third = Client::connect(server.local_addr());
    assert!(third.frame().is_none(), "one too many is closed");
    drop(first);
    let deadline = std::time::Instant::now() + crate::client::PATIENCE;
    loop {
        let mut next = Client::connect(server.local_addr());
        // The server may have closed it already.
        let _ = next.stream().write_all(&crate::client::connect_request(None, 30_000));
        if next.frame().is_some() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the place of a closed connection is not free again");
    }
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_others_go_on() {
    let (server, _dir) = start(&[]);
    let (mut greedy, _) = Client::open(server.local_addr(), 60_000);
    assert_eq!(greedy.create("/big", &vec![1; 500_000], 0), 0);
    let ask: Vec<u8> = (1..=4000).flat_map(|xid| request(xid, &get_data("/big"))).collect();
    // Far more than the bounds of both ends: at some time the server takes no more, so neither does the socket.
    greedy.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    let stalled = loop {
        match greedy.stream().write(&ask) {
            Ok(count) => sent += count,
            Err(error) => break matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
        if sent > 64 << 20 {
            break false;
        }
    };
    assert!(stalled, "the server has read {sent} bytes of requests whose replies nobody reads");
    let resident = resident_bytes();
    assert!(resident < 400 << 20, "{resident} bytes are in memory: the replies are not bounded");
    let (mut other, _) = Client::open(server.local_addr(), 60_000);
    assert_eq!(other.create("/small", b"x", 0), 0);
    assert_eq!(other.get("/small").unwrap(), b"x");
}

#[test]
fn a_connection_without_a_handshake_is_closed_after_a_while() {
    let (server, _dir) = start(&[(Key::SessionlessCnxnTimeout, "100")]);
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    let mut silent = Client::connect(server.local_addr());
    let mut half = Client::connect(server.local_addr());
    half.send(&[0, 0, 0, 45, 0]);
    assert!(silent.frame().is_none());
    assert!(half.frame().is_none());
    assert_eq!(client.create("/a", b"", 0), 0, "one with a session stays");
}

#[test]
fn many_connections_that_say_nothing_disturb_nobody() {
    let (server, _dir) = start(&[(Key::MaxClientCnxns, "0")]);
    let silent: Vec<Client> = (0..200).map(|_| Client::connect(server.local_addr())).collect();
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    assert_eq!(client.create("/a", b"", 0), 0);
    drop(silent);
    assert_eq!(client.get("/a").unwrap(), b"");
}

/// Memory of this process, which holds the server and all tests of this binary.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
