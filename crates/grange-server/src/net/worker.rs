//! An I/O worker: one thread, one poll, and the connections it owns.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grange_replica::{ConnId, Event, Report};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::connection::{CloseReason, Connection, Progress, Surroundings};
use super::outbox::{Accepted, Command, Outbox};
use super::{CLOSE_TIME_MAX, DRAIN_TIME_MAX, READ_BYTES_MAX, conn_id, slot_of};
use crate::clock::Clock;
use crate::failure::ServerFailure;
use crate::four_letter::{Exchange, ServerFacts, Step, Word};
use crate::mailbox::Mailbox;

const WAKE: Token = Token(usize::MAX);
const LISTEN: Token = Token(usize::MAX - 1);
/// Readiness events taken from the kernel at once.
const POLL_EVENTS_MAX: usize = 1024;
/// Connections accepted before others are looked after.
const ACCEPTS_PER_ROUND: usize = 256;
/// Pause after the process has run out of files or memory for sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A failure to accept is logged at most this often.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Events are passed to the replica at the latest when so many are collected.
const EVENTS_PER_PASS: usize = 64;

/// What a worker is made of.
#[derive(Debug)]
pub(crate) struct WorkerConfig {
    /// Its number, from 0.
    pub(crate) number: usize,
    /// Takes events for the replica.
    pub(crate) inbox: Arc<Mailbox<Event>>,
    /// This worker's part of the bytes in flight of all connections.
    pub(crate) in_flight_bytes_max: usize,
    pub(crate) clock: Clock,
}

/// The connection that is to be closed when its time is up. All waits of a kind take equally long, so a queue will do.
#[derive(Debug)]
struct Deadline {
    at: Instant,
    conn: ConnId,
}

/// Accepts connections and deals them out; one worker has it.
#[derive(Debug)]
struct Acceptor {
    listener: TcpListener,
    facts: Arc<ServerFacts>,
    /// Every worker, in the order of their numbers.
    workers: Vec<Outbox>,
    next: usize,
    /// Set if there may be connections to accept.
    ready: bool,
    paused_until: Option<Instant>,
    logged: Option<Instant>,
}

/// One I/O thread's state.
#[derive(Debug)]
pub(crate) struct Worker {
    config: WorkerConfig,
    poll: Poll,
    outbox: Outbox,
    facts: Arc<ServerFacts>,
    acceptor: Option<Acceptor>,
    connections: Slab<Connection>,
    generation: u32,
    /// Slots of connections that can be moved on.
    ready: VecDeque<usize>,
    /// Slots of connections with something new to write.
    unwritten: Vec<usize>,
    events: Vec<Event>,
    in_flight_bytes: usize,
    /// Bytes read and not yet counted for all workers.
    received_bytes: u64,
    scratch: Vec<u8>,
    handshakes: VecDeque<Deadline>,
    closings: VecDeque<Deadline>,
    words: HashMap<u64, (ConnId, Exchange)>,
    word_count: u64,
    draining: Option<Instant>,
}

impl Worker {
    /// Makes a worker without connections. Errors: the system has no poll to give.
    pub(crate) fn new(config: WorkerConfig, facts: Arc<ServerFacts>) -> io::Result<Worker> {
        let poll = Poll::new()?;
        let outbox = Outbox::new(poll.registry(), WAKE)?;
        Ok(Worker {
            config,
            poll,
            outbox,
            facts,
            acceptor: None,
            connections: Slab::new(),
            generation: 0,
            ready: VecDeque::new(),
            unwritten: Vec::new(),
            events: Vec::new(),
            in_flight_bytes: 0,
            received_bytes: 0,
            scratch: vec![0; READ_BYTES_MAX],
            handshakes: VecDeque::new(),
            closings: VecDeque::new(),
            words: HashMap::new(),
            word_count: 0,
            draining: None,
        })
    }

    /// Returns the way to send commands to this worker.
    pub(crate) fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Lets this worker accept for all `workers`.
    pub(crate) fn listen(&mut self, listener: std::net::TcpListener, workers: Vec<Outbox>) -> io::Result<()> {
        let mut listener = TcpListener::from_std(listener);
        self.poll.registry().register(&mut listener, LISTEN, Interest::READABLE)?;
        self.acceptor = Some(Acceptor {
            listener,
            facts: Arc::clone(&self.facts),
            workers,
            next: 0,
            ready: true,
            paused_until: None,
            logged: None,
        });
        Ok(())
    }

