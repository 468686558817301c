//! Reading hosts, and changing single fields of them while others do the same and connections break.

use grange_client::{Acls, Client, CreateMode, ZnodePath};
use grange_farm::check::{self, CheckError, Rules};
use grange_farm::fields::{self, FieldsError};
use grange_farm::{FieldPath, hosts};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::proxy::Moment;
use crate::server::{Fixture, Kind, LONG_SESSION};

/// Operation codes.
const GET: &[i32] = &[4];
const SET: &[i32] = &[5];

fn fixture() -> Fixture {
    Fixture::new(Kind::Grange).unwrap()
}

fn path(text: &str) -> ZnodePath {
    text.parse().unwrap()
}

fn field(text: &str) -> FieldPath {
    text.parse().unwrap()
}

async fn create(client: &Client, path: &str, data: &[u8]) {
    client.create(path, data, &CreateMode::Persistent.with_acls(Acls::anyone_all())).await.unwrap();
}

async fn data(client: &Client, path: &ZnodePath) -> (Value, i32) {
    let (data, stat) = client.get_data(path.as_str()).await.unwrap();
    (serde_json::from_slice(&data).unwrap(), stat.version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_set_different_fields_of_one_host() {
    const SESSIONS: usize = 4;
    const SETTERS: usize = 12;
    let fixture = fixture();
    let host = path(&fixture.path);
    let client = fixture.client().await;
    create(&client, host.as_str(), b"{\"kept\": 1}").await;
    let mut setters = JoinSet::new();
    for session in 0..SESSIONS {
        let client = fixture.client().await;
        for setter in 0..SETTERS {
            let (client, host, field) = (client.clone(), host.clone(), field(&format!("s{session}.f{setter}")));
            setters.spawn(async move { fields::set(&client, &host, &field, &json!("x")).await });
        }
    }
    while let Some(set) = setters.join_next().await {
        set.unwrap().unwrap();
    }
    let properties = fields::get(&client, &host).await.unwrap();
    for session in 0..SESSIONS {
        for setter in 0..SETTERS {
            assert_eq!(properties.get(&field(&format!("s{session}.f{setter}"))), Some(&json!("x")));
        }
    }
    assert_eq!(properties.get(&field("kept")), Some(&json!(1)));
    let (_, version) = data(&client, &host).await;
    assert_eq!(usize::try_from(version).unwrap(), SESSIONS * SETTERS, "each was written once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_no_conflict() {
    let fixture = fixture();
    let host = path(&fixture.path);
    let client = fixture.client().await;
    create(&client, host.as_str(), b"{\"a\": {\"b\": 1, \"c\": 2}}").await;
    let (proxied, proxy) = fixture.proxied(LONG_SESSION).await;
    for (count, moment) in [(1, Moment::BeforeReply), (2, Moment::BeforeRequest)] {
        proxy.break_at(moment, SET, host.as_str());
        fields::set(&proxied, &host, &field("a.b"), &json!(count)).await.unwrap();
        proxy.sprung(count).await;
        let expected = (json!({"a": {"b": count, "c": 2}}), i32::try_from(count).unwrap());
        assert_eq!(data(&client, &host).await, expected, "once");
    }
    proxy.break_at(Moment::BeforeReply, SET, host.as_str());
    fields::unset(&proxied, &host, &field("a.b")).await.unwrap();
    proxy.sprung(3).await;
    assert_eq!(data(&client, &host).await, (json!({"a": {"c": 2}}), 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_another_one_meanwhile_is_kept() {
    let fixture = fixture();
    let host = path(&fixture.path);
    let client = fixture.client().await;
    create(&client, host.as_str(), b"").await;
    let mut is_first = true;
    let other = fixture.client().await;
    let handle = tokio::runtime::Handle::current();
    let changed = tokio::task::block_in_place(|| {
        handle.block_on(fields::change(&client, &host, |properties| {
            if std::mem::take(&mut is_first) {
                tokio::task::block_in_place(|| {
                    handle.block_on(other.set_data(host.as_str(), b"{\"theirs\": 1}", None)).unwrap();
                });
            }
            properties.set(&field("ours"), json!(2));
        }))
    });
    assert_eq!(Value::from(changed.unwrap()), json!({"ours": 2, "theirs": 1}));
    assert_eq!(data(&client, &host).await.0, json!({"ours": 2, "theirs": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_object_is_never_written_over() {
    let fixture = fixture();
    let host = path(&fixture.path);
    let client = fixture.client().await;
    let missing = fields::set(&client, &host, &field("a"), &json!("1")).await.unwrap_err();
    assert!(matches!(missing, FieldsError::NoZnode(_)), "{missing}");
    create(&client, host.as_str(), b"").await;
    for bad in [&b"[1]"[..], b"{\"a\"", b"\xff", b"null"] {
        client.set_data(host.as_str(), bad, None).await.unwrap();
        let refused = [
            fields::set(&client, &host, &field("a"), &json!("1")).await,
            fields::unset(&client, &host, &field("a")).await,
        ];
        assert!(refused.iter().all(|refused| matches!(refused, Err(FieldsError::Data { .. }))), "{refused:?}");
        assert_eq!(client.get_data(host.as_str()).await.unwrap().0, bad);
    }
    client.set_data(host.as_str(), b"{}", None).await.unwrap();
    let refused = fields::unset(&client, &host, &field("a.b")).await;
    assert!(matches!(refused, Err(FieldsError::NoField { .. })), "{refused:?}");
    let large = Value::String("x".repeat(fields::DATA_BYTES_MAX));
    let refused = fields::set(&client, &host, &field("a"), &large).await;
    assert!(matches!(refused, Err(FieldsError::TooLarge { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_read_over_a_broken_connection() {
    const HOSTS: usize = 1200;
    let fixture = fixture();
    let farm = path(&fixture.path);
    let client = fixture.client().await;
    create(&client, farm.as_str(), b"").await;
    for hosts in (0..HOSTS).collect::<Vec<_>>().chunks(100) {
        let mut writer = client.new_multi_writer();
        for host in hosts {
            let (path, data) = (hosts::host_path(&farm, &format!("host-{host}")), format!("{{\"number\": {host}}}"));
            writer.add_create(&path, data.as_bytes(), &CreateMode::Persistent.with_acls(Acls::anyone_all())).unwrap();
        }
        writer.commit().await.unwrap();
    }
    create(&client, &hosts::host_path(&farm, "bad"), b"[]").await;
    let (proxied, proxy) = fixture.proxied(LONG_SESSION).await;
    proxy.break_at(Moment::BeforeReply, GET, "/host-777");
    let read = hosts::read(&proxied, &farm).await.unwrap();
    proxy.sprung(1).await;
    assert_eq!(read.len(), HOSTS + 1);
    assert_eq!(read["host-777"].as_ref().unwrap().get(&field("number")), Some(&json!(777)));
    assert!(read["bad"].is_err());
    let refused = hosts::read(&client, &path("/nowhere")).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no farm /nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farm_is_checked() {
    let fixture = fixture();
    let farm = path(&fixture.path);
    let client = fixture.client().await;
    let rules = Rules { max: "2".parse().unwrap(), warn: None, filter: None };
    let line = async || check::check(&client, &farm, &rules).await.map(|verdict| verdict.to_string());
    assert_eq!(line().await.unwrap(), "OK: 0/0 nodes running, 0 nodes failing, max allowed 2");
    create(&client, farm.as_str(), b"{}").await;
    for (name, data) in [("a", "{\"on\": \"1\"}"), ("b", "{\"on\": \"0\"}"), ("c", "["), ("common", "{\"on\": \"1\"}")]
    {
        create(&client, &hosts::host_path(&farm, name), data.as_bytes()).await;
    }
    assert!(matches!(line().await, Err(CheckError::NoSize(_))));
    client.set_data(farm.as_str(), b"{\"size\": \"4\"}", None).await.unwrap();
    assert_eq!(line().await.unwrap(), "OK: 3/4 nodes running, 1 nodes failing, max allowed 2");
    client.set_data(farm.as_str(), b"{\"size\": 4, \"running_filter\": \"on=1\"}", None).await.unwrap();
    assert_eq!(line().await.unwrap(), "CRITICAL: 1/4 nodes running, 3 nodes failing, max allowed 2");
}
