//! Why a recipe other than a lock did not do what was asked.

use std::fmt;

use grange_proto::ZnodePath;
use zookeeper_client::Error as ClientError;

use super::entries::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX};
use super::error::{LockError, is_session_end};
use super::held::Loss;

/// Why a queue, a barrier, a counter or another recipe failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The server refused a request, or the session has ended.
    #[error("{doing} {path}")]
    Request {
        /// What was being done, such as "cannot count the items of".
        doing: &'static str,
        /// Where.
        path: String,
        /// Why it failed.
        #[source]
        source: ClientError,
    },
    /// The session ended between a request that changes something and its reply.
    #[error("the session with the servers was lost during a change of {path}; whether it was made is not known")]
    Unknown {
        /// What was to be changed.
        path: String,
    },
    /// Items are too many or too large for one transaction.
    #[error(
        "{count} items with {bytes} bytes do not fit one transaction ({BATCH_ITEMS_MAX} items, {BATCH_BYTES_MAX} bytes)"
    )]
    TooLarge {
        /// How many items.
        count: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// Somebody deleted the znode that made this one the holder.
    #[error("{path} is held no longer: somebody deleted its znode or its lock")]
    NotHeld {
        /// What was held.
        path: String,
    },
    /// What was held may be somebody else's by now.
    #[error("{path} is held no longer: {loss}")]
    Lost {
        /// The znode that made this one the holder.
        path: String,
        /// Why.
        loss: Loss,
    },
    /// An item or a member is called what no znode can be called.
    #[error("{name:?} cannot be the name of {what}: {why}")]
    Name {
        /// What has that name, such as "an item".
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The data of a counter is not a number, or the result is none.
    #[error("{path} {why}")]
    Number {
        /// The counter.
        path: ZnodePath,
        /// What is wrong.
        why: String,
    },
    /// Others kept changing it.
    #[error("{path} was changed by others each of {attempts} times that it was tried")]
    Contended {
        /// What was to be changed.
        path: ZnodePath,
        /// How often it was tried.
        attempts: u32,
    },
    /// A lock that the recipe needs failed.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl RecipeError {
    /// Tells whether the session has ended: only a new one can go on.
    pub fn is_session_end(&self) -> bool {
        match self {
            RecipeError::Request { source, .. } => is_session_end(source),
            RecipeError::Unknown { .. } => true,
            RecipeError::Lost { loss, .. } => *loss == Loss::SessionEnded,
            RecipeError::Lock(error) => error.is_session_end(),
            _ => false,
        }
    }
}

/// Names what was being done when a request failed.
pub(crate) fn request(doing: &'static str, path: &dyn fmt::Display) -> impl Fn(ClientError) -> RecipeError + use<> {
    let path = path.to_string();
    move |source| RecipeError::Request { doing, path: path.clone(), source }
}
