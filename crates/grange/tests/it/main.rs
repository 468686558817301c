//! The program as its users start it: real processes, real servers, real pipes.

mod command_line;
mod layering;
mod program;
mod server;
mod shell;
