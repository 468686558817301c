//! The simulator as its users see it: seeds that must pass, and the promise that a seed does the same each time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod seeds;
