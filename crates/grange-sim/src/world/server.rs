//! A machine with its disk, and the process on it: a real replica driven the way the server's edge drives it, with the
//! log and the snapshots that ship, on a simulated disk.

use std::collections::{BTreeMap, VecDeque};

use grange_proto::SessionId;
use grange_proto::server_spec::{PeerAddress, Role, ServerSpec};
use grange_replica::{
    Action, ConnId, EnsembleConfig, Event, Genesis, LogBatch, LogEntry, Member, MemberId, Reaping, Replica,
    ReplicaConfig, SnapshotImage, SnapshotPolicy, TICK_MS,
};
use grange_server::simulation::{self, Faults, SimDisk};
use grange_server::storage::log::{Log, LogError};
use grange_server::storage::retention::Retention;
use grange_server::storage::snapshot::SnapshotStore;
use grange_tree::Policy;

use super::operator::is_of_members;
use super::{ConnIndex, Run, ServerIndex, Task, World};
use crate::clock::Clock;
use crate::queue::{MS, Micros};
use crate::random::Random;
use crate::setup::Setup;

/// The shortest session timeout that clients get.
pub(crate) const SESSION_TIMEOUT_MS_MIN: i32 = 1_000;
/// The longest one.
pub(crate) const SESSION_TIMEOUT_MS_MAX: i32 = 4_000;
/// The longest sync, on the slowest disk.
const SYNC_TIME_MAX: Micros = 2_000 * MS;
/// How often a full disk is tried again.
const SPACE_POLL: Micros = 250 * MS;
/// What `super:admin` comes to, as Apache's DigestAuthenticationProvider prints it.
const SUPER_DIGEST: &str = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=";
/// Snapshots that a member keeps.
const SNAPSHOTS_KEEP: usize = 2;

/// What is wrong with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Troubles {
    /// By how much the disk is slower than usual, if it is.
    pub(crate) slow_disk: Option<u64>,
    /// Whether a bit was flipped: the process may refuse to start.
    pub(crate) is_damaged: bool,
}

/// A machine.
pub(crate) struct Server {
    pub(crate) clock: Clock,
    pub(crate) disk: SimDisk,
    pub(crate) identity: MemberId,
    /// Starts with this data directory.
    pub(crate) starts: u64,
    pub(crate) spec: ServerSpec,
    pub(crate) process: Option<Process>,
    /// When the process goes on, if it stands still.
    pub(crate) paused_until: Option<Micros>,
    pub(crate) troubles: Troubles,
    /// Whether it may found an ensemble: not with a disk in the place of another one.
    pub(crate) may_found: bool,
    /// Whether a start is in the queue.
    pub(crate) boots: bool,
    pub(crate) random: Random,
}

/// A running process.
pub(crate) struct Process {
    pub(crate) run: Run,
    pub(crate) replica: Replica,
    log: Log,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) inbox: Vec<Event>,
    step_is_due: bool,
    held: VecDeque<LogBatch>,
    log_is_busy: bool,
    log_is_full: bool,
    /// Batches that the log has taken and not synced, because the disk was full.
    unsynced: Option<u64>,
    images: VecDeque<SnapshotImage>,
    pub(crate) conns: BTreeMap<ConnId, ConnIndex>,
    pub(crate) founds: bool,
    pub(crate) is_resigning: bool,
}

impl Server {
    pub(crate) fn new(index: usize, setup: &Setup, random: &mut Random) -> Server {
        let observes = (setup.participants..setup.founders()).contains(&index);
        let role = if observes { Role::Observer } else { Role::Participant };
        let port = u16::try_from(index).expect("there are few servers");
        let peer =
            PeerAddress { host: format!("s{}", index + 1), quorum_port: 2000 + port, election_port: 3000 + port };
        Server {
            clock: Clock::new(random),
            disk: SimDisk::new(random.next()),
            identity: new_identity(random),
            starts: 0,
            spec: ServerSpec { peers: vec![peer], role, client: None, secure_client: None },
            process: None,
            paused_until: None,
            troubles: Troubles::default(),
            may_found: index == 0,
            boots: true,
            random: random.fork(),
        }
    }

