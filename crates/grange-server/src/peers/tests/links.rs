//! Messages and their order; links that break and come back.

use super::proxy::Proxy;
use super::*;

/// Two members that reach each other through proxies.
struct Pair {
    a: Fake,
    b: Fake,
    to_a: Proxy,
    to_b: Proxy,
    listeners: (TcpListener, TcpListener),
}

fn pair() -> Pair {
    let ((listen_a, at_a), (listen_b, at_b)) = (listen(), listen());
    let (to_a, to_b) = (Proxy::start(at_a), Proxy::start(at_b));
    let a = FakeConfig::new(1, &listen_a, &[(1, at_a), (2, to_b.address)]).start();
    let b = FakeConfig::new(2, &listen_b, &[(1, to_a.address), (2, at_b)]).start();
    assert_eq!(a.until("up 102 blank"), ["up 102 blank"]);
    assert_eq!(b.until("up 101 blank"), ["up 101 blank"]);
    Pair { a, b, to_a, to_b, listeners: (listen_a, listen_b) }
}

/// Waits until a message gets through again; every link that was lost was reported lost before it came back.
fn recovers(from: &Fake, to: &Fake, from_id: u64, to_id: u64) {
    let up = format!("up {to_id:x} blank");
    let seen = from.until(&up);
    assert_eq!(seen, [format!("down {to_id:x}"), up]);
    from.send(to_id, b"again");
    let seen = to.until(&format!("{from_id:x}: again"));
    let (down, up) = (format!("down {from_id:x}"), format!("up {from_id:x} blank"));
    assert_eq!(seen[..2], [down, up], "{seen:?}");
}

#[test]
fn messages_of_three_members_arrive_whole_and_in_order() {
    let listeners: Vec<_> = (0..3).map(|_| listen()).collect();
    let servers: Vec<_> = (1..).zip(listeners.iter().map(|(_, address)| *address)).collect();
    let start = |(id, (listener, _)): (u8, &(TcpListener, _))| FakeConfig::new(id, listener, &servers).start();
    let fakes: Vec<Fake> = (1..).zip(&listeners).map(start).collect();
    for fake in &fakes {
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(fake.events().iter().map(describe));
        }
        seen.sort();
        let others = (1..=3_u8).filter(|other| *other != fake.server_id);
        assert_eq!(seen, others.map(|other| format!("up 10{other} blank")).collect::<Vec<_>>());
    }
    let large = vec![7; 20 << 20];
    std::thread::scope(|scope| {
        for fake in &fakes {
            let large = &large;
            scope.spawn(move || {
                for to in (1..=3).filter(|to| *to != fake.server_id) {
                    let mut batch = PeerBatch::default();
                    (0..100).for_each(|number: u32| batch.push(MemberId(0x100 + u64::from(to)), &number.to_le_bytes()));
                    fake.peers.send(&mut batch);
                    fake.send(0x100 + u64::from(to), large);
                    (100..5000_u32).for_each(|number| fake.send(0x100 + u64::from(to), &number.to_le_bytes()));
                }
            });
        }
        for fake in &fakes {
            let large = &large;
            scope.spawn(move || {
                let mut next: BTreeMap<MemberId, (u32, bool)> = BTreeMap::new();
                while next.values().filter(|(next, _)| *next == 5000).count() < 2 {
                    for event in fake.events() {
                        let Event::Peer { from, message } = event else { panic!("{event:?}") };
                        let (next, had_large) = next.entry(from).or_default();
                        if message.len() > 4 {
                            assert!(*next == 100 && !*had_large && message == *large);
                            *had_large = true;
                        } else {
                            assert_eq!(message[..], next.to_le_bytes());
                            *next += 1;
                        }
                    }
                }
            });
        }
    });
    assert!(fakes[0].stats.messages_sent.get() == 10_002 && fakes[0].stats.bytes_received.get() > 40 << 20);
}

#[test]
fn a_cut_of_either_direction_takes_the_link_down_and_up_again() {
    let pair = pair();
    pair.to_b.cut();
    recovers(&pair.a, &pair.b, 0x101, 0x102);
    pair.to_a.cut();
    recovers(&pair.b, &pair.a, 0x102, 0x101);
    assert_eq!(pair.a.stats.links.get(), 3);
}

