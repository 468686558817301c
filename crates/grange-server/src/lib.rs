//! The edge of the server: sockets, files, timers.

pub mod storage;
