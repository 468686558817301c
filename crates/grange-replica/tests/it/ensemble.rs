//! What holds with several members.

use grange_proto::Request;
use grange_proto::request::Reconfig;
use grange_replica::{Event, MemberId, Mode, ReplicaConfig, SnapshotPolicy};

use crate::cluster::Cluster;
use crate::harness::{Seen, create, exists, frame, get, raw, set};

const OK: i32 = 0;
const PERSISTENT: i32 = 0;
const EPHEMERAL: i32 = 1;

fn sync(xid: i32) -> Vec<u8> {
    raw(xid, 9, &[0, 0, 0, 1, b'/'])
}

fn close(xid: i32) -> Vec<u8> {
    raw(xid, -11, &[])
}

#[test]
fn three_blank_servers_found_an_ensemble() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.leader(), 1);
    assert_eq!(cluster.summary(2).mode, Mode::Follower);
    for id in 1..=3 {
        let members = cluster.members(id);
        assert_eq!(members, [(1, MemberId(1000)), (2, MemberId(2000)), (3, MemberId(3000))], "server {id}");
    }
}

#[test]
fn a_write_at_any_member_is_read_at_every_other_one() {
    let mut cluster = Cluster::new(3);
    for id in 1..=3 {
        let (conn, _) = cluster.connect(id, None);
        cluster.send(id, conn, create(1, &format!("/from{id}"), PERSISTENT));
        assert_eq!(cluster.seen(id, conn), [Seen::Reply(1, OK)]);
        for other in 1..=3 {
            let (reader, _) = cluster.connect(other, None);
            cluster.send(other, reader, [sync(1), get(2, &format!("/from{id}"), false)].concat());
            assert_eq!(cluster.seen(other, reader), [Seen::Reply(1, OK), Seen::Reply(2, OK)], "{id} to {other}");
        }
    }
    let digests: Vec<u64> = (1..=3).map(|id| cluster.summary(id).digest).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_killed_leader_is_replaced_and_connections_elsewhere_go_on() {
    let mut cluster = Cluster::new(3);
    let (conn, _) = cluster.connect(2, None);
    cluster.send(2, conn, create(1, "/a", PERSISTENT));
    cluster.kill(1);
    // Sent while nobody leads.
    cluster.send(2, conn, set(2, "/a", "x"));
    assert!(cluster.pass_until(200, |cluster| cluster.is_serving(2)));
    cluster.pass(200);
    assert_eq!(cluster.seen(2, conn), [Seen::Reply(1, OK), Seen::Reply(2, OK)]);
    assert_ne!(cluster.leader(), 1);
    cluster.boot(1);
    assert!(cluster.pass_until(1000, |cluster| cluster.is_serving(1)));
    assert_eq!(cluster.summary(1).digest, cluster.summary(2).digest);
}

#[test]
fn a_write_under_way_when_the_leader_dies_happens_once() {
    let mut cluster = Cluster::new(3);
    let (conn, _) = cluster.connect(2, None);
    for round in 0..20 {
        let leader = cluster.leader();
        let id = if leader == 2 { 3 } else { 2 };
        let (conn, _) = cluster.connect(id, None);
        cluster.send(id, conn, [create(1, "/n-", 2), create(2, "/n-", 2)].concat());
        cluster.kill(leader);
        cluster.pass(600);
        assert_eq!(cluster.seen(id, conn), [Seen::Reply(1, OK), Seen::Reply(2, OK)]);
        cluster.boot(leader);
        assert!(cluster.pass_until(2000, |cluster| (1..=3).all(|id| cluster.is_serving(id))), "round {round}");
        assert_eq!(cluster.summary(1).znodes, 4 + 2 * (round + 1));
    }
    let _ = conn;
}

#[test]
fn a_member_that_is_cut_off_stops_serving_and_catches_up_later() {
    let mut cluster = Cluster::new(3);
    let (conn, session) = cluster.connect(3, None);
    cluster.isolate(3);
    cluster.pass(2000);
    assert!(cluster.is_closed(3, conn));
    let (conn, again) = cluster.connect(2, Some(&session));
    assert_eq!(again.session, session.session);
    cluster.send(2, conn, create(1, "/a", PERSISTENT));
    assert_eq!(cluster.seen(2, conn), [Seen::Reply(1, OK)]);
    cluster.heal();
    assert!(cluster.pass_until(2000, |cluster| cluster.is_serving(3)));
    assert_eq!(cluster.summary(3).digest, cluster.summary(2).digest);
}

#[test]
fn a_leader_that_is_cut_off_acknowledges_nothing() {
    let mut cluster = Cluster::new(3);
    let (conn, _) = cluster.connect(1, None);
    cluster.isolate(1);
    cluster.send(1, conn, create(1, "/lost", PERSISTENT));
    cluster.pass(3000);
    assert_eq!(cluster.seen(1, conn), []);
    assert!(!cluster.is_serving(1));
    let (other, _) = cluster.connect(2, None);
    cluster.send(2, other, create(1, "/kept", PERSISTENT));
    assert_eq!(cluster.seen(2, other), [Seen::Reply(1, OK)]);
    cluster.heal();
    assert!(cluster.pass_until(2000, |cluster| cluster.is_serving(1)));
    cluster.pass(200);
    assert_eq!(cluster.summary(1).digest, cluster.summary(2).digest);
}

#[test]
fn a_session_moves_and_its_old_connection_counts_no_more() {
    let mut cluster = Cluster::new(3);
    let (old, session) = cluster.connect(2, None);
    let (new, again) = cluster.connect(3, Some(&session));
    assert_eq!(again.session, session.session);
    assert!(cluster.is_closed(2, old));
    cluster.send(3, new, create(1, "/a", EPHEMERAL));
    assert_eq!(cluster.seen(3, new), [Seen::Reply(1, OK)]);
    // A session that nobody has is refused, wherever it is asked for.
    cluster.send(3, new, close(2));
    let (_, refused) = cluster.connect(2, Some(&session));
    assert_eq!(refused.timeout_ms, 0);
}

#[test]
fn ephemerals_go_with_a_session_that_is_not_heard_of_at_any_member() {
    let mut cluster = Cluster::new(3);
    let (quiet, _) = cluster.connect(2, None);
    let (alive, _) = cluster.connect(3, None);
    cluster.send(2, quiet, create(1, "/quiet", EPHEMERAL));
    cluster.send(3, alive, create(1, "/alive", EPHEMERAL));
    for _ in 0..6 {
        cluster.pass(1000);
        cluster.send(3, alive, raw(-2, 11, &[]));
    }
    cluster.seen(3, alive);
    cluster.send(3, alive, [exists(2, "/quiet", false), exists(3, "/alive", false)].concat());
    assert_eq!(cluster.seen(3, alive), [Seen::Reply(2, -101), Seen::Reply(3, OK)]);
    assert!(cluster.is_closed(2, quiet));
}

#[test]
fn a_watch_at_one_member_hears_of_a_write_at_another() {
    let mut cluster = Cluster::new(3);
    let (watcher, _) = cluster.connect(3, None);
    let (writer, _) = cluster.connect(2, None);
    cluster.send(3, watcher, exists(1, "/a", true));
    cluster.send(2, writer, create(1, "/a", PERSISTENT));
    cluster.pass(100);
    assert_eq!(cluster.seen(3, watcher), [Seen::Reply(1, -101), Seen::Event(1, "/a".to_owned())]);
}

#[test]
fn a_server_without_its_disk_comes_back_as_another_member() {
    let mut cluster = Cluster::new(3);
    let (conn, _) = cluster.connect(2, None);
    cluster.send(2, conn, create(1, "/a", PERSISTENT));
    cluster.wipe(3);
    cluster.boot(3);
    assert!(cluster.pass_until(5000, |cluster| cluster.is_serving(3)));
    cluster.pass(500);
    assert_eq!(cluster.members(1), [(1, MemberId(1000)), (2, MemberId(2000)), (3, MemberId(3001))]);
    assert_eq!(cluster.summary(3).digest, cluster.summary(1).digest);
    // It has a vote: with it, one of the others may go.
    cluster.kill(1);
    cluster.pass(1000);
    let leader = cluster.leader();
    let (conn, _) = cluster.connect(leader, None);
    cluster.send(leader, conn, create(1, "/b", PERSISTENT));
    assert_eq!(cluster.seen(leader, conn), [Seen::Reply(1, OK)]);
}

#[test]
fn a_member_far_behind_gets_what_it_lacks_from_the_log_or_as_a_snapshot() {
    let mut cluster = Cluster::new(3);
    for id in 1..=3 {
        cluster.configure(id, |config| config.snapshots = SnapshotPolicy { requests: 500, log_bytes: u64::MAX });
        cluster.kill(id);
        cluster.boot(id);
        cluster.pass(1000);
    }
    for writes in [100, 3000] {
        let (conn, _) = cluster.connect(2, None);
        cluster.kill(3);
        cluster.pass(200);
        for n in 0..writes {
            cluster.send(2, conn, create(1, &format!("/w{writes}-{n}"), PERSISTENT));
        }
        cluster.boot(3);
        assert!(cluster.pass_until(5000, |cluster| cluster.is_serving(3)));
        cluster.pass(200);
        assert_eq!(cluster.summary(3).digest, cluster.summary(2).digest);
    }
}

#[test]
fn a_leader_that_resigns_is_replaced_without_a_timeout() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader();
    let other = if leader == 2 { 3 } else { 2 };
    let (conn, _) = cluster.connect(other, None);
    assert!(cluster.resign(leader));
    let successor = cluster.leader();
    assert_ne!(successor, leader);
    cluster.send(other, conn, create(1, "/a", PERSISTENT));
    assert_eq!(cluster.seen(other, conn), [Seen::Reply(1, OK)]);
}

