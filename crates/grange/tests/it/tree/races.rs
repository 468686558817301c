//! Somebody else changes the tree between a plan and its end.

use std::path::PathBuf;

use grange_client::declared::{self, Applied, ApplyError, Caller, Declared, Live, PlanOptions, Source};
use grange_client::{Acls, Client, ConnectOptions, CreateMode, Servers};

use super::{Site, Started};
use crate::server::{Apache, Server};

#[test]
fn a_concurrent_change_is_noticed_on_grange() {
    races(&Started::new().server);
}

#[test]
fn a_concurrent_change_is_noticed_on_apache() {
    if let Some(server) = Apache::start() {
        races(&server);
    }
}

struct Race {
    client: Client,
    declared: Declared,
}

impl Race {
    /// Makes a plan, lets somebody do something, and carries the plan out.
    async fn run<F: Future<Output = ()>>(
        &self,
        meanwhile: impl FnOnce(Client) -> F,
    ) -> (Result<(), ApplyError>, Applied) {
        let live = Live::read(&self.client, &self.declared, true).await.unwrap();
        let options = PlanOptions { prunes: true, allows_lockout: false };
        let plan = declared::plan(&self.declared, &live, &Caller::default(), options);
        assert!(plan.obstacles.is_empty() && !plan.changes.is_empty(), "{plan:?}");
        meanwhile(self.client.clone()).await;
        let mut applied = Applied::default();
        (declared::apply(&self.client, &plan, &mut applied).await, applied)
    }

    async fn changed<F: Future<Output = ()>>(&self, meanwhile: impl FnOnce(Client) -> F) -> String {
        match self.run(meanwhile).await {
            (Err(error @ ApplyError::Changed { .. }), applied) => {
                assert_eq!(applied, Applied::default(), "nothing of the transaction is written");
                error.to_string()
            }
            other => panic!("the change was not noticed: {other:?}"),
        }
    }
}

async fn create(client: &Client, path: &str) {
    client.create(path, b"theirs", &CreateMode::Persistent.with_acls(Acls::anyone_all())).await.unwrap();
}

fn declaration(site: &Site<'_>, text: &str) -> Declared {
    let files: Vec<PathBuf> = vec![site.put("race.toml", text)];
    declared::read(&Source { files, ..Source::default() }, &|_| None).unwrap()
}

fn races(server: &dyn Server) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let site = Site::new(server);
        let options = ConnectOptions::new(Servers::parse(&server.servers()).unwrap());
        let client = grange_client::connect(&options).await.unwrap();
        let mut race =
            Race { client, declared: declaration(&site, "[znodes.'/r']\ndata = 'ours'\n[znodes.'/r/new']\n") };
        let found = race.changed(|client| async move { create(&client, "/r").await }).await;
        assert_eq!(found, "/r: somebody created it since the plan was made");
        let found = race.changed(|client| async move { drop(client.set_data("/r", b"theirs too", None).await) }).await;
        assert_eq!(found, "/r: somebody changed it since the plan was made");
        assert_eq!(race.client.get_data("/r").await.unwrap().0, b"theirs too");
        let found = race.changed(|client| async move { create(&client, "/r/new").await }).await;
        assert_eq!(found, "/r/new: somebody created it since the plan was made");
        assert_eq!(race.client.get_data("/r").await.unwrap().0, b"theirs too");
        race.client.delete("/r/new", None).await.unwrap();
        let found = race.changed(|client| async move { client.delete("/r", None).await.unwrap() }).await;
        assert_eq!(found, "/r: somebody deleted it since the plan was made");
        let (done, applied) = race.run(|_| async {}).await;
        assert_eq!((done.is_ok(), applied.created), (true, 2));

        race.declared = declaration(&site, "[znodes.'/r']\nacl = ['world:anyone:cdra']\n");
        let found = race
            .changed(|client| async move {
                let acl = [grange_client::Acl::new(grange_client::Permission::ALL, grange_client::AuthId::anyone())];
                client.set_acl("/r", &acl, None).await.unwrap();
                client.delete("/r/new", None).await.unwrap();
            })
            .await;
        // Deletions come before ACLs.
        assert_eq!(found, "/r/new: somebody deleted it since the plan was made");
        let found = race
            .changed(|client| async move {
                let acl = [grange_client::Acl::new(grange_client::Permission::ALL, grange_client::AuthId::anyone())];
                client.set_acl("/r", &acl, None).await.unwrap();
            })
            .await;
        assert_eq!(found, "/r: somebody changed it since the plan was made");

        race.declared = declaration(&site, "[znodes.'/r']\n");
        create(&race.client, "/r/extra").await;
        let found = race.changed(|client| async move { create(&client, "/r/extra/child").await }).await;
        assert_eq!(found, "/r/extra: somebody created something below it since the plan was made");
        race.client.delete("/r/extra/child", None).await.unwrap();
        let found = race.changed(|client| async move { drop(client.set_data("/r/extra", b"x", None).await) }).await;
        assert_eq!(found, "/r/extra: somebody changed it since the plan was made");
        grange_client::close(race.client).await;
    });
}
