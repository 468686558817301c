//! The program as its users start it: real processes, real servers, real pipes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

#[path = "../../../grange-client/tests/it/apache.rs"]
mod apache;
mod client;
mod command;
mod command_line;
mod crash;
mod disk;
mod ensemble;
mod farm_commands;
mod farm_exec;
mod farm_export;
mod farm_join;
mod farm_top;
mod layering;
mod lock;
mod program;
#[path = "../../../grange-client/tests/it/proxy.rs"]
#[allow(dead_code, reason = "shared with the client's tests")]
mod proxy;
mod queue;
mod running;
mod serve;
mod server;
mod shell;
mod shell_interactive;
mod shell_more;
mod sync;
mod terminal;
mod tree;