#[test]
fn a_server_that_stood_alone_grows_to_three() {
    let mut cluster = Cluster::new(1);
    assert_eq!(cluster.summary(1).mode, Mode::Standalone);
    let (conn, _) = cluster.connect(1, None);
    cluster.send(1, conn, create(1, "/a", PERSISTENT));
    cluster.add(2, &[1, 2, 3], false);
    cluster.add(3, &[1, 2, 3], false);
    let spec = |id: u8| (id, format!("host{id}:2888:3888;2181").parse().unwrap());
    cluster.kill(1);
    cluster.configure(1, |config| config.ensemble.servers = (1..=3).map(spec).collect());
    for id in 1..=3 {
        cluster.boot(id);
    }
    assert!(cluster.pass_until(5000, |cluster| (1..=3).all(|id| cluster.is_serving(id))));
    cluster.pass(500);
    assert_eq!(cluster.summary(1).mode, Mode::Leader);
    assert_eq!(cluster.summary(3).mode, Mode::Follower);
    assert_eq!(cluster.summary(3).znodes, 5);
}

fn reconfig(xid: i32, joining: Option<&str>, leaving: Option<&str>, config_id: i64) -> Vec<u8> {
    frame(xid, &Request::Reconfig(Reconfig { joining, leaving, new_members: None, config_id }))
}

