//! The codec against frames recorded from Apache ZooKeeper and its clients, and against hostile bytes.

mod golden;
mod hostile;
mod record;
