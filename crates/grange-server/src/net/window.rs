//! How many requests a connection may have in flight, seen from what they are answered with.
//!
//! A request of forty bytes can ask for a megabyte, and all requests that are passed on together are answered together:
//! memory for the replies is taken before anybody can see that the client does not read them. So the number of requests
//! follows from the size of the replies so far. A new connection starts with few.

use super::{OUTPUT_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};

/// Requests that may be in flight however large the replies are.
const REQUESTS_MIN: usize = 4;
/// Bytes of a reply that are assumed of a new connection: it starts with 16 requests.
const REPLY_BYTES_ASSUMED: usize = OUTPUT_BYTES_MAX / 16;

/// An estimate of the size of the replies to come: the largest seen, fading.
#[derive(Debug)]
pub(super) struct Window {
    reply_bytes: usize,
}

impl Default for Window {
    fn default() -> Window {
        Window { reply_bytes: REPLY_BYTES_ASSUMED }
    }
}

impl Window {
    /// Takes in that `requests` were answered with `bytes`.
    pub(super) fn answered(&mut self, requests: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(requests) {
            self.reply_bytes = (self.reply_bytes - self.reply_bytes.div_ceil(4)).max(each);
        }
    }

    /// Returns how many requests may be in flight, at least one.
    pub(super) fn requests(&self) -> usize {
        (OUTPUT_BYTES_MAX / self.reply_bytes.max(1)).clamp(REQUESTS_MIN, REQUESTS_IN_FLIGHT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_with_small_replies_and_closes_with_a_large_one() {
        let mut window = Window::default();
        assert_eq!(window.requests(), 16);
        for _ in 0..20 {
            window.answered(16, 16 * 100);
        }
        assert_eq!(window.requests(), REQUESTS_IN_FLIGHT_MAX);
        window.answered(1, OUTPUT_BYTES_MAX / 8);
        assert_eq!(window.requests(), 8);
        window.answered(1, OUTPUT_BYTES_MAX * 2);
        assert_eq!(window.requests(), REQUESTS_MIN);
    }
}
