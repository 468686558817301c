use grange_proto::frame::put_frame;
use grange_proto::response::ReplyHeader;
use grange_proto::wire::put_text;
use grange_proto::{Xid, Zxid};

use crate::harness::{Edge, Seen, children, config, create, delete, exists, frame, get, raw, set};
use grange_proto::request::{Auth, Reconfig, Request};

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

/// Checked against Apache 3.8.0.
#[test]
fn the_reply_to_an_unknown_operation_tells_no_zxid() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.send(conn, raw(7, 999, &[]));
    let header = ReplyHeader { xid: Xid(7), zxid: Zxid(-1), err: -6 };
    let mut frame = Vec::new();
    put_frame(&mut frame, |out| header.encode(out));
    assert_eq!(edge.bytes(conn), frame);
}

/// Apache 3.8.0 says yes to whoever asks as soon as anybody watches the znode.
#[test]
fn a_connection_is_asked_about_its_own_watches() {
    let mut edge = Edge::new();
    let (watcher, _) = edge.connect();
    let (other, _) = edge.connect();
    edge.send(watcher, children(1, "/", true));
    edge.seen(watcher);
    edge.send(watcher, [1, 2, 3].map(|kind| frame(kind, &Request::CheckWatches("/", kind))).concat());
    assert_eq!(edge.seen(watcher), [Seen::Reply(1, 0), Seen::Reply(2, -121), Seen::Reply(3, 0)]);
    edge.send(other, [1, 2, 3].map(|kind| frame(kind, &Request::CheckWatches("/", kind))).concat());
    assert_eq!(edge.seen(other), [1, 2, 3].map(|xid| Seen::Reply(xid, -121)));
}

#[test]
fn credentials_count_for_the_requests_behind_them() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let auth = |scheme| Request::Auth(Auth { kind: 0, scheme: Some(scheme), credentials: Some(b"u:p") });
    edge.send(conn, frame(-4, &auth(b"digest")));
    assert_eq!(edge.seen(conn), [Seen::Reply(-4, 0)]);
    // The reply has the xid of the packet, even one that is not reserved for it. Checked against Apache 3.8.0.
    edge.send(conn, [frame(5, &auth(b"digest")), frame(6, &auth(b"nonsense"))].concat());
    assert_eq!(edge.seen(conn), [Seen::Reply(5, 0), Seen::Reply(6, -115)]);
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

/// Checked against Apache 3.8.0, standalone.
#[test]
fn reconfig_is_switched_off_or_needs_an_ensemble() {
    for (reconfig, err) in [(false, -123), (true, -6)] {
        let mut config = config();
        config.policy.reconfig = reconfig;
        let mut edge = Edge::with(config);
        let (conn, _) = edge.connect();
        let change = Reconfig { joining: Some("server.2=h:1:2;3"), leaving: None, new_members: None, config_id: -1 };
        edge.send(conn, [frame(1, &Request::Reconfig(change)), raw(2, 16, &[]), exists(3, "/", false)].concat());
        assert_eq!(edge.seen(conn), [Seen::Reply(1, err), Seen::Reply(2, -5), Seen::Reply(3, 0)]);
        assert!(edge.closed.is_empty());
    }
}

/// Apache's server without a login configuration answers with an empty token, and kazoo asks again for ever.
#[test]
fn a_sasl_exchange_is_refused_at_once() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.send(conn, [frame(1, &Request::Sasl(Some(b"token"))), exists(2, "/", false)].concat());
    assert_eq!(edge.seen(conn), [Seen::Reply(1, -115)]);
    assert_eq!(edge.closed, [conn]);
}

/// Checked against Apache 3.8.0.
#[test]
fn a_packet_that_cannot_be_read_ends_the_connection() {
    for (op, body) in [(100, &[0, 0][..]), (102, &[0])] {
        let mut edge = Edge::new();
        let (conn, _) = edge.connect();
        edge.send(conn, raw(3, op, body));
        assert_eq!(edge.seen(conn), []);
        assert_eq!(edge.closed, [conn]);
    }
}

#[test]
fn requests_under_way_are_counted_until_they_are_answered_or_their_connection_is_gone() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let (other, _) = edge.connect();
    edge.send(conn, [exists(1, "/a", false), raw(-2, 11, &[]), create(2, "/a", 0), raw(3, 4, &[])].concat());
    assert_eq!(edge.outstanding(), 0);
    edge.syncs = false;
    edge.send(conn, [create(4, "/b", 0), exists(5, "/b", false)].concat());
    edge.send(other, [exists(1, "/b", false), create(2, "/c", 0)].concat());
    assert_eq!(edge.outstanding(), 3);
    edge.step(vec![grange_replica::Event::Disconnected(conn)]);
    assert_eq!(edge.outstanding(), 1);
    let synced = edge.sync();
    edge.step(vec![synced]);
    assert_eq!(edge.outstanding(), 0);
}

/// Checked against Apache 3.8.0.
#[test]
fn a_ping_is_answered_with_the_xid_of_pings() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.send(conn, [raw(7, 11, &[]), raw(-2, 11, b"unexpected"), exists(8, "/", false)].concat());
    assert_eq!(edge.seen(conn), [Seen::Reply(-2, 0), Seen::Reply(-2, 0), Seen::Reply(8, 0)]);
}
