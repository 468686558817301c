//! The threads that a program runs on.

use std::future::Future;

use crate::error::CommandError;

/// Runs a future to its end, on this thread; what it spawns runs on as many as there are processors.
pub(crate) fn run(future: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| CommandError::failure(error).context("cannot start threads"))?.block_on(future)
}
