//! What a connection has passed on and not got answered.

use std::collections::VecDeque;

use super::REQUEST_BYTES_IN_FLIGHT_MAX;
use super::window::Window;

/// Requests in flight, in the batches in which they were read. A batch's bytes count until its last answer.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    batches: VecDeque<Batch>,
    requests: usize,
    bytes: usize,
    window: Window,
    /// Set at the bound, reset at half of it: so that a pipeline is not fed one request at a time.
    full: bool,
}

#[derive(Debug)]
struct Batch {
    requests: usize,
    bytes: usize,
}

impl InFlight {
    /// Counts a batch that is passed on.
    pub(super) fn add(&mut self, requests: usize, bytes: usize) {
        self.batches.push_back(Batch { requests, bytes });
        self.requests += requests;
        self.bytes += bytes;
        self.full = self.requests >= self.window.requests() || self.bytes >= REQUEST_BYTES_IN_FLIGHT_MAX;
    }

    /// Counts answers of `reply_bytes` in all, and returns the bytes of the batches that are done with.
    pub(super) fn answered(&mut self, mut requests: usize, reply_bytes: usize) -> usize {
        self.window.answered(requests, reply_bytes);
        self.requests = self.requests.saturating_sub(requests);
        let mut freed = 0;
        while let Some(batch) = self.batches.front_mut() {
            if batch.requests > requests {
                batch.requests -= requests;
                break;
            }
            requests -= batch.requests;
            freed += batch.bytes;
            self.batches.pop_front();
        }
        self.bytes -= freed;
        if self.requests <= self.window.requests() / 2 && self.bytes < REQUEST_BYTES_IN_FLIGHT_MAX {
            self.full = false;
        }
        freed
    }

    /// Returns how many more requests may be passed on.
    pub(super) fn room(&self) -> usize {
        if self.full { 0 } else { self.window.requests().saturating_sub(self.requests) }
    }

    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::OUTPUT_BYTES_MAX;
    use super::*;

    #[test]
    fn bytes_are_freed_with_the_last_answer_of_their_batch() {
        let mut in_flight = InFlight::default();
        in_flight.add(2, 100);
        in_flight.add(1, 10);
        assert_eq!(in_flight.answered(1, 50), 0);
        assert_eq!(in_flight.answered(2, 50), 110);
        assert_eq!((in_flight.requests(), in_flight.bytes()), (0, 0));
    }

    #[test]
    fn a_full_pipeline_is_let_on_at_half() {
        let mut in_flight = InFlight::default();
        let room = in_flight.room();
        in_flight.add(room, 100);
        assert_eq!(in_flight.room(), 0);
        // Replies so large that the window stays as it is.
        in_flight.answered(room / 2 - 1, OUTPUT_BYTES_MAX / room * (room / 2 - 1));
        assert_eq!(in_flight.room(), 0);
        in_flight.answered(1, OUTPUT_BYTES_MAX / room);
        assert_eq!(in_flight.room(), room / 2);
    }

    #[test]
    fn large_requests_fill_it_too() {
        let mut in_flight = InFlight::default();
        in_flight.add(1, REQUEST_BYTES_IN_FLIGHT_MAX);
        assert_eq!(in_flight.room(), 0);
        in_flight.answered(1, 100);
        assert!(in_flight.room() > 0);
    }
}
