//! What a seed decides before anything happens, and the scenarios that decide some of it by name.

use crate::nemesis::Fault;
use crate::queue::{MS, Micros, SECOND};
use crate::random::Random;

/// Everything about a run that does not change while it lasts.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Members that vote.
    pub participants: usize,
    /// Members that do not.
    pub observers: usize,
    /// Servers that are blank and belong to nothing until somebody asks for them.
    pub spares: usize,
    /// Clients.
    pub clients: usize,
    /// How many of the clients may change the members, and do.
    pub operators: usize,
    /// Whether members may be changed by request.
    pub reconfig: bool,
    /// Whether every read sees all that was acknowledged before it was sent.
    pub linearizable_reads: bool,
    /// How long faults happen.
    pub chaos: Micros,
    /// Faults and how often each comes, relative to the others.
    pub faults: Vec<(Fault, u32)>,
    /// The usual time between two faults.
    pub fault_pause: Micros,
    /// The usual time between two bursts of requests of a client.
    pub think: Micros,
    /// The most requests in a burst.
    pub burst_max: u64,
    /// The usual way of a message.
    pub latency: Micros,
    /// The usual time of a sync.
    pub sync_time: Micros,
    /// How long a member hears nothing before it takes a link for dead.
    pub dead_peer: Micros,
    /// The size of a log segment.
    pub segment_bytes: u64,
    /// Requests after which a member makes a snapshot.
    pub snapshot_requests: u64,
    /// The unit of session expiry in milliseconds.
    pub tick_ms: u32,
}

/// A kind of run with a name: a failure that was found and must not come back, or a part of the world on its own.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub what: &'static str,
    /// Changes what the seed has decided.
    pub apply: fn(&mut Setup),
}

const ALL: &[(Fault, u32)] = &[
    (Fault::Kill, 10),
    (Fault::PowerLoss, 10),
    (Fault::AllPowerLoss, 3),
    (Fault::Pause, 6),
    (Fault::BreakLink, 10),
    (Fault::OneWay, 8),
    (Fault::Groups, 8),
    (Fault::SlowLinks, 3),
    (Fault::SlowDisk, 5),
    (Fault::FullDisk, 4),
    (Fault::WriteError, 2),
    (Fault::SyncError, 3),
    (Fault::BitFlip, 2),
    (Fault::LostDisk, 2),
    (Fault::SetClock, 5),
    (Fault::Resign, 6),
    (Fault::BreakClient, 10),
    (Fault::StallClient, 6),
    (Fault::WantSnapshot, 3),
];

/// The scenarios that can be asked for by name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "calm", what: "no faults at all", apply: |setup| setup.faults.clear() },
    Scenario {
        name: "alone",
        what: "one member, all faults that it can survive",
        apply: |setup| {
            (setup.participants, setup.observers) = (1, 0);
            setup.leave_members_alone();
        },
    },
    Scenario {
        name: "three",
        what: "three members, all faults",
        apply: |setup| {
            (setup.participants, setup.observers) = (3, 0);
            setup.leave_members_alone();
        },
    },
    Scenario {
        name: "crashes",
        what: "kills and power losses in quick succession",
        apply: |setup| {
            setup.faults = vec![(Fault::Kill, 3), (Fault::PowerLoss, 3), (Fault::AllPowerLoss, 1)];
            setup.fault_pause = 400 * MS;
        },
    },
    Scenario {
        name: "partitions",
        what: "links that break, block and fall apart",
        apply: |setup| {
            setup.faults = vec![(Fault::BreakLink, 2), (Fault::OneWay, 3), (Fault::Groups, 3), (Fault::Pause, 1)];
            setup.fault_pause = 600 * MS;
        },
    },
    Scenario {
        name: "disks",
        what: "disks that are slow, full, broken or lost",
        apply: |setup| {
            setup.faults = vec![
                (Fault::SlowDisk, 3),
                (Fault::FullDisk, 3),
                (Fault::WriteError, 2),
                (Fault::SyncError, 2),
                (Fault::BitFlip, 2),
                (Fault::LostDisk, 2),
                (Fault::PowerLoss, 4),
            ];
        },
    },
    Scenario {
        name: "sessions",
        what: "clients that move, stall and come back late",
        apply: |setup| {
            setup.faults = vec![(Fault::BreakClient, 5), (Fault::StallClient, 5), (Fault::Resign, 1), (Fault::Kill, 1)];
            setup.fault_pause = 200 * MS;
        },
    },
    Scenario {
        name: "handovers",
        what: "leaders that give sessions up, cannot say so for their disks, and hand leadership over",
        apply: |setup| {
            setup.faults = vec![
                (Fault::SlowDisk, 4),
                (Fault::FullDisk, 1),
                (Fault::Resign, 3),
                (Fault::StallClient, 5),
                (Fault::BreakClient, 3),
            ];
            (setup.fault_pause, setup.sync_time, setup.tick_ms) = (200 * MS, 15 * MS, 200);
        },
    },
    Scenario {
        name: "members",
        what: "members that are added, removed and given other parts all the time",
        apply: |setup| {
            setup.participants = setup.participants.min(5);
            setup.spares = 3 - setup.participants.min(2);
            (setup.operators, setup.reconfig) = (2, true);
            setup.fault_pause = setup.fault_pause.max(800 * MS);
        },
    },
];

impl Setup {
    /// Has no changes of the members by request.
    fn leave_members_alone(&mut self) {
        (self.spares, self.operators) = (0, 0);
    }

    /// Servers that found the ensemble: those that every configuration file lists.
    pub(crate) fn founders(&self) -> usize {
        self.participants + self.observers
    }

    /// Decides everything by chance.
    pub(crate) fn draw(random: &mut Random) -> Setup {
        let participants = random.weighted(&[(1, 10), (2, 2), (3, 50), (4, 3), (5, 30), (6, 1), (7, 4)]);
        let observers = if random.chance(200) { random.pick(&[1, 2]) } else { 0 };
        // Some seeds see few kinds of faults, so that one kind does not hide what another would show.
        let faults = match random.below(10) {
            0 => Vec::new(),
            1..=4 => {
                let count = random.range(1, 5);
                (0..count).map(|_| random.pick(ALL)).collect()
            }
            _ => ALL.to_vec(),
        };
        // Of its own, so that what else a seed decides does not depend on it.
        let mut other = Random::new(random.clone().next());
        let changes_members = other.chance(300);
        Setup {
            spares: if changes_members { other.pick(&[0, 1, 2, 3]) } else { 0 },
            operators: if changes_members { other.pick(&[1, 2]) } else { 0 },
            reconfig: changes_members || other.chance(500),
            linearizable_reads: other.chance(200),
            participants,
            observers,
            clients: random.pick(&[2, 3, 4, 6, 8]),
            chaos: random.range(3, 11) * SECOND,
            faults,
            fault_pause: random.pick(&[200, 400, 800, 1_600]) * MS,
            think: random.pick(&[30, 80, 200]) * MS,
            burst_max: random.pick(&[1, 3, 8]),
            latency: random.pick(&[100, 500, 2_000, 10_000]),
            sync_time: random.pick(&[100, 500, 3_000, 15_000]),
            dead_peer: random.pick(&[400, 1_000, 2_500]) * MS,
            segment_bytes: random.pick(&[64 << 10, 128 << 10]),
            snapshot_requests: random.pick(&[20, 60, 200, 1_000]),
            tick_ms: random.pick(&[200, 500, 1_000]),
        }
    }
}
