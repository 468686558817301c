//! The world of one run: machines, links, clients, and what happens to them, in virtual time on one thread.

mod client;
mod connection;
mod expiry;
mod faults;
mod finish;
mod link;
mod operator;
mod server;
mod workload;

use std::collections::BTreeMap;

use crate::check::{History, Observed, Violation};
use crate::queue::{MS, Micros, Queue, SECOND};
use crate::random::Random;
use crate::setup::Setup;
use crate::stats::Stats;
use crate::trace::{Trace, Tracing};
use client::Client;
use connection::Connection;
use expiry::Life;
use faults::Mend;
use finish::Phase;
use link::{Link, Transfer};
use operator::NewestMembers;
use server::Server;

/// A place in the list of servers.
pub(crate) type ServerIndex = usize;
/// A place in the list of clients.
pub(crate) type ClientIndex = usize;
/// A place in the list of connections.
pub(crate) type ConnIndex = usize;

/// Which start of a server's process; a task of an earlier one is void.
pub(crate) type Run = u64;

/// Something that is to happen.
#[derive(Debug)]
pub(crate) enum Task {
    /// A server's process starts.
    Boot(ServerIndex),
    /// A member takes in what waits for it.
    Step(ServerIndex, Run),
    /// A member's timer.
    Tick(ServerIndex, Run),
    /// The log is done with what it was given.
    LogWritten(ServerIndex, Run),
    /// A snapshot is written.
    SnapshotWritten(ServerIndex, Run),
    /// Entries are read back: from, to before, bytes at most.
    LogRead(ServerIndex, Run, u64, u64, usize),
    /// A process goes on after it stood still.
    Resume(ServerIndex),
    /// A member that was told to stop stops, whether it is done or not.
    Stop(ServerIndex, Run),
    /// All links are looked at.
    Links,
    /// A link is made.
    LinkUp(usize, u64),
    /// The next message of a link arrives: link, its number, direction.
    Message(usize, u64, usize),
    /// The other end of a link is found to be gone: link, its number, the side that finds out.
    LinkLost(usize, u64, usize),
    /// A snapshot has got to the other member.
    Transferred(Box<Transfer>),
    /// The next piece of a connection arrives at the server.
    ToServer(ConnIndex),
    /// The next piece of a connection arrives at the client.
    ToClient(ConnIndex),
    /// A client looks what it wants to do; void if it has another timer by now.
    Client(ClientIndex, u64),
    /// A fault.
    Fault,
    /// A fault ends.
    Mend(Mend),
    /// The operator looks after the servers.
    Operator,
    /// Time to see whether the run has come further.
    Look,
}

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// How long faults happen, if not as the seed says.
    pub chaos: Option<Micros>,
    /// Changes what the seed says.
    pub scenario: Option<fn(&mut Setup)>,
    /// Where the trace goes.
    pub tracing: Tracing,
    /// When to stop, if before the end.
    pub until: Option<Micros>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What a checker found.
    pub violation: Option<Violation>,
    /// The numbers.
    pub stats: Stats,
    /// The hash of the trace.
    pub hash: u64,
    /// The last lines of the trace.
    pub last_lines: Vec<String>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) now: Micros,
    pub(crate) queue: Queue<Task>,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
    pub(crate) servers: Vec<Server>,
    pub(crate) links: Vec<Link>,
    pub(crate) clients: Vec<Client>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) history: History,
    pub(crate) observed: Observed,
    pub(crate) phase: Phase,
    /// By how much messages between members are slower than usual.
    pub(crate) slow_links: u64,
    /// The newest write that was acknowledged to anybody: later ones must be newer.
    pub(crate) acknowledged: grange_proto::Zxid,
    /// The signs of life of open sessions, as members handed them to their replicas.
    pub(crate) lives: BTreeMap<grange_proto::SessionId, Life>,
    /// Sessions that a leader has given up, and in which term: by how much too early.
    pub(crate) given_up: BTreeMap<(grange_proto::SessionId, u64), Micros>,
    /// When anything was last wrong.
    pub(crate) last_trouble: Micros,
    /// The members as of the newest change that anybody has applied.
    pub(crate) members: NewestMembers,
    /// When a reconfig was last sent by somebody who may.
    pub(crate) reconfig_sent: Option<Micros>,
    /// How many requests of the history were looked at for new sessions.
    pub(crate) sessions_noted: usize,
    pub(crate) violation: Option<Violation>,
    next_run: Run,
    until: Micros,
}