#[test]
fn a_member_that_is_not_heard_is_lost() {
    let pair = pair();
    pair.to_b.set_silent(true);
    // Nothing was closed: b hears nothing, and a learns it from b.
    assert_eq!(pair.b.until("down 101"), ["down 101"]);
    assert_eq!(pair.a.until("down 102"), ["down 102"]);
    pair.to_b.set_silent(false);
    pair.a.until("up 102 blank");
    pair.a.send(0x102, b"back");
    pair.b.until("101: back");
}

#[test]
fn a_member_that_ends_is_missed_at_once_and_comes_back_as_another_run() {
    let Pair { a, b, to_a, listeners, .. } = pair();
    let began = Instant::now();
    drop(b);
    assert_eq!(a.until("down 102"), ["down 102"]);
    assert!(began.elapsed() < PATIENCE / 2);
    a.send(0x102, b"to nobody");
    // Its listener was shut down with it.
    let address = listeners.1.local_addr().unwrap();
    drop(listeners.1);
    let listener = TcpListener::bind(address).unwrap();
    let servers = [(1, to_a.address)];
    let config = FakeConfig::new(2, &listener, &servers);
    let b = FakeConfig { run: 2, is_blank: false, ..config }.start();
    assert_eq!(a.until("up 102"), ["up 102"], "it has data now");
    b.until("up 101 blank");
    a.send(0x102, b"hello");
    assert_eq!(b.until("101: hello"), ["101: hello"], "what was sent to the run before is gone");
}

#[test]
fn a_wiped_server_is_another_member() {
    let Pair { a, b, to_a, listeners, .. } = pair();
    drop(b);
    let address = listeners.1.local_addr().unwrap();
    drop(listeners.1);
    let listener = TcpListener::bind(address).unwrap();
    let _b = FakeConfig { id: 0x202, ..FakeConfig::new(2, &listener, &[(1, to_a.address)]) }.start();
    assert_eq!(a.until("up 202 blank"), ["down 102", "up 202 blank"]);
}

#[test]
fn a_server_that_nobody_named_is_linked_when_it_calls() {
    let ((listen_a, at_a), (listen_b, at_b)) = (listen(), listen());
    let a = FakeConfig::new(1, &listen_a, &[(1, at_a)]).start();
    let b = FakeConfig::new(2, &listen_b, &[(1, at_a), (2, at_b)]).start();
    a.until("up 102 blank");
    b.until("up 101 blank");
    a.send(0x102, b"welcome");
    b.until("101: welcome");
    // Named by nobody, it stays while it is there; a member that is removed goes.
    a.peers.set_members(vec![Member { id: MemberId(0x101), server_id: 1, spec: spec(at_a) }]).unwrap();
    a.peers.set_members(vec![Member { id: MemberId(0x102), server_id: 2, spec: spec(at_b) }]).unwrap();
    a.send(0x102, b"member");
    b.until("101: member");
    a.peers.set_members(Vec::new()).unwrap();
    a.until("down 102");
}

#[test]
fn members_are_looked_for_where_the_ensemble_says() {
    let ((listen_a, at_a), (listen_b, at_b), (elsewhere, nowhere)) = (listen(), listen(), listen());
    drop(elsewhere);
    let a = FakeConfig::new(1, &listen_a, &[(1, at_a), (2, nowhere)]).start();
    let b = FakeConfig::new(2, &listen_b, &[(1, at_a), (2, at_b)]).start();
    let moved = Member { id: MemberId(0x102), server_id: 2, spec: spec(at_b) };
    a.peers.set_members(vec![moved]).unwrap();
    a.until("up 102 blank");
    b.until("up 101 blank");
    assert_eq!(a.peers.membership(), [(2, spec(at_b))]);
}

#[test]
fn candidates_are_linked_until_the_members_are_known_again() {
    let ((listen_a, at_a), (listen_b, at_b)) = (listen(), listen());
    let a = FakeConfig::new(1, &listen_a, &[(1, at_a)]).start();
    let _b = FakeConfig::new(2, &listen_b, &[(2, at_b)]).start();
    a.peers.set_candidates(vec![(2, spec(at_b))]).unwrap();
    a.until("up 102 blank");
    a.peers.set_members(Vec::new()).unwrap();
    a.until("down 102");
}