    /// Returns the process if it runs and is not paused.
    pub(crate) fn awake(&self) -> Option<&Process> {
        self.process.as_ref().filter(|_| self.paused_until.is_none())
    }
}

/// An identity is never 0, and never the same again.
pub(crate) fn new_identity(random: &mut Random) -> MemberId {
    MemberId(random.next().max(1))
}

impl Process {
    /// Tells whether this is the process that a task was meant for.
    fn is(&self, run: Run) -> bool {
        self.run == run
    }
}

impl World {
    /// Returns the member that a server's data directory says it is.
    pub(crate) fn member(&self, server: ServerIndex) -> Member {
        let Server { identity, spec, .. } = &self.servers[server];
        Member { id: *identity, server_id: server_id(server), spec: spec.clone() }
    }

    fn config(&mut self, server: ServerIndex, founds: bool) -> ReplicaConfig {
        let listed = (0..self.servers.len()).filter(|other| *other < self.setup.founders() || *other == server);
        let servers = listed.map(|other| (server_id(other), self.servers[other].spec.clone())).collect();
        let member = self.member(server);
        let own = &mut self.servers[server];
        own.starts += 1;
        let mut genesis = Genesis { cluster_id: [0; 16], session_key: [0; 32] };
        genesis.cluster_id[..8].copy_from_slice(&own.random.next().to_le_bytes());
        genesis.session_key[..8].copy_from_slice(&own.random.next().to_le_bytes());
        ReplicaConfig {
            ensemble: EnsembleConfig {
                member,
                run: own.starts,
                founds,
                servers: if self.setup.founders() == 1 && server == 0 { Vec::new() } else { servers },
                read_only_mode: false,
                linearizable_reads: self.setup.linearizable_reads,
            },
            tick_ms: self.setup.tick_ms,
            session_timeout_ms_min: SESSION_TIMEOUT_MS_MIN,
            session_timeout_ms_max: SESSION_TIMEOUT_MS_MAX,
            policy: Policy { extended_types: true, reconfig: self.setup.reconfig, ..Policy::default() },
            super_digest: Some(SUPER_DIGEST.to_owned()),
            reaping: Reaping { interval_ms: 1_500, per_minute_max: 1_000, never_used_ms: 2_000 },
            snapshots: SnapshotPolicy { requests: self.setup.snapshot_requests, log_bytes: 1 << 20 },
            genesis,
            seed: own.random.next(),
        }
    }

    pub(crate) fn boot(&mut self, server: ServerIndex) {
        self.servers[server].boots = false;
        if self.servers[server].process.is_none() {
            let founds = self.setup.founders() == 1 && self.servers[server].may_found;
            self.start(server, founds);
        }
    }

    /// Starts a process from what is on the disk.
    pub(crate) fn start(&mut self, server: ServerIndex, founds: bool) {
        let config = self.config(server, founds);
        // Whatever made the last process stop, somebody has seen to it.
        self.servers[server].disk.set_faults(Faults::default());
        let now = self.servers[server].clock.now(self.now);
        let data = match simulation::open(&self.servers[server].disk, self.setup.segment_bytes) {
            Ok(data) => data,
            Err(error) if self.servers[server].troubles.is_damaged => {
                self.trace.line(self.now, || format!("server {server} refuses to start: {error}"));
                return self.lose_disk(server);
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                return self.violated("a member starts after a crash", format!("server {server}: {error}: {source}"));
            }
        };
        self.servers[server].troubles.is_damaged = false;
        if data.log.last().index > 0 {
            self.stats.recoveries += 1;
        }
        let (log, snapshots) = (data.log, data.snapshots);
        let (last, state) = (log.last().index, log.hard_state());
        let snapshot = data.recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        let mut replica = match Replica::start(config, data.recovered, now) {
            Ok(replica) => replica,
            Err(error) => {
                return self.violated("a member starts after a crash", format!("server {server}: {error}"));
            }
        };
        replica.record();
        let run = self.new_run();
        self.trace.line(self.now, || {
            format!("server {server} starts as run {run} with snapshot {snapshot}, entry {last}, {state:?}, founds: {founds}")
        });
        self.servers[server].process = Some(Process {
            run,
            replica,
            log,
            snapshots,
            inbox: Vec::new(),
            step_is_due: false,
            held: VecDeque::new(),
            log_is_busy: false,
            log_is_full: false,
            unsynced: None,
            images: VecDeque::new(),
            conns: BTreeMap::new(),
            founds,
            is_resigning: false,
        });
        self.queue.push(self.now, Task::Tick(server, run));
    }

