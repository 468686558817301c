//! The `grange` command.
fn main() {}