    /// Works until it is told to end.
    pub(crate) fn run(mut self) -> Result<(), ServerFailure> {
        let mut polled = Events::with_capacity(POLL_EVENTS_MAX);
        let mut commands = Vec::new();
        loop {
            let timeout = self.poll_timeout();
            match self.poll.poll(&mut polled, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    let thread = format!("io-{}", self.config.number);
                    return Err(ServerFailure::Poll { thread, source: error });
                }
                _ => {}
            }
            for event in &polled {
                self.on_readiness(event);
            }
            self.outbox.take(&mut commands);
            for command in commands.drain(..) {
                if matches!(command, Command::Stop) {
                    return Ok(());
                }
                self.perform(command);
            }
            self.accept();
            self.write_pending();
            self.advance_ready();
            self.close_overdue();
            self.pass_events();
            if self.is_drained() {
                return Ok(());
            }
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        let has_work = self.may_advance() && !self.ready.is_empty();
        let accepts = self.acceptor.as_ref().is_some_and(|acceptor| acceptor.ready && acceptor.paused_until.is_none());
        if has_work || accepts {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.handshakes.front().map(|deadline| deadline.at),
            self.closings.front().map(|deadline| deadline.at),
            self.acceptor.as_ref().and_then(|acceptor| acceptor.paused_until),
            self.draining,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn on_readiness(&mut self, event: &mio::event::Event) {
        match event.token() {
            WAKE => {}
            LISTEN => {
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.ready = true;
                }
            }
            Token(slot) => {
                let Some(connection) = self.connections.get_mut(slot) else { return };
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    connection.note_readable(event.is_read_closed());
                    self.enqueue(slot);
                }
                if event.is_writable() {
                    self.unwritten.push(slot);
                }
            }
        }
    }

    /// Tells whether connections may be read from at all.
    fn may_advance(&self) -> bool {
        self.draining.is_none() && self.in_flight_bytes < self.config.in_flight_bytes_max
    }

