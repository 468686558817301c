//! The ZooKeeper wire protocol as values: records, framing, operation and error codes, vocabulary types.
#![forbid(unsafe_code)]