/// Three members that let everybody change them.
fn open_cluster() -> Cluster {
    let mut cluster = Cluster::new(3);
    let open = |config: &mut ReplicaConfig| {
        config.policy.reconfig = true;
        config.policy.skip_acl = true;
    };
    for id in 1..=3 {
        cluster.configure(id, open);
        cluster.kill(id);
        cluster.boot(id);
        assert!(cluster.pass_until(2000, |cluster| (1..=3).all(|id| cluster.is_serving(id))));
    }
    cluster
}

#[test]
fn a_reconfig_adds_a_server_that_is_there_and_gives_it_a_vote() {
    let mut cluster = open_cluster();
    cluster.add(4, &[1, 2, 3, 4], false);
    cluster.boot(4);
    let (conn, _) = cluster.connect(2, None);
    cluster.send(2, conn, reconfig(1, Some("server.4=host4:2888:3888;2181"), None, -1));
    cluster.send(2, conn, reconfig(2, None, Some("1"), -1));
    assert!(cluster.pass_until(3000, |cluster| cluster.is_serving(4)));
    cluster.pass(2000);
    assert_eq!(cluster.seen(2, conn), [Seen::Reply(1, OK), Seen::Reply(2, OK)], "one waits for the other");
    assert_eq!(cluster.members(2).len(), 3);
}

