use grange_proto::acl::put_acls;
use grange_proto::request::{Request, SetAcl};
use grange_proto::wire::{put_i32, put_i64, put_text};
use grange_proto::{Acl, AclList, Id, Perms, Reader};
use grange_replica::WatchEventCounts;

use crate::harness::{Edge, Seen, children, create, delete, exists, frame, get, raw, set};

const CREATED: i32 = 1;
const DELETED: i32 = 2;
const CHANGED: i32 = 3;
const CHILDREN: i32 = 4;
const ADD_WATCH: i32 = 106;
const SET_WATCHES: i32 = 101;

fn event(kind: i32, path: &str) -> Seen {
    Seen::Event(kind, path.to_owned())
}

/// The empty path names the root, but nothing ever happens there. Checked against Apache 3.8.0.
#[test]
fn a_watch_on_the_empty_path_never_fires() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let armed = [children(1, "", true), exists(2, "", true), add_watch(3, "", 0), add_watch(4, "", 1)];
    edge.send(conn, armed.concat());
    assert_eq!(edge.seen(conn).len(), 4);
    edge.send(conn, [create(5, "/a", 0), set(6, "/", "x"), delete(7, "/a")].concat());
    assert_eq!(edge.seen(conn), [5, 6, 7].map(|xid| Seen::Reply(xid, 0)));
}

/// No client sends it. Apache fails too, but with the lists before it armed.
#[test]
fn a_null_list_of_watches_is_refused_and_arms_nothing() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let mut body = Vec::new();
    put_i64(&mut body, 0);
    for count in [1, -1, 0] {
        put_i32(&mut body, count);
        if count == 1 {
            put_text(&mut body, "/gone");
        }
    }
    edge.send(conn, raw(-8, SET_WATCHES, &body));
    assert_eq!(edge.seen(conn), [Seen::Reply(-8, -5)]);
}

/// What exporters ask `mntr` for.
#[test]
fn events_and_refusals_are_counted() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    let (other, _) = edge.connect();
    for watcher in [conn, other] {
        edge.send(watcher, [exists(1, "/a", true), children(2, "/", true)].concat());
    }
    edge.send(conn, [create(3, "/a", 0), get(4, "/a", true), set(5, "/a", "x"), delete(6, "/a")].concat());
    edge.send(other, raw(-4, 100, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    let summary = edge.summary();
    let events = WatchEventCounts { created: 1, deleted: 0, changed: 1, children: 1, bytes: 8 };
    assert_eq!((summary.watch_events, summary.auth_failed), (events, 1));
    // The refusal counts as a read.
    assert_eq!((summary.read_latency.count, summary.update_latency.count, summary.latency().count), (6, 3, 9));
}

fn add_watch(xid: i32, path: &str, mode: i32) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, path);
    put_i32(&mut body, mode);
    raw(xid, ADD_WATCH, &body)
}

#[test]
fn an_event_comes_before_the_reply_to_the_write_that_caused_it() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.send(conn, [exists(1, "/a", true), create(2, "/a", 0), set(3, "/a", "x")].concat());
    let expected = [Seen::Reply(1, -101), event(CREATED, "/a"), Seen::Reply(2, 0), Seen::Reply(3, 0)];
    assert_eq!(edge.seen(conn), expected);
}

#[test]
fn an_event_comes_before_any_reply_that_shows_the_change() {
    let mut edge = Edge::new();
    let (writer, _) = edge.connect();
    let (reader, _) = edge.connect();
    edge.send(writer, create(1, "/a", 0));
    edge.send(reader, get(1, "/a", true));
    edge.seen(reader);
    edge.send(writer, set(2, "/a", "x"));
    edge.send(reader, get(2, "/a", false));
    assert_eq!(edge.seen(reader), [event(CHANGED, "/a"), Seen::Reply(2, 0)]);
}

#[test]
fn data_and_child_watches_hear_what_is_theirs() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.send(conn, create(1, "/a", 0));
    edge.send(conn, [get(2, "/a", true), children(3, "/a", true)].concat());
    edge.seen(conn);
    edge.send(conn, create(4, "/a/b", 0));
    assert_eq!(edge.seen(conn), [event(CHILDREN, "/a"), Seen::Reply(4, 0)]);
    edge.send(conn, [delete(5, "/a/b"), children(6, "/a", true), delete(7, "/a")].concat());
    let expected = [Seen::Reply(5, 0), Seen::Reply(6, 0), event(DELETED, "/a"), Seen::Reply(7, 0)];
    assert_eq!(edge.seen(conn), expected);
}

#[test]
fn a_recursive_watch_hears_of_every_descendant_and_stays() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.send(conn, [create(1, "/a", 0), add_watch(2, "/a", 1)].concat());
    edge.seen(conn);
    edge.send(conn, [create(3, "/a/b", 0), set(4, "/a/b", "x"), delete(5, "/a/b")].concat());
    let expected = [
        event(CREATED, "/a/b"),
        Seen::Reply(3, 0),
        event(CHANGED, "/a/b"),
        Seen::Reply(4, 0),
        event(DELETED, "/a/b"),
        Seen::Reply(5, 0),
    ];
    assert_eq!(edge.seen(conn), expected);
}

#[test]
fn nobody_hears_of_a_znode_that_it_may_not_read() {
    let mut edge = Edge::new();
    let (owner, _) = edge.connect();
    let (stranger, _) = edge.connect();
    edge.send(stranger, add_watch(1, "/", 1));
    edge.send(owner, create(1, "/secret", 0));
    let everything_but_reading = Perms(Perms::ALL.0 & !Perms::READ.0);
    let mut list = Vec::new();
    put_acls(&mut list, &[Acl { perms: everything_but_reading, id: Id::new("world", "anyone") }]);
    let acl = AclList::decode(&mut Reader::new(&list)).unwrap();
    edge.send(owner, frame(2, &Request::SetAcl(SetAcl { path: "/secret", acl, version: -1 })));
    edge.seen(stranger);
    edge.send(owner, set(3, "/secret", "x"));
    assert_eq!(edge.seen(stranger), []);
    assert_eq!(edge.seen(owner).last(), Some(&Seen::Reply(3, 0)));
}

#[test]
fn a_client_that_comes_back_hears_what_it_missed() {
    let mut edge = Edge::new();
    let (conn, _) = edge.connect();
    edge.send(conn, [create(1, "/changed", 0), create(2, "/same", 0), create(3, "/parent", 0)].concat());
    let seen_zxid = edge.replica.tree().last_zxid();
    edge.send(conn, [set(4, "/changed", "x"), create(5, "/new", 0), create(6, "/parent/child", 0)].concat());
    edge.seen(conn);
    let mut body = Vec::new();
    put_i64(&mut body, seen_zxid.0);
    for paths in [&["/changed", "/same", "/gone"][..], &["/new", "/absent"], &["/parent", "/same"]] {
        put_i32(&mut body, i32::try_from(paths.len()).unwrap());
        paths.iter().for_each(|path| put_text(&mut body, path));
    }
    edge.send(conn, raw(-8, SET_WATCHES, &body));
    let missed = [
        event(CHANGED, "/changed"),
        event(DELETED, "/gone"),
        event(CREATED, "/new"),
        event(CHILDREN, "/parent"),
        Seen::Reply(-8, 0),
    ];
    assert_eq!(edge.seen(conn), missed);
    edge.send(conn, [set(7, "/same", "x"), create(8, "/absent", 0)].concat());
    let armed = [event(CHANGED, "/same"), Seen::Reply(7, 0), event(CREATED, "/absent"), Seen::Reply(8, 0)];
    assert_eq!(edge.seen(conn), armed);
}
