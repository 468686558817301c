//! An ensemble as its operator sees it: who the members are, how each of them is, and how they change.
//!
//! Works on Grange's and on Apache's ensembles, as far as those can do it.

mod change;
mod invitation;
mod join;
mod members;
mod probe;
mod status;

pub use change::{ChangeError, Ensemble, HandOver};
pub use invitation::{Invitation, TokenError};
pub use join::{JoinError, NewServer, own_address};
pub use members::{Members, MembersError};
pub use probe::{Mode, ServerReport, probe};
pub use status::{Behind, Health, ServerStatus, Status, status};
