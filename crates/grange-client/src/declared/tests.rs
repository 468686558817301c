//! Files in both forms, and plans against a model of a server.

mod files;
mod model;
mod plans;
