//! Requests that lose their connection.

use std::time::Duration;

use grange_client::{Acls, ClientError, CreateMode, SessionState, is_connection_loss, retry, retry_until};
use tokio::time::Instant;

use crate::proxy::{Moment, Proxy, op};
use crate::server::{Fixture, Kind, LONG_SESSION, SHORT_SESSION, TestServer, eventually, on_each_server, open};

on_each_server!(
    a_read_survives_a_broken_connection,
    a_create_that_was_done_is_reported_as_lost,
    a_deadline_ends_a_request_that_gets_no_answer,
    the_end_of_the_session_ends_the_attempts,
);

async fn a_read_survives_a_broken_connection(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    for (count, moment) in [(1, Moment::BeforeRequest), (2, Moment::BeforeReply)] {
        proxy.break_at(moment, op::LIST, "/");
        assert!(!retry(|| client.list_children("/")).await.unwrap().is_empty());
        proxy.sprung(count).await;
    }
    proxy.cut();
    eventually("connected again", async || client.state() == SessionState::SyncConnected).await;
    proxy.refuse();
    let (listed, ()) = tokio::join!(retry(|| client.list_children("/")), async { proxy.flow() });
    assert!(listed.is_ok(), "{listed:?}");
}

async fn a_create_that_was_done_is_reported_as_lost(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    proxy.break_at(Moment::BeforeReply, op::CREATE, &fixture.path);
    let error = client.create(&fixture.path, b"", &options).await.unwrap_err();
    assert!(is_connection_loss(&error), "{error:?}");
    assert!(fixture.client().await.check_stat(&fixture.path).await.unwrap().is_some(), "it was done");
    proxy.break_at(Moment::BeforeReply, op::DELETE, &fixture.path);
    assert_eq!(retry(|| client.delete(&fixture.path, None)).await.unwrap_err(), ClientError::NoNode);
}

async fn a_deadline_ends_a_request_that_gets_no_answer(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(LONG_SESSION).await;
    proxy.hold();
    let deadline = Instant::now() + Duration::from_millis(100);
    let error = retry_until(deadline, || client.list_children("/")).await.unwrap_err();
    assert_eq!(error, ClientError::Timeout);
}

async fn the_end_of_the_session_ends_the_attempts(fixture: Fixture) {
    let (client, proxy) = fixture.proxied(SHORT_SESSION).await;
    proxy.refuse();
    assert_eq!(retry(|| client.list_children("/")).await.unwrap_err(), ClientError::SessionExpired);
}

/// Whichever server it is: the client is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_for_a_server_that_is_started_again() {
    let mut server = TestServer::start(Kind::Grange).unwrap();
    let proxy = Proxy::start(server.address()).await;
    let client = open(proxy.address(), LONG_SESSION).await;
    server.restart();
    proxy.redirect(server.address());
    assert!(retry(|| client.list_children("/")).await.is_ok());
}
