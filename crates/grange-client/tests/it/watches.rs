//! Watches that go on, over broken connections.

use grange_client::recipes::{ChildrenWatch, DataWatch, TreeCache, TreeChange, TreeReads};
use grange_client::{Acls, Client, CreateMode, SessionState, ZnodePath};
use tokio::time::timeout;

use crate::server::{Fixture, LONG_SESSION, PATIENCE, SHORT_SESSION, eventually, on_each_server};

on_each_server!(
    data_are_told_whenever_they_change,
    children_are_told_whenever_they_change,
    a_tree_is_followed,
    a_tree_is_followed_by_ordinary_watches,
    after_a_reconnect_only_what_changed_is_read,
    a_tree_goes_on_with_another_session,
    the_end_of_the_session_ends_each_watch,
);

fn path(text: &str) -> ZnodePath {
    text.parse().unwrap()
}

async fn create(client: &Client, path: &str, data: &str) {
    client.create(path, data.as_bytes(), &CreateMode::Persistent.with_acls(Acls::anyone_all())).await.unwrap();
}

async fn set(client: &Client, path: &str, data: &str) {
    client.set_data(path, data.as_bytes(), None).await.unwrap();
}

async fn data_are_told_whenever_they_change(fixture: Fixture) {
    let client = fixture.client().await;
    let (proxied, proxy) = fixture.proxied(LONG_SESSION).await;
    let mut watch = DataWatch::new(proxied, path(&fixture.path));
    let mut next = async || {
        let told = timeout(PATIENCE, watch.next()).await.expect("nothing is told").unwrap();
        told.map(|(data, _)| String::from_utf8(data).unwrap())
    };
    assert_eq!(next().await, None);
    create(&client, &fixture.path, "1").await;
    assert_eq!(next().await.unwrap(), "1");
    set(&client, &fixture.path, "2").await;
    assert_eq!(next().await.unwrap(), "2");
    proxy.refuse();
    set(&client, &fixture.path, "3").await;
    set(&client, &fixture.path, "4").await;
    proxy.flow();
    assert_eq!(next().await.unwrap(), "4");
    client.delete(&fixture.path, None).await.unwrap();
    assert_eq!(next().await, None);
    create(&client, &fixture.path, "5").await;
    assert_eq!(next().await.unwrap(), "5");
}

async fn children_are_told_whenever_they_change(fixture: Fixture) {
    let client = fixture.client().await;
    let (proxied, proxy) = fixture.proxied(LONG_SESSION).await;
    let mut watch = ChildrenWatch::new(proxied, path(&fixture.path));
    let mut next = async || {
        let told = timeout(PATIENCE, watch.next()).await.expect("nothing is told").unwrap();
        told.map(|(names, _)| names.join(" "))
    };
    assert_eq!(next().await, None);
    create(&client, &fixture.path, "").await;
    assert_eq!(next().await.unwrap(), "");
    create(&client, &format!("{}/b", fixture.path), "").await;
    assert_eq!(next().await.unwrap(), "b");
    proxy.refuse();
    create(&client, &format!("{}/a", fixture.path), "").await;
    proxy.flow();
    assert_eq!(next().await.unwrap(), "a b");
    client.delete(&format!("{}/b", fixture.path), None).await.unwrap();
    assert_eq!(next().await.unwrap(), "a");
}

/// A tree with what is told of it; paths are shown without that of the fixture.
struct Told {
    cache: TreeCache,
    root: String,
}

impl Told {
    async fn change(&mut self) -> String {
        let change = timeout(PATIENCE, self.cache.next()).await.expect("nothing is told").unwrap();
        let shown = |path: String| path.strip_prefix(&self.root).unwrap().to_owned();
        match change {
            TreeChange::Created(path) => format!("+{}", shown(path)),
            TreeChange::Changed(path) => format!("!{}", shown(path)),
            TreeChange::Deleted(path) => format!("-{}", shown(path)),
            TreeChange::Ready => "ready".to_owned(),
        }
    }

    async fn changes(&mut self, expected: &str) {
        let mut found = Vec::new();
        for _ in expected.split_whitespace() {
            found.push(self.change().await);
        }
        assert_eq!(found.join(" "), expected);
    }

    fn data(&self, path: &str) -> Option<&str> {
        let node = self.cache.get(&format!("{}{path}", self.root))?;
        Some(std::str::from_utf8(&node.data).unwrap())
    }
}

async fn a_tree_is_followed(fixture: Fixture) {
    let cache = TreeCache::open(fixture.client().await, path(&fixture.path)).await.unwrap();
    follow(&fixture, cache).await;
}

async fn a_tree_is_followed_by_ordinary_watches(fixture: Fixture) {
    let cache = TreeCache::open_with_ordinary_watches(fixture.client().await, path(&fixture.path));
    follow(&fixture, cache).await;
}