    /// Starts a blank server anew, as the one that founds the ensemble.
    pub(crate) fn restart_as_founder(&mut self, server: ServerIndex) {
        if let Some(process) = self.servers[server].process.take() {
            drop(process);
            self.links_lost(server, false);
            self.start(server, true);
        }
    }

    /// Gives an event to a member, which takes it in with others.
    pub(crate) fn post(&mut self, server: ServerIndex, event: Event) {
        let Server { process: Some(process), random, .. } = &mut self.servers[server] else { return };
        process.inbox.push(event);
        if !process.step_is_due {
            process.step_is_due = true;
            let delay = if random.chance(100) { random.below(3 * MS) } else { random.below(100) };
            self.queue.push(self.now + delay, Task::Step(server, process.run));
        }
    }

    /// Returns true if the task is for this process and it does not stand still; puts it off until it goes on.
    fn is_awake(&mut self, server: ServerIndex, run: Run, again: Task) -> bool {
        if !self.servers[server].process.as_ref().is_some_and(|process| process.is(run)) {
            return false;
        }
        match self.servers[server].paused_until {
            Some(until) => {
                self.queue.push(until, again);
                false
            }
            None => true,
        }
    }

    pub(crate) fn tick(&mut self, server: ServerIndex, run: Run) {
        if self.is_awake(server, run, Task::Tick(server, run)) {
            let late =
                if self.servers[server].random.chance(50) { self.servers[server].random.below(5 * MS) } else { 0 };
            self.queue.push(self.now + TICK_MS * MS + late, Task::Tick(server, run));
            if let Some(process) = &mut self.servers[server].process {
                process.inbox.push(Event::Tick);
            }
            self.step(server);
        }
    }

    pub(crate) fn step_due(&mut self, server: ServerIndex, run: Run) {
        if self.is_awake(server, run, Task::Step(server, run)) {
            self.step(server);
        }
    }

    /// Lets a member take in what waits, or the first part of it, and performs what it asks for.
    fn step(&mut self, server: ServerIndex) {
        let Server { process: Some(process), random, clock, .. } = &mut self.servers[server] else { return };
        process.step_is_due = false;
        let mut events = std::mem::take(&mut process.inbox);
        if events.len() > 1 && random.chance(100) {
            process.inbox = events.split_off(random.index(events.len()));
        }
        let heard = events.iter().filter_map(|event| match event {
            Event::Frames { conn, .. } => self.connections[*process.conns.get(conn)?].session,
            _ => None,
        });
        let heard: Vec<SessionId> = heard.collect();
        let mut actions = Vec::new();
        let count = events.len();
        process.replica.step(clock.now(self.now), &mut events, &mut actions);
        self.stats.steps += 1;
        let expired = process.replica.take_expired();
        let (run, is_unfinished) = (process.run, !process.inbox.is_empty());
        let (applied, probe) = (process.replica.take_applied(), process.replica.probe());
        if is_unfinished {
            process.step_is_due = true;
            self.queue.push(self.now + 10, Task::Step(server, run));
        }
        if count > 1 || !actions.is_empty() {
            self.trace.line(self.now, || format!("server {server} takes {count} events: {}", describe(&actions)));
        }
        let id = self.servers[server].identity.0;
        heard.into_iter().for_each(|session| self.note_life(session));
        let changes_members = applied.iter().flat_map(|entry| &entry.requests).any(is_of_members);
        let known = self.history.requests().len();
        let checked = self.history.applied(server, applied, self.now);
        if changes_members {
            self.trace.line(self.now, || {
                format!("server {server} applies {}", self.history.describe_members(is_of_members, known))
            });
            self.note_members(server, probe.applied);
        }
        let checked = checked.and_then(|()| self.history.probed(server, id, probe, self.now));
        let checked = checked.and_then(|()| self.check_expiry(&expired, probe.term));
        if let Err(violation) = checked {
            self.violation.get_or_insert(violation);
            return;
        }
        for action in actions {
            self.act(server, action);
        }
    }

