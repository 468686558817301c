//! Many requests on their way at once.

use std::collections::VecDeque;
use std::pin::Pin;

/// The most requests on their way; bounds the replies held in memory.
const IN_FLIGHT_MAX: usize = 1000;

/// A reply to come. The request has left when there is one.
pub type Reply<'a, R> = Pin<Box<dyn Future<Output = R> + Send + 'a>>;

/// Sends a request for each item, up to [`IN_FLIGHT_MAX`] ahead, and hands the replies to `take` in the same order.
///
/// Errors: the first of `take`; requests that are on their way are then carried out, and nobody hears of them.
pub async fn pipelined<'a, T, R, E>(
    items: impl IntoIterator<Item = T>,
    mut send: impl FnMut(&T) -> Reply<'a, R>,
    mut take: impl FnMut(T, R) -> Result<(), E>,
) -> Result<(), E> {
    let mut items = items.into_iter();
    let mut in_flight = VecDeque::new();
    loop {
        while in_flight.len() < IN_FLIGHT_MAX {
            let Some(item) = items.next() else { break };
            let reply = send(&item);
            in_flight.push_back((item, reply));
        }
        let Some((item, reply)) = in_flight.pop_front() else { return Ok(()) };
        take(item, reply.await)?;
    }
}
