//! Queues, with everything that can happen to a connection and to a session.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use grange_client::recipes::{Item, LockingQueue, Priority, Queue, RecipeError};
use grange_client::{Client, ZnodePath};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::proxy::{Moment, Proxy, op};
use crate::server::{
    Fixture, Kind, LONG_SESSION, PATIENCE, SHORT_SESSION, TestServer, eventually, on_each_server, open,
};

on_each_server!(
    items_come_by_priority_and_age,
    a_put_whose_reply_was_lost_is_made_once,
    a_put_that_was_given_up_does_not_spoil_the_next_one,
    an_item_whose_taking_lost_its_reply_is_taken_once,
    an_item_whose_end_lost_its_reply_is_done_once,
    an_item_comes_back_when_it_is_dropped_or_its_session_ends,
    a_lock_that_somebody_deletes_is_noticed,
    a_failed_item_counts_and_moves_aside,
    a_waiting_taker_gets_what_comes_and_ends_with_its_session,
    a_reconnect_misses_nothing,
    many_takers_share_the_items_and_none_is_taken_twice,
    a_server_without_recursive_watches_does_too,
    a_plain_queue_gives_each_item_once,
);

async fn queue(client: &Client, fixture: &Fixture) -> LockingQueue {
    LockingQueue::open(client.clone(), path(fixture)).await.unwrap()
}

fn path(fixture: &Fixture) -> ZnodePath {
    fixture.path.parse().unwrap()
}

fn text(item: &Item) -> String {
    String::from_utf8(item.data().to_vec()).unwrap()
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// Takes and finishes all items; returns them in the order they came.
async fn drain(queue: &LockingQueue) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(item) = queue.take().await.unwrap() {
        found.push(text(&item));
        item.consume().await.unwrap();
    }
    found
}

async fn items_come_by_priority_and_age(fixture: Fixture) {
    let client = fixture.client().await;
    let queue = queue(&client, &fixture).await;
    assert!(queue.take().await.unwrap().is_none());
    queue.put_all(&["late 1", "late 2"], Priority::default()).await.unwrap();
    queue.put(b"first", Priority::new(7).unwrap()).await.unwrap();
    assert_eq!((queue.len().await.unwrap(), queue.taken_count().await.unwrap()), (3, 0));
    let found = drain(&queue).await;
    assert_eq!(found[0], "first");
    // Those of one priority may overtake each other.
    assert_eq!(found[1..].iter().map(String::as_str).collect::<HashSet<_>>(), HashSet::from(["late 1", "late 2"]));
    assert!(queue.is_empty().await.unwrap());
    let too_many = vec![b""; 1001];
    assert!(matches!(queue.put_all(&too_many, Priority::default()).await, Err(RecipeError::TooLarge { .. })));
}

async fn a_put_whose_reply_was_lost_is_made_once(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    let queue = queue(&client, &fixture).await;
    for (count, moment) in [(1, Moment::BeforeReply), (2, Moment::BeforeRequest)] {
        proxy.break_at(moment, op::MULTI, "/entries/entry-");
        queue.put_all(&["a", "b"], Priority::default()).await.unwrap();
        proxy.sprung(count).await;
    }
    queue.put(b"c", Priority::default()).await.unwrap();
    let mut found = drain(&queue).await;
    found.sort();
    assert_eq!(found, ["a", "a", "b", "b", "c"]);
}

async fn a_put_that_was_given_up_does_not_spoil_the_next_one(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    let queue = queue(&client, &fixture).await;
    proxy.hold();
    let given_up = timeout(Duration::from_millis(50), queue.put(b"a", Priority::default())).await;
    assert!(given_up.is_err());
    proxy.flow();
    queue.put(b"b", Priority::default()).await.unwrap();
    let mut found = drain(&queue).await;
    found.sort();
    assert_eq!(found, ["a", "b"], "the first one was on its way");
}

async fn an_item_whose_taking_lost_its_reply_is_taken_once(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    let queue = queue(&client, &fixture).await;
    for (count, moment) in [(1, Moment::BeforeReply), (2, Moment::BeforeRequest)] {
        queue.put(b"a", Priority::default()).await.unwrap();
        proxy.break_at(moment, op::MULTI, "/taken/entry-");
        let item = queue.take_until(soon()).await.unwrap().unwrap();
        proxy.sprung(count).await;
        assert_eq!(text(&item), "a");
        assert_eq!(queue.taken_count().await.unwrap(), 1);
        item.consume().await.unwrap();
        assert!(queue.is_empty().await.unwrap());
    }
}

