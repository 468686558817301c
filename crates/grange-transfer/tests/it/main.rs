//! `sync` against rsync: the same source, both results, one independent look at everything in them.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up may panic, in its helpers too")]

mod apache;
mod harness;
mod hostile;
mod manifest;
mod matches_rsync;
mod queues;
mod safety;