#[test]
fn a_reconfig_removes_a_server_even_the_one_that_leads() {
    let mut cluster = open_cluster();
    let leader = cluster.leader();
    let other = if leader == 2 { 3 } else { 2 };
    let (conn, _) = cluster.connect(other, None);
    cluster.send(other, conn, reconfig(1, None, Some(&leader.to_string()), -1));
    cluster.pass(2000);
    assert_eq!(cluster.seen(other, conn), [Seen::Reply(1, OK)]);
    assert_eq!(cluster.members(other).len(), 2);
    assert!(cluster.members(other).iter().all(|(id, _)| *id != leader));
    cluster.kill(leader);
    cluster.send(other, conn, create(2, "/a", PERSISTENT));
    cluster.pass(100);
    assert_eq!(cluster.seen(other, conn), [Seen::Reply(2, OK)]);
}

#[test]
fn a_server_that_was_removed_is_not_added_again_by_the_lines_of_a_leader() {
    let mut cluster = open_cluster();
    for id in 1..=3 {
        cluster.configure(id, |config| {
            config.ensemble.servers.push((4, "host4:2888:3888;2181".parse().unwrap()));
        });
        cluster.kill(id);
        cluster.boot(id);
        assert!(cluster.pass_until(2000, |cluster| (1..=3).all(|id| cluster.is_serving(id))));
    }
    cluster.add(4, &[1, 2, 3, 4], false);
    cluster.boot(4);
    assert!(cluster.pass_until(3000, |cluster| cluster.is_serving(4)));
    let leader = cluster.leader();
    assert!(leader != 4 && cluster.members(leader).len() == 4, "it was blank when it was linked, and was added");
    let (conn, _) = cluster.connect(leader, None);
    cluster.send(leader, conn, reconfig(1, None, Some("4"), -1));
    cluster.pass(2000);
    assert_eq!(cluster.seen(leader, conn), [Seen::Reply(1, OK)]);
    assert_eq!(cluster.members(leader).len(), 3);
}

#[test]
fn a_reconfig_expects_an_observer_and_refuses_a_voter_that_is_not_there() {
    let mut cluster = open_cluster();
    let (conn, _) = cluster.connect(2, None);
    cluster.send(2, conn, reconfig(1, Some("server.9=host9:2888:3888:observer;2181"), None, -1));
    cluster.pass(200);
    assert_eq!(cluster.seen(2, conn), [Seen::Reply(1, OK)]);
    cluster.send(2, conn, reconfig(2, Some("server.8=host8:2888:3888;2181"), None, -1));
    let (other, _) = cluster.connect(1, None);
    cluster.send(1, other, reconfig(1, None, Some("3"), -1));
    assert_eq!(cluster.seen(1, other), [Seen::Reply(1, -14)]);
    for _ in 0..8 {
        cluster.pass(1000);
        cluster.send(2, conn, raw(-2, 11, &[]));
    }
    assert_eq!(cluster.seen(2, conn)[0], Seen::Reply(2, -13));
    cluster.seen(2, conn);
    cluster.send(2, conn, reconfig(3, None, Some("9"), 1));
    assert_eq!(cluster.seen(2, conn), [Seen::Reply(3, -103)]);
    cluster.add(9, &[], false);
    cluster.boot(9);
    assert!(cluster.pass_until(3000, |cluster| cluster.is_serving(9)));
    assert_eq!(cluster.summary(9).mode, Mode::Observer);
}

#[test]
fn a_reconfig_moves_leadership() {
    let mut cluster = open_cluster();
    let leader = cluster.leader();
    let heir = if leader == 2 { 3 } else { 2 };
    let (conn, _) = cluster.connect(leader, None);
    cluster.send(leader, conn, reconfig(1, Some(&format!("leader={heir}")), None, -1));
    cluster.pass(500);
    assert_eq!(cluster.seen(leader, conn), [Seen::Reply(1, OK)]);
    assert_eq!(cluster.leader(), heir);
}

#[test]
fn who_may_not_write_the_configuration_may_not_change_the_members() {
    let mut cluster = Cluster::new(3);
    for id in 1..=3 {
        cluster.configure(id, |config| config.policy.reconfig = true);
        cluster.kill(id);
        cluster.boot(id);
        cluster.pass(1000);
    }
    let (conn, _) = cluster.connect(2, None);
    cluster.send(2, conn, reconfig(1, None, Some("3"), -1));
    assert_eq!(cluster.seen(2, conn), [Seen::Reply(1, -102)]);
}

