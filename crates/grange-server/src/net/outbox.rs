//! The way into an I/O worker: one lock and at most one wake-up for a whole batch.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use grange_replica::{ConnId, Report};
use mio::net::TcpStream;
use mio::{Registry, Token, Waker};

use super::admission::Permit;

/// Something an I/O worker is to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve a connection that was accepted.
    Adopt(Accepted),
    /// Write bytes to a connection.
    Send {
        /// The connection; nothing happens if it is gone.
        conn: ConnId,
        /// Whole frames.
        bytes: Vec<u8>,
        /// Requests these frames answer.
        answered: u32,
    },
    /// Close a connection once everything is written.
    Close(ConnId),
    /// Go on with a four-letter word.
    Inspected {
        /// The token of the question.
        token: u64,
        /// The answer.
        report: Box<Report>,
    },
    /// Read nothing more, and end when everything in flight is answered and written.
    Drain,
    /// End at once.
    Stop,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

/// The sending side of a worker's queue of commands; clones send to the same worker.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: Mutex<Vec<Command>>,
    /// Whether the worker knows that there is something: it is not woken twice.
    announced: AtomicBool,
    waker: Waker,
}

impl Outbox {
    /// Makes the queue of the worker that polls `registry`; it is woken by `token`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Outbox> {
        let waker = Waker::new(registry, token)?;
        let shared = Shared { commands: Mutex::default(), announced: AtomicBool::new(false), waker };
        Ok(Outbox { shared: Arc::new(shared) })
    }

    /// Sends all of `commands`, and leaves it empty.
    pub(crate) fn append(&self, commands: &mut Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        self.lock().append(commands);
        if !self.shared.announced.swap(true, Ordering::AcqRel)
            && let Err(error) = self.shared.waker.wake()
        {
            // The worker's poll is gone with its thread, or the kernel is out of memory: the worker polls again soon.
            tracing::warn!(%error, "cannot wake an I/O worker");
        }
    }

    pub(crate) fn push(&self, command: Command) {
        self.append(&mut vec![command]);
    }

    /// Moves everything into `into`. Only the worker calls it.
    pub(super) fn take(&self, into: &mut Vec<Command>) {
        // In this order: whoever adds after the lock is released wakes the worker again.
        self.shared.announced.store(false, Ordering::Release);
        into.append(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Command>> {
        self.shared.commands.lock().expect("nothing panics while it holds this lock")
    }
}
