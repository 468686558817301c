//! One thread of load: a set of connections and the loop that serves them.

use std::io;
use std::time::{Duration, Instant};

use crate::connection::{Connection, ReadEnd};
use crate::error::BenchError;
use crate::poll::{Interest, Poller, Ready};
use crate::schedule::Schedule;
use crate::tally::Tally;

/// Bytes of one read; the replies to 64 requests of 100 bytes take a twentieth of it.
const INPUT_BYTES: usize = 256 * 1024;
/// How long replies that are under way at the end are waited for.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How often idle connections are looked for, and how long idle they are when they ping.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// When a phase is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// At this moment.
    At(Instant),
    /// When this many requests over all connections, of all threads, are answered.
    Count(u64),
}

/// What to do until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    pub(crate) start: Instant,
    pub(crate) end: End,
    pub(crate) schedule: Option<Schedule>,
}

/// What a thread has done in a phase.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) tally: Tally,
    /// Of the completed requests, those whose reply came before the end.
    pub(crate) completed_in_time: u64,
    /// From the start to the end, or to the last reply if the end is a count.
    pub(crate) elapsed: Duration,
}

#[derive(Debug)]
struct Slot {
    connection: Option<Connection>,
    /// The connection's number over all threads.
    number: u64,
    /// Its k when the phase began.
    base: u64,
    blocked: bool,
}

/// A thread's connections.
#[derive(Debug)]
pub(crate) struct Worker {
    poller: Poller,
    slots: Vec<Slot>,
    connections_overall: u64,
    input: Vec<u8>,
}

/// The state of a running phase.
struct Run {
    phase: Phase,
    /// Requests that are due by the schedule, over all connections of the thread.
    released: u64,
    done: Done,
}

impl Worker {
    /// Takes connections, each with its number over all threads.
    pub(crate) fn new(connections: Vec<(u64, Connection)>, connections_overall: u64) -> Result<Worker, BenchError> {
        let system = |source| BenchError::System { what: "wait for sockets", source };
        let poller = Poller::new().map_err(system)?;
        for (token, (_, connection)) in connections.iter().enumerate() {
            poller.add(connection, token, Interest::Read).map_err(system)?;
        }
        let slot = |(number, connection)| Slot { connection: Some(connection), number, base: 0, blocked: false };
        let slots = connections.into_iter().map(slot).collect();
        Ok(Worker { poller, slots, connections_overall, input: vec![0; INPUT_BYTES] })
    }

    /// Generates load until the phase is over and every request is answered or its connection lost.
    pub(crate) fn run(&mut self, phase: Phase) -> Result<Done, BenchError> {
        let mut run = Run { phase, released: 0, done: Done::default() };
        self.begin(&mut run);
        let mut ready = Vec::new();
        let (mut now, mut stopped_at) = (Instant::now(), None);
        let mut keep_alive_at = now + KEEP_ALIVE;
        loop {
            if stopped_at.is_none() && matches!(phase.end, End::At(end) if now >= end) {
                stopped_at = Some(now);
                run.done.completed_in_time = run.done.tally.completed;
                run.done.elapsed = now - phase.start;
                self.slots.iter_mut().filter_map(|slot| slot.connection.as_mut()).for_each(Connection::stop);
            }
            if self.slots.iter().all(|slot| slot.connection.as_ref().is_none_or(Connection::is_done)) {
                break;
            }
            if stopped_at.is_some_and(|at| now - at > DRAIN_MAX) {
                self.give_up(&mut run);
                break;
            }
            let wake_at = self.wake_at(&run, stopped_at.is_some(), keep_alive_at);
            let waited = self.poller.wait(&mut ready, Some(wake_at.saturating_duration_since(now)));
            waited.map_err(|source| BenchError::System { what: "wait for sockets", source })?;
            now = Instant::now();
            for each in &ready {
                now = self.serve(&mut run, *each, now);
            }
            self.release(&mut run, now);
            if now >= keep_alive_at {
                keep_alive_at = now + KEEP_ALIVE;
                self.keep_alive(&mut run, now);
            }
        }
        if stopped_at.is_none() {
            run.done.completed_in_time = run.done.tally.completed;
            run.done.elapsed = now - phase.start;
        }
        Ok(run.done)
    }

    /// Closes all sessions.
    pub(crate) fn close(self) {
        // The measurement is over: a server that is gone by now has been reported already.
        self.slots.into_iter().filter_map(|slot| slot.connection).for_each(|connection| drop(connection.close()));
    }