#[test]
fn a_sync_that_waits_is_answered_before_the_write_behind_it() {
    let mut cluster = Cluster::new(3);
    let (conn, _) = cluster.connect(2, None);
    // The question for the read point is lost and asked again later; the write goes again as soon as there is a link.
    cluster.cut(1, 2);
    cluster.send(2, conn, [sync(1), exists(2, "/a", false), create(3, "/a", PERSISTENT)].concat());
    cluster.heal();
    cluster.pass(1000);
    assert_eq!(cluster.seen(2, conn), [Seen::Reply(1, OK), Seen::Reply(2, -101), Seen::Reply(3, OK)]);
}

#[test]
fn reads_go_on_without_a_leader_for_clients_that_can_do_without_writes() {
    let mut cluster = Cluster::new(3);
    cluster.configure(3, |config| config.ensemble.read_only_mode = true);
    cluster.kill(3);
    cluster.boot(3);
    cluster.pass(1000);
    let (writer, session) = cluster.connect(3, None);
    cluster.send(3, writer, create(1, "/a", PERSISTENT));
    cluster.kill(1);
    cluster.kill(2);
    cluster.pass(2000);
    assert!(cluster.is_closed(3, writer));
    assert_eq!(cluster.summary(3).mode, Mode::ReadOnly);
    let refused = cluster.dial(3, None);
    assert!(cluster.is_closed(3, refused));
    let of_ensemble = cluster.dial_as(3, Some(&session), true);
    assert!(cluster.is_closed(3, of_ensemble));
    let reader = cluster.dial_as(3, None, true);
    let (reader, welcome) = cluster.welcome(3, reader);
    assert_eq!(welcome.read_only, Some(true));
    cluster.send(3, reader, [get(1, "/a", false), set(2, "/a", "x"), sync(3), raw(-2, 11, &[])].concat());
    let expected = [Seen::Reply(1, OK), Seen::Reply(2, -119), Seen::Reply(3, -119), Seen::Reply(-2, OK)];
    assert_eq!(cluster.seen(3, reader), expected);
    cluster.boot(2);
    assert!(cluster.pass_until(3000, |cluster| cluster.is_serving(3)));
    assert!(cluster.is_closed(3, reader), "it has to come again, for a session of the ensemble");
}

#[test]
fn linearizable_reads_see_what_was_acknowledged_elsewhere() {
    let mut cluster = Cluster::new(3);
    for id in 1..=3 {
        cluster.configure(id, |config| config.ensemble.linearizable_reads = true);
        cluster.kill(id);
        cluster.boot(id);
        cluster.pass(1000);
    }
    let (writer, _) = cluster.connect(2, None);
    let (reader, _) = cluster.connect(3, None);
    cluster.send(2, writer, create(1, "/a", PERSISTENT));
    cluster.send(3, reader, [exists(1, "/a", false), create(2, "/b", PERSISTENT), exists(3, "/b", false)].concat());
    assert_eq!(cluster.seen(3, reader), [Seen::Reply(1, OK), Seen::Reply(2, OK), Seen::Reply(3, OK)]);
    cluster.isolate(3);
    cluster.send(3, reader, exists(4, "/a", false));
    cluster.pass(500);
    assert_eq!(cluster.seen(3, reader), [], "nobody says that it is up to date");
}

#[test]
fn a_leader_without_room_for_its_log_hands_leadership_over() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader();
    let (conn, _) = cluster.connect(if leader == 2 { 3 } else { 2 }, None);
    cluster.tell(leader, Event::LogFull);
    cluster.pass(100);
    assert_ne!(cluster.leader(), leader);
    assert!(!cluster.is_serving(leader), "its clients find a member that has room");
    let id = if leader == 2 { 3 } else { 2 };
    cluster.send(id, conn, create(1, "/a", PERSISTENT));
    assert_eq!(cluster.seen(id, conn), [Seen::Reply(1, OK)]);
    // It does not ask for leadership either, even if nobody else is left to lead.
    let others: Vec<u8> = (1..=3).filter(|id| *id != leader).collect();
    cluster.kill(others[0]);
    cluster.pass(3000);
    assert_eq!(cluster.leader(), others[1]);
}

