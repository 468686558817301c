//! What it takes to run something when the farm allows it: where the locks are, the farm as it is now, and fields of a host
//! that are set for the time of a run.
//!
//! Nothing of that may lie in the farm's znode, whose children are hosts. So it lies beside it, in `PARENT/.FARM.exec`
//! ([`Place`]).
//!
//! # Fields that are set for a while
//! A run may end without a word: the process is killed, the machine is reset. So fields are set in one transaction with the
//! creation of a *record* of what they were before ([`Undo`]), which lasts, and of an ephemeral child of it, which goes when
//! the session of the run does. A record without that child is an *orphan*, and whoever finds it puts the fields back, in
//! one transaction with the removal of the record, so that this is done once ([`UndoLog`], [`Orphans`]).
//!
//! If the whole machine died, its host's znode is gone as well, and what was set is in the configuration that it will
//! register itself with again: the record waits for that.

mod health;
mod orphans;
mod place;
mod record;
mod set;
mod settle;
mod undo;

pub use health::view_now;
pub use orphans::Orphans;
pub use place::{Place, PlaceError};
pub use record::{Record, UndoLog};
pub use set::{SetOutcome, Setting};
pub use settle::{Settled, Whose};
pub use undo::{Applied, FieldUndo, InTheWay, Undo, UndoError};

use grange_client::ClientError;
use grange_client::recipes::RecipeError;

use crate::fields::DATA_BYTES_MAX;
use crate::properties::PropertiesError;

/// Why fields could not be set, or not be put back.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The server refused a request, or the session has ended.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// What the host says of itself cannot be read, so nothing in it can be changed.
    #[error("the data of {path} are no properties")]
    Properties {
        /// The host.
        path: String,
        /// Why.
        #[source]
        source: PropertiesError,
    },
    /// A field cannot be set for a while.
    #[error("cannot set a field of {path}")]
    InTheWay {
        /// The host.
        path: String,
        /// Why.
        #[source]
        source: InTheWay,
    },
    /// The host's object would become too large for a server.
    #[error("{path} and what it was before would have {bytes} bytes; the most is {DATA_BYTES_MAX}")]
    TooLarge {
        /// The host.
        path: String,
        /// How many bytes there would be.
        bytes: usize,
    },
    /// Others kept changing the host's znode.
    #[error("{path} was changed by others each of {attempts} times that it was tried")]
    Contended {
        /// The host.
        path: String,
        /// How often it was tried.
        attempts: u32,
    },
}

impl ExecError {
    /// Tells whether the session has ended: only a new one can go on.
    pub fn is_session_end(&self) -> bool {
        matches!(self, ExecError::Recipe(error) if error.is_session_end())
    }
}

/// Names what was being done when a request failed.
fn request(doing: &'static str, path: &str) -> impl FnOnce(ClientError) -> ExecError + use<> {
    let path = path.to_owned();
    move |source| ExecError::Recipe(RecipeError::Request { doing, path, source })
}