    fn begin(&mut self, run: &mut Run) {
        let overall = self.connections_overall;
        for slot in &mut self.slots {
            let Some(connection) = &mut slot.connection else { continue };
            slot.base = connection.answered();
            connection.allow(match run.phase.end {
                End::At(_) => u64::MAX,
                End::Count(count) => count / overall + u64::from(slot.number < count % overall),
            });
        }
        if run.phase.schedule.is_none() {
            for token in 0..self.slots.len() {
                self.send(run, token, Instant::now());
            }
        }
    }

    fn wake_at(&self, run: &Run, stopped: bool, keep_alive_at: Instant) -> Instant {
        let mut wake_at = keep_alive_at;
        if let (End::At(end), false) = (run.phase.end, stopped) {
            wake_at = wake_at.min(end);
        }
        if let (Some(schedule), false) = (run.phase.schedule, stopped) {
            wake_at = wake_at.min(schedule.due(run.released));
        }
        wake_at
    }

    /// Reads from and writes to a connection; returns the time.
    #[inline]
    fn serve(&mut self, run: &mut Run, ready: Ready, now: Instant) -> Instant {
        let slots_count = self.count();
        let slot = &mut self.slots[ready.token];
        let Some(connection) = &mut slot.connection else { return now };
        let mut now = now;
        if ready.readable {
            let base = slot.base;
            let position = u64::try_from(ready.token).expect("a usize has at most 64 bits");
            let due =
                run.phase.schedule.map(|schedule| move |k: u64| schedule.due((k - base) * slots_count + position));
            let due: Option<&dyn Fn(u64) -> Instant> = due.as_ref().map(|due| due as _);
            match connection.receive(&mut self.input, &mut run.done.tally, due) {
                Ok((ReadEnd::Open, at)) => now = at,
                Ok((ReadEnd::Closed, _)) => {
                    self.lose(run, ready.token, "the server closed the connection".to_owned());
                    return now;
                }
                Err(error) => {
                    self.lose(run, ready.token, error.to_string());
                    return now;
                }
            }
        }
        self.send(run, ready.token, now);
        now
    }

    /// Lets the requests go that have become due.
    fn release(&mut self, run: &mut Run, now: Instant) {
        let Some(schedule) = run.phase.schedule else { return };
        let before = run.released;
        while schedule.due(run.released) <= now {
            run.released += 1;
        }
        let count = self.count();
        for nth in before..run.released.min(before + count) {
            let token = usize::try_from(nth % count).expect("less than the count of slots");
            self.send(run, token, now);
        }
    }

    fn keep_alive(&mut self, run: &mut Run, now: Instant) {
        for token in 0..self.slots.len() {
            let Some(connection) = &mut self.slots[token].connection else { continue };
            let sent = connection.keep_alive(now, KEEP_ALIVE);
            self.after_write(run, token, sent);
        }
    }

    #[inline]
    fn send(&mut self, run: &mut Run, token: usize, now: Instant) {
        let count = self.count();
        let slot = &mut self.slots[token];
        let Some(connection) = &mut slot.connection else { return };
        let due = if run.phase.schedule.is_some() {
            let position = u64::try_from(token).expect("a usize has at most 64 bits");
            slot.base + run.released.saturating_sub(position).div_ceil(count)
        } else {
            u64::MAX
        };
        let sent = connection.send(now, due);
        self.after_write(run, token, sent);
    }

    /// Waits for room if a write left bytes behind, and stops waiting for it when there was room.
    #[inline]
    fn after_write(&mut self, run: &mut Run, token: usize, written: io::Result<bool>) {
        let slot = &mut self.slots[token];
        let Some(connection) = &slot.connection else { return };
        let changed = match written {
            Ok(all) if all != slot.blocked => return,
            Ok(all) => {
                slot.blocked = !all;
                self.poller.modify(connection, token, if all { Interest::Read } else { Interest::ReadWrite })
            }
            Err(error) => Err(error),
        };
        if let Err(error) = changed {
            self.lose(run, token, error.to_string());
        }
    }

    #[cold]
    fn lose(&mut self, run: &mut Run, token: usize, reason: String) {
        self.slots[token].connection = None;
        run.done.tally.failures.lost(reason);
    }

    #[cold]
    fn give_up(&mut self, run: &mut Run) {
        for token in 0..self.slots.len() {
            if self.slots[token].connection.as_ref().is_some_and(|connection| !connection.is_done()) {
                self.lose(run, token, format!("no reply for {} s", DRAIN_MAX.as_secs()));
            }
        }
    }

    #[inline]
    fn count(&self) -> u64 {
        u64::try_from(self.slots.len()).expect("a usize has at most 64 bits")
    }
}
