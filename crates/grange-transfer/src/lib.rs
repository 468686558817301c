//! Walking, comparing and moving trees of files.
//!
//! Four layers, each knowing only those above it in this list: [`tree`] sees and changes directories through handles,
//! [`compare`] decides from two records, [`mover`] gets contents across, and [`sync`] plans: it shares a tree out in
//! parts among workers. Grange does the namespace, rsync the contents.

pub mod compare;
pub mod filter;
mod links;
pub mod mover;
pub mod path;
pub mod sync;
mod temporary;
pub mod tree;
mod wildmatch;
