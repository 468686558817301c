//! Recipes: what processes on many machines agree on by way of znodes.
//!
//! | recipe | who may hold it | who waits for whom |
//! |---|---|---|
//! | [`Lock`] | one | each for the one before |
//! | [`ReadWriteLock`] | one writer, or any number of readers | a reader for the last writer before, a writer for the one before |
//! | [`Semaphore`] | as many as were agreed on | in line; the first one for a lease that is given back |
//! | [`Election`] | one leader | each for the one before |
//!
//! | [`LockingQueue`], [`Queue`] | one taker per item | takers of an empty queue for an item |
//! | [`Barrier`] | | all until it is taken down |
//! | [`DoubleBarrier`] | | a group of known size until all have come, and until all leave |
//! | [`Counter`] | | nobody: a change is tried again |
//! | [`SetPartitioner`] | one member per item, each its share | members for the shares of the others, when the party changes |
//! | [`Party`] | | nobody: it tells who is there |
//! | [`Lease`] | one, for a time that the server measures | nobody |
//! | [`DataWatch`], [`ChildrenWatch`], [`TreeCache`] | | for the next change |
//!
//! What locks, semaphores and elections give is a [`Held`]: it ends with [`Held::release`] or by being dropped, and [`Held::lost`] resolves when it
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

mod barrier;
mod candidates;
mod contender;
mod counter;
mod double_barrier;
mod election;
mod entries;
mod error;
mod failure;
mod feed;
mod held;
mod lease;
mod line;
mod lock;
mod locking_queue;
mod marker;
mod names;
mod own;
mod parents;
mod partitioner;
mod party;
mod queue;
mod read_write_lock;
mod semaphore;
mod watch;

pub use barrier::Barrier;
pub use counter::{Change, Changed, Counter, CounterLayout, Number, NumberError};
pub use double_barrier::DoubleBarrier;
pub use entries::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Priority, PriorityError, batches};
pub use failure::RecipeError;
pub use lease::{Lease, LeaseState};
pub use locking_queue::{Item, LockingQueue};
pub use partitioner::{Partition, PartitionItem, PartitionState, SetPartitioner};
pub use party::{Party, PartyLayout};
pub use queue::Queue;
pub use watch::{CachedNode, ChildrenWatch, DataWatch, TreeCache, TreeChange, TreeReads};

pub use contender::Contender;
pub use election::{Election, Led};
pub use error::LockError;
pub use held::{FencingToken, Held, Loss};
pub use lock::Lock;
pub use names::{Layout, Role};
pub use read_write_lock::ReadWriteLock;
pub use semaphore::{Semaphore, SemaphoreUse};