async fn an_item_whose_end_lost_its_reply_is_done_once(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    let queue = queue(&client, &fixture).await;
    for (count, moment) in [(1, Moment::BeforeReply), (2, Moment::BeforeRequest)] {
        queue.put(b"a", Priority::default()).await.unwrap();
        let item = queue.take_until(soon()).await.unwrap().unwrap();
        proxy.break_at(moment, op::MULTI, "/taken/entry-");
        item.consume().await.unwrap();
        proxy.sprung(count).await;
        assert_eq!((queue.len().await.unwrap(), queue.taken_count().await.unwrap()), (0, 0));
    }
}

async fn an_item_comes_back_when_it_is_dropped_or_its_session_ends(fixture: Fixture) {
    let client = fixture.client().await;
    let other = queue(&client, &fixture).await;
    other.put(b"a", Priority::default()).await.unwrap();
    let (short, proxy) = fixture.proxied(SHORT_SESSION).await;
    let queue = queue(&short, &fixture).await;
    drop(queue.take().await.unwrap().unwrap());
    let item = queue.take_until(soon()).await.unwrap().unwrap();
    assert_eq!(item.given_back(), 0);
    assert!(other.take().await.unwrap().is_none());
    proxy.refuse();
    timeout(PATIENCE, item.lost()).await.unwrap();
    let again = other.take_until(soon()).await.unwrap().unwrap();
    assert_eq!(text(&again), "a");
    let error = item.consume().await.unwrap_err();
    assert!(error.is_session_end(), "{error}");
    again.consume().await.unwrap();
}

async fn a_lock_that_somebody_deletes_is_noticed(fixture: Fixture) {
    let client = fixture.client().await;
    let queue = queue(&client, &fixture).await;
    queue.put(b"a", Priority::default()).await.unwrap();
    let item = queue.take().await.unwrap().unwrap();
    client.delete(&format!("{}/taken/{}", fixture.path, item.name()), None).await.unwrap();
    timeout(PATIENCE, item.lost()).await.unwrap();
    assert!(matches!(item.consume().await, Err(RecipeError::NotHeld { .. })));
    queue.take_until(soon()).await.unwrap().unwrap().consume().await.unwrap();
}

async fn a_failed_item_counts_and_moves_aside(fixture: Fixture) {
    let client = fixture.client().await;
    let queue = queue(&client, &fixture).await;
    queue.put(b"poison", Priority::default()).await.unwrap();
    for count in 0..2 {
        let item = queue.take_until(soon()).await.unwrap().unwrap();
        assert_eq!((item.given_back(), text(&item).as_str()), (count, "poison"));
        item.give_back().await.unwrap();
    }
    let aside = queue.sibling(format!("{}/failed", fixture.path).parse().unwrap()).await.unwrap();
    let item = queue.take_until(soon()).await.unwrap().unwrap();
    item.move_to(&aside, Priority::default()).await.unwrap();
    assert!(queue.is_empty().await.unwrap());
    assert_eq!(drain(&aside).await, ["poison"]);
}

async fn a_waiting_taker_gets_what_comes_and_ends_with_its_session(fixture: Fixture) {
    let client = fixture.client().await;
    let putter = queue(&client, &fixture).await;
    let (short, proxy) = fixture.proxied(SHORT_SESSION).await;
    let taker = queue(&short, &fixture).await;
    let (taken, ()) = tokio::join!(taker.take_until(soon()), async {
        putter.put(b"a", Priority::default()).await.unwrap();
    });
    taken.unwrap().unwrap().consume().await.unwrap();
    assert!(taker.take_until(Some(Instant::now() + Duration::from_millis(20))).await.unwrap().is_none());
    let (taken, ()) = tokio::join!(taker.take_until(soon()), async { proxy.refuse() });
    assert!(taken.unwrap_err().is_session_end());
}

async fn a_reconnect_misses_nothing(fixture: Fixture) {
    let client = fixture.client().await;
    let putter = queue(&client, &fixture).await;
    let (proxied, proxy) = fixture.proxied(LONG_SESSION).await;
    let taker = queue(&proxied, &fixture).await;
    putter.put(b"a", Priority::default()).await.unwrap();
    taker.take_until(soon()).await.unwrap().unwrap().consume().await.unwrap();
    proxy.refuse();
    putter.put(b"b", Priority::default()).await.unwrap();
    proxy.flow();
    let item = taker.take_until(soon()).await.unwrap().unwrap();
    assert_eq!(text(&item), "b");
    item.consume().await.unwrap();
}

