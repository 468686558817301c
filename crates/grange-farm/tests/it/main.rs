//! Farms on a real server, with connections that break at the worst moment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../grange-client/tests/it/apache.rs"]
#[allow(dead_code, reason = "shared with the client's tests")]
mod apache;
#[path = "../../../grange-client/tests/it/proxy.rs"]
#[allow(dead_code, reason = "shared with the client's tests")]
mod proxy;
#[path = "../../../grange-client/tests/it/server.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the client's tests")]
mod server;

mod exec;
mod fields;