    fn act(&mut self, server: ServerIndex, action: Action) {
        let Server { process: Some(process), random, .. } = &mut self.servers[server] else { return };
        let run = process.run;
        match action {
            Action::Append(batch) => {
                process.held.push_back(batch);
                self.begin_write(server);
            }
            Action::Send { conn, bytes, .. } => {
                if let Some(&conn) = process.conns.get(&conn) {
                    self.send_to_client(conn, Some(bytes));
                }
            }
            Action::Close(conn) => {
                if let Some(conn) = process.conns.remove(&conn) {
                    self.send_to_client(conn, None);
                }
                self.post(server, Event::Disconnected(conn));
            }
            Action::SaveSnapshot(image) => {
                process.images.push_back(*image);
                let at = self.now + random.around(50 * MS);
                self.queue.push(at, Task::SnapshotWritten(server, run));
            }
            Action::PurgeLog { first_kept } => process.purge(first_kept),
            Action::SendPeer { to, message } => self.send_peer(server, to, message),
            Action::SendSnapshot { to, index, term, message } => self.send_snapshot(server, to, (index, term), message),
            Action::ReadLog { first, end, bytes_max } => {
                let at = self.now + random.around(MS);
                self.queue.push(at, Task::LogRead(server, run, first, end, bytes_max));
            }
            Action::Members(members) => {
                self.trace.line(self.now, || {
                    let members: Vec<String> = members.iter().map(|m| format!("{}={}", m.server_id, m.id)).collect();
                    format!("server {server} has members {}", members.join(" "))
                });
            }
            // Every server has a link to every other one here.
            Action::Candidates(_) | Action::Inspected { .. } => {}
            Action::Resigned => self.queue.push(self.now, Task::Stop(server, run)),
        }
    }

    fn begin_write(&mut self, server: ServerIndex) {
        let Server { process: Some(process), random, troubles, .. } = &mut self.servers[server] else { return };
        if !std::mem::replace(&mut process.log_is_busy, true) {
            let usual = self.setup.sync_time * troubles.slow_disk.unwrap_or(1);
            let at = self.now + random.around(usual).min(SYNC_TIME_MAX);
            self.queue.push(at, Task::LogWritten(server, process.run));
        }
    }

    pub(crate) fn log_written(&mut self, server: ServerIndex, run: Run) {
        if !self.is_awake(server, run, Task::LogWritten(server, run)) {
            return;
        }
        let Some(process) = &mut self.servers[server].process else { return };
        process.log_is_busy = false;
        let mut events = Vec::new();
        match process.write(&mut events) {
            Ok(()) => {}
            Err(error) => {
                self.trace.line(self.now, || format!("server {server} stops: {error}"));
                return self.die(server, false);
            }
        }
        let waits = process.log_is_full || process.unsynced.is_some();
        if waits {
            process.log_is_busy = true;
            self.queue.push(self.now + SPACE_POLL, Task::LogWritten(server, run));
        }
        for event in events {
            self.post(server, event);
        }
    }