#[test]
fn one_survivor_starts_anew_with_everything_it_has() {
    let mut cluster = Cluster::new(3);
    let (conn, session) = cluster.connect(3, None);
    cluster.send(3, conn, [create(1, "/a", PERSISTENT), create(2, "/e", EPHEMERAL)].concat());
    cluster.kill(1);
    cluster.kill(2);
    cluster.kill(3);
    cluster.rescue(3);
    cluster.boot(3);
    assert!(cluster.pass_until(1000, |cluster| cluster.is_serving(3)));
    let (conn, again) = cluster.connect(3, Some(&session));
    assert_eq!(again.session, session.session);
    cluster.send(3, conn, [exists(3, "/a", false), exists(4, "/e", false), create(5, "/b", PERSISTENT)].concat());
    assert_eq!(cluster.seen(3, conn), [Seen::Reply(3, OK), Seen::Reply(4, OK), Seen::Reply(5, OK)]);
    assert_eq!(cluster.members(3), [(3, MemberId(3000))]);
    cluster.kill(3);
    cluster.boot(3);
    assert!(cluster.pass_until(1000, |cluster| cluster.is_serving(3)));
    let (conn, _) = cluster.connect(3, None);
    cluster.send(3, conn, exists(1, "/b", false));
    assert_eq!(cluster.seen(3, conn), [Seen::Reply(1, OK)]);
}

#[test]
fn a_leader_that_stood_still_serves_nobody_before_it_knows_that_it_still_leads() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader();
    let (conn, _) = cluster.connect(leader, None);
    cluster.cut_silently(leader);
    cluster.pass_for_others(leader, 2000);
    // Nothing that the others have sent meanwhile has arrived yet.
    cluster.tell(leader, Event::Tick);
    assert!(!cluster.is_serving(leader));
    assert!(cluster.is_closed(leader, conn));
    cluster.heal();
    assert!(cluster.pass_until(2000, |cluster| cluster.is_serving(leader)));
    assert_ne!(cluster.leader(), leader);
}

#[test]
fn clients_of_a_server_that_was_taken_out_go_elsewhere_at_once() {
    let mut cluster = open_cluster();
    let leader = cluster.leader();
    let others: Vec<u8> = (1..=3).filter(|id| *id != leader).collect();
    let (asker, _) = cluster.connect(others[0], None);
    let (conn, _) = cluster.connect(others[1], None);
    cluster.send(others[0], asker, reconfig(1, None, Some(&others[1].to_string()), -1));
    cluster.pass(200);
    assert_eq!(cluster.seen(others[0], asker), [Seen::Reply(1, OK)]);
    cluster.send(others[1], conn, create(1, "/a", PERSISTENT));
    assert!(cluster.is_closed(others[1], conn));
}

#[test]
fn an_ensemble_of_one_shows_itself_and_takes_an_observer() {
    let mut cluster = Cluster::new(1);
    let open = |config: &mut ReplicaConfig| {
        config.policy.reconfig = true;
        config.policy.skip_acl = true;
    };
    cluster.configure(1, open);
    cluster.kill(1);
    cluster.boot(1);
    cluster.pass(100);
    let (conn, _) = cluster.connect(1, None);
    cluster.send(1, conn, get(1, "/zookeeper/config", false));
    assert_eq!(cluster.data(1, conn), b"server.1=host1:2888:3888:participant;0.0.0.0:2181\nversion=1");
    cluster.add(2, &[1, 2], false);
    cluster.boot(2);
    cluster.send(1, conn, reconfig(2, Some("server.2=host2:2888:3888:observer;2181"), None, -1));
    cluster.pass(500);
    assert_eq!(cluster.seen(1, conn), [Seen::Reply(2, OK)]);
    assert!(cluster.pass_until(1000, |cluster| cluster.is_serving(2)));
    assert_eq!(cluster.summary(2).mode, Mode::Observer);
}

#[test]
fn a_reconfig_behind_a_sync_that_waits_is_answered_in_its_turn() {
    for (mut cluster, answer) in [(Cluster::new(3), -123), (open_cluster(), OK)] {
        let leader = cluster.leader();
        let id = if leader == 2 { 3 } else { 2 };
        let (conn, _) = cluster.connect(id, None);
        let joining = Some("server.9=host9:2888:3888:observer;2181");
        cluster.send(id, conn, [sync(1), reconfig(2, joining, None, -1), get(3, "/", false)].concat());
        cluster.pass(500);
        assert_eq!(cluster.seen(id, conn), [Seen::Reply(1, OK), Seen::Reply(2, answer), Seen::Reply(3, OK)]);
    }
}

