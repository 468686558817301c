//! Fields that are set for a while: by one at a time, put back once, whatever breaks.

use grange_client::{Acls, Client, ClientError, CreateMode, MultiWriteError, close};
use grange_farm::exec::{ExecError, Orphans, Place, Record, SetOutcome, Setting, Settled, UndoLog, Whose};
use grange_farm::{FieldPath, Properties};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::proxy::{Moment, op};
use crate::server::{Fixture, Kind, LONG_SESSION, PATIENCE, eventually};

/// A farm with one host, `h`.
struct Farm {
    fixture: Fixture,
    client: Client,
    place: Place,
    host: String,
}

impl Farm {
    async fn start(kind: Kind, host: &Value) -> Option<Farm> {
        let fixture = Fixture::new(kind)?;
        let client = fixture.client().await;
        let place = Place::of(&fixture.path.parse().unwrap()).unwrap();
        let farm = Farm { host: format!("{}/h", fixture.path), fixture, client, place };
        farm.create(&farm.fixture.path, b"{}").await;
        farm.create(&farm.host, host.to_string().as_bytes()).await;
        Some(farm)
    }

    async fn create(&self, path: &str, data: &[u8]) {
        self.client.create(path, data, &CreateMode::Persistent.with_acls(Acls::anyone_all())).await.unwrap();
    }

    fn log(&self, client: &Client) -> UndoLog {
        UndoLog::new(client, &self.place, "h").unwrap()
    }

    /// Returns the host, and how often it was written.
    async fn host(&self) -> (Value, i32) {
        let (data, stat) = self.client.get_data(&self.host).await.unwrap();
        (serde_json::from_slice(&data).unwrap(), stat.version)
    }

    async fn records(&self) -> Vec<Record> {
        self.log(&self.client).records().await.unwrap()
    }
}

fn wants(field: &str) -> [(FieldPath, Value); 1] {
    [(field.parse().unwrap(), json!("1"))]
}

async fn set(log: &UndoLog, name: &str, field: &str) -> Box<Setting> {
    match log.set(name, &wants(field), "a test").await.unwrap() {
        SetOutcome::Set(setting) => setting,
        other => panic!("{other:?}"),
    }
}

async fn settle(log: &UndoLog, name: &str, whose: Whose) -> Settled {
    log.settle(&log.record_path(name), whose).await.unwrap()
}

