//! The edge of the server: sockets, files, timers.
//!
//! [`Server::start`] runs one member on threads of its own:
//!
//! ```text
//!   io-0 .. io-N   frames in, replies out, four-letter words       net, four_letter
//!        | events       ^ commands, one wake-up per batch
//!        v              |
//!      replica     one step for everything that has arrived         driver
//!        | batches      ^ "durable"          | images
//!        v              |                    v
//!       log        one sync per round     snapshot                  log_writer, snapshotter, storage
//! ```
//!
//! A member that has others has links to them besides: `peers`, and `founding` as long as it has no data.
//!
//! The replica itself is a pure machine in `grange-replica`. Nothing here knows what a request means; nothing there
//! knows what a socket is.

pub mod config;
pub mod four_letter;
pub mod new_member;
pub mod storage;

#[cfg(feature = "simulation")]
pub mod simulation;

mod clock;
mod driver;
mod ensemble;
mod failure;
mod founding;
mod log_writer;
mod mailbox;
mod net;
mod peers;
mod random;
mod recovery;
mod rescue;
mod server;
mod snapshotter;
mod stats;
mod temporary;
mod unsynced;

pub use config::{Config, ConfigError, RawConfig};
pub use failure::ServerFailure;
pub use net::ListenError;
pub use peers::TlsError;
pub use recovery::DataError;
pub use rescue::{RescueError, Rescued, rescue};
pub use server::{Server, StartError};