#[test]
fn a_server_that_lost_its_disk_gets_the_part_that_was_asked_for_last() {
    let mut cluster = open_cluster();
    let leader = cluster.leader();
    let id = if leader == 3 { 2 } else { 3 };
    let (conn, _) = cluster.connect(leader, None);
    let joining = format!("server.{id}=host{id}:2888:3888:observer;2181");
    cluster.send(leader, conn, reconfig(1, Some(&joining), None, -1));
    cluster.pass(500);
    assert_eq!(cluster.seen(leader, conn), [Seen::Reply(1, OK)]);
    // Every configuration file still says that it votes.
    cluster.wipe(id);
    cluster.boot(id);
    assert!(cluster.pass_until(3000, |cluster| cluster.is_serving(id)));
    cluster.pass(1000);
    assert_eq!(cluster.summary(id).mode, Mode::Observer);
}

#[test]
fn a_server_that_joined_by_request_may_lose_its_disk_too() {
    let mut cluster = open_cluster();
    cluster.add(4, &[1, 2, 3, 4], false);
    cluster.boot(4);
    let (conn, _) = cluster.connect(2, None);
    cluster.send(2, conn, reconfig(1, Some("server.4=host4:2888:3888;2181"), None, -1));
    cluster.pass(2000);
    assert_eq!(cluster.seen(2, conn), [Seen::Reply(1, OK)]);
    cluster.wipe(4);
    cluster.boot(4);
    assert!(cluster.pass_until(3000, |cluster| cluster.is_serving(4)), "no configuration file but its own lists it");
    cluster.pass(1000);
    assert_eq!(cluster.summary(4).mode, Mode::Follower);
}

#[test]
fn a_reconfig_that_leaves_most_of_those_that_vote_out_of_reach_is_given_up() {
    let mut cluster = open_cluster();
    let leader = cluster.leader();
    let others: Vec<u8> = (1..=3).filter(|id| *id != leader).collect();
    cluster.kill(others[1]);
    let (conn, _) = cluster.connect(leader, None);
    let (writer, _) = cluster.connect(leader, None);
    cluster.send(leader, conn, reconfig(1, None, Some(&others[0].to_string()), -1));
    for round in 1..8 {
        cluster.pass(1000);
        cluster.send(leader, writer, create(round, &format!("/{round}"), PERSISTENT));
        assert_eq!(cluster.seen(leader, writer), [Seen::Reply(round, OK)]);
        cluster.send(leader, conn, raw(-2, 11, &[]));
    }
    assert_eq!(cluster.seen(leader, conn)[0], Seen::Reply(1, -13));
    assert_eq!(cluster.members(leader).len(), 3);
}

#[test]
fn a_server_that_led_is_taken_out_wiped_and_taken_in_again_at_once() {
    let mut cluster = open_cluster();
    for round in 0..6 {
        let leader = cluster.leader();
        let asks = if leader == 2 { 3 } else { 2 };
        let (conn, _) = cluster.connect(asks, None);
        cluster.send(asks, conn, reconfig(1, None, Some(&leader.to_string()), -1));
        assert!(cluster.pass_until(1000, |cluster| cluster.members(asks).len() == 2), "round {round}");
        cluster.pass(20);
        cluster.wipe(leader);
        let joining = format!("server.{leader}=host{leader}:2888:3888;2181");
        cluster.send(asks, conn, reconfig(2, Some(&joining), None, -1));
        cluster.boot(leader);
        cluster.pass(1000);
        assert_eq!(cluster.seen(asks, conn), [Seen::Reply(1, OK), Seen::Reply(2, OK)], "round {round}");
    }
}

#[test]
fn what_comes_on_an_old_connection_after_its_client_has_come_back_counts_no_more() {
    let mut cluster = Cluster::new(3);
    let (old, session) = cluster.connect(2, None);
    // The return has to wait for the log.
    cluster.isolate(2);
    let new = cluster.dial(2, Some(&session));
    cluster.send(2, old, create(1, "/a", PERSISTENT));
    cluster.heal();
    cluster.pass(500);
    assert!(cluster.is_closed(2, old));
    let (new, again) = cluster.welcome(2, new);
    assert_eq!(again.session, session.session);
    cluster.send(2, new, exists(1, "/a", false));
    assert_eq!(cluster.seen(2, new), [Seen::Reply(1, -101)]);
}
