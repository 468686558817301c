//! Each fault, for each recipe, against each server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use grange_client::recipes::{LockError, Loss};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::proxy::{Moment, Proxy, op};
use crate::recipe::{Place, RECIPES, Recipe, for_each_recipe};
use crate::server::{Fixture, Kind, LONG_SESSION, PATIENCE, SHORT_SESSION, TestServer, on_each_server, open};

on_each_server!(
    a_create_whose_reply_is_lost_stands_in_line_once,
    a_waiter_that_is_dropped_leaves_the_line,
    a_create_that_was_under_way_when_it_was_cancelled_leaves_nothing,
    a_session_that_ends_ends_the_wait,
    a_holder_knows_of_its_loss_before_the_next_one_holds,
    a_holder_survives_a_broken_connection,
    a_znode_that_somebody_deletes_is_lost,
    the_one_before_may_go_while_nobody_is_connected,
    holders_never_overlap,
    waiting_ends_in_time,
);

async fn a_create_whose_reply_is_lost_stands_in_line_once(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let watcher = fixture.client().await;
        let (client, proxy) = fixture.proxied(LONG_SESSION).await;
        let mut sprung = 0;
        for moment in [Moment::BeforeRequest, Moment::BeforeReply] {
            for operations in [op::CREATE, op::MULTI] {
                let part = if operations == op::CREATE { "lock__" } else { place.path.as_str() };
                proxy.break_at(moment, operations, part);
                let held = place.acquire(&client, "a").await.unwrap();
                if operations == op::CREATE || place.recipe == Recipe::Semaphore {
                    sprung += 1;
                    proxy.sprung(sprung).await;
                }
                let contenders = place.contenders(&watcher).await;
                assert_eq!(contenders.len(), 1, "{:?} {moment:?}: {contenders:?}", place.recipe);
                assert_eq!(contenders[0].token, held.token().number());
                assert_eq!(contenders[0].session, client.session_id().0);
                assert!(held.path().ends_with(&contenders[0].name));
                held.release().await.unwrap();
                place.stand(&watcher, &[]).await;
            }
        }
    })
    .await;
}

async fn a_waiter_that_is_dropped_leaves_the_line(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let client = fixture.client().await;
        let held = place.acquire(&client, "a").await.unwrap();
        let waiting = tokio::spawn({
            let (place, client) = (place.clone(), client.clone());
            async move { place.acquire(&client, "b").await }
        });
        place.stand(&client, &["a*", "b"]).await;
        waiting.abort();
        place.stand(&client, &["a*"]).await;
        drop(held);
        place.stand(&client, &[]).await;
    })
    .await;
}

async fn a_create_that_was_under_way_when_it_was_cancelled_leaves_nothing(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let watcher = fixture.client().await;
        drop(place.acquire(&watcher, "made the znode").await.unwrap());
        place.stand(&watcher, &[]).await;
        let (client, proxy) = fixture.proxied(LONG_SESSION).await;
        // One is dropped as soon as its znode was made and the reply lost, one with its request on the way.
        proxy.break_at(Moment::BeforeReply, op::CREATE, "lock__");
        tokio::select! {
            biased;
            () = proxy.sprung(1) => {}
            acquired = place.acquire(&client, "a") => panic!("{acquired:?}"),
        }
        proxy.hold();
        assert!(timeout(Duration::from_millis(50), place.acquire(&client, "b")).await.is_err());
        proxy.flow();
        // An acquisition that stands behind the remains would never end.
        timeout(PATIENCE, place.acquire(&client, "c")).await.unwrap().unwrap().release().await.unwrap();
        place.stand(&watcher, &[]).await;
    })
    .await;
}

async fn a_session_that_ends_ends_the_wait(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let holder = fixture.client().await;
        let _held = place.acquire(&holder, "a").await.unwrap();
        let (client, proxy) = fixture.proxied(SHORT_SESSION).await;
        let (waited, ()) = tokio::join!(place.acquire(&client, "b"), async {
            place.stand(&holder, &["a*", "b"]).await;
            proxy.refuse();
        });
        let error = waited.unwrap_err();
        assert!(error.is_session_end(), "{error:?}");
        place.stand(&holder, &["a*"]).await;
    })
    .await;
}

async fn a_holder_knows_of_its_loss_before_the_next_one_holds(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let (client, proxy) = fixture.proxied(SHORT_SESSION).await;
        let held = place.acquire(&client, "a").await.unwrap();
        let other = fixture.client().await;
        let next = tokio::spawn({
            let (place, other) = (place.clone(), other.clone());
            async move { place.acquire(&other, "b").await }
        });
        place.stand(&other, &["a*", "b"]).await;
        proxy.hold();
        let loss = held.lost().await;
        assert_eq!(loss, Loss::Unconfirmed);
        assert_eq!(held.loss(), Some(loss));
        assert!(!next.is_finished(), "{:?}: two hold it", place.recipe);
        let next = timeout(PATIENCE, next).await.expect("the session of a silent holder ends").unwrap().unwrap();
        assert!(next.token() > held.token());
    })
    .await;
}

async fn a_holder_survives_a_broken_connection(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let (client, proxy) = fixture.proxied(Duration::from_secs(4)).await;
        let held = place.acquire(&client, "a").await.unwrap();
        for _ in 0..5 {
            proxy.cut();
            // Longer than three fifths of the timeout in all.
            tokio::select! {
                loss = held.lost() => panic!("{:?}: {loss:?}", place.recipe),
                () = tokio::time::sleep(Duration::from_millis(600)) => {}
            }
        }
        held.release().await.unwrap();
        place.stand(&client, &[]).await;
    })
    .await;
}

