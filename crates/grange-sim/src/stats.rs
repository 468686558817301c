//! What happened in a run, or in many, in numbers.

use std::collections::BTreeMap;
use std::fmt;

use crate::nemesis::Fault;
use crate::queue::Micros;

/// The numbers.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Virtual time.
    pub time: Micros,
    /// Faults by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Requests sent.
    pub requests: u64,
    /// Requests answered.
    pub replies: u64,
    /// Writes answered, those that failed included.
    pub writes: u64,
    /// Watch events received.
    pub events: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Sessions taken up again on another connection.
    pub returns: u64,
    /// Sessions that a client found expired.
    pub expired: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Snapshots written.
    pub snapshots_saved: u64,
    /// Snapshots received from another member.
    pub snapshots_installed: u64,
    /// Starts from what was on a disk.
    pub recoveries: u64,
    /// Messages between members.
    pub messages: u64,
    /// Steps of members.
    pub steps: u64,
}

impl Stats {
    /// Adds the numbers of another run.
    pub fn add(&mut self, other: &Stats) {
        self.time += other.time;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        self.requests += other.requests;
        self.replies += other.replies;
        self.writes += other.writes;
        self.events += other.events;
        self.sessions += other.sessions;
        self.returns += other.returns;
        self.expired += other.expired;
        self.elections += other.elections;
        self.snapshots_saved += other.snapshots_saved;
        self.snapshots_installed += other.snapshots_installed;
        self.recoveries += other.recoveries;
        self.messages += other.messages;
        self.steps += other.steps;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        let by_kind: Vec<String> = self.faults.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
        writeln!(f, "virtual time    {:.1} h", self.time as f64 / 3.6e9)?;
        writeln!(f, "faults          {faults}: {}", by_kind.join(", "))?;
        writeln!(
            f,
            "operations      {} requests, {} answered, {} of them writes; {} watch events",
            self.requests, self.replies, self.writes, self.events
        )?;
        writeln!(
            f,
            "sessions        {} opened, {} taken up again, {} found expired",
            self.sessions, self.returns, self.expired
        )?;
        writeln!(
            f,
            "members         {} elections, {} starts from disk, {} snapshots saved, {} installed from another member",
            self.elections, self.recoveries, self.snapshots_saved, self.snapshots_installed
        )?;
        write!(f, "work            {} steps, {} messages between members", self.steps, self.messages)
    }
}
