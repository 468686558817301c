//! The member as its edge sees it: events in, actions out, with a log and clients that live in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod harness;

mod cluster;
mod durability;
mod ensemble;
mod pipeline;
mod sessions;
mod watches;
