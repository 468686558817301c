//! Frames in every shape: split, glued, out of range, never finished.

use std::net::Shutdown;

use grange_proto::Xid;
use grange_server::config::Key;

use crate::client::{Client, connect_request, get_data, request, set_data, start};

#[test]
fn frames_may_be_split_at_every_byte() {
    let (server, _dir) = start(&[]);
    let mut client = Client::connect(server.local_addr());
    for byte in connect_request(None, 30_000) {
        client.send(&[byte]);
    }
    assert!(client.connect_response().unwrap().timeout_ms > 0);
    assert_eq!(client.create("/a", b"", 0), 0);
    for byte in request(7, &set_data("/a", b"x")) {
        client.send(&[byte]);
    }
    let reply = client.reply().unwrap();
    assert_eq!((reply.header.xid, reply.header.err), (Xid(7), 0));
}

#[test]
fn frames_may_come_glued_to_the_handshake_and_to_each_other() {
    let (server, _dir) = start(&[]);
    let mut bytes = connect_request(None, 30_000);
    for xid in 1..=1000 {
        bytes.extend(request(xid, &get_data("/zookeeper")));
    }
    // The last one is not whole yet.
    let end = bytes.len() - 5;
    let mut client = Client::connect(server.local_addr());
    client.send(&bytes[..end]);
    assert!(client.connect_response().unwrap().timeout_ms > 0);
    for xid in 1..1000 {
        assert_eq!(client.reply().unwrap().header.xid, Xid(xid));
    }
    client.send(&bytes[end..]);
    assert_eq!(client.reply().unwrap().header.xid, Xid(1000));
}

#[test]
fn more_requests_than_may_be_in_flight_are_answered_in_order() {
    let (server, _dir) = start(&[]);
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    assert_eq!(client.create("/a", b"", 0), 0);
    let bytes: Vec<u8> = (1..=20_000).flat_map(|xid| request(xid, &set_data("/a", b"x"))).collect();
    std::thread::scope(|scope| {
        let mut sender = client.stream().try_clone().unwrap();
        scope.spawn(move || std::io::Write::write_all(&mut sender, &bytes).unwrap());
        for xid in 1..=20_000 {
            let reply = client.reply().unwrap();
            assert_eq!((reply.header.xid, reply.header.err), (Xid(xid), 0));
        }
    });
}

#[test]
fn a_length_out_of_range_closes_without_an_answer() {
    let (server, _dir) = start(&[(Key::JuteMaxBuffer, "2048")]);
    for length in [-1, i32::MIN, 2049, i32::MAX] {
        let mut client = Client::connect(server.local_addr());
        client.send(&length.to_be_bytes());
        assert!(client.frame().is_none(), "as the first frame: {length}");
        let (mut client, _) = Client::open(server.local_addr(), 30_000);
        client.send(&length.to_be_bytes());
        assert!(client.frame().is_none(), "within a session: {length}");
    }
}

#[test]
fn a_frame_as_large_as_allowed_is_taken() {
    let (server, _dir) = start(&[]);
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    let overhead = request(1, &set_data("/a", b"")).len() - 4;
    let data = vec![7; 0xf_ffff - overhead];
    assert_eq!(client.create("/a", b"", 0), 0);
    assert_eq!(client.call(&set_data("/a", &data)).header.err, 0);
    assert_eq!(client.get("/a"), Some(data));
}

#[test]
fn a_handshake_that_makes_no_sense_closes() {
    let (server, _dir) = start(&[]);
    let good = connect_request(None, 30_000);
    for length in [0, 3, 20, 40] {
        let mut bytes = i32::try_from(length).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(&good[4..4 + length]);
        let mut client = Client::connect(server.local_addr());
        client.send(&bytes);
        assert!(client.frame().is_none(), "{length} bytes");
    }
    let mut telnet = Client::connect(server.local_addr());
    telnet.send(&[0xff, 0xf4, 0xff, 0xfd]);
    assert!(telnet.frame().is_none());
}

#[test]
fn what_a_client_sent_before_it_closed_is_done() {
    let (server, _dir) = start(&[]);
    let (mut client, _) = Client::open(server.local_addr(), 30_000);
    assert_eq!(client.create("/a", b"old", 0), 0);
    client.send(&request(9, &set_data("/a", b"new")));
    client.shut_down(Shutdown::Both);
    let (mut other, _) = Client::open(server.local_addr(), 30_000);
    let deadline = std::time::Instant::now() + crate::client::PATIENCE;
    while other.get("/a").unwrap() != b"new" {
        assert!(std::time::Instant::now() < deadline, "the write was lost");
    }
}
