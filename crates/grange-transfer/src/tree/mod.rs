//! A tree of files seen through directory handles.
//!
//! Everything is opened relative to a handle and never through a symbolic link, so that neither a hostile name nor a
//! directory that is swapped for a link while we work can lead outside the base directory.

mod attributes;
mod base;
mod listing;
mod record;
mod xattr_call;
mod xattrs;

pub use attributes::{Identity, Ownership, set_attributes, set_times};
pub use base::{Base, Dir};
pub use listing::{EntryType, Listing, Position, list};
pub use record::{FileId, Kind, Record, Time};
pub use xattrs::{XattrSupport, Xattrs};
