//! Snapshots on their way.

use grange_proto::acl::{AclList, put_acls};
use grange_proto::request::Create;
use grange_proto::{Acl, Op, Reader, Request, SessionId};
use grange_tree::{Changes, Identities, Policy, Tree, WriteContext};

use super::proxy::Proxy;
use super::*;
use crate::storage::snapshot::{SnapshotFile, SnapshotMeta};

const ZNODES: usize = 8;
const DATA_BYTES: usize = 900_000;

fn tree() -> Tree {
    let (mut tree, mut changes, identities) = (Tree::with_name_key(7), Changes::new(), Identities::new());
    let mut acls = Vec::new();
    put_acls(&mut acls, &Acl::open());
    let acl = AclList::decode(&mut Reader::new(&acls)).unwrap();
    let mut apply = |request: &Request<'_>| {
        let zxid = tree.last_zxid().next();
        let policy = Policy::default();
        let cx = WriteContext { zxid, time_ms: 1, member: 0, session: SessionId(1), identities: &identities, policy };
        changes.clear();
        tree.apply(&cx, request, &mut changes).unwrap();
    };
    apply(&Request::CreateSession(30_000));
    for number in 0..ZNODES {
        let (path, data) = (format!("/n{number}"), vec![u8::try_from(number).unwrap(); DATA_BYTES]);
        let create = Create { op: Op::Create, path: &path, data: Some(&data), acl, flags: 0, ttl_ms: None };
        apply(&Request::Create(create));
    }
    tree
}

fn save(store: &SnapshotStore, index: u64) -> SnapshotFile {
    let extra = bytes::Bytes::from_static(b"members");
    let mut writer = store.create(&SnapshotMeta { index, term: 3, zxid: 9, extra }).unwrap();
    let tree = tree().snapshot();
    for at in 0..tree.chunk_count() {
        let mut chunk = Vec::new();
        tree.encode_chunk(at, &mut chunk);
        writer.chunk(&chunk).unwrap();
    }
    writer.finish().unwrap()
}

/// Two linked members; the first one reaches the second one through a proxy.
fn pair() -> (Fake, Fake, Proxy) {
    let ((listen_a, at_a), (listen_b, at_b)) = (listen(), listen());
    let to_b = Proxy::start(at_b);
    let a = FakeConfig::new(1, &listen_a, &[(1, at_a), (2, to_b.address)]).start();
    let b = FakeConfig::new(2, &listen_b, &[(1, at_a), (2, at_b)]).start();
    a.until("up 102 blank");
    b.until("up 101 blank");
    (a, b, to_b)
}

fn arrives(a: &Fake, b: &Fake, file: &SnapshotFile, contents: &[u8]) {
    let received = format!("snapshot of 101 at {}-3: with it", file.index);
    let mut snapshot = None;
    while snapshot.is_none() {
        for event in b.events() {
            if describe(&event) == received {
                snapshot = Some(event);
            }
        }
    }
    let Some(Event::SnapshotReceived { snapshot, .. }) = snapshot else { panic!("it was looked at above") };
    assert_eq!((snapshot.tree.digest(), &snapshot.meta[..]), (tree().digest(), &b"members"[..]));
    a.until("sent to 102: true");
    let files = b.store.list().unwrap();
    let copy = files.iter().find(|copy| copy.index == file.index).expect("it has its name");
    assert!(std::fs::read(&copy.path).unwrap() == contents, "the files are equal");
    let unfinished = std::fs::read_dir(b.dir.path()).unwrap().count() - files.len();
    assert_eq!(unfinished, 0, "nothing else is left");
}

#[test]
fn a_snapshot_arrives_as_it_is() {
    let (a, b, _proxy) = pair();
    let file = save(&a.store, 40);
    let contents = std::fs::read(&file.path).unwrap();
    a.peers.send_snapshot(MemberId(0x102), 40, 3, b"with it".to_vec()).unwrap();
    arrives(&a, &b, &file, &contents);
    let again = save(&a.store, 50);
    let contents = std::fs::read(&again.path).unwrap();
    a.peers.send_snapshot(MemberId(0x102), 50, 3, b"with it".to_vec()).unwrap();
    arrives(&a, &b, &again, &contents);
}

#[test]
fn a_broken_transfer_goes_on_where_it_was() {
    let (a, b, to_b) = pair();
    let file = save(&a.store, 40);
    let contents = std::fs::read(&file.path).unwrap();
    to_b.cut_after(3 << 20);
    a.peers.send_snapshot(MemberId(0x102), 40, 3, b"with it".to_vec()).unwrap();
    // Removed while it is on its way: what is open can be read to its end.
    let deadline = Instant::now() + PATIENCE;
    while to_b.cut_count() == 0 {
        assert!(Instant::now() < deadline, "nothing was sent");
        std::thread::yield_now();
    }
    a.store.remove(&file).unwrap();
    to_b.cut_after(3 << 20);
    arrives(&a, &b, &file, &contents);
    assert!(to_b.cut_count() >= 2);
    // Not what was sent: buffers of the system may have held any part of that when they were cut.
    let sent = to_b.bytes();
    assert!(sent < file.bytes + (6 << 20), "{sent} bytes for {}: it began anew", file.bytes);
}

#[test]
fn what_is_not_there_or_damaged_is_not_sent() {
    let (a, b, _proxy) = pair();
    a.peers.send_snapshot(MemberId(0x102), 40, 3, Vec::new()).unwrap();
    a.until("sent to 102: false");
    a.peers.send_snapshot(MemberId(0x999), 40, 3, Vec::new()).unwrap();
    a.until("sent to 999: false");
    let file = save(&a.store, 40);
    let mut damaged = std::fs::read(&file.path).unwrap();
    damaged[5_000_000] ^= 1;
    std::fs::write(&file.path, damaged).unwrap();
    a.peers.send_snapshot(MemberId(0x102), 40, 3, Vec::new()).unwrap();
    a.until("sent to 102: false");
    assert!(b.store.list().unwrap().is_empty(), "it has no name before it was checked");
    assert_eq!(std::fs::read_dir(b.dir.path()).unwrap().count(), 0);
}