    pub(crate) fn snapshot_written(&mut self, server: ServerIndex, run: Run) {
        if !self.is_awake(server, run, Task::SnapshotWritten(server, run)) {
            return;
        }
        let Some(process) = &mut self.servers[server].process else { return };
        let Some(image) = process.images.pop_front() else { return };
        let index = image.index;
        let event = match simulation::save_snapshot(&process.snapshots, image) {
            Ok(_) => {
                self.stats.snapshots_saved += 1;
                Event::SnapshotSaved { index }
            }
            Err(error) => {
                self.trace.line(self.now, || format!("server {server} has no snapshot {index}: {error}"));
                Event::SnapshotFailed
            }
        };
        self.post(server, event);
    }

    pub(crate) fn log_read(&mut self, server: ServerIndex, run: Run, first: u64, end: u64, bytes_max: usize) {
        if !self.is_awake(server, run, Task::LogRead(server, run, first, end, bytes_max)) {
            return;
        }
        let Some(process) = &mut self.servers[server].process else { return };
        let found = match process.log.read(first..end, bytes_max) {
            Ok(found) => found,
            Err(error) => return self.violated("the log can be read", format!("server {server}: {error}")),
        };
        if found.is_empty() && first >= process.log.first_index() && first <= process.log.last().index {
            // It is still on its way to the disk.
            return self.queue.push(self.now + MS, Task::LogRead(server, run, first, end, bytes_max));
        }
        let entry =
            |e: grange_server::storage::log::Entry| LogEntry { index: e.index, term: e.term, tag: e.tag, data: e.data };
        let entries: Vec<LogEntry> = found.into_iter().map(entry).collect();
        let entries = (!entries.is_empty()).then_some(entries);
        self.post(server, Event::LogRead { first, entries });
    }

    /// Ends a process, as by `kill -9` or by a loss of power. A write may be under way.
    pub(crate) fn die(&mut self, server: ServerIndex, loses_power: bool) {
        let Some(mut process) = self.servers[server].process.take() else { return };
        self.last_trouble = self.now;
        self.trace.line(self.now, || format!("server {server} dies, power lost: {loses_power}"));
        let Server { random, disk, .. } = &mut self.servers[server];
        if loses_power && random.chance(500) {
            disk.set_faults(Faults { dies_in: Some(random.below(4)), ..Faults::default() });
            let _ = process.write(&mut Vec::new());
            if let Some(image) = process.images.pop_front() {
                disk.set_faults(Faults { dies_in: Some(random.below(8)), ..Faults::default() });
                let _ = simulation::save_snapshot(&process.snapshots, image);
            }
        }
        // A segment being recycled or a snapshot being removed ends here too.
        let conns = std::mem::take(&mut process.conns);
        drop(process);
        if loses_power {
            self.servers[server].disk.crash();
        }
        self.servers[server].paused_until = None;
        for conn in conns.into_values() {
            self.server_gone(conn, loses_power);
        }
        self.links_lost(server, loses_power);
        self.boot_later(server);
    }

    fn boot_later(&mut self, server: ServerIndex) {
        if !std::mem::replace(&mut self.servers[server].boots, true) {
            let at = self.now + 20 * MS + self.servers[server].random.around(700 * MS);
            self.queue.push(at, Task::Boot(server));
        }
    }

    /// Starts a server in a moment if it is down and nobody does so.
    pub(crate) fn boot_soon(&mut self, server: ServerIndex) {
        if self.servers[server].process.is_none() {
            self.servers[server].boots = true;
            self.queue.push(self.now + MS, Task::Boot(server));
        }
    }

    /// Stops a process in order.
    pub(crate) fn stop(&mut self, server: ServerIndex, run: Run) {
        let Some(process) = self.servers[server].process.take_if(|process| process.is(run)) else { return };
        self.trace.line(self.now, || format!("server {server} stops"));
        let Process { log, conns, .. } = process;
        let _ = log.close();
        self.servers[server].paused_until = None;
        for conn in conns.into_values() {
            self.server_gone(conn, false);
        }
        self.links_lost(server, false);
        if self.servers[server].troubles.is_damaged {
            self.flip_a_bit(server);
        }
        self.boot_later(server);
    }

