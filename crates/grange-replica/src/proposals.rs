//! Writes on their way into the log: collected into entries, and remembered until the entries are applied.
//!
//! All requests that arrive while earlier entries are being synced share the next entry: group commit. A batch is kept
//! until it is applied, because who leads may change before: it is then given to the next leader again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use grange_proto::{Op, SessionId};
use grange_tree::Identities;

use crate::connections::Asked;
use crate::entry::{BatchId, EntryBuilder};
use crate::event::ConnId;
use crate::members::MemberId;
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
    data: Bytes,
    is_sent: bool,
    origins: VecDeque<Origin>,
}

/// Writes on their way.
pub(crate) struct Proposals {
    member: MemberId,
    /// This run of this member, to tell its batches from those of earlier runs.
    run: u64,
    next_number: u64,
    builder: EntryBuilder,
    origins: VecDeque<Origin>,
    /// Complete batches that wait for room among those in flight.
    waiting: VecDeque<(EntryBuilder, VecDeque<Origin>)>,
    in_flight: VecDeque<InFlight>,
}

impl Proposals {
    pub(crate) fn new(member: MemberId, run: u64) -> Proposals {
        Proposals {
            member,
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
        self.make_room();
        self.builder.push(session, identities, op, body);
        self.origins.push_back(origin);
    }

    /// Adds that a client has come back to its session.
    pub(crate) fn push_return(&mut self, session: SessionId, timeout_ms: i32, origin: Origin) {
        self.make_room();
        self.builder.push_return(session, timeout_ms);
        self.origins.push_back(origin);
    }

    /// Adds that this member, as the leader of `term`, closes a session.
    pub(crate) fn push_end(&mut self, session: SessionId, term: u64) {
        self.make_room();
        self.builder.push_end(session, term);
        self.origins.push_back(Origin::Own);
    }

    /// Adds that this member, as the leader of `term`, knows how a reconfig ends.
    pub(crate) fn push_wish_end(&mut self, term: u64, is_fulfilled: bool) {
        self.make_room();
        self.builder.push_wish_end(term, is_fulfilled);
        self.origins.push_back(Origin::Own);
    }

    fn make_room(&mut self) {
        if self.builder.len() == ENTRY_REQUESTS_MAX || self.builder.bytes() >= ENTRY_BYTES_MAX {
            let builder = std::mem::replace(&mut self.builder, EntryBuilder::new());
            self.waiting.push_back((builder, std::mem::take(&mut self.origins)));
        }
    }

    /// Returns the next batch that is to be given to the leader, if there is one and it may leave.
    ///
    /// `stamp` gets the data of each batch before it leaves, each time that it does.
    pub(crate) fn next_batch(&mut self, stamp: impl FnOnce(&mut [u8])) -> Option<Bytes> {
        if let Some(again) = self.in_flight.iter_mut().find(|batch| !batch.is_sent) {
            again.is_sent = true;
            // It may have been meant for another leader, who would have stamped it.
            let mut data = again.data.to_vec();
            stamp(&mut data);
            again.data = Bytes::from(data);
            return Some(again.data.clone());
        }
        if self.in_flight.len() >= ENTRIES_IN_FLIGHT_MAX {
            return None;
        }
        let number = self.next_number;
        let batch = BatchId { member: self.member.0, run: self.run, number };
        let (mut data, origins) = match self.waiting.pop_front() {
            Some((mut builder, origins)) => (builder.take(batch), origins),
            None if self.builder.is_empty() => return None,
            None => (self.builder.take(batch), std::mem::take(&mut self.origins)),
        };
        stamp(&mut data);
        let data = Bytes::from(data);
        self.next_number += 1;
        self.in_flight.push_back(InFlight { number, data: data.clone(), is_sent: true, origins });
        Some(data)
    }

    /// Gives every batch that is not applied to the leader again: what it was given may be lost.
    pub(crate) fn send_again(&mut self) {
        self.in_flight.iter_mut().for_each(|batch| batch.is_sent = false);
    }

    /// Takes out who waits for the requests of a batch, in the order of the requests.
    ///
    /// Empty for a batch of another member or of an earlier run: nobody here waits for it.
    pub(crate) fn applied(&mut self, batch: BatchId) -> VecDeque<Origin> {
        if batch.member != self.member.0 || batch.run != self.run {
            return VecDeque::new();
        }
        match self.in_flight.front() {
            Some(front) if front.number == batch.number => {
                self.in_flight.pop_front().map(|batch| batch.origins).unwrap_or_default()
            }
            _ => VecDeque::new(),
        }
    }

    /// Returns true if nothing waits to be applied.
    #[cfg(feature = "simulation")]
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty() && self.builder.is_empty()
    }

    /// Forgets the batches before the number `next`: they are part of a snapshot, and what they came to is not known.
    pub(crate) fn skip_before(&mut self, next: u64) {
        while self.in_flight.front().is_some_and(|batch| batch.number < next) {
            self.in_flight.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_leaves_again_is_stamped_again() {
        let mut proposals = Proposals::new(MemberId(1), 1);
        proposals.push_return(SessionId(1), 4000, Origin::Own);
        let unstamped = proposals.next_batch(|_| {}).unwrap();
        assert_eq!(unstamped[1..9], [0; 8]);
        proposals.send_again();
        let stamped = proposals.next_batch(|data| data[1..9].fill(7)).unwrap();
        assert_eq!(stamped[1..9], [7; 8], "whoever gave it to another leader before may lead now");
        assert_eq!(stamped[9..], unstamped[9..]);
    }
}
