use grange_replica::{Event, SnapshotPolicy};

use crate::harness::{Edge, Seen, config, create, get, set};

#[test]
fn no_reply_leaves_before_the_write_is_durable() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.syncs = false;
    edge.send(conn, create(1, "/a", 0));
    assert_eq!(edge.seen(conn), []);
    assert_eq!(edge.unsynced.len(), 1);
    let synced = edge.sync();
    edge.step(vec![synced]);
    assert_eq!(edge.seen(conn), [Seen::Reply(1, 0)]);
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let mut edge = Edge::new();
    let (conn, session) = edge.connect();
    edge.send(conn, [create(1, "/a", 0), create(2, "/b", 1)].concat());
    edge.syncs = false;
    edge.send(conn, set(3, "/a", "lost"));
    let zxid = edge.replica.tree().last_zxid();
    let digest = edge.replica.tree().digest();

    let mut edge = edge.restart();
    assert_eq!(edge.replica.tree().last_zxid(), zxid);
    assert_eq!(edge.replica.tree().digest(), digest);
    let (conn, again) = edge.attempt(session.session, session.password.to_vec(), zxid);
    assert_eq!(again.session, session.session);
    edge.send(conn, get(1, "/b", false));
    assert_eq!(edge.data(conn), b"data");
}

#[test]
fn a_restart_goes_on_from_the_snapshot() {
    let mut config = config();
    config.snapshots = SnapshotPolicy { requests: 10, log_bytes: u64::MAX };
    let mut edge = Edge::with(config);
    let (conn, _) = edge.connect();
    edge.send(conn, create(1, "/a", 0));
    for xid in 2..30 {
        edge.send(conn, set(xid, "/a", &xid.to_string()));
    }
    let index = edge.snapshot.as_ref().expect("a snapshot was made").index;
    assert!(edge.snapshot.as_ref().is_some_and(|image| image.tree.zxid() < edge.replica.tree().last_zxid()));
    edge.step(vec![Event::SnapshotSaved { index }]);
    edge.durable.1 = edge.durable.1.split_off(&(index + 1));
    let digest = edge.replica.tree().digest();
    assert_eq!(edge.restart().replica.tree().digest(), digest);
}

#[test]
fn requests_that_arrive_together_share_an_entry() {
    let mut edge = Edge::new();
    let conns: Vec<_> = (0..10).map(|_| edge.connect().0).collect();
    edge.syncs = false;
    let received_us = edge.now.monotonic_us;
    let events = conns.iter().enumerate().map(|(i, &conn)| {
        let frames = [create(1, &format!("/{i}"), 0), set(2, &format!("/{i}"), "x")].concat();
        Event::Frames { conn, frames: frames.into(), received_us }
    });
    edge.step(events.collect());
    assert_eq!(edge.unsynced.iter().map(|batch| batch.entries.len()).sum::<usize>(), 1);
    let synced = edge.sync();
    edge.step(vec![synced]);
    for conn in conns {
        assert_eq!(edge.seen(conn), [Seen::Reply(1, 0), Seen::Reply(2, 0)]);
    }
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.send(conn, create(1, "/a", 0));
    edge.step(vec![Event::LogFull]);
    edge.send(conn, [set(2, "/a", "x"), get(3, "/a", false)].concat());
    edge.step(vec![Event::LogHasRoom]);
    edge.send(conn, set(4, "/a", "x"));
    let replies = [Seen::Reply(1, 0), Seen::Reply(2, -1), Seen::Reply(3, 0), Seen::Reply(4, 0)];
    assert_eq!(edge.seen(conn), replies);
}
