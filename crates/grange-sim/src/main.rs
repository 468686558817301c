//! `grange-sim`: runs seeds, and says which checker one has failed and how to see it again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use grange_sim::{MS, Options, Outcome, SCENARIOS, SECOND, Scenario, Stats, Tracing, note_panics, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run an ensemble in virtual time, with everything that may go wrong, and check what it promises
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The first seed; by default one that nobody has run
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run, one after the other
    #[arg(long, default_value_t = 1, conflicts_with = "minutes")]
    seeds: u64,
    /// Run new seeds for so many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// How long faults happen in each run, in seconds of virtual time; by default the seed decides
    #[arg(long, value_name = "SECONDS")]
    chaos: Option<u64>,
    /// Print everything that happens
    #[arg(long)]
    trace: bool,
    /// Run one of the named scenarios
    #[arg(long, value_parser = scenario)]
    scenario: Option<&'static Scenario>,
    /// Run each seed twice and compare the traces
    #[arg(long)]
    twice: bool,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    SCENARIOS.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
        let list: Vec<String> = SCENARIOS.iter().map(|s| format!("{} ({})", s.name, s.what)).collect();
        format!("there are: {}", list.join(", "))
    })
}

impl Args {
    fn options(&self, seed: u64, tracing: Tracing) -> Options {
        let (chaos, scenario) = (self.chaos.map(|seconds| seconds * SECOND), self.scenario.map(|s| s.apply));
        Options { seed, chaos, scenario, tracing, until: None }
    }

    /// Runs a seed; prints and returns false if it failed.
    fn run(&self, seed: u64, stats: &mut Stats) -> bool {
        let tracing = if self.trace { Tracing::Printed } else { Tracing::Off };
        let tracing = if self.twice && !self.trace { Tracing::Kept } else { tracing };
        let outcome = run(&self.options(seed, tracing));
        stats.add(&outcome.stats);
        if outcome.violation.is_some() {
            self.show(seed, &outcome);
            return false;
        }
        if self.twice {
            let again = run(&self.options(seed, Tracing::Kept));
            if again.hash != outcome.hash {
                println!("seed {seed} FAILED: two runs of it differ ({:016x}, {:016x})", outcome.hash, again.hash);
                return false;
            }
        }
        true
    }

    /// Prints what was found, and what came before it: the run is made again to see that.
    fn show(&self, seed: u64, outcome: &Outcome) {
        let Some(violation) = &outcome.violation else { return };
        println!("seed {seed} FAILED: {violation}");
        if !self.trace {
            let mut options = self.options(seed, Tracing::Kept);
            options.until = Some(violation.at + MS);
            for line in run(&options).last_lines {
                println!("    {line}");
            }
        }
        let scenario = self.scenario.map(|scenario| format!(" --scenario {}", scenario.name)).unwrap_or_default();
        let chaos = self.chaos.map(|seconds| format!(" --chaos {seconds}")).unwrap_or_default();
        println!("again: cargo run --release -p grange-sim -- --seed {seed}{scenario}{chaos} --trace");
    }
}

fn main() -> ExitCode {
    note_panics();
    let args = Args::parse();
    let started = Instant::now();
    let first = args.seed.unwrap_or_else(fresh_seed);
    let until = args.minutes.map(|minutes| started + Duration::from_secs(minutes * 60));
    let mut stats = Stats::default();
    let mut count = 0;
    let mut failed = false;
    while !failed && until.map_or(count < args.seeds, |until| Instant::now() < until) {
        failed = !args.run(first.wrapping_add(count), &mut stats);
        count += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("seeds           {count} from {first} on, {:.1} a second", count as f64 / seconds);
    println!("{stats}");
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The time: no two runs begin with the same seed, and the report says which it was.
fn fresh_seed() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since_1970.as_secs() * 1_000_000
}
