//! What each recipe does when nothing goes wrong, and with the znodes of other libraries.

use std::num::NonZeroU32;
use std::time::Duration;

use grange_client::recipes::{Election, Layout, Led, Lock, LockError, Loss, ReadWriteLock, Semaphore};
use grange_client::{Acls, Client, CreateMode, ZnodePath};
use tokio::time::timeout;

use crate::server::{Fixture, PATIENCE, eventually, on_each_server};

on_each_server!(
    znodes_are_what_other_libraries_expect,
    foreign_contenders_are_waited_for,
    readers_hold_together_and_writers_alone,
    a_semaphore_has_so_many_leases,
    a_semaphore_is_what_kazoo_expects,
    a_candidate_leads_until_its_work_is_done_or_the_lead_lost,
    a_token_grows_when_the_parent_is_made_again,
);

fn path(fixture: &Fixture, name: &str) -> ZnodePath {
    format!("{}/{name}", fixture.path).parse().unwrap()
}

async fn children(client: &Client, path: &ZnodePath) -> Vec<String> {
    client.list_children(path.as_str()).await.unwrap()
}

/// Makes a sequential znode as another library would.
async fn foreign(client: &Client, path: &ZnodePath, name: &str) -> String {
    let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    let (_, sequence) = client.create(&format!("{path}/{name}"), b"theirs", &options).await.unwrap();
    format!("{path}/{name}{sequence}")
}

async fn znodes_are_what_other_libraries_expect(fixture: Fixture) {
    let client = fixture.client().await;
    for (name, layout, writer, reader) in [
        ("kazoo", Layout::Kazoo, "__lock__0000000000", "__rlock__0000000001"),
        ("curator", Layout::Curator, "-lock-0000000000", "-__READ__0000000001"),
        ("curator-rw", Layout::CuratorReadWrite, "-__WRIT__0000000000", "-__READ__0000000001"),
        ("latch", Layout::CuratorLatch, "-latch-0000000000", "-__READ__0000000001"),
    ] {
        let path = path(&fixture, name);
        let lock = ReadWriteLock::new(&client, path.clone(), "me").with_layout(layout);
        for (side, end) in [(lock.write(), writer), (lock.read(), reader)] {
            let held = side.acquire().await.unwrap();
            let names = children(&client, &path).await;
            assert!(names.len() == 1 && names[0].ends_with(end), "{names:?} {end}");
            assert_eq!(names[0].starts_with("_c_"), layout != Layout::Kazoo);
            let (data, stat) = client.get_data(&held.path()).await.unwrap();
            assert_eq!((data.as_slice(), stat.ephemeral_owner), (&b"me"[..], client.session_id().0));
            assert_eq!(stat.czxid, held.token().number());
            held.release().await.unwrap();
        }
    }
}

async fn foreign_contenders_are_waited_for(fixture: Fixture) {
    let client = fixture.client().await;
    let path = path(&fixture, "mixed");
    let lock = Lock::new(&client, path.clone(), "ours");
    drop(lock.acquire().await.unwrap());
    for name in ["0f__lock__", "0f__rlock__", "_c_0f-lock-", "_c_0f-__WRIT__", "_c_0f-__READ__", "_c_0f-latch-"] {
        let theirs = foreign(&client, &path, name).await;
        assert!(lock.try_acquire().await.unwrap().is_none(), "{name}");
        let contenders = lock.contenders().await.unwrap();
        assert!(contenders.len() == 1 && contenders[0].holds, "{contenders:?}");
        client.delete(&theirs, None).await.unwrap();
        lock.try_acquire().await.unwrap().expect("nobody is before us").release().await.unwrap();
    }
    // What is no contender does not stand in anybody's way.
    foreign(&client, &path, "something-").await;
    assert!(lock.try_acquire().await.unwrap().is_some());
}

