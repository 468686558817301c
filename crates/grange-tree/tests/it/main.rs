//! What clients see of the tree.

#![expect(clippy::unwrap_used, reason = "a script that cannot be read is a mistake in the test")]

mod hostile;
mod model;
mod rules;
mod script;
