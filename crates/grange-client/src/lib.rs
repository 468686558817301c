//! What every Grange tool needs to talk to an ensemble: where it is, who asks, and a session that was really opened.
//!
//! The protocol itself is the crate `zookeeper-client`; its vocabulary is exported here, so that a tool names one
//! crate. What is added: servers, chroot and credentials come from one place for all tools ([`ConnectOptions`]), a
//! failure to connect names each address and what was wrong with it ([`ConnectError`]), and a session is closed
//! before the process ends ([`close`]), so that its ephemeral znodes do not outlive a command.
//!
//! > **Invariant:** credentials are never taken from arguments, never printed, and never part of an error.

#![forbid(unsafe_code)]

pub mod declared;
pub mod ensemble;
pub mod recipes;
pub mod wire;

mod auth;
mod config_file;
mod connect;
mod options;
mod pipeline;
mod private_file;
mod retry;
mod servers;
mod tls;

pub use auth::{Auth, AuthError, Credentials, SaslLogin};
pub use config_file::ConfigFileError;
pub use connect::{ConnectError, Unreachable, close, connect};
pub use options::{ConnectOptions, OptionsError, Origin, RawConnectOptions, SecondsError, seconds};
pub use pipeline::{Reply, pipelined};
pub use private_file::PrivateFileError;
pub use retry::{is_connection_loss, is_transient, retry, retry_until};
pub use servers::{ServerAddress, Servers, ServersError};
pub use tls::{Tls, TlsError};

pub use grange_proto::ZnodePath;
pub use zookeeper_client::{
    Acl, Acls, AddWatchMode, AuthId, Client, CreateMode, CreateOptions, EnsembleUpdate, Error as ClientError,
    EventType, MultiWriteError, MultiWriteResult, MultiWriter, OneshotWatcher, Permission, PersistentWatcher,
    SessionState, Stat, WatchedEvent,
};
