//! The result of a run.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::error::ErrorText;
use crate::latency::{Latencies, LatencySummary};
use crate::plan::Plan;
use crate::process::ProcessCost;
use crate::tally::{Failures, Tally};

/// What was measured; latencies and costs are those of the measurement, without warm-up, preload and cleaning up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The operation as it is named on the command line.
    pub operation: String,
    /// Connections, or sessions.
    pub connections: usize,
    /// Requests in flight per connection.
    pub in_flight: usize,
    /// Threads of the load generator.
    pub threads: usize,
    /// Size of a value.
    pub value_bytes: usize,
    /// Znodes preloaded, filled or deleted.
    pub nodes: u64,
    /// The rate asked for; without one the server set the pace.
    pub rate: Option<u64>,
    /// Length of the measurement.
    pub seconds: f64,
    /// Operations answered without an error within that time.
    pub operations: u64,
    /// Those per second.
    pub operations_per_second: f64,
    /// Watch events received.
    pub events: u64,
    /// Error replies by code.
    pub errors: Vec<ErrorCount>,
    /// Connections lost.
    pub connections_lost: u64,
    /// Why the first few were lost.
    pub reasons: Vec<String>,
    /// Latency from the request to its reply; at a fixed rate from when the request was due.
    pub latency: LatencySummary,
    /// CPU time of the load generator per operation, in microseconds.
    pub generator_cpu_us: f64,
    /// The server process, if one was named.
    pub server: Option<ServerCost>,
    /// What holding idle sessions took, for the operation `sessions`.
    pub idle: Option<IdleCost>,
}

/// How often one error code was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// The code.
    pub code: i32,
    /// Its name.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// The cost of the server during the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerCost {
    /// CPU time per operation, in microseconds.
    pub cpu_us: f64,
    /// Resident memory before the measurement, in bytes.
    pub resident_bytes_before: u64,
    /// Resident memory after it, in bytes.
    pub resident_bytes_after: u64,
}

/// The cost of sessions that do nothing but ping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct IdleCost {
    /// How long they were held.
    pub seconds: f64,
    /// Pings answered in that time.
    pub pings: u64,
    /// CPU time of the server in that time, in seconds, if its process was named.
    pub server_cpu_seconds: Option<f64>,
}

/// What a measurement leaves behind, before it becomes a report.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) completed_in_time: u64,
    pub(crate) elapsed: Duration,
    pub(crate) own_cpu: Duration,
    pub(crate) server: Option<(ProcessCost, ProcessCost)>,
    pub(crate) idle: Option<IdleCost>,
}

impl Report {
    /// Returns true if no error was answered and no connection lost.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.connections_lost == 0
    }

    pub(crate) fn new(plan: &Plan, measured: &Measured) -> Report {
        let Measured { tally, completed_in_time, elapsed, own_cpu, server, idle } = measured;
        let seconds = elapsed.as_secs_f64();
        let per_operation = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (tally.completed.max(1) as f64);
        let Tally { events, latencies, failures, .. } = tally;
        let Failures { errors, connections_lost, reasons } = failures;
        Report {
            operation: plan.operation.to_string(),
            connections: plan.connections,
            in_flight: plan.in_flight,
            threads: plan.threads,
            value_bytes: plan.value_bytes,
            nodes: plan.nodes,
            rate: plan.rate,
            seconds,
            operations: *completed_in_time,
            operations_per_second: *completed_in_time as f64 / seconds.max(f64::MIN_POSITIVE),
            events: *events,
            errors: errors
                .iter()
                .map(|(&code, &count)| ErrorCount { code, name: ErrorText(code).to_string(), count })
                .collect(),
            connections_lost: *connections_lost,
            reasons: reasons.clone(),
            latency: Latencies::summary(latencies),
            generator_cpu_us: per_operation(*own_cpu),
            server: server.map(|(before, after)| ServerCost {
                cpu_us: per_operation(after.cpu.saturating_sub(before.cpu)),
                resident_bytes_before: before.resident_bytes,
                resident_bytes_after: after.resident_bytes,
            }),
            idle: *idle,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { operation, connections, in_flight, operations, seconds, latency, .. } = self;
        writeln!(f, "{operation}: {connections} connections, {in_flight} in flight, {} B values", self.value_bytes)?;
        writeln!(f, "operations   {:.0}/s  ({operations} in {seconds:.2} s)", self.operations_per_second)?;
        writeln!(
            f,
            "latency      p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            Micros(latency.p50_us),
            Micros(latency.p90_us),
            Micros(latency.p99_us),
            Micros(latency.p999_us),
            Micros(latency.max_us)
        )?;
        writeln!(f, "generator    {:.3} us CPU per operation", self.generator_cpu_us)?;
        if let Some(server) = &self.server {
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            writeln!(
                f,
                "server       {:.2} us CPU per operation, {:.0} MB resident ({:.0} MB before)",
                server.cpu_us,
                megabytes(server.resident_bytes_after),
                megabytes(server.resident_bytes_before)
            )?;
        }
        if let Some(idle) = &self.idle {
            write!(f, "idle         {:.1} s, {} pings", idle.seconds, idle.pings)?;
            idle.server_cpu_seconds.map_or(Ok(()), |cpu| write!(f, ", {cpu:.2} s server CPU"))?;
            writeln!(f)?;
        }
        if self.events > 0 {
            writeln!(f, "events       {}", self.events)?;
        }
        if self.is_clean() {
            return write!(f, "errors       none");
        }
        write!(f, "errors       {} connections lost", self.connections_lost)?;
        self.errors.iter().try_for_each(|error| write!(f, "\n             {} x {}", error.count, error.name))?;
        self.reasons.iter().try_for_each(|reason| write!(f, "\n             {reason}"))
    }
}

/// Microseconds in the unit that reads best.
struct Micros(f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros if micros >= 1e6 => write!(f, "{:.2} s", micros / 1e6),
            micros if micros >= 1e3 => write!(f, "{:.2} ms", micros / 1e3),
            micros => write!(f, "{micros:.0} us"),
        }
    }
}
