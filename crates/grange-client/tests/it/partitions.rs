//! A set that members share out: who gets what, and that nobody gets what somebody else still has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grange_client::recipes::{Lock, Loss, Partition, PartitionItem, PartitionState, RecipeError, SetPartitioner};
use grange_client::{Client, ZnodePath};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::proxy::{Moment, op};
use crate::server::{Fixture, LONG_SESSION, PATIENCE, SHORT_SESSION, eventually, on_each_server};

on_each_server!(
    members_share_the_set,
    znodes_of_a_set_are_what_kazoo_expects,
    nobody_gets_what_is_not_released,
    members_come_and_go_while_connections_break,
    a_member_whose_session_ends_knows_before_the_others_have_its_share,
    a_connection_that_breaks_while_locks_are_taken_costs_nothing,
    what_is_left_of_a_broken_share_stays_locked,
    names_that_no_znode_can_have_are_refused,
);

/// How long a party must be the same here.
const SETTLING: Duration = Duration::from_millis(50);

/// The timeout of a session that is to end: long enough that a loss is known well before.
const SESSION: Duration = Duration::from_secs(3);

const ITEMS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn path(fixture: &Fixture) -> ZnodePath {
    fixture.path.parse().unwrap()
}

fn set(client: &Client, fixture: &Fixture, id: &str) -> SetPartitioner {
    // Neither sorted nor without repetition.
    let items = ITEMS.iter().rev().chain(&["a"]).copied();
    SetPartitioner::new(client, path(fixture), items, id).unwrap().with_settling(SETTLING)
}

fn names(items: &[PartitionItem]) -> Vec<&str> {
    items.iter().map(|item| item.name.as_str()).collect()
}

