//! A run from beginning to end: make znodes, warm up, measure, delete.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::control::Control;
use crate::error::BenchError;
use crate::layout::{Layout, directory_count};
use crate::plan::{Afterwards, Extent, Operation, Plan};
use crate::process::{ProcessCost, allow_files};
use crate::report::{Measured, Report};
use crate::schedule::Schedule;
use crate::sessions;
use crate::tally::Tally;
use crate::worker::{Done, End, Phase, Worker};
use crate::workload::{Shape, Workload};

/// Requests in flight per connection while znodes are preloaded.
const PRELOAD_IN_FLIGHT: usize = 64;

/// Runs a plan.
///
/// Error replies and lost connections during the measurement are in the report: see [`Report::is_clean`].
///
/// Errors: [`BenchError`] if there is no measurement. Unless the plan says to keep them, the znodes are deleted also
/// after an error, as far as the server lets us.
pub fn run(plan: &Plan) -> Result<Report, BenchError> {
    plan.check()?;
    if plan.operation == Operation::Sessions {
        return Ok(Report::new(plan, &sessions::run(plan)?));
    }
    allow_files(plan.connections)?;
    let layout = Layout::new(&plan.root);
    let mut control = Control::open(plan.servers[0], plan.session_timeout)?;
    control.make_root(&layout)?;
    control.close()?;
    let measured = prepare(plan, &layout).and_then(|()| measure(plan, &layout));
    if plan.afterwards == Afterwards::Delete {
        let deleted = Control::open(plan.servers[0], plan.session_timeout).and_then(|mut control| {
            control.delete_all(&layout)?;
            control.close()
        });
        if measured.as_ref().is_ok_and(|measured| measured.tally.failures.is_empty()) {
            deleted?;
        }
    }
    Ok(Report::new(plan, &measured?))
}

/// Makes the znodes that the operation works on.
fn prepare(plan: &Plan, layout: &Layout) -> Result<(), BenchError> {
    let mut directories = Vec::new();
    if plan.operation.wants_preload() || plan.operation == Operation::Fill {
        directories.extend((0..directory_count(plan.nodes)).map(|number| layout.directory(number)));
    }
    if matches!(plan.operation, Operation::Create | Operation::Ephemeral) {
        directories.extend((0..plan.connections).map(|connection| layout.own_directory(connection)));
    }
    let mut control = Control::open(plan.servers[0], plan.session_timeout)?;
    control.make_all(&directories)?;
    control.close()?;
    if !plan.operation.wants_preload() {
        return Ok(());
    }
    let preload = Plan {
        operation: Operation::Fill,
        in_flight: PRELOAD_IN_FLIGHT,
        warmup: Duration::ZERO,
        rate: None,
        server_pids: Vec::new(),
        ..plan.clone()
    };
    let filled = measure(&preload, layout)?;
    if !filled.tally.failures.is_empty() || filled.tally.completed != plan.nodes {
        return Err(BenchError::Preload(format!(
            "{} of {} znodes were made ({:?})",
            filled.tally.completed, plan.nodes, filled.tally.failures
        )));
    }
    Ok(())
}

/// Opens the connections and measures.
fn measure(plan: &Plan, layout: &Layout) -> Result<Measured, BenchError> {
    let mut workers = open(plan, layout)?;
    if plan.warmup > Duration::ZERO && !plan.operation.walks_nodes() {
        let start = Instant::now();
        let warmed = all(plan, &mut workers, start, End::At(start + plan.warmup))?;
        if !warmed.tally.failures.is_empty() {
            let nothing = Measured {
                own_cpu: Duration::ZERO,
                server: None,
                completed_in_time: 0,
                elapsed: plan.warmup,
                tally: Tally { failures: warmed.tally.failures, ..Tally::default() },
                idle: None,
            };
            return Ok(nothing);
        }
    }
    let cost = || ProcessCost::of_all(&plan.server_pids);
    let (server_before, own_before) = (cost()?, ProcessCost::own_cpu());
    let start = Instant::now();
    let end = match plan.extent {
        _ if plan.operation.walks_nodes() => End::Count(plan.nodes),
        Extent::Time(time) => End::At(start + time),
        Extent::Count(count) => End::Count(count),
    };
    let done = all(plan, &mut workers, start, end)?;
    let own_cpu = ProcessCost::own_cpu() - own_before;
    // A server that has died is reported by its connections.
    let server_after = cost().unwrap_or(None);
    workers.into_iter().for_each(Worker::close);
    Ok(Measured {
        tally: done.tally,
        completed_in_time: done.completed_in_time,
        elapsed: done.elapsed,
        own_cpu,
        server: server_before.zip(server_after),
        idle: None,
    })
}

fn open(plan: &Plan, layout: &Layout) -> Result<Vec<Worker>, BenchError> {
    let shape = Shape {
        operation: plan.operation,
        layout,
        value_bytes: plan.value_bytes,
        nodes: plan.nodes,
        connections: plan.connections,
    };
    let mut lots: Vec<Vec<(u64, Connection)>> = (0..plan.threads).map(|_| Vec::new()).collect();
    for (number, connection) in (0..).zip(0..plan.connections) {
        let address = plan.servers[connection % plan.servers.len()];
        let workload = Workload::new(shape, connection);
        let opened = Connection::open(address, plan.session_timeout, workload, plan.in_flight)?;
        lots[connection % plan.threads].push((number, opened));
    }
    let overall = u64::try_from(plan.connections).expect("checked against the most connections");
    lots.into_iter().map(|lot| Worker::new(lot, overall)).collect()
}

/// Runs one phase on all threads at once and adds up what they did.
fn all(plan: &Plan, workers: &mut [Worker], start: Instant, end: End) -> Result<Done, BenchError> {
    let threads = u64::try_from(workers.len()).expect("a usize has at most 64 bits");
    let barrier = Barrier::new(workers.len());
    let each: Vec<Result<Done, BenchError>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..)
            .zip(workers)
            .map(|(thread, worker)| {
                let schedule = plan.rate.map(|rate| Schedule::new(start, rate, thread, threads));
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    worker.run(Phase { start, end, schedule })
                })
            })
            .collect();
        started.into_iter().map(|thread| thread.join().expect("a thread of load does not panic")).collect()
    });
    let mut sum = Done::default();
    for done in each {
        let done = done?;
        sum.tally.add(&done.tally);
        sum.completed_in_time += done.completed_in_time;
        sum.elapsed = sum.elapsed.max(done.elapsed);
    }
    Ok(sum)
}
