use grange_sim::{Options, Outcome, SCENARIOS, SECOND, Tracing, run};

/// Seeds for each scenario; `scripts/test` runs many more in the optimised build.
const SEEDS: u64 = 2;

fn make(scenario: &str, seed: u64, tracing: Tracing) -> Outcome {
    let scenario = SCENARIOS.iter().find(|known| known.name == scenario).unwrap();
    run(&Options { seed, chaos: Some(5 * SECOND), scenario: Some(scenario.apply), tracing, until: None })
}

fn check(scenario: &str) {
    for seed in 1..=SEEDS {
        let outcome = make(scenario, seed, Tracing::Off);
        if let Some(violation) = outcome.violation {
            panic!(
                "{violation}\nagain: cargo run --release -p grange-sim -- --seed {seed} --scenario {scenario} --chaos 5 --trace"
            );
        }
        assert!(outcome.stats.writes > 0, "seed {seed} of {scenario} has done nothing");
    }
}

#[test]
fn every_scenario_keeps_the_promises() {
    SCENARIOS.iter().for_each(|scenario| check(scenario.name));
}

#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 1..=SEEDS {
        let [first, second] = [(); 2].map(|()| make("three", seed, Tracing::Kept));
        assert!(first.hash != 0 && first.hash == second.hash, "seed {seed}");
        assert_eq!(first.last_lines, second.last_lines);
    }
}