async fn follow(fixture: &Fixture, cache: TreeCache) {
    let client = fixture.client().await;
    let below = |name: &str| format!("{}{name}", fixture.path);
    let mut told = Told { cache, root: fixture.path.clone() };
    told.changes("ready").await;
    create(&client, &fixture.path, "root").await;
    told.changes("+").await;
    create(&client, &below("/a"), "1").await;
    told.changes("+/a").await;
    create(&client, &below("/a/b"), "2").await;
    told.changes("+/a/b").await;
    for number in 3..6 {
        set(&client, &below("/a/b"), &number.to_string()).await;
        told.changes("!/a/b").await;
        assert_eq!(told.data("/a/b"), Some(number.to_string().as_str()));
    }
    client.delete(&below("/a/b"), None).await.unwrap();
    told.changes("-/a/b").await;
    create(&client, &below("/a/b"), "again").await;
    told.changes("+/a/b").await;
    assert_eq!((told.data("/a/b"), told.data("/a"), told.data("")), (Some("again"), Some("1"), Some("root")));
    client.delete(&below("/a/b"), None).await.unwrap();
    told.changes("-/a/b").await;
    client.delete(&below("/a"), None).await.unwrap();
    told.changes("-/a").await;
    client.delete(&fixture.path, None).await.unwrap();
    told.changes("-").await;
    create(&client, &fixture.path, "root").await;
    told.changes("+").await;
    assert_eq!(told.cache.nodes().count(), 1);
}

/// Makes a tree of 1 + 5 * 10 znodes.
async fn plant(client: &Client, root: &str) {
    create(client, root, "").await;
    for branch in 0..5 {
        create(client, &format!("{root}/{branch}"), "").await;
        for leaf in 0..9 {
            create(client, &format!("{root}/{branch}/{leaf}"), "").await;
        }
    }
}

async fn after_a_reconnect_only_what_changed_is_read(fixture: Fixture) {
    let client = fixture.client().await;
    plant(&client, &fixture.path).await;
    let (proxied, proxy) = fixture.proxied(LONG_SESSION).await;
    let cache = TreeCache::open(proxied.clone(), path(&fixture.path)).await.unwrap();
    let mut told = Told { cache, root: fixture.path.clone() };
    while told.change().await != "ready" {}
    assert_eq!(told.cache.nodes().count(), 51);
    let before = told.cache.reads();
    // A list only of what has children; that they have is seen in their data, which are read with the list once more.
    assert_eq!(before, TreeReads { stats: 0, data: 51 + 6, lists: 6 });

    proxy.refuse();
    eventually("disconnected", async || proxied.state() == SessionState::Disconnected).await;
    set(&client, &format!("{}/0/0", fixture.path), "new").await;
    create(&client, &format!("{}/1/x", fixture.path), "").await;
    client.delete(&format!("{}/2/0", fixture.path), None).await.unwrap();
    proxy.flow();
    let mut changes = [told.change().await, told.change().await, told.change().await];
    changes.sort();
    assert_eq!(changes, ["!/0/0", "+/1/x", "-/2/0"]);
    assert_eq!(told.data("/0/0"), Some("new"));
    assert_eq!(told.cache.nodes().count(), 51);
    // It goes on.
    set(&client, &format!("{}/0/1", fixture.path), "newer").await;
    told.changes("!/0/1").await;
    // One stat each; data of what changed, came or went, and of the two parents whose children are listed.
    let after = told.cache.reads();
    assert_eq!((after.stats, after.data - before.data, after.lists - before.lists), (51, 6, 2));
}

async fn a_tree_goes_on_with_another_session(fixture: Fixture) {
    let client = fixture.client().await;
    plant(&client, &fixture.path).await;
    let (short, proxy) = fixture.proxied(SHORT_SESSION).await;
    let cache = TreeCache::open(short, path(&fixture.path)).await.unwrap();
    let mut told = Told { cache, root: fixture.path.clone() };
    while told.change().await != "ready" {}
    proxy.refuse();
    set(&client, &format!("{}/0", fixture.path), "new").await;
    let error = timeout(PATIENCE, told.cache.next()).await.unwrap().unwrap_err();
    assert!(error.is_session_end(), "{error}");
    told.cache.reopen(fixture.client().await).await.unwrap();
    told.changes("!/0").await;
    assert_eq!(told.cache.reads().data, 51 + 6 + 1);
}

async fn the_end_of_the_session_ends_each_watch(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(SHORT_SESSION).await;
    let mut data = DataWatch::new(client.clone(), path(&fixture.path));
    let mut children = ChildrenWatch::new(client.clone(), path(&fixture.path));
    let mut tree = TreeCache::open(client, path(&fixture.path)).await.unwrap();
    data.next().await.unwrap();
    children.next().await.unwrap();
    assert_eq!(tree.next().await.unwrap(), TreeChange::Ready);
    proxy.refuse();
    let ended = timeout(PATIENCE, async { tokio::join!(data.next(), children.next(), tree.next()) }).await.unwrap();
    assert!(ended.0.unwrap_err().is_session_end());
    assert!(ended.1.unwrap_err().is_session_end());
    assert!(ended.2.unwrap_err().is_session_end());
}
