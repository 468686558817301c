//! Faults: how each comes, and how it ends.

use grange_replica::Event;
use grange_server::simulation::Faults;
use grange_server::storage::disk::Disk;
use std::path::Path;

use super::finish::Phase;
use super::{ServerIndex, Task, World};
use crate::nemesis::Fault;
use crate::queue::{MS, Micros, SECOND};

/// How a fault ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mend {
    /// A direction of a link is free again.
    Direction(usize, usize),
    /// All directions of all links are free again.
    Links,
    /// Links are as fast as usual.
    Speed,
    /// A disk has its usual speed.
    DiskSpeed(ServerIndex),
    /// A disk has room again.
    Room(ServerIndex),
}

impl World {
    pub(crate) fn fault(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        let at = self.now + 10 * MS + self.random.around(self.setup.fault_pause);
        self.queue.push(at, Task::Fault);
        let fault = self.random.weighted(&self.setup.faults);
        let server = self.random.index(self.servers.len());
        if self.inflict(fault, server) {
            self.last_trouble = self.now;
            *self.stats.faults.entry(fault).or_default() += 1;
            self.trace.line(self.now, || format!("fault: {fault:?}, server {server}"));
        }
    }

    /// Returns false if the fault cannot come now.
    fn inflict(&mut self, fault: Fault, server: ServerIndex) -> bool {
        let lasting = 50 * MS + self.random.around(1_500 * MS);
        let until = self.now + lasting;
        let is_up = self.servers[server].awake().is_some();
        match fault {
            Fault::Kill | Fault::PowerLoss if is_up => self.die(server, fault == Fault::PowerLoss),
            Fault::AllPowerLoss => (0..self.servers.len()).for_each(|server| self.die(server, true)),
            Fault::Pause if is_up => self.pause(server, until),
            Fault::BreakLink if !self.links.is_empty() => {
                let link = self.random.index(self.links.len());
                self.break_link(link);
            }
            Fault::OneWay if !self.links.is_empty() => {
                let (link, side) = (self.random.index(self.links.len()), self.random.index(2));
                self.set_blocked(link, side, true);
                self.queue.push(until, Task::Mend(Mend::Direction(link, side)));
            }
            Fault::Groups if !self.links.is_empty() => self.fall_apart(until),
            Fault::SlowLinks => {
                let factor_max = (60 * MS / self.setup.latency).clamp(3, 40);
                self.slow_links = self.random.range(2, factor_max);
                self.queue.push(until, Task::Mend(Mend::Speed));
            }
            Fault::SlowDisk => {
                self.servers[server].troubles.slow_disk = Some(self.random.range(5, 100));
                self.queue.push(until, Task::Mend(Mend::DiskSpeed(server)));
            }
            Fault::FullDisk if is_up => {
                self.fill(server);
                self.queue.push(until, Task::Mend(Mend::Room(server)));
            }
            Fault::WriteError if is_up => {
                let write_fails_in = Some(self.random.below(20));
                self.servers[server].disk.set_faults(Faults { write_fails_in, ..Faults::default() });
            }
            Fault::SyncError if is_up => {
                let sync_fails_in = Some(self.random.below(10));
                self.servers[server].disk.set_faults(Faults { sync_fails_in, ..Faults::default() });
            }
            Fault::BitFlip if is_up && self.may_lose(server) => {
                self.servers[server].troubles.is_damaged = true;
                self.resign(server);
            }
            Fault::LostDisk if self.may_lose(server) => self.lose_disk(server),
            Fault::SetClock => {
                let by_ms = i64::try_from(self.random.below(20_000)).expect("it is below the bound") - 10_000;
                self.servers[server].clock.set_wall(by_ms);
            }
            Fault::Resign if is_up => self.resign(server),
            Fault::BreakClient => {
                let client = self.random.index(self.clients.len());
                let Some(conn) = self.clients[client].conn() else { return false };
                self.break_connection(conn);
            }
            Fault::StallClient => {
                let client = self.random.index(self.clients.len());
                self.clients[client].paused_until = Some(until);
            }
            Fault::WantSnapshot if is_up => self.post(server, Event::SnapshotWanted),
            _ => return false,
        }
        true
    }

    fn pause(&mut self, server: ServerIndex, until: Micros) {
        // Now and then longer than any session lives.
        let until = if self.random.chance(200) { until + 8 * SECOND } else { until };
        self.servers[server].paused_until = Some(until);
        self.queue.push(until, Task::Resume(server));
    }

    fn fall_apart(&mut self, until: Micros) {
        let mask = self.random.next();
        for at in 0..self.links.len() {
            let [low, high] = self.links[at].ends;
            if (mask >> low) & 1 != (mask >> high) & 1 {
                self.set_blocked(at, 0, true);
                self.set_blocked(at, 1, true);
            }
        }
        self.queue.push(until, Task::Mend(Mend::Links));
    }

    fn fill(&mut self, server: ServerIndex) {
        let faults = match self.random.chance(300) {
            true => Faults { full: true, ..Faults::default() },
            false => {
                let free = self.random.below(2) * self.setup.segment_bytes;
                Faults { capacity_bytes: Some(self.servers[server].disk.bytes() + free), ..Faults::default() }
            }
        };
        self.servers[server].disk.set_faults(faults);
    }

    fn resign(&mut self, server: ServerIndex) {
        if let Some(process) = &mut self.servers[server].process {
            process.is_resigning = true;
            let run = process.run;
            self.post(server, Event::Resign);
            self.queue.push(self.now + SECOND, Task::Stop(server, run));
        }
    }

    /// Changes a bit somewhere on the disk of a server that was stopped in order.
    pub(crate) fn flip_a_bit(&mut self, server: ServerIndex) {
        let own = &mut self.servers[server];
        let mut paths = Vec::new();
        for dir in ["/log", "/snapshot"] {
            let names = own.disk.list(Path::new(dir)).unwrap_or_default();
            paths.extend(names.into_iter().map(|name| Path::new(dir).join(name)));
        }
        if paths.is_empty() {
            return;
        }
        let path = &paths[own.random.index(paths.len())];
        let bytes = own.disk.open(path).and_then(|file| file.size()).unwrap_or(0);
        if bytes > 0 {
            let (offset, bit) = (own.random.below(bytes), own.random.below(8));
            own.disk.flip_bit(path, offset, u32::try_from(bit).expect("it is below the bound"));
            self.trace
                .line(self.now, || format!("server {server} has a flipped bit in {} at {offset}", path.display()));
        }
    }

    pub(crate) fn mend(&mut self, mend: Mend) {
        self.last_trouble = self.now;
        self.trace.line(self.now, || format!("mended: {mend:?}"));
        match mend {
            Mend::Direction(link, side) => self.set_blocked(link, side, false),
            Mend::Links => self.free_links(),
            Mend::Speed => self.slow_links = 1,
            Mend::DiskSpeed(server) => self.servers[server].troubles.slow_disk = None,
            Mend::Room(server) => self.servers[server].disk.set_faults(Faults::default()),
        }
    }

    fn free_links(&mut self) {
        for at in 0..self.links.len() {
            self.set_blocked(at, 0, false);
            self.set_blocked(at, 1, false);
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        self.free_links();
        self.slow_links = 1;
        for server in 0..self.servers.len() {
            self.servers[server].disk.set_faults(Faults::default());
            self.servers[server].troubles.slow_disk = None;
            self.boot_soon(server);
        }
    }
}
