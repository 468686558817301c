//! Recipes: what processes on many machines agree on by way of znodes.
//!
//! | recipe | who may hold it | who waits for whom |
//! |---|---|---|
//! | [`Lock`] | one | each for the one before |
//! | [`ReadWriteLock`] | one writer, or any number of readers | a reader for the last writer before, a writer for the one before |
//! | [`Semaphore`] | as many as were agreed on | in line; the first one for a lease that is given back |
//! | [`Election`] | one leader | each for the one before |
//!
//! What they give is a [`Held`]: it ends with [`Held::release`] or by being dropped, and [`Held::lost`] resolves when it
//! may end without either. Those who wait are cancelled by dropping the future: their znode goes too, also if its
//! creation was still under way. Names and data are those of the Python library kazoo, or of the Java library Curator
//! ([`Layout`]), whose processes may take part.
//!
//! # Why holding is not enough
//! No lock with a timeout can stop a process that stands still, or a request of its that is late. [`Held::lost`] is
//! early (see there), but a process that does not run cannot look at it. What must not be done by two at a time should
//! therefore be done with the [`FencingToken`]: it grows from holder to holder, and whoever keeps the data refuses a
//! smaller one than it has seen.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use grange_client::{ConnectOptions, Servers, connect};
//! use grange_client::recipes::Lock;
//!
//! let client = connect(&ConnectOptions::new(Servers::parse("zk1,zk2,zk3")?)).await?;
//! let lock = Lock::new(&client, "/locks/backup".parse()?, "host-a");
//! let held = lock.acquire().await?;
//! tokio::select! {
//!     () = back_up(held.token().number()) => held.release().await?,
//!     loss = held.lost() => eprintln!("stopped: {loss}"),
//! }
//! # Ok(())
//! # }
//! # async fn back_up(token: i64) {}
//! ```

mod contender;
mod election;
mod error;
mod held;
mod line;
mod lock;
mod names;
mod own;
mod parents;
mod read_write_lock;
mod semaphore;

pub use contender::Contender;
pub use election::{Election, Led};
pub use error::LockError;
pub use held::{FencingToken, Held, Loss};
pub use lock::Lock;
pub use names::{Layout, Role};
pub use read_write_lock::ReadWriteLock;
pub use semaphore::{Semaphore, SemaphoreUse};
