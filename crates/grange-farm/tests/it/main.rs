//! Farms on a real server, with connections that break at the worst moment; configuration in real files and directories,
//! and beside the programs that read it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

#[path = "../../../grange-client/tests/it/apache.rs"]
#[allow(dead_code, reason = "shared with the client's tests")]
mod apache;
#[path = "../../../grange-client/tests/it/proxy.rs"]
#[allow(dead_code, reason = "shared with the client's tests")]
mod proxy;
#[path = "../../../grange-client/tests/it/server.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the client's tests")]
mod server;

mod conf_dir;
mod conf_files;
mod conf_hostile;
mod conf_programs;
mod exec;
mod fields;
mod storm;
