use grange_proto::{SessionId, Zxid};
use grange_replica::Event;
use grange_tree::EPHEMERALS_PER_STEP_MAX;

use crate::harness::{Edge, Seen, create, exists, raw};

const CLOSE: i32 = -11;

#[test]
fn a_timeout_is_brought_into_the_bounds() {
    let mut edge = Edge::new();
    edge.config.session_timeout_ms_max = 3000;
    edge.config.session_timeout_ms_min = 3000;
    let mut edge = Edge::with(edge.config);
    assert_eq!(edge.connect().1.timeout_ms, 3000);
}

#[test]
fn a_silent_session_expires_and_takes_its_ephemerals_along() {
    let mut edge = Edge::new();
    let (silent, session) = edge.connect();
    let (other, _) = edge.connect();
    edge.send(silent, create(1, "/e", 1));
    for xid in 0..3 {
        edge.pass(1000);
        edge.send(other, exists(xid, "/e", false));
    }
    assert_eq!(edge.seen(other), [Seen::Reply(0, 0), Seen::Reply(1, 0), Seen::Reply(2, 0)]);
    edge.pass(2000);
    edge.send(other, exists(9, "/e", false));
    assert_eq!(edge.seen(other), [Seen::Reply(9, -101)]);
    assert_eq!(edge.closed, [silent]);
    let refused = edge.attempt(session.session, session.password.to_vec(), Zxid::ZERO).1;
    assert_eq!((refused.session, refused.timeout_ms), (SessionId::NONE, 0));
}

#[test]
fn a_closed_session_is_gone_when_the_reply_comes() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let (other, _) = edge.connect();
    edge.send(conn, [create(1, "/e", 1), raw(2, CLOSE, &[]), create(3, "/never", 0)].concat());
    assert_eq!(edge.seen(conn), [Seen::Reply(1, 0), Seen::Reply(2, 0)]);
    assert_eq!(edge.closed, [conn]);
    edge.send(other, [exists(1, "/e", false), exists(2, "/never", false)].concat());
    assert_eq!(edge.seen(other), [Seen::Reply(1, -101), Seen::Reply(2, -101)]);
}

#[test]
fn a_session_comes_back_on_a_new_connection_which_closes_the_old_one() {
    let mut edge = Edge::new();
    let (old, session) = edge.connect();
    let (new, again) = edge.attempt(session.session, session.password.to_vec(), Zxid::ZERO);
    assert_eq!((again.session, again.password), (session.session, session.password));
    assert_eq!(edge.closed, [old]);
    edge.step(vec![Event::Disconnected(old)]);
    edge.send(new, create(1, "/e", 1));
    assert_eq!(edge.seen(new), [Seen::Reply(1, 0)]);
}

#[test]
fn a_session_does_not_expire_while_its_return_is_on_its_way_to_the_disk() {
    let mut edge = Edge::new();
    let (_, session) = edge.connect();
    edge.pass(3900);
    edge.syncs = false;
    let conn = edge.dial(session.session, session.password.to_vec(), Zxid::ZERO);
    edge.pass(1500);
    edge.syncs = true;
    let synced = edge.sync();
    edge.step(vec![synced]);
    edge.pass(100);
    assert!(!edge.bytes(conn).is_empty(), "it is welcome");
    edge.send(conn, create(1, "/e", 1));
    assert_eq!(edge.seen(conn), [Seen::Reply(1, 0)]);
}

#[test]
fn a_wrong_password_does_not_disturb_the_owner() {
    let mut edge = Edge::new();
    let (owner, session) = edge.connect();
    for password in [vec![0; 16], Vec::new(), vec![1; 100]] {
        let (intruder, refused) = edge.attempt(session.session, password, Zxid::ZERO);
        assert_eq!(refused.session, SessionId::NONE);
        assert_eq!(edge.closed, [intruder]);
        edge.closed.clear();
    }
    edge.send(owner, create(1, "/e", 1));
    assert_eq!(edge.seen(owner), [Seen::Reply(1, 0)]);
}

#[test]
fn a_client_from_the_future_is_sent_away_without_a_word() {
    let mut edge = Edge::new();
    let conn = edge.dial(SessionId::NONE, Vec::new(), Zxid(i64::MAX));
    assert_eq!(edge.seen(conn), []);
    assert_eq!(edge.closed, [conn]);
}

#[test]
fn after_a_restart_every_session_has_its_whole_timeout() {
    let mut edge = Edge::new();
    let (_, session) = edge.connect();
    edge.pass(3900);
    let mut edge = edge.restart();
    edge.pass(3900);
    let (_, again) = edge.attempt(session.session, session.password.to_vec(), Zxid::ZERO);
    assert_eq!(again.session, session.session);
}

#[test]
fn a_member_that_stood_still_hears_its_clients_before_it_expires_them() {
    let mut edge = Edge::new();
    let (alive, _) = edge.connect();
    let (silent, _) = edge.connect();
    edge.send(alive, create(1, "/alive", 1));
    edge.send(silent, create(1, "/silent", 1));
    edge.pass(1000);
    edge.stand_still(60_000);
    // The tick comes first: what waits in the sockets has to be read by other threads.
    edge.step(vec![Event::Tick]);
    assert_eq!(edge.closed, []);
    edge.send(alive, exists(2, "/alive", false));
    assert_eq!(edge.seen(alive), [Seen::Reply(1, 0), Seen::Reply(2, 0)]);
    edge.pass(3500);
    edge.send(alive, exists(3, "/alive", false));
    edge.pass(1500);
    assert_eq!(edge.closed, [silent], "a standstill does not make sessions immortal");
}

#[test]
fn a_rich_session_leaves_others_their_turn_while_it_closes() {
    let mut edge = Edge::new();
    let (rich, _) = edge.connect();
    let (other, _) = edge.connect();
    let count = i32::try_from(2 * EPHEMERALS_PER_STEP_MAX + 1).unwrap();
    edge.send(rich, (0..count).flat_map(|n| create(n, &format!("/e{n}"), 1)).collect());
    edge.seen(rich);
    edge.syncs = false;
    edge.send(rich, raw(count, CLOSE, &[]));
    edge.send(other, create(1, "/between", 0));
    for left in [EPHEMERALS_PER_STEP_MAX + 1, 1] {
        let synced = edge.sync();
        edge.step(vec![synced]);
        assert_eq!(edge.replica.tree().ephemeral_count(), left);
        assert_eq!(edge.seen(rich), []);
    }
    assert_eq!(edge.seen(other), [Seen::Reply(1, 0)], "it need not wait for the end");
    let synced = edge.sync();
    edge.step(vec![synced]);
    assert_eq!(edge.replica.tree().ephemeral_count(), 0);
    assert_eq!(edge.seen(rich), [Seen::Reply(count, 0)]);
    assert_eq!(edge.closed, [rich]);
}
