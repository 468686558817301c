//! The server through its sockets and its files: what clients, operators and the next start see.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;
mod ensemble;
mod four_letter;
mod framing;
mod lifecycle;
mod limits;
mod sessions;
