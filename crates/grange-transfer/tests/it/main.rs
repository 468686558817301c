//! `sync` against rsync: the same source, both results, one independent look at everything in them.

mod harness;
mod hostile;
mod manifest;
mod matches_rsync;
mod safety;
