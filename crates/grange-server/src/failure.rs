//! How a server ends when one of its threads cannot go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::watch;

use crate::storage::log::LogError;

/// Why a server stopped by itself. What was acknowledged is on the disk; start it again after the cause is gone.
#[derive(Debug, thiserror::Error)]
pub enum ServerFailure {
    /// The log cannot be written: it is unknown what the disk has of the last write, so nothing more is acknowledged.
    #[error("the log has failed")]
    Log(#[source] LogError),
    /// A socket or a poll of one of the server's own threads failed in a way that is not a client's doing.
    #[error("thread {thread} cannot wait for sockets")]
    Poll {
        /// The thread.
        thread: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// An invariant was broken: a stopped server is safe.
    #[error("thread {thread} panicked")]
    Panicked {
        /// The thread.
        thread: String,
    },
}

/// Takes the first failure of any thread, and lets the others end.
pub(crate) struct Failures {
    first: watch::Sender<Option<Arc<ServerFailure>>>,
    stop_all: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failures").field("first", &self.first).finish_non_exhaustive()
    }
}

impl Failures {
    /// `stop_all` asks every thread to end at once; it may be called more than once.
    pub(crate) fn new(stop_all: impl Fn() + Send + Sync + 'static) -> Arc<Failures> {
        Arc::new(Failures { first: watch::Sender::new(None), stop_all: Box::new(stop_all) })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<ServerFailure>>> {
        self.first.subscribe()
    }

    fn report(&self, failure: ServerFailure) {
        let cause = std::error::Error::source(&failure).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%failure, cause, "the server stops");
        self.first.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(Arc::new(failure));
            }
            is_first
        });
        (self.stop_all)();
    }

    /// Starts a thread of the server; its error or its panic stops all others.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce() -> Result<(), ServerFailure> + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let failures = Arc::clone(self);
        let thread = name.to_owned();
        Builder::new().name(name.to_owned()).spawn(move || match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => failures.report(failure),
            Err(_) => failures.report(ServerFailure::Panicked { thread }),
        })
    }
}
