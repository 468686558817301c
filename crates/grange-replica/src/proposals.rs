//! Writes on their way into the log: collected into entries, and remembered until the entries are applied.
//!
//! All requests that arrive while earlier entries are being synced share the next entry: group commit.

use std::collections::VecDeque;
use std::sync::Arc;

use grange_proto::{Op, SessionId};
use grange_tree::{Identities, Policy};

use crate::connections::Asked;
use crate::entry::{BatchId, EntryBuilder};
use crate::event::ConnId;
use crate::watches::ConnSlot;

/// Entries that may be in the log and not yet applied.
const ENTRIES_IN_FLIGHT_MAX: usize = 2;
/// Requests in one entry at most: bounds how long others wait while it is applied.
const ENTRY_REQUESTS_MAX: usize = 4_096;
/// Bytes in one entry, after which no further request is added.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Where a write came from and who is to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// A client's request.
    Request { slot: ConnSlot, conn: ConnId, asked: Asked },
    /// A connection that waits for its session.
    Connect { slot: ConnSlot, conn: ConnId },
    /// This member itself: expiry, reaping.
    Own,
}

struct InFlight {
    number: u64,
    origins: VecDeque<Origin>,
}

/// Writes on their way.
pub(crate) struct Proposals {
    /// This run of this member, to tell its batches from those of others and of earlier runs.
    run: u64,
    next_number: u64,
    builder: EntryBuilder,
    origins: VecDeque<Origin>,
    /// Complete batches that wait for room among those in flight: time and policy are stamped when they leave.
    waiting: VecDeque<(EntryBuilder, VecDeque<Origin>)>,
    in_flight: VecDeque<InFlight>,
}

impl Proposals {
    pub(crate) fn new(run: u64) -> Proposals {
        Proposals {
            run,
            next_number: 0,
            builder: EntryBuilder::new(),
            origins: VecDeque::new(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// Adds a write.
    #[inline]
    pub(crate) fn push(
        &mut self,
        session: SessionId,
        identities: &Arc<Identities>,
        op: Op,
        body: &[u8],
        origin: Origin,
    ) {
        if self.builder.len() == ENTRY_REQUESTS_MAX || self.builder.bytes() >= ENTRY_BYTES_MAX {
            self.seal();
        }
        self.builder.push(session, identities, op, body);
        self.origins.push_back(origin);
    }

    fn seal(&mut self) {
        let builder = std::mem::replace(&mut self.builder, EntryBuilder::new());
        self.waiting.push_back((builder, std::mem::take(&mut self.origins)));
    }

    /// Returns the data of the next entry if there is one and it may leave.
    pub(crate) fn next_entry(&mut self, time_ms: i64, policy: Policy) -> Option<Vec<u8>> {
        if self.in_flight.len() >= ENTRIES_IN_FLIGHT_MAX {
            return None;
        }
        let number = self.next_number;
        let batch = BatchId { run: self.run, number };
        let (data, origins) = match self.waiting.pop_front() {
            Some((mut builder, origins)) => (builder.take(time_ms, policy, batch), origins),
            None if self.builder.is_empty() => return None,
            None => (self.builder.take(time_ms, policy, batch), std::mem::take(&mut self.origins)),
        };
        self.next_number += 1;
        self.in_flight.push_back(InFlight { number, origins });
        Some(data)
    }

    /// Takes out who waits for the requests of a batch, in the order of the requests.
    ///
    /// Empty for a batch of another member or of an earlier run: nobody here waits for it.
    pub(crate) fn applied(&mut self, batch: BatchId) -> VecDeque<Origin> {
        match self.in_flight.front() {
            Some(front) if batch == (BatchId { run: self.run, number: front.number }) => {
                self.in_flight.pop_front().map(|batch| batch.origins).unwrap_or_default()
            }
            _ => VecDeque::new(),
        }
    }
}
