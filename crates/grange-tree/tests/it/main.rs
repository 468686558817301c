//! What clients see of the tree.

mod rules;
mod script;
