//! A queue that one thread empties in one go and sleeps on: the way into the replica thread and to the disk threads.
//!
//! Everything that piled up is taken with one lock, which makes batches by itself: the busier the taker, the larger
//! what it takes. A sender wakes the taker only if it sleeps.
//!
//! There is no bound here. Each sender has its own, which keeps what it has in the queue finite: a connection's
//! requests in flight, one question per connection, one batch of the log for each step.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    sleeping: bool,
    closed: bool,
}

/// What [`Mailbox::take`] came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// At least one item.
    Items,
    /// Nothing until the deadline.
    TimedOut,
    /// Nothing, and nothing will come any more.
    Closed,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Mailbox<T> {
        let state = State { items: Vec::new(), sleeping: false, closed: false };
        Mailbox { state: Mutex::new(state), arrived: Condvar::new() }
    }
}

impl<T> Mailbox<T> {
    /// Adds an item; one that comes after [`Mailbox::close`] is dropped.
    pub(crate) fn push(&self, item: T) {
        let mut state = self.lock();
        if !state.closed {
            state.items.push(item);
            self.wake(state);
        }
    }

    /// Adds all of `items`, and leaves it empty.
    pub(crate) fn append(&self, items: &mut Vec<T>) {
        let mut state = self.lock();
        if state.closed {
            items.clear();
        } else if !items.is_empty() {
            state.items.append(items);
            self.wake(state);
        }
    }

    /// Lets the taker take what is there, and then end.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(state);
    }

    /// Moves everything into `into`, behind what is there; waits until `deadline` if there is nothing.
    pub(crate) fn take(&self, into: &mut Vec<T>, deadline: Option<Instant>) -> Taken {
        let mut state = self.lock();
        loop {
            if !state.items.is_empty() {
                into.append(&mut state.items);
                return Taken::Items;
            }
            if state.closed {
                return Taken::Closed;
            }
            let wait = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if wait.is_some_and(|wait| wait.is_zero()) {
                return Taken::TimedOut;
            }
            state.sleeping = true;
            state = match wait {
                Some(wait) => self.arrived.wait_timeout(state, wait).expect(NEVER_POISONED).0,
                None => self.arrived.wait(state).expect(NEVER_POISONED),
            };
            state.sleeping = false;
        }
    }

    /// Tells whether nothing waits to be taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect(NEVER_POISONED)
    }

    fn wake(&self, mut state: MutexGuard<'_, State<T>>) {
        // Reset here, so that the senders after this one need not wake the taker again.
        let sleeping = std::mem::take(&mut state.sleeping);
        drop(state);
        if sleeping {
            self.arrived.notify_one();
        }
    }
}

const NEVER_POISONED: &str = "nothing panics while it holds this lock";

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn everything_is_taken_at_once_and_in_order() {
        let mailbox = Mailbox::default();
        mailbox.push(1);
        mailbox.append(&mut vec![2, 3]);
        let mut items = Vec::new();
        assert_eq!(mailbox.take(&mut items, None), Taken::Items);
        assert_eq!(items, [1, 2, 3]);
        assert_eq!(mailbox.take(&mut items, Some(Instant::now())), Taken::TimedOut);
    }

    #[test]
    fn a_sleeping_taker_is_woken() {
        let mailbox = Arc::new(Mailbox::default());
        let sender = Arc::clone(&mailbox);
        let thread = std::thread::spawn(move || {
            while !sender.lock().sleeping {
                std::thread::yield_now();
            }
            sender.push(7);
        });
        let mut items = Vec::new();
        assert_eq!(mailbox.take(&mut items, Some(Instant::now() + Duration::from_secs(60))), Taken::Items);
        assert_eq!(items, [7]);
        thread.join().unwrap();
    }

    #[test]
    fn what_came_before_the_end_is_still_taken() {
        let mailbox = Mailbox::default();
        mailbox.push(1);
        mailbox.close();
        mailbox.push(2);
        let mut items = Vec::new();
        assert_eq!(mailbox.take(&mut items, None), Taken::Items);
        assert_eq!(mailbox.take(&mut items, None), Taken::Closed);
        assert_eq!(items, [1]);
    }
}