async fn many_takers_share_the_items_and_none_is_taken_twice(fixture: Fixture) {
    let client = fixture.client().await;
    let mut queues = Vec::new();
    for _ in 0..4 {
        queues.push(queue(&fixture.client().await, &fixture).await);
    }
    share(queue(&client, &fixture).await, queues).await;
}

async fn a_server_without_recursive_watches_does_too(fixture: Fixture) {
    let client = fixture.client().await;
    let mut queues = Vec::new();
    for _ in 0..4 {
        let client = fixture.client().await;
        queues.push(LockingQueue::open_with_ordinary_watches(client, path(&fixture)).await.unwrap());
    }
    share(queue(&client, &fixture).await, queues).await;
}

/// Has 400 items worked on by two takers of each handle, which sometimes give one back.
async fn share(putter: LockingQueue, queues: Vec<LockingQueue>) {
    const COUNT: usize = 400;
    let items: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let (now, later) = items.split_at(COUNT / 2);
    putter.put_all(now, Priority::default()).await.unwrap();
    let done = Arc::new(Mutex::new(Vec::new()));
    let under_way = Arc::new(Mutex::new(HashSet::new()));
    let mut takers = JoinSet::new();
    for queue in queues.iter().flat_map(|queue| [queue.clone(), queue.clone()]) {
        let (done, under_way) = (Arc::clone(&done), Arc::clone(&under_way));
        takers.spawn(async move {
            while done.lock().await.len() < COUNT {
                let brief = Some(Instant::now() + Duration::from_millis(50));
                let Some(item) = queue.take_until(brief).await.unwrap() else { continue };
                let data = text(&item);
                assert!(under_way.lock().await.insert(data.clone()), "{data} is taken by two");
                tokio::task::yield_now().await;
                let returns = data.ends_with('7') && item.given_back() == 0;
                assert!(under_way.lock().await.remove(&data));
                if returns {
                    item.give_back().await.unwrap();
                } else {
                    item.consume().await.unwrap();
                    done.lock().await.push(data);
                }
            }
        });
    }
    putter.put_all(later, Priority::default()).await.unwrap();
    timeout(PATIENCE, async {
        while let Some(ended) = takers.join_next().await {
            ended.unwrap()
        }
    })
    .await
    .unwrap();
    let mut found = Arc::try_unwrap(done).unwrap().into_inner();
    found.sort_by_key(|data| data.parse::<usize>().unwrap());
    assert_eq!(found, items);
    eventually("nothing is left", async || {
        (putter.len().await.unwrap(), putter.taken_count().await.unwrap()) == (0, 0)
    })
    .await;
}

async fn a_plain_queue_gives_each_item_once(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    let queue = Queue::open(client, path(&fixture)).await.unwrap();
    assert_eq!(queue.get().await.unwrap(), None);
    proxy.break_at(Moment::BeforeReply, op::MULTI, "/entry-");
    queue.put_all(&["b"], Priority::default()).await.unwrap();
    queue.put_all(&["a"], Priority::new(0).unwrap()).await.unwrap();
    proxy.break_at(Moment::BeforeReply, op::MULTI, "/entry-");
    assert_eq!(queue.get().await.unwrap().unwrap(), b"a");
    proxy.sprung(2).await;
    assert_eq!(queue.get_until(soon()).await.unwrap().unwrap(), b"b");
    assert!(queue.is_empty().await.unwrap());
    assert_eq!(queue.get_until(Some(Instant::now())).await.unwrap(), None);
}

/// Whichever server it is: the client is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_started_again_ends_nothing() {
    let mut server = TestServer::start(Kind::Grange).unwrap();
    let proxy = Proxy::start(server.address()).await;
    let client = open(proxy.address(), LONG_SESSION).await;
    let queue = LockingQueue::open(client, "/q".parse().unwrap()).await.unwrap();
    queue.put_all(&["a", "b"], Priority::default()).await.unwrap();
    let item = queue.take().await.unwrap().unwrap();
    server.restart();
    proxy.redirect(server.address());
    item.consume().await.unwrap();
    queue.put(b"c", Priority::default()).await.unwrap();
    for _ in 0..2 {
        queue.take_until(soon()).await.unwrap().unwrap().consume().await.unwrap();
    }
    assert!(queue.is_empty().await.unwrap());
}