/// Waits for a state of this kind.
async fn until(partition: &mut Partition, mut is_it: impl FnMut(&PartitionState) -> bool) -> PartitionState {
    let wait = async {
        loop {
            let state = partition.state();
            if is_it(&state) {
                return state;
            }
            assert!(!matches!(state, PartitionState::Failure(_)), "{state:?}");
            partition.changed().await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the state does not come")
}

async fn acquired(partition: &mut Partition) -> Arc<[PartitionItem]> {
    match until(partition, |state| matches!(state, PartitionState::Acquired(_))).await {
        PartitionState::Acquired(items) => items,
        state => panic!("{state:?}"),
    }
}

/// Who works on which item. Two that work on one are a failed test.
#[derive(Debug, Default)]
struct Work(Mutex<BTreeMap<String, (String, i64)>>);

impl Work {
    fn begin(&self, id: &str, items: &[PartitionItem]) {
        let mut work = self.0.lock().unwrap();
        for item in items {
            let other = work.insert(item.name.clone(), (id.to_owned(), item.token.number()));
            assert_eq!(other, None, "{id} and another one have {}", item.name);
        }
    }

    fn end(&self, id: &str) {
        self.0.lock().unwrap().retain(|_, (worker, _)| worker != id);
    }

    /// What each works on, as `id: items`.
    fn shares(&self) -> Vec<String> {
        let mut shares = BTreeMap::<String, String>::new();
        for (item, (id, _)) in self.0.lock().unwrap().iter() {
            shares.entry(id.clone()).or_default().push_str(item);
        }
        shares.into_iter().map(|(id, items)| format!("{id}: {items}")).collect()
    }

    async fn is(&self, shares: &[&str]) {
        eventually(&format!("{shares:?}"), async || self.shares() == shares).await;
    }
}

/// A member that works on what it has.
struct Worker {
    leave: oneshot::Sender<()>,
    task: JoinHandle<Option<Arc<RecipeError>>>,
}

impl Worker {
    async fn start(client: &Client, fixture: &Fixture, id: &str, work: &Arc<Work>) -> Worker {
        let partition = set(client, fixture, id).join().await.unwrap();
        let (leave, leaves) = oneshot::channel();
        let task = tokio::spawn(run(partition, id.to_owned(), Arc::clone(work), leaves));
        Worker { leave, task }
    }

    async fn leave(self) {
        self.leave.send(()).unwrap();
        assert!(timeout(PATIENCE, self.task).await.unwrap().unwrap().is_none());
    }

    /// Returns why the member has failed, which it must.
    async fn failed(self) -> Arc<RecipeError> {
        timeout(PATIENCE, self.task).await.unwrap().unwrap().expect("it fails")
    }
}

async fn run(
    mut partition: Partition,
    id: String,
    work: Arc<Work>,
    mut leaves: oneshot::Receiver<()>,
) -> Option<Arc<RecipeError>> {
    loop {
        let state = partition.state();
        match &state {
            PartitionState::Allocating => {}
            PartitionState::Acquired(items) => work.begin(&id, items),
            PartitionState::Release(_) => {
                work.end(&id);
                if let Err(error) = partition.release().await {
                    return Some(error);
                }
                continue;
            }
            PartitionState::Failure(why) => {
                work.end(&id);
                return Some(Arc::clone(why));
            }
        }
        tokio::select! {
            () = partition.changed() => {}
            _ = &mut leaves => break,
        }
    }
    work.end(&id);
    partition.finish().await.unwrap();
    None
}

async fn members_share_the_set(fixture: Fixture) {
    let client = fixture.client().await;
    let work = Arc::new(Work::default());
    let two = Worker::start(&client, &fixture, "two", &work).await;
    work.is(&["two: abcde"]).await;
    let one = Worker::start(&fixture.client().await, &fixture, "one", &work).await;
    work.is(&["one: ace", "two: bd"]).await;
    // A session may be several members.
    let three = Worker::start(&client, &fixture, "three", &work).await;
    work.is(&["one: ad", "three: be", "two: c"]).await;
    let mut others = Vec::new();
    for id in ["4", "5", "6"] {
        others.push(Worker::start(&client, &fixture, id, &work).await);
    }
    work.is(&["4: a", "5: b", "6: c", "one: d", "three: e"]).await;
    for worker in others.into_iter().chain([one, three]) {
        worker.leave().await;
    }
    work.is(&["two: abcde"]).await;
    two.leave().await;
    let left = client.list_children(&format!("{}/party", fixture.path)).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

async fn znodes_of_a_set_are_what_kazoo_expects(fixture: Fixture) {
    let client = fixture.client().await;
    let mut partition = set(&client, &fixture, "my-host").join().await.unwrap();
    let items = acquired(&mut partition).await;
    assert_eq!(names(&items), ITEMS);
    let members = client.list_children(&format!("{}/party", fixture.path)).await.unwrap();
    let [member] = members.as_slice() else { panic!("{members:?}") };
    assert_eq!((member.split_once('-').unwrap().0.len(), member.split_once('-').unwrap().1), (32, "my-host"));
    for item in items.iter() {
        let path = format!("{}/locks/{}", fixture.path, item.name).parse().unwrap();
        let contenders = Lock::new(&client, path, "").contenders().await.unwrap();
        let [holder] = contenders.as_slice() else { panic!("{contenders:?}") };
        assert!(holder.name.ends_with("__lock__0000000000"), "{}", holder.name);
        assert_eq!((holder.token, holder.id.as_deref()), (item.token.number(), Some(&b"my-host"[..])));
    }
    // Members that have the same id have shares of their own.
    let mut namesake = set(&client, &fixture, "my-host").join().await.unwrap();
    until(&mut partition, |state| matches!(state, PartitionState::Release(_))).await;
    partition.release().await.unwrap();
    let (first, second) = tokio::join!(acquired(&mut partition), acquired(&mut namesake));
    let mut both = [names(&first), names(&second)].concat();
    both.sort_unstable();
    assert_eq!(both, ITEMS);
    drop(partition);
    until(&mut namesake, |state| matches!(state, PartitionState::Release(_))).await;
    namesake.release().await.unwrap();
    assert_eq!(names(&acquired(&mut namesake).await), ITEMS, "who drops it leaves");
    namesake.finish().await.unwrap();
}

async fn nobody_gets_what_is_not_released(fixture: Fixture) {
    let (first_client, second_client) = (fixture.client().await, fixture.client().await);
    let mut first = set(&first_client, &fixture, "1").join().await.unwrap();
    let before = acquired(&mut first).await;
    let mut second = set(&second_client, &fixture, "2").join().await.unwrap();
    let state = until(&mut first, |state| matches!(state, PartitionState::Release(_))).await;
    assert_eq!(state.items(), &*before, "it has all until it releases it");
    let lock = format!("{}/locks/b", fixture.path).parse::<ZnodePath>().unwrap();
    let contenders = async || Lock::new(&first_client, lock.clone(), "").contenders().await.unwrap().len();
    eventually("the other one waits", async || contenders().await == 2).await;
    assert!(matches!(second.state(), PartitionState::Allocating));
    first.release().await.unwrap();
    first.release().await.unwrap();
    let (ours, theirs) = tokio::join!(acquired(&mut first), acquired(&mut second));
    assert_eq!((names(&ours), names(&theirs)), (vec!["a", "c", "e"], vec!["b", "d"]));
    assert!(ours.iter().chain(theirs.iter()).all(|item| {
        let had = before.iter().find(|had| had.name == item.name).unwrap();
        had.token < item.token
    }));
    // One that waits for a lock leaves the line when it is not wanted any more.
    second.finish().await.unwrap();
    until(&mut first, |state| matches!(state, PartitionState::Release(_))).await;
    first.release().await.unwrap();
    assert_eq!(names(&acquired(&mut first).await), ITEMS);
    let third = set(&second_client, &fixture, "3").join().await.unwrap();
    eventually("the third one waits", async || contenders().await == 2).await;
    third.finish().await.unwrap();
    eventually("it waits no longer", async || contenders().await == 1).await;
    until(&mut first, |state| matches!(state, PartitionState::Release(_))).await;
    first.release().await.unwrap();
    assert_eq!(names(&acquired(&mut first).await), ITEMS);
}

async fn members_come_and_go_while_connections_break(fixture: Fixture) {
    const ROUNDS: usize = 4;
    let work = Arc::new(Work::default());
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(fixture.proxied(LONG_SESSION).await);
    }
    let staying = Worker::start(&sessions[0].0, &fixture, "0", &work).await;
    let changes = async {
        for round in 0..ROUNDS {
            let one = Worker::start(&sessions[1].0, &fixture, "1", &work).await;
            let two = Worker::start(&sessions[2].0, &fixture, "2", &work).await;
            if round % 2 == 0 {
                work.is(&["0: ad", "1: be", "2: c"]).await;
            }
            one.leave().await;
            two.leave().await;
        }
        work.is(&["0: abcde"]).await;
    };
    let faults = async {
        for (_, proxy) in sessions.iter().cycle() {
            proxy.cut();
            tokio::time::sleep(Duration::from_millis(70)).await;
        }
    };
    tokio::select! {
        done = timeout(PATIENCE, changes) => done.expect("somebody waits for ever"),
        () = faults => {}
    }
    staying.leave().await;
}

async fn a_member_whose_session_ends_knows_before_the_others_have_its_share(fixture: Fixture) {
    let work = Arc::new(Work::default());
    let (dying, proxy) = fixture.proxied(SESSION).await;
    let staying = Worker::start(&fixture.client().await, &fixture, "1", &work).await;
    let lost = Worker::start(&dying, &fixture, "2", &work).await;
    work.is(&["1: ace", "2: bd"]).await;
    // `Work` fails the test if the staying one begins before the other one has ended.
    proxy.hold();
    let error = lost.failed().await;
    assert!(matches!(*error, RecipeError::Lost { loss: Loss::Unconfirmed, .. }), "{error:?}");
    work.is(&["1: abcde"]).await;
    staying.leave().await;
    // One that has no items, and one that is still waiting for some, fail as well.
    let holder = Lock::new(&fixture.client().await, format!("{}/locks/a", fixture.path).parse().unwrap(), "");
    let held = holder.acquire().await.unwrap();
    let (dying, proxy) = fixture.proxied(SHORT_SESSION).await;
    let waiting = Worker::start(&dying, &fixture, "3", &work).await;
    let nothing = SetPartitioner::new(&dying, format!("{}/nothing", fixture.path).parse().unwrap(), [""; 0], "3");
    let mut nothing = nothing.unwrap().with_settling(SETTLING).join().await.unwrap();
    assert!(acquired(&mut nothing).await.is_empty());
    eventually("it waits", async || holder.contenders().await.unwrap().len() == 2).await;
    proxy.refuse();
    waiting.failed().await;
    until(&mut nothing, |state| matches!(state, PartitionState::Failure(_))).await;
    nothing.changed().await;
    assert!(nothing.release().await.is_err());
    eventually("its places have gone", async || holder.contenders().await.unwrap().len() == 1).await;
    held.release().await.unwrap();
}

async fn a_connection_that_breaks_while_locks_are_taken_costs_nothing(fixture: Fixture) {
    let watcher = fixture.client().await;
    let work = Arc::new(Work::default());
    let mut sprung = 0;
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    for moment in [Moment::BeforeRequest, Moment::BeforeReply] {
        for (operations, part) in [(op::CREATE, "/party/"), (op::CREATE, "__lock__"), (op::DELETE, "__lock__")] {
            proxy.break_at(moment, operations, part);
            let worker = Worker::start(&client, &fixture, "1", &work).await;
            work.is(&["1: abcde"]).await;
            for item in ITEMS {
                let lock = Lock::new(&watcher, format!("{}/locks/{item}", fixture.path).parse().unwrap(), "");
                let contenders = lock.contenders().await.unwrap();
                assert_eq!(contenders.len(), 1, "{moment:?} {part}: {contenders:?}");
            }
            worker.leave().await;
            sprung += 1;
            proxy.sprung(sprung).await;
        }
    }
}

async fn what_is_left_of_a_broken_share_stays_locked(fixture: Fixture) {
    let (client, somebody) = (fixture.client().await, fixture.client().await);
    let mut first = set(&client, &fixture, "1").join().await.unwrap();
    acquired(&mut first).await;
    let lock = |item: &str| Lock::new(&somebody, format!("{}/locks/{item}", fixture.path).parse().unwrap(), "");
    let holder = lock("b").contenders().await.unwrap().remove(0).name;
    somebody.delete(&format!("{}/locks/b/{holder}", fixture.path), None).await.unwrap();
    let failed = until(&mut first, |state| matches!(state, PartitionState::Failure(_))).await;
    let PartitionState::Failure(error) = &failed else { panic!("{failed:?}") };
    assert!(matches!(**error, RecipeError::Lost { loss: Loss::Deleted, .. }), "{error:?}");
    assert!(failed.items().is_empty() && !error.is_session_end());
    let party = format!("{}/party", fixture.path);
    eventually("it is no member", async || client.list_children(&party).await.unwrap().is_empty()).await;
    assert!(lock("a").try_acquire().await.unwrap().is_none(), "its owner may not have noticed yet");
    first.finish().await.unwrap();
    lock("a").try_acquire().await.unwrap().expect("it is free").release().await.unwrap();

    // Who is put out of the party fails too.
    let mut second = set(&client, &fixture, "2").join().await.unwrap();
    acquired(&mut second).await;
    let member = client.list_children(&party).await.unwrap().remove(0);
    somebody.delete(&format!("{party}/{member}"), None).await.unwrap();
    until(&mut second, |state| matches!(state, PartitionState::Failure(_))).await;
}

async fn names_that_no_znode_can_have_are_refused(fixture: Fixture) {
    let client = fixture.client().await;
    for (item, id) in [("", "1"), ("/a", "1"), ("..", "1"), ("a\0", "1"), ("a", "x/y"), ("a", "\u{1}")] {
        let error = SetPartitioner::new(&client, path(&fixture), ["b", item], id).unwrap_err();
        assert!(matches!(error, RecipeError::Name { .. }), "{item:?} {id:?}: {error:?}");
    }
    assert!(client.check_stat(&fixture.path).await.unwrap().is_none());
}