impl World {
    pub(crate) fn new(options: &Options) -> World {
        let mut random = Random::new(options.seed);
        let mut setup = Setup::draw(&mut random);
        if let Some(apply) = options.scenario {
            apply(&mut setup);
        }
        setup.chaos = options.chaos.unwrap_or(setup.chaos);
        let mut world = World {
            now: 0,
            queue: Queue::new(),
            trace: Trace::new(options.tracing),
            stats: Stats::default(),
            servers: Vec::new(),
            links: Vec::new(),
            clients: Vec::new(),
            connections: Vec::new(),
            history: History::default(),
            observed: Observed::default(),
            phase: Phase::Chaos,
            slow_links: 1,
            acknowledged: grange_proto::Zxid::ZERO,
            lives: BTreeMap::new(),
            given_up: BTreeMap::new(),
            last_trouble: 0,
            members: NewestMembers::default(),
            reconfig_sent: None,
            sessions_noted: 0,
            violation: None,
            next_run: 0,
            until: options.until.unwrap_or(Micros::MAX),
            setup,
            random,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let setup = format!("{:?}", self.setup);
        self.trace.line(0, || setup);
        for index in 0..self.setup.founders() + self.setup.spares {
            let server = Server::new(index, &self.setup, &mut self.random);
            self.servers.push(server);
            let at = self.random.below(200 * MS);
            self.queue.push(at, Task::Boot(index));
        }
        for high in 0..self.servers.len() {
            self.links.extend((0..high).map(|low| Link::new(low, high)));
        }
        let founders = self.servers[..self.setup.founders()].iter().enumerate();
        self.observed.knowledge.founders =
            founders.map(|(at, own)| (server::server_id(at), own.spec.clone())).collect();
        self.observed.knowledge.is_enabled = self.setup.reconfig;
        for index in 0..self.setup.clients {
            let client = Client::new(&mut self.random, index < self.setup.operators);
            self.clients.push(client);
            let at = self.random.below(SECOND);
            self.wake_client(index, at);
        }
        self.queue.push(100 * MS, Task::Look);
        self.queue.push(50 * MS, Task::Links);
        if self.setup.spares > 0 {
            self.queue.push(SECOND, Task::Operator);
        }
        if !self.setup.faults.is_empty() {
            let at = SECOND + self.random.around(self.setup.fault_pause);
            self.queue.push(at, Task::Fault);
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        while self.phase != Phase::Done {
            let Some((at, task)) = self.queue.pop() else { break };
            if at > self.until {
                return Ok(());
            }
            self.now = at;
            self.perform(task)?;
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.finish()
    }

    fn perform(&mut self, task: Task) -> Result<(), Violation> {
        match task {
            Task::Boot(server) => self.boot(server),
            Task::Step(server, run) => self.step_due(server, run),
            Task::Tick(server, run) => self.tick(server, run),
            Task::LogWritten(server, run) => self.log_written(server, run),
            Task::SnapshotWritten(server, run) => self.snapshot_written(server, run),
            Task::LogRead(server, run, first, end, bytes_max) => self.log_read(server, run, first, end, bytes_max),
            Task::Resume(server) => self.resume(server),
            Task::Stop(server, run) => self.stop(server, run),
            Task::Links => self.look_at_links(),
            Task::LinkUp(link, epoch) => self.link_up(link, epoch),
            Task::Message(link, epoch, direction) => self.message(link, epoch, direction),
            Task::LinkLost(link, epoch, side) => self.link_lost(link, epoch, side),
            Task::Transferred(transfer) => self.transferred(*transfer),
            Task::ToServer(conn) => self.arrives_at_server(conn),
            Task::ToClient(conn) => self.arrives_at_client(conn),
            Task::Client(client, timer) => self.client(client, timer),
            Task::Fault => self.fault(),
            Task::Mend(mend) => self.mend(mend),
            Task::Operator => self.operate(),
            Task::Look => return self.look(),
        }
        Ok(())
    }

    pub(crate) fn new_run(&mut self) -> Run {
        self.next_run += 1;
        self.next_run
    }

    /// Notes a violation; the run ends after this task.
    pub(crate) fn violated(&mut self, checker: &'static str, what: String) {
        let violation = Violation::new(checker, self.now, what);
        self.violation.get_or_insert(violation);
    }
}
