//! Configuration as a directory, in DJB's way: a file is a string, a directory an object.
//!
//! Whoever owns the directory may be somebody else than whoever reads or writes it here, and may change it meanwhile.
//! Reading follows links, as the programs that use the files do. Writing never does: what is changed behind a link is
//! changed by putting a file or directory of its own in the link's place.

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;
