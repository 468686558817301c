//! A deterministic simulator: an ensemble, its clients, its network and its disks in one process, in virtual time, all
//! of it decided by one seed.
//!
//! What runs is what ships: real [`grange_replica::Replica`]s, the real log and the real snapshot files on a simulated
//! disk, clients that speak the real wire codec. Around them everything goes wrong that may: processes die, machines
//! lose power, links break or block in one direction, disks are slow, full, broken or lost, clocks are set, clients stall
//! and move. The checkers (`check/`) compare what clients saw with the one history that the members applied, replayed on
//! a naive model that shares no code with the tree.
//!
//! The same seed does the same, always: there is no clock, no thread, no hash table's order, and one random generator.
//!
//! > **Invariant:** nothing in here depends on anything but the seed and the options of the run.

#![forbid(unsafe_code)]

mod check;
mod clock;
mod nemesis;
mod queue;
mod random;
mod setup;
mod stats;
mod trace;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use check::Violation;
pub use nemesis::Fault;
pub use queue::{MS, Micros, SECOND};
pub use setup::{SCENARIOS, Scenario, Setup};
pub use stats::Stats;
pub use trace::Tracing;
pub use world::{Options, Outcome};

use world::World;

thread_local! {
    /// What the last panic said and where, for the report of a run that ended with one.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has panics noted instead of printed: a member that panics is a finding, not the end of the simulator.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|info| PANIC.with_borrow_mut(|note| *note = info.to_string())));
}

/// Makes one run.
pub fn run(options: &Options) -> Outcome {
    let mut world = World::new(options);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match result {
        Ok(result) => result.err(),
        Err(_) => Some(Violation::new("no member panics", world.now, PANIC.with_borrow(String::clone))),
    };
    let World { stats, trace, .. } = world;
    Outcome { violation, stats, hash: trace.hash(), last_lines: trace.last_lines().map(str::to_owned).collect() }
}
