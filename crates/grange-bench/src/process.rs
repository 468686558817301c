//! What a process costs: CPU time and memory.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::BenchError;

/// The cost of a process so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessCost {
    /// CPU time of all threads, in user and in system mode; resolution one clock tick, usually 10 ms.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
}

impl ProcessCost {
    /// Reads the cost of process `pid`.
    pub fn of(pid: u32) -> Result<ProcessCost, BenchError> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "its stat file has an unknown form");
        let parsed = read("stat").and_then(|text| parse_stat(&text).ok_or_else(malformed));
        let (ticks, pages) = parsed.map_err(|source| BenchError::Process { pid, source })?;
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let page_bytes = u64::try_from(rustix::param::page_size()).expect("a usize has at most 64 bits");
        Ok(ProcessCost {
            cpu: Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second),
            resident_bytes: pages * page_bytes,
        })
    }

    /// Reads the cost of several processes, as a sum; `None` of no process.
    pub fn of_all(pids: &[u32]) -> Result<Option<ProcessCost>, BenchError> {
        let mut sum: Option<ProcessCost> = None;
        for pid in pids {
            let cost = ProcessCost::of(*pid)?;
            let before = sum.unwrap_or_default();
            sum = Some(ProcessCost {
                cpu: before.cpu + cost.cpu,
                resident_bytes: before.resident_bytes + cost.resident_bytes,
            });
        }
        Ok(sum)
    }

    /// Reads this process's own CPU time.
    pub fn own_cpu() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

/// Returns clock ticks and resident pages.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    // The name may hold blanks and brackets; the fields that count stand behind its last bracket.
    let mut fields = text.rsplit_once(") ")?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let pages = fields.nth(8)?.parse().ok()?;
    Some((user + system, pages))
}

/// Raises the limit of open files so that `count` connections fit.
///
/// Errors: [`BenchError::Plan`] if the hard limit is lower.
pub(crate) fn allow_files(count: usize) -> Result<(), BenchError> {
    const OTHERS: u64 = 64;
    let wanted = u64::try_from(count).expect("a usize has at most 64 bits") + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < wanted) {
        let text = format!("{count} connections need more open files than this process may have (ulimit -Hn)");
        return Err(BenchError::Plan(text));
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    raised.map_err(|errno| BenchError::System { what: "raise the limit of open files", source: errno.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "12 (a) b) S 1 12 12 0 -1 4194560 100 0 0 0 70 30 0 0 20 0 9 0 5 1000000 321 18446744073709551615 1";
        assert_eq!(parse_stat(text), Some((100, 321)));
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn this_process_has_a_cost() {
        let cost = ProcessCost::of(std::process::id()).unwrap();
        assert!(cost.resident_bytes > 100_000, "{cost:?}");
        assert!(ProcessCost::own_cpu() > Duration::ZERO);
    }
}
