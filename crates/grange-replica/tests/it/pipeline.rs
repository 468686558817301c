use grange_proto::Zxid;
use grange_proto::wire::put_text;

use crate::harness::{Edge, Seen, create, delete, exists, frame, get, raw, set};
use grange_proto::request::{Auth, Request};

#[test]
fn replies_come_in_the_order_of_the_requests() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let frames = [
        exists(1, "/a", false),
        create(2, "/a", 0),
        exists(3, "/a", false),
        get(4, "/missing", false),
        delete(5, "/a"),
        exists(6, "/a", false),
        raw(-2, 11, &[]),
    ];
    edge.send(conn, frames.concat());
    let replies = [(1, -101), (2, 0), (3, 0), (4, -101), (5, 0), (6, -101), (-2, 0)];
    assert_eq!(edge.seen(conn), replies.map(|(xid, err)| Seen::Reply(xid, err)));
    assert_eq!(edge.answered, 7);
}

#[test]
fn a_read_waits_for_the_writes_of_its_own_session_only() {
    let mut edge = Edge::new();
    let (writer, _) = edge.connect();
    let (reader, _) = edge.connect();
    edge.syncs = false;
    edge.send(writer, [create(1, "/a", 0), get(2, "/a", false)].concat());
    edge.send(reader, exists(1, "/a", false));
    assert_eq!(edge.seen(writer), []);
    assert_eq!(edge.seen(reader), [Seen::Reply(1, -101)]);
    let synced = edge.sync();
    edge.step(vec![synced]);
    assert_eq!(edge.seen(writer), [Seen::Reply(1, 0), Seen::Reply(2, 0)]);
}

#[test]
fn a_body_that_cannot_be_read_fails_alone_and_takes_a_zxid() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let before = edge.replica.tree().last_zxid();
    edge.send(conn, [raw(1, 5, &[0, 0, 0, 99]), raw(2, 4, &[0xff; 4]), create(3, "/a", 0)].concat());
    assert_eq!(edge.seen(conn), [Seen::Reply(1, -5), Seen::Reply(2, -5), Seen::Reply(3, 0)]);
    assert_eq!(edge.replica.tree().last_zxid(), Zxid(before.0 + 2));
    assert!(edge.closed.is_empty());
}

#[test]
fn an_unknown_operation_is_answered_in_its_turn_and_closes() {
    for op_code in [0, 13, 20, -10, 999] {
        let mut edge = Edge::new();
        let (conn, _) = edge.connect();
        edge.send(conn, [create(1, "/a", 0), raw(2, op_code, &[]), create(3, "/b", 0)].concat());
        let seen = edge.seen(conn);
        assert_eq!(seen[..2], [Seen::Reply(1, 0), Seen::Reply(2, -6)], "operation {op_code}");
        assert_eq!(edge.closed, [conn]);
    }
}

#[test]
fn credentials_count_for_the_requests_behind_them() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let auth = |scheme| Request::Auth(Auth { kind: 0, scheme, credentials: Some(b"u:p") });
    edge.send(conn, frame(-4, &auth("digest")));
    assert_eq!(edge.seen(conn), [Seen::Reply(-4, 0)]);
    edge.send(conn, frame(77, &auth("digest")));
    assert_eq!(edge.seen(conn), [Seen::Reply(77, 0)], "a client may number auth packets as any request");
    edge.send(conn, frame(-4, &auth("nonsense")));
    assert_eq!(edge.seen(conn), [Seen::Reply(-4, -115)]);
    assert_eq!(edge.closed, [conn]);
}

#[test]
fn sync_and_reads_answer_from_the_applied_tree() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let mut body = Vec::new();
    put_text(&mut body, "/");
    edge.send(conn, [create(1, "/a", 0), set(2, "/a", "new"), raw(3, 9, &body)].concat());
    assert_eq!(edge.seen(conn).len(), 3);
    edge.send(conn, get(4, "/a", false));
    assert_eq!(edge.data(conn), b"new");
}

#[test]
fn a_connection_that_vanished_gets_nothing_and_harms_nothing() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let (other, _) = edge.connect();
    edge.syncs = false;
    edge.send(conn, [create(1, "/a", 0), get(2, "/a", true)].concat());
    edge.send(other, exists(1, "/x", false));
    let synced = edge.sync();
    edge.step(vec![grange_replica::Event::Disconnected(conn), synced]);
    edge.syncs = true;
    assert_eq!(edge.seen(conn), []);
    edge.send(other, get(2, "/a", false));
    assert_eq!(edge.seen(other), [Seen::Reply(1, -101), Seen::Reply(2, 0)]);
}
