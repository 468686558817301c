//! Configuration in real files and directories, and beside the programs that read it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helper functions too")]

mod conf_dir;
mod conf_files;
mod conf_hostile;
mod conf_programs;
