//! What every work queue promises, asked of each.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use grange_transfer::path::RelPath;
use grange_transfer::sync::{Claim, ClaimId, Item, MemoryQueue, Part, Phase, QueueError, Take, WorkQueue, ZnodeQueue};
use tokio::time::timeout;

use crate::apache::Apache;

const PATIENCE: Duration = Duration::from_secs(20);

fn part(name: &str) -> Part {
    Part::of(Item::Directory(RelPath::root().join(name.as_bytes())))
}

async fn take_parts(queue: &impl WorkQueue) -> Vec<Claim> {
    match timeout(PATIENCE, queue.take()).await.unwrap().unwrap() {
        Take::Parts(claims) => claims,
        other => panic!("{other:?}"),
    }
}

async fn complete(queue: &impl WorkQueue, claims: &[Claim], late: Vec<Part>) {
    queue.complete(claims.iter().map(|claim| claim.id).collect(), late).await.unwrap();
}

/// A job from its first part to its end, with two workers.
async fn whole_job(one: impl WorkQueue, other: impl WorkQueue) {
    assert_eq!(one.wanted(), 0);
    one.put(Phase::Main, vec![part("root")]).await.unwrap();
    let root = take_parts(&one).await;
    assert_eq!(root[0].part, part("root"));
    assert_eq!(other.try_take().await.unwrap(), Take::Nothing);

    // A waiting worker gets what is put.
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { take_parts(&other).await }
    });
    one.put(Phase::Main, (0..10).map(|n| part(&format!("p{n}"))).collect()).await.unwrap();
    let mut seen = BTreeSet::new();
    let first = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    seen.insert(format!("{:?}", first[0].part));
    complete(&other, &first, vec![part("late-b")]).await;
    for _ in 0..9 {
        let claims = take_parts(&one).await;
        assert_eq!(claims.len(), 1);
        seen.insert(format!("{:?}", claims[0].part));
        complete(&one, &claims, vec![]).await;
    }
    assert_eq!(seen.len(), 10, "each part once");

    // Late parts come when all others are complete, and all to one worker.
    assert_eq!(other.try_take().await.unwrap(), Take::Nothing);
    complete(&one, &root, vec![part("late-a")]).await;
    let late = take_parts(&other).await;
    assert_eq!(late.len(), 2);
    assert_eq!(one.try_take().await.unwrap(), Take::Nothing);
    complete(&other, &late, vec![]).await;
    assert_eq!(timeout(PATIENCE, one.take()).await.unwrap().unwrap(), Take::Over);
    assert_eq!(timeout(PATIENCE, other.take()).await.unwrap().unwrap(), Take::Over);
    one.complete(vec![ClaimId(u64::MAX)], vec![]).await.unwrap();
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
}

#[test]
fn a_job_in_memory() {
    let queue = MemoryQueue::default();
    block_on(whole_job(queue.clone(), queue));
}

#[test]
fn a_job_in_znodes() {
    block_on(async {
        let server = Apache::start();
        let (one, other) = (server.connect().await, server.connect().await);
        let queue = ZnodeQueue::open(one.clone(), "/grange/sync/test", b"p").await.unwrap();
        let joined = ZnodeQueue::open(other.clone(), "/grange/sync/test", b"p").await.unwrap();
        let refused = ZnodeQueue::open(other, "/grange/sync/test", b"q").await.unwrap_err();
        assert!(matches!(refused, QueueError::Differs { .. }), "{refused}");
        whole_job(queue.clone(), joined).await;
        queue.remove().await.unwrap();
        assert_eq!(one.list_children("/grange/sync").await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn the_parts_of_a_dead_worker_go_to_the_others() {
    block_on(async {
        let server = Apache::start();
        let (doomed, other) = (server.connect().await, server.connect().await);
        let root = "/grange/sync/test";
        let queue = ZnodeQueue::open(doomed.clone(), root, b"").await.unwrap();
        let survivor = ZnodeQueue::open(other, root, b"").await.unwrap();
        queue.put(Phase::Main, vec![part("a"), part("b")]).await.unwrap();
        let lost = take_parts(&queue).await;
        let kept = take_parts(&survivor).await;
        assert_eq!((&lost[0].part, &kept[0].part), (&part("a"), &part("b")));
        assert_eq!(survivor.try_take().await.unwrap(), Take::Nothing);
        let waiting = tokio::spawn({
            let survivor = survivor.clone();
            async move { take_parts(&survivor).await }
        });
        drop((queue, doomed));
        let inherited = timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert_eq!(inherited[0].part, part("a"));
        complete(&survivor, &inherited, vec![]).await;
        complete(&survivor, &kept, vec![]).await;
        assert_eq!(timeout(PATIENCE, survivor.take()).await.unwrap().unwrap(), Take::Over);
    });
}
