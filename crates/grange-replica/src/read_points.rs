//! Reads that must see every write acknowledged before them: they wait until this member has applied up to a point that
//! the leader names after a majority has told it that it still leads.
//!
//! All that ask within one step share a ticket. Tickets are passed in their order.

use std::collections::VecDeque;

use crate::event::ConnId;
use crate::watches::ConnSlot;

/// Ticks after which an unanswered question is asked again: leadership may have changed meanwhile.
const ASK_AGAIN_TICKS: u32 = 5;

/// Counts up; who waits for one waits for all before it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A connection, with the read at the front of what it waits for.
    Connection(ConnSlot, ConnId),
    /// This member, which wants to know that it is up to date.
    Own,
}

/// The questions under way.
#[derive(Debug)]
pub(crate) struct ReadPoints {
    /// The ticket for whoever comes next.
    open: Ticket,
    /// The newest ticket that was asked for.
    asked: Option<Ticket>,
    ticks_waited: u32,
    /// Answers that are not applied yet: the ticket and the index.
    answered: VecDeque<(Ticket, u64)>,
    passed: Ticket,
    waiters: VecDeque<(Ticket, Waiter)>,
}

impl ReadPoints {
    /// Starts without questions. `run` keeps the tickets of different runs apart.
    pub(crate) fn new(run: u64) -> ReadPoints {
        let first = run << 40;
        ReadPoints {
            open: Ticket(first + 1),
            asked: None,
            ticks_waited: 0,
            answered: VecDeque::new(),
            passed: Ticket(first),
            waiters: VecDeque::new(),
        }
    }

    /// Adds somebody who waits.
    pub(crate) fn wait(&mut self, waiter: Waiter) -> Ticket {
        self.waiters.push_back((self.open, waiter));
        self.open
    }

    /// Returns true if nobody needs to wait for this ticket any more.
    pub(crate) fn has_passed(&self, ticket: Ticket) -> bool {
        ticket <= self.passed
    }

    /// Returns the number to ask the leader with, if there is anything to ask.
    pub(crate) fn question(&mut self) -> Option<u64> {
        let is_waited_for = self.waiters.back().is_some_and(|(ticket, _)| *ticket == self.open);
        if !is_waited_for {
            return None;
        }
        let asked = self.open;
        self.open = Ticket(asked.0 + 1);
        self.asked = Some(asked);
        self.ticks_waited = 0;
        Some(asked.0)
    }

    /// Moves the clock on; returns the number to ask with again if the answer is overdue.
    pub(crate) fn tick(&mut self) -> Option<u64> {
        let asked = self.asked?;
        self.ticks_waited += 1;
        if self.ticks_waited < ASK_AGAIN_TICKS {
            return None;
        }
        self.ticks_waited = 0;
        Some(asked.0)
    }

    /// Forgets that this member itself waits.
    pub(crate) fn forget_own(&mut self) {
        self.waiters.retain(|(_, waiter)| *waiter != Waiter::Own);
    }

    /// Takes in the leader's answer.
    pub(crate) fn answer(&mut self, number: u64, index: u64) {
        let ticket = Ticket(number);
        if self.asked.is_none_or(|asked| ticket > asked) || ticket <= self.passed {
            return;
        }
        if self.asked == Some(ticket) {
            self.asked = None;
        }
        self.answered.push_back((ticket, index));
    }

    /// Takes in that everything up to `index` is applied; returns who waits no more, in the order of their coming.
    pub(crate) fn applied(&mut self, index: u64) -> Vec<Waiter> {
        let reached = self.answered.iter().filter(|(_, point)| *point <= index).map(|(ticket, _)| *ticket).max();
        let Some(reached) = reached else { return Vec::new() };
        self.passed = self.passed.max(reached);
        self.answered.retain(|(ticket, _)| *ticket > reached);
        let count = self.waiters.partition_point(|(ticket, _)| *ticket <= reached);
        self.waiters.drain(..count).map(|(_, waiter)| waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_in_one_step_shares_a_ticket() {
        let mut points = ReadPoints::new(1);
        assert_eq!(points.question(), None);
        let first = points.wait(Waiter::Connection(1, ConnId(1)));
        assert_eq!(points.wait(Waiter::Own), first);
        let asked = points.question().unwrap();
        let second = points.wait(Waiter::Connection(2, ConnId(2)));
        assert_ne!(second, first);
        points.answer(asked, 10);
        assert!(points.applied(9).is_empty() && !points.has_passed(first));
        assert_eq!(points.applied(10), [Waiter::Connection(1, ConnId(1)), Waiter::Own]);
        assert!(points.has_passed(first) && !points.has_passed(second));
    }

    #[test]
    fn a_later_answer_serves_those_before_it() {
        let mut points = ReadPoints::new(1);
        points.wait(Waiter::Own);
        points.question().unwrap();
        points.wait(Waiter::Connection(1, ConnId(1)));
        let later = points.question().unwrap();
        points.answer(later, 5);
        assert_eq!(points.applied(5).len(), 2);
        assert_eq!(points.tick(), None, "nothing is open");
    }

    #[test]
    fn an_overdue_answer_is_asked_for_again() {
        let mut points = ReadPoints::new(1);
        points.wait(Waiter::Own);
        let asked = points.question().unwrap();
        let again: Vec<_> = (0..2 * ASK_AGAIN_TICKS).filter_map(|_| points.tick()).collect();
        assert_eq!(again, [asked, asked]);
    }
}
