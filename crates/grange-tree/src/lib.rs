//! The replicated state: znodes, sessions and their ephemerals.
#![forbid(unsafe_code)]