async fn readers_hold_together_and_writers_alone(fixture: Fixture) {
    let client = fixture.client().await;
    let lock = ReadWriteLock::new(&client, path(&fixture, "rw"), "");
    let (first, second) = (lock.read().acquire().await.unwrap(), lock.read().acquire().await.unwrap());
    assert!(lock.write().try_acquire().await.unwrap().is_none());
    let writer = tokio::spawn(async move { lock.write().acquire().await });
    let lock = ReadWriteLock::new(&client, path(&fixture, "rw"), "");
    let waiting = async |count| lock.write().contenders().await.unwrap().len() == count;
    eventually("the writer stands in line", async || waiting(3).await).await;
    assert!(lock.read().try_acquire().await.unwrap().is_none(), "a reader does not overtake a writer");
    first.release().await.unwrap();
    let contenders = lock.read().contenders().await.unwrap();
    assert_eq!(contenders.iter().map(|contender| contender.holds).collect::<Vec<_>>(), [true, false]);
    assert!(!writer.is_finished());
    second.release().await.unwrap();
    let writer = timeout(PATIENCE, writer).await.unwrap().unwrap().unwrap();
    assert!(lock.read().try_acquire().await.unwrap().is_none());
    writer.release().await.unwrap();
    assert!(lock.read().try_acquire().await.unwrap().is_some());
}

async fn a_semaphore_has_so_many_leases(fixture: Fixture) {
    let client = fixture.client().await;
    let semaphore =
        |leases: u32| Semaphore::new(&client, path(&fixture, "semaphore"), "me", NonZeroU32::new(leases).unwrap());
    let (first, second) = (semaphore(2).acquire().await.unwrap(), semaphore(2).acquire().await.unwrap());
    assert!(semaphore(2).try_acquire().await.unwrap().is_none());
    assert!(first.token() < second.token());
    let error = semaphore(3).acquire().await.unwrap_err();
    assert!(matches!(error, LockError::LeaseCount { stored: 2, asked: 3, .. }), "{error:?}");
    let waiting = tokio::spawn({
        let semaphore = semaphore(2);
        async move { semaphore.acquire().await }
    });
    let used = async || semaphore(2).contenders().await.unwrap();
    eventually("one waits", async || used().await.waiting.len() == 1).await;
    assert_eq!((used().await.leases_max, used().await.holders.len()), (Some(2), 2));
    first.release().await.unwrap();
    let third = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert!(second.token() < third.token());
    assert_eq!((used().await.holders.len(), used().await.waiting.len()), (2, 0));
}

async fn a_semaphore_is_what_kazoo_expects(fixture: Fixture) {
    let client = fixture.client().await;
    let path = path(&fixture, "semaphore");
    let held = Semaphore::new(&client, path.clone(), "me", NonZeroU32::MIN).acquire().await.unwrap();
    assert_eq!(client.get_data(path.as_str()).await.unwrap().0, b"1");
    let leases = children(&client, &path).await;
    assert!(leases.len() == 1 && leases[0].len() == 32, "{leases:?}");
    assert_eq!(client.get_data(&held.path()).await.unwrap().0, b"me");
    assert!(client.check_stat(&format!("{path}-__lock__")).await.unwrap().is_some());
}

async fn a_candidate_leads_until_its_work_is_done_or_the_lead_lost(fixture: Fixture) {
    let client = fixture.client().await;
    let election = Election::new(&client, path(&fixture, "election"), "me");
    let led = election.run(|token| async move { token.number() }).await.unwrap();
    assert!(matches!(led, Led::Finished(token) if token > 0), "{led:?}");
    assert!(election.contenders().await.unwrap().is_empty(), "it has resigned");
    let deposed = tokio::spawn({
        let election = election.clone();
        async move { election.run(|_| std::future::pending::<()>()).await }
    });
    eventually("it leads", async || !election.contenders().await.unwrap().is_empty()).await;
    let leader = election.contenders().await.unwrap().remove(0);
    client.delete(&format!("{}/election/{}", fixture.path, leader.name), None).await.unwrap();
    assert_eq!(timeout(PATIENCE, deposed).await.unwrap().unwrap().unwrap(), Led::Lost(Loss::Deleted));
    assert!(election.lead_within(Duration::from_secs(20)).await.is_ok());
}

async fn a_token_grows_when_the_parent_is_made_again(fixture: Fixture) {
    let client = fixture.client().await;
    let path = path(&fixture, "again");
    let lock = Lock::new(&client, path.clone(), "");
    let held = lock.acquire().await.unwrap();
    let before = held.token();
    held.release().await.unwrap();
    client.delete(path.as_str(), None).await.unwrap();
    let held = lock.acquire().await.unwrap();
    assert!(held.path().ends_with("__lock__0000000000"), "the sequence begins again: {}", held.path());
    assert!(held.token() > before);
}