    /// Puts a connection on the list to be moved on, if it can be.
    fn enqueue(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !connection.queued
            && connection.can_advance()
        {
            connection.queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Moves on each connection that is on the list now, once.
    fn advance_ready(&mut self) {
        for _ in 0..self.ready.len() {
            if !self.may_advance() {
                return;
            }
            let Some(slot) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            connection.queued = false;
            let progress = connection.advance(&mut Surroundings {
                scratch: &mut self.scratch,
                events: &mut self.events,
                in_flight_bytes: &mut self.in_flight_bytes,
                received_bytes: &mut self.received_bytes,
                frame_bytes_max: self.facts.limits.frame_bytes_max,
                now_us: self.config.clock.monotonic_us(),
            });
            match progress {
                Progress::Waits => {}
                Progress::HasMore => self.enqueue(slot),
                Progress::Word(word, argument) => self.begin_word(slot, word, &argument),
                Progress::Over(reason) => self.remove(slot, &reason),
            }
            if self.events.len() >= EVENTS_PER_PASS {
                self.pass_events();
            }
        }
    }

    fn pass_events(&mut self) {
        if !self.events.is_empty() {
            self.config.inbox.append(&mut self.events);
            self.facts.stats.bytes_received.add(std::mem::take(&mut self.received_bytes));
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Adopt(accepted) => self.adopt(accepted),
            Command::Send { conn, bytes, answered } => self.send(conn, bytes, answered),
            Command::Close(conn) => {
                if let Some(slot) = self.slot(conn) {
                    self.close(slot);
                }
            }
            Command::Inspected { token, report } => self.go_on_with_word(token, *report),
            Command::Drain => {
                self.acceptor = None;
                self.draining = Some(Instant::now() + DRAIN_TIME_MAX);
            }
            Command::Stop => {}
        }
    }

    fn slot(&self, conn: ConnId) -> Option<usize> {
        let slot = slot_of(conn);
        self.connections.get(slot).filter(|connection| connection.id() == conn).map(|_| slot)
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>, answered: u32) {
        let Some(slot) = self.slot(conn) else { return };
        match self.connections[slot].send(bytes, answered) {
            Ok(freed) => {
                self.in_flight_bytes -= freed;
                self.unwritten.push(slot);
            }
            Err(reason) => self.remove(slot, &reason),
        }
    }

    fn close(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        connection.close();
        let conn = connection.id();
        self.unwritten.push(slot);
        self.closings.push_back(Deadline { at: Instant::now() + CLOSE_TIME_MAX, conn });
    }

    /// Writes what was queued, and looks whether the connections can be read from again.
    fn write_pending(&mut self) {
        let mut slots = std::mem::take(&mut self.unwritten);
        for slot in slots.drain(..) {
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            match connection.flush() {
                Ok(()) => self.enqueue(slot),
                Err(reason) => self.remove(slot, &reason),
            }
        }
        self.unwritten = slots;
    }

    fn adopt(&mut self, accepted: Accepted) {
        let Accepted { stream, peer, permit } = accepted;
        if self.draining.is_some() {
            return;
        }
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        self.generation = self.generation.wrapping_add(1);
        let conn = conn_id(self.config.number, self.generation, slot);
        let connection = entry.insert(Connection::new(conn, stream, peer, permit));
        // Edge-triggered, so that both interests cost nothing while they are of no use.
        let interests = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(connection.stream_mut(), Token(slot), interests) {
            tracing::warn!(%peer, %error, "a connection cannot be polled");
            self.connections.remove(slot);
            return;
        }
        tracing::debug!(conn = conn.0, %peer, "connected");
        self.handshakes.push_back(Deadline { at: Instant::now() + self.facts.limits.handshake_time_max, conn });
    }

    fn remove(&mut self, slot: usize, reason: &CloseReason) {
        // Closing the socket takes it out of the poll, too.
        let connection = self.connections.remove(slot);
        let (conn, peer) = (connection.id(), connection.peer());
        match reason {
            CloseReason::Output(_) => tracing::warn!(conn = conn.0, %peer, %reason, "a connection is closed"),
            _ => tracing::debug!(conn = conn.0, %peer, %reason, "disconnected"),
        }
        self.in_flight_bytes -= connection.in_flight_bytes();
        self.facts.stats.connections_closed.add(1);
        if connection.announced {
            self.events.push(Event::Disconnected(conn));
        }
    }

    fn begin_word(&mut self, slot: usize, word: Word, argument: &[u8]) {
        let connection = &self.connections[slot];
        let (exchange, step) = Exchange::begin(word, argument, connection.peer(), &self.facts);
        let conn = connection.id();
        self.take_word_step(conn, exchange, step);
    }

    fn go_on_with_word(&mut self, token: u64, report: Report) {
        if let Some((conn, mut exchange)) = self.words.remove(&token) {
            let step = exchange.advance(report);
            self.take_word_step(conn, exchange, step);
        }
    }

    fn take_word_step(&mut self, conn: ConnId, exchange: Exchange, step: Step) {
        let Some(slot) = self.slot(conn) else { return };
        match step {
            Step::Answer(text) => {
                self.connections[slot].answer_word(text);
                self.close(slot);
            }
            Step::Ask(what) => {
                self.word_count += 1;
                // Like a connection's name, it leads the answer back to this worker.
                let token = conn_id(self.config.number, 0, 0).0 | self.word_count;
                self.words.insert(token, (conn, exchange));
                self.events.push(Event::Inspect { token, what });
            }
        }
        // The answer may have come from a command, behind this round's writing.
        self.write_pending();
    }

    fn close_overdue(&mut self) {
        let now = Instant::now();
        while self.handshakes.front().is_some_and(|deadline| deadline.at <= now) {
            let Some(Deadline { conn, .. }) = self.handshakes.pop_front() else { return };
            if let Some(slot) = self.slot(conn)
                && self.connections[slot].is_before_session()
            {
                self.facts.stats.sessionless_expired.add(1);
                self.remove(slot, &CloseReason::HandshakeTime);
                self.words.retain(|_, (asking, _)| *asking != conn);
            }
        }
        while self.closings.front().is_some_and(|deadline| deadline.at <= now) {
            let Some(Deadline { conn, .. }) = self.closings.pop_front() else { return };
            if let Some(slot) = self.slot(conn) {
                self.remove(slot, &CloseReason::CloseTime);
            }
        }
    }

    fn is_drained(&self) -> bool {
        let Some(until) = self.draining else { return false };
        Instant::now() >= until || self.connections.iter().all(|(_, connection)| connection.is_quiet())
    }

    fn accept(&mut self) {
        let Some(acceptor) = &mut self.acceptor else { return };
        let batches = acceptor.accept_round();
        for (number, mut batch) in batches.into_iter().enumerate() {
            if number == self.config.number {
                batch.into_iter().for_each(|command| self.perform(command));
            } else if let Some(acceptor) = &self.acceptor {
                acceptor.workers[number].append(&mut batch);
            }
        }
    }
}

impl Acceptor {
    /// Accepts what waits, and deals it out in turn; the result is by worker.
    fn accept_round(&mut self) -> Vec<Vec<Command>> {
        if self.paused_until.is_some_and(|until| until <= Instant::now()) {
            self.paused_until = None;
        }
        if !self.ready || self.paused_until.is_some() {
            return Vec::new();
        }
        let mut batches: Vec<Vec<Command>> = self.workers.iter().map(|_| Vec::new()).collect();
        for _ in 0..ACCEPTS_PER_ROUND {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    if let Some(accepted) = self.admit(stream, peer) {
                        batches[self.next].push(Command::Adopt(accepted));
                        self.next = (self.next + 1) % batches.len();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready = false;
                    break;
                }
                // The client was gone again before it was accepted, or a signal came.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => {
                    if self.logged.is_none_or(|logged| logged.elapsed() >= ACCEPT_LOG_INTERVAL) {
                        self.logged = Some(Instant::now());
                        tracing::warn!(%error, "connections cannot be accepted just now: they wait");
                    }
                    self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                    break;
                }
            }
        }
        batches
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Accepted> {
        // An IPv4 client of an IPv6 socket is known by its IPv4 address, in ACLs too.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(permit) = self.facts.admission.admit(peer.ip()) else {
            self.facts.stats.connections_refused.add(1);
            return None;
        };
        self.facts.stats.connections_accepted.add(1);
        Some(Accepted { stream, peer, permit })
    }
}
