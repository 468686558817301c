//! Counters, barriers, parties and leases, with what can happen to a connection and to a session.

use std::time::Duration;

use grange_client::recipes::{
    Barrier, Change, Counter, CounterLayout, DoubleBarrier, Lease, LeaseState, Number, Party, PartyLayout, RecipeError,
};
use grange_client::{Acls, Client, CreateMode, ZnodePath};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::proxy::{Moment, op};
use crate::server::{Fixture, LONG_SESSION, PATIENCE, SHORT_SESSION, eventually, on_each_server};

on_each_server!(
    a_counter_counts_each_change_once,
    a_counter_in_curators_form,
    a_counter_refuses_what_is_no_number,
    a_barrier_holds_until_it_is_taken_down,
    a_double_barrier_lets_all_in_and_out_together,
    a_double_barrier_forgets_a_group_that_was_killed,
    a_party_knows_who_is_there,
    a_lease_ends_by_the_servers_clock,
);

fn path(fixture: &Fixture) -> ZnodePath {
    fixture.path.parse().unwrap()
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

fn add(number: i64) -> Change {
    Change::Add(Number::Whole(number))
}

async fn set(client: &Client, path: &str, data: &[u8]) {
    client.create(path, data, &CreateMode::Persistent.with_acls(Acls::anyone_all())).await.unwrap();
}

async fn a_counter_counts_each_change_once(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    let counter = Counter::new(client, path(&fixture), CounterLayout::Text);
    assert_eq!(counter.value().await.unwrap(), Number::Whole(0));
    assert_eq!(counter.change(add(2)).await.unwrap().after, Number::Whole(2));
    for (count, moment) in [(1, Moment::BeforeReply), (2, Moment::BeforeRequest)] {
        proxy.break_at(moment, op::MULTI, &fixture.path);
        let changed = counter.change(add(1)).await.unwrap();
        proxy.sprung(count).await;
        assert_eq!(changed.after, Number::Whole(2 + i64::from(count)));
    }
    let mut adders = JoinSet::new();
    for _ in 0..4 {
        let counter = Counter::new(fixture.client().await, path(&fixture), CounterLayout::Text);
        adders.spawn(async move {
            for _ in 0..25 {
                counter.change(add(1)).await.unwrap();
            }
        });
    }
    timeout(PATIENCE, adders.join_all()).await.unwrap();
    assert_eq!(counter.value().await.unwrap(), Number::Whole(104));
    counter.change(Change::Set(Number::Fraction(0.5))).await.unwrap();
    assert_eq!(counter.change(add(1)).await.unwrap().after, Number::Fraction(1.5));
}

async fn a_counter_in_curators_form(fixture: Fixture) {
    let client = fixture.client().await;
    let counter = Counter::new(client.clone(), path(&fixture), CounterLayout::Curator);
    counter.change(add(258)).await.unwrap();
    assert_eq!(client.get_data(&fixture.path).await.unwrap().0, [0, 0, 1, 2]);
    assert!(matches!(counter.change(add(i64::from(i32::MAX))).await, Err(RecipeError::Number { .. })));
}

async fn a_counter_refuses_what_is_no_number(fixture: Fixture) {
    let client = fixture.client().await;
    set(&client, &fixture.path, b"many").await;
    let counter = Counter::new(client.clone(), path(&fixture), CounterLayout::Text);
    assert!(matches!(counter.value().await, Err(RecipeError::Number { .. })));
    assert!(matches!(counter.change(add(1)).await, Err(RecipeError::Number { .. })));
    assert_eq!(client.get_data(&fixture.path).await.unwrap().0, b"many");
}

async fn a_barrier_holds_until_it_is_taken_down(fixture: Fixture) {
    let client = fixture.client().await;
    let (short, proxy) = fixture.proxied(SHORT_SESSION).await;
    let (barrier, waiter) = (Barrier::new(client, path(&fixture)), Barrier::new(short, path(&fixture)));
    assert!(waiter.wait_until(soon()).await.unwrap(), "there is none yet");
    assert!(!barrier.remove().await.unwrap());
    barrier.create().await.unwrap();
    barrier.create().await.unwrap();
    assert!(!waiter.wait_until(Some(Instant::now() + Duration::from_millis(20))).await.unwrap());
    proxy.break_at(Moment::BeforeReply, op::DELETE, &fixture.path);
    let (down, removed) = tokio::join!(waiter.wait_until(soon()), barrier.remove());
    assert!(down.unwrap() && removed.unwrap());
    assert!(waiter.remove().await.is_ok_and(|removed| removed), "its reply was lost, and it may have been this one");
    barrier.create().await.unwrap();
    let (down, ()) = tokio::join!(waiter.wait_until(soon()), async { proxy.refuse() });
    assert!(down.unwrap_err().is_session_end());
}

async fn a_double_barrier_lets_all_in_and_out_together(fixture: Fixture) {
    let (first, proxy) = fixture.proxied(LONG_SESSION).await;
    let second = fixture.client().await;
    let mut members =
        [(first, "a"), (second, "b")].map(|(client, id)| DoubleBarrier::new(client, path(&fixture), 2, id));
    let [one, two] = &mut members;
    assert!(!one.enter_until(Some(Instant::now() + Duration::from_millis(100))).await.unwrap(), "it is alone");
    // Twice: what is left of the first time does not let anybody in.
    for round in 1..=2 {
        proxy.break_at(Moment::BeforeReply, op::CREATE, &fixture.path);
        let (in_one, in_two) = tokio::join!(one.enter_until(soon()), two.enter_until(soon()));
        assert!(in_one.unwrap() && in_two.unwrap());
        proxy.sprung(round).await;
        let leaving = async {
            let mut one_leaves = std::pin::pin!(one.leave());
            let early = timeout(Duration::from_millis(100), one_leaves.as_mut()).await;
            assert!(early.is_err(), "the other one is still in");
            let (one_left, two_left) = tokio::join!(one_leaves, two.leave());
            one_left.and(two_left)
        };
        timeout(PATIENCE, leaving).await.unwrap().unwrap();
    }
}

async fn a_double_barrier_forgets_a_group_that_was_killed(fixture: Fixture) {
    let client = fixture.client().await;
    set(&client, &fixture.path, b"").await;
    set(&client, &format!("{}/ready", fixture.path), b"").await;
    let mut member = DoubleBarrier::new(client.clone(), path(&fixture), 2, "a");
    assert!(!member.enter_until(Some(Instant::now() + Duration::from_millis(100))).await.unwrap());
    let mut other = DoubleBarrier::new(client, path(&fixture), 2, "b");
    let (one, two) = tokio::join!(member.enter_until(soon()), other.enter_until(soon()));
    assert!(one.unwrap() && two.unwrap());
}

async fn a_party_knows_who_is_there(fixture: Fixture) {
    let watcher = fixture.client().await;
    for layout in [PartyLayout::Data, PartyLayout::Name] {
        let see = async || {
            let mut members = Party::new(watcher.clone(), path(&fixture), layout, "").members().await.unwrap();
            members.sort();
            members
        };
        let (short, proxy) = fixture.proxied(SHORT_SESSION).await;
        let staying = Party::new(watcher.clone(), path(&fixture), layout, "staying");
        let dying = Party::new(short, path(&fixture), layout, "dy-ing");
        proxy.break_at(Moment::BeforeReply, op::CREATE, &fixture.path);
        staying.join().await.unwrap();
        dying.join().await.unwrap();
        proxy.sprung(1).await;
        assert_eq!(see().await, ["dy-ing", "staying"]);
        proxy.refuse();
        eventually("a session that ended is out", async || see().await == ["staying"]).await;
        assert!(staying.leave().await.unwrap() && !staying.leave().await.unwrap());
    }
}

async fn a_lease_ends_by_the_servers_clock(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(SHORT_SESSION).await;
    let one = Lease::open(client, path(&fixture), "one").await.unwrap();
    let two = Lease::open(fixture.client().await, path(&fixture), "two").await.unwrap();
    proxy.break_at(Moment::BeforeReply, op::MULTI, &fixture.path);
    let long = Duration::from_secs(60);
    assert_eq!(one.obtain(long).await.unwrap(), LeaseState::Ours(long));
    proxy.sprung(1).await;
    assert!(matches!(two.obtain(long).await.unwrap(), LeaseState::Theirs { holder, .. } if holder == "one"));
    assert!(!two.release().await.unwrap());
    assert!(one.release().await.unwrap());
    assert_eq!(two.state().await.unwrap(), LeaseState::Free);
    // The holder's session ends, and the lease lasts its time.
    let brief = Duration::from_secs(2);
    assert_eq!(one.obtain(brief).await.unwrap(), LeaseState::Ours(brief));
    proxy.refuse();
    eventually("it ends", async || {
        let state = two.obtain(long).await.unwrap();
        matches!(state, LeaseState::Ours(_))
    })
    .await;
}
