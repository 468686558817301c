//! The codec against frames recorded from Apache ZooKeeper and its clients, and against hostile bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod golden;
mod hostile;
mod record;