async fn set_and_settle(kind: Kind) {
    let before = json!({"a": 0, "b": {"c": null}});
    let Some(farm) = Farm::start(kind, &before).await else { return };
    let log = farm.log(&farm.client);
    let _setting = set(&log, "r", "a").await;
    let _other = set(&log, "s", "b.c").await;
    assert_eq!(farm.host().await.0, json!({"a": "1", "b": {"c": "1"}}));
    let records = farm.records().await;
    assert!(records.iter().all(Record::is_held), "{records:?}");
    assert_eq!(records.iter().map(|record| record.undo().by.as_str()).collect::<Vec<_>>(), ["a test"; 2]);
    for field in ["a", "a.b", "b"] {
        let busy = log.set("t", &wants(field), "").await.unwrap();
        assert!(matches!(busy, SetOutcome::Busy(_)), "{field}: {busy:?}");
    }
    assert_eq!(settle(&log, "r", Whose::Orphaned).await, Settled::Held);
    for name in ["r", "s"] {
        assert!(matches!(settle(&log, name, Whose::Ours).await, Settled::Restored(_)));
        assert_eq!(settle(&log, name, Whose::Ours).await, Settled::Before);
    }
    assert_eq!(farm.host().await.0, before);
    assert_eq!(farm.records().await, []);
    // In another farm nobody has set anything, and there is no host.
    let nowhere = Place::of(&"/nowhere".parse().unwrap()).unwrap();
    let log = UndoLog::new(&farm.client, &nowhere, "h").unwrap();
    assert_eq!(settle(&log, "r", Whose::Ours).await, Settled::Before);
    assert!(matches!(log.set("r", &wants("a"), "").await, Ok(SetOutcome::NoHost)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_set_and_put_back() {
    set_and_settle(Kind::Grange).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_set_and_put_back_on_apache() {
    set_and_settle(Kind::Apache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_changes_nothing() {
    let before = json!({"a": 0});
    let farm = Farm::start(Kind::Grange, &before).await.unwrap();
    let (proxied, proxy) = farm.fixture.proxied(LONG_SESSION).await;
    let log = farm.log(&proxied);
    let mut sprung = 0;
    for (round, moment) in [Moment::BeforeReply, Moment::BeforeRequest].into_iter().enumerate() {
        let name = format!("r{round}");
        proxy.break_at(moment, op::MULTI, &farm.host);
        let _setting = set(&log, &name, "a").await;
        sprung += 1;
        proxy.sprung(sprung).await;
        let writes = i32::try_from(2 * round).unwrap();
        assert_eq!(farm.host().await, (json!({"a": "1"}), writes + 1), "written once");
        assert_eq!(farm.records().await[0].undo().fields[0].before, Some(json!(0)));
        proxy.break_at(moment, op::MULTI, &farm.host);
        let settled = settle(&log, &name, Whose::Ours).await;
        sprung += 1;
        proxy.sprung(sprung).await;
        assert!(matches!(settled, Settled::Restored(_) | Settled::Before), "{settled:?}");
        assert_eq!(farm.host().await, (before.clone(), writes + 2), "written once");
        assert_eq!(farm.records().await, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_put_back_what_one_has_left_and_it_is_done_once() {
    const UNDOERS: usize = 12;
    let before = json!({"a": 0});
    let farm = Farm::start(Kind::Grange, &before).await.unwrap();
    leave(&farm, "r").await;
    let mut undoers = JoinSet::new();
    for _ in 0..UNDOERS {
        let log = farm.log(&farm.fixture.client().await);
        undoers.spawn(async move { settle(&log, "r", Whose::Orphaned).await });
    }
    let settled = undoers.join_all().await;
    let restored = settled.iter().filter(|settled| matches!(settled, Settled::Restored(_))).count();
    let after = settled.iter().filter(|settled| **settled == Settled::Before).count();
    assert_eq!((restored, after), (1, UNDOERS - 1), "{settled:?}");
    assert_eq!(farm.host().await, (before, 2));
}

/// Sets the field `a` in a session that ends without putting it back.
async fn leave(farm: &Farm, name: &str) {
    let client = farm.fixture.client().await;
    drop(set(&farm.log(&client), name, "a").await);
    close(client).await;
    let path = farm.log(&farm.client).record_path(name);
    eventually("the record is an orphan", async || {
        farm.records().await.iter().any(|record| record.path() == path && !record.is_held())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_sets_a_field_and_all_of_them_different_ones() {
    const RUNS: usize = 8;
    let farm = Farm::start(Kind::Grange, &json!({})).await.unwrap();
    let mut runs = JoinSet::new();
    for run in 0..RUNS {
        let log = farm.log(&farm.fixture.client().await);
        runs.spawn(async move {
            let own = set(&log, &format!("own{run}"), &format!("f.n{run}")).await;
            let shared = log.set(&format!("shared{run}"), &wants("shared"), "").await.unwrap();
            (log, own, shared)
        });
    }
    let runs = runs.join_all().await;
    let winners = runs.iter().filter(|(_, _, shared)| matches!(shared, SetOutcome::Set(_))).count();
    assert_eq!(winners, 1, "{runs:?}");
    let (host, version) = farm.host().await;
    assert_eq!(host["f"].as_object().unwrap().len(), RUNS);
    assert_eq!(usize::try_from(version).unwrap(), RUNS + 1);
    for (run, (log, ..)) in runs.iter().enumerate() {
        settle(log, &format!("own{run}"), Whose::Ours).await;
        settle(log, &format!("shared{run}"), Whose::Ours).await;
    }
    assert!(host["shared"].is_string());
    // The object that the first one made is put back by whoever is the last.
    let (host, _) = farm.host().await;
    assert!(host == json!({}) || host == json!({"f": {}}), "{host}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_brings_a_host_back_is_told_of_what_was_left() {
    let farm = Farm::start(Kind::Grange, &json!({"a": 0})).await.unwrap();
    let client = farm.fixture.client().await;
    let mut orphans = Orphans::open(farm.log(&client)).await.unwrap();
    let log = farm.log(&farm.client);
    let _held = set(&log, "held", "b").await;
    let _ended = set(&log, "ended", "c").await;
    settle(&log, "ended", Whose::Ours).await;
    let (mut first, ()) = tokio::join!(timeout(PATIENCE, orphans.next()), leave(&farm, "left"));
    let record = first.as_mut().unwrap().as_ref().unwrap();
    assert_eq!(record.path(), log.record_path("left"));
    // What a host does that knows its configuration.
    let mut configuration = Properties::try_from(json!({"a": "1", "b": "1"})).unwrap();
    assert_eq!(record.undo().apply(&mut configuration).restored, ["a".parse().unwrap()]);
    let write = async || {
        let mut transaction = farm.client.new_multi_writer();
        transaction.add_set_data(&farm.host, &configuration.encode(), None).unwrap();
        record.add_removal(&mut transaction).unwrap();
        transaction.commit().await
    };
    write().await.unwrap();
    assert_eq!(farm.host().await.0, json!({"a": 0, "b": "1"}));
    let again = write().await.unwrap_err();
    assert!(matches!(again, MultiWriteError::OperationFailed { index: 1, source: ClientError::NoNode }), "{again}");
    assert_eq!(settle(&log, "left", Whose::Orphaned).await, Settled::Before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_left_alone() {
    let farm = Farm::start(Kind::Grange, &json!({"a": 0})).await.unwrap();
    let log = farm.log(&farm.client);
    leave(&farm, "left").await;
    farm.client.set_data(&farm.host, b"[1]", None).await.unwrap();
    let refused = log.settle(&log.record_path("left"), Whose::Orphaned).await;
    assert!(matches!(refused, Err(ExecError::Properties { .. })), "{refused:?}");
    assert_eq!(farm.host().await.0, json!([1]));
    assert_eq!(farm.records().await.len(), 1, "the record waits");
    farm.client.set_data(&farm.host, br#"{"a": "1"}"#, None).await.unwrap();
    farm.create(&log.record_path("garbage"), b"{").await;
    let setting = set(&log, "next", "a").await;
    assert_eq!(setting.undo.fields[0].before, Some(json!(0)), "what was left has been put back before");
    let large = [("a.b".parse().unwrap(), Value::String("x".repeat(1_000_000)))];
    settle(&log, "next", Whose::Ours).await;
    let in_the_way = log.set("in the way", &large, "").await;
    assert!(matches!(in_the_way, Err(ExecError::InTheWay { .. })), "{in_the_way:?}");
    let large = [("b".parse().unwrap(), large[0].1.clone())];
    let too_large = log.set("large", &large, "").await;
    assert!(matches!(too_large, Err(ExecError::TooLarge { .. })), "{too_large:?}");
    assert_eq!(farm.host().await.0, json!({"a": 0}));
}