async fn a_znode_that_somebody_deletes_is_lost(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let (client, somebody) = (fixture.client().await, fixture.client().await);
        let held = place.acquire(&client, "a").await.unwrap();
        somebody.delete(&held.path(), None).await.unwrap();
        assert_eq!(timeout(PATIENCE, held.lost()).await.unwrap(), Loss::Deleted);
        held.release().await.unwrap();

        let held = place.acquire(&client, "b").await.unwrap();
        let (waited, ()) = tokio::join!(place.acquire(&client, "c"), async {
            place.stand(&somebody, &["b*", "c"]).await;
            let name = place.contenders(&somebody).await.remove(1).name;
            let line = if place.recipe == Recipe::Semaphore { "-__lock__" } else { "" };
            somebody.delete(&format!("{}{line}/{name}", place.path), None).await.unwrap();
            held.release().await.unwrap();
        });
        assert!(matches!(waited, Err(LockError::Removed(_))), "{waited:?}");
    })
    .await;
}

async fn the_one_before_may_go_while_nobody_is_connected(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let other = fixture.client().await;
        let held = place.acquire(&other, "a").await.unwrap();
        let (client, proxy) = fixture.proxied(LONG_SESSION).await;
        let (waited, ()) = tokio::join!(timeout(PATIENCE, place.acquire(&client, "b")), async {
            place.stand(&other, &["a*", "b"]).await;
            proxy.refuse();
            held.release().await.unwrap();
            proxy.flow();
        });
        waited.expect("the end is not missed").unwrap().release().await.unwrap();
    })
    .await;
}

/// Many contenders in few sessions, whose connections break all the time.
async fn holders_never_overlap(fixture: Fixture) {
    const SESSIONS: usize = 4;
    const CONTENDERS: usize = 8;
    const TURNS: usize = 4;
    for_each_recipe(fixture, |fixture, place| async move {
        let (holders, turns) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let mut contenders = JoinSet::new();
        let mut proxies = Vec::new();
        for _ in 0..SESSIONS {
            let (client, proxy) = fixture.proxied(LONG_SESSION).await;
            proxies.push(proxy);
            for _ in 0..CONTENDERS / SESSIONS {
                let (place, client) = (place.clone(), client.clone());
                let (holders, turns) = (Arc::clone(&holders), Arc::clone(&turns));
                contenders.spawn(async move {
                    for _ in 0..TURNS {
                        let held = place.acquire(&client, "").await.unwrap();
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold {:?}", place.recipe);
                        turns.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        holders.fetch_sub(1, Ordering::SeqCst);
                        held.release().await.unwrap();
                    }
                });
            }
        }
        let all_done = async {
            while let Some(done) = contenders.join_next().await {
                done.unwrap();
            }
        };
        let faults = async {
            for proxy in proxies.iter().cycle() {
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        tokio::select! {
            done = timeout(PATIENCE, all_done) => done.expect("somebody waits for ever"),
            () = faults => {}
        }
        assert_eq!(usize::try_from(turns.load(Ordering::SeqCst)).unwrap(), CONTENDERS * TURNS);
    })
    .await;
}

async fn waiting_ends_in_time(fixture: Fixture) {
    for_each_recipe(fixture, |fixture, place| async move {
        let client = fixture.client().await;
        let held = place.try_acquire(&client, "a").await.unwrap().expect("it is free");
        assert!(place.try_acquire(&client, "b").await.unwrap().is_none());
        assert_eq!(place.ids(&client).await, ["a*"], "who did not get it has left before that was said");
        let error = place.acquire_within(&client, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, LockError::Timeout(_)), "{error:?}");
        place.stand(&client, &["a*"]).await;
        held.release().await.unwrap();
        drop(place.try_acquire(&client, "c").await.unwrap().expect("it is free again"));
    })
    .await;
}

/// A server that is started again: holders hold on, and those who wait still do.
async fn restart(kind: Kind) {
    let Some(mut server) = TestServer::start(kind) else { return };
    let proxy = Proxy::start(server.address()).await;
    let (client, other) = (open(proxy.address(), LONG_SESSION).await, open(proxy.address(), LONG_SESSION).await);
    let mut held = Vec::new();
    let mut waiting = JoinSet::new();
    for recipe in RECIPES {
        let place = Place { recipe, path: format!("/{recipe:?}").parse().unwrap() };
        held.push((place.clone(), place.acquire(&client, "a").await.unwrap()));
        let other = other.clone();
        waiting.spawn(async move { place.acquire(&other, "b").await });
    }
    for (place, _) in &held {
        place.stand(&client, &["a*", "b"]).await;
    }
    server.restart();
    proxy.redirect(server.address());
    proxy.cut();
    for (place, held) in held {
        place.stand(&client, &["a*", "b"]).await;
        assert_eq!(held.loss(), None);
        held.release().await.unwrap();
    }
    while let Some(next) = timeout(PATIENCE, waiting.join_next()).await.unwrap() {
        drop(next.unwrap().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grange_may_be_started_again() {
    restart(Kind::Grange).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_may_be_started_again() {
    restart(Kind::Apache).await;
}
