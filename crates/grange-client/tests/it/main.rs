//! The client library against real servers, with connections that break at the worst moment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod apache;
mod faults;
mod herd;
mod partitions;
mod proxy;
mod queues;
mod recipe;
mod recipes;
mod retry;
mod secure;
mod server;
mod sharing;
mod watches;