    /// Gives a server an empty disk, which makes it another member.
    pub(crate) fn lose_disk(&mut self, server: ServerIndex) {
        self.die(server, true);
        let own = &mut self.servers[server];
        own.disk = SimDisk::new(own.random.next());
        own.identity = new_identity(&mut own.random);
        own.starts = 0;
        own.may_found = false;
        own.troubles.is_damaged = false;
        let identity = own.identity;
        self.observed.knowledge.lost_disks.insert(server_id(server));
        self.trace.line(self.now, || format!("server {server} has an empty disk and is member {identity}"));
        self.boot_later(server);
    }

    pub(crate) fn resume(&mut self, server: ServerIndex) {
        if self.servers[server].paused_until.is_some_and(|until| until <= self.now) {
            self.servers[server].paused_until = None;
            self.trace.line(self.now, || format!("server {server} goes on"));
        }
    }
}

impl Process {
    /// Tells whether there is nothing of any ensemble here.
    pub(crate) fn is_blank(&self) -> bool {
        self.log.last().index == 0 && self.replica.probe().applied == 0
    }

    /// Writes what is held, as far as there is room: what the server's log thread does.
    fn write(&mut self, events: &mut Vec<Event>) -> Result<(), LogError> {
        let mut must_sync = self.unsynced.is_some();
        let mut last = self.unsynced.take();
        while let Some(batch) = self.held.front() {
            let bytes_max = self.log.batch_bytes_max();
            let mut pieces = simulation::to_stored(batch, bytes_max).into_iter();
            match pieces.try_for_each(|piece| self.log.append(&piece)) {
                Ok(()) => {
                    last = Some(batch.number);
                    must_sync |= batch.must_sync;
                    self.held.pop_front();
                }
                Err(LogError::Full { .. }) => {
                    if !std::mem::replace(&mut self.log_is_full, true) {
                        events.push(Event::LogFull);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if must_sync {
            match self.log.sync() {
                Ok(()) => {}
                Err(LogError::Full { .. }) => {
                    self.unsynced = last;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        events.extend(last.map(Event::LogSynced));
        if self.log_is_full && self.held.is_empty() {
            self.log_is_full = false;
            events.push(Event::LogHasRoom);
        }
        Ok(())
    }

    /// Gives up what neither the replica nor the retention asks for.
    fn purge(&mut self, first_kept: u64) {
        let retention = Retention { snapshots_keep: SNAPSHOTS_KEEP, ..Retention::default() };
        let Ok(files) = self.snapshots.list() else { return };
        let plan = retention.plan(&files, self.log.bytes_on_disk(), |index| self.log.bytes_before(index));
        self.log.purge_before(plan.log_before.min(first_kept));
        for file in plan.snapshots {
            let _ = self.snapshots.remove(&file);
        }
    }
}

pub(crate) fn server_id(server: ServerIndex) -> u8 {
    u8::try_from(server + 1).expect("there are few servers")
}

fn describe(actions: &[Action]) -> String {
    let one = |action: &Action| match action {
        Action::Append(batch) => format!("append {} ({} entries)", batch.number, batch.entries.len()),
        Action::Send { conn, bytes, answered } => {
            format!("send {} bytes, {answered} replies to {}", bytes.len(), conn.0)
        }
        Action::Close(conn) => format!("close {}", conn.0),
        Action::SaveSnapshot(image) => format!("save snapshot {}", image.index),
        Action::PurgeLog { first_kept } => format!("purge before {first_kept}"),
        Action::SendPeer { to, message } => format!("send {} bytes to member {to}", message.len()),
        Action::SendSnapshot { to, index, .. } => format!("send snapshot {index} to member {to}"),
        Action::ReadLog { first, end, .. } => format!("read log {first}..{end}"),
        Action::Members(members) => format!("{} members", members.len()),
        Action::Candidates(servers) => format!("{} candidates", servers.len()),
        Action::Resigned => "resigned".to_owned(),
        Action::Inspected { .. } => "inspected".to_owned(),
    };
    actions.iter().map(one).collect::<Vec<_>>().join("; ")
}
