//! How many hosts a file has that was written before this process: what is in it, and what is kept beside it, in a hidden
//! file.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::warn;

use super::limits::{DropGuard, EARLIER_MAX, Limits};
use crate::conf::{self, Candidate, Format, differs};
use crate::sessions::with_causes;
use crate::{COMMON, beside};

/// The largest file that is read as one of these.
const BYTES_MAX: u64 = 64 * 1024;

/// What the hidden file is called after.
const NOTED: &str = "hosts";

/// Returns a guard that knows what is known of the file at `path`; what is in it counts more than what was noted, where
/// the format can be read.
pub(super) fn guard(limits: Limits, path: &Path, format: Option<Format>) -> DropGuard {
    // A file that was removed has none, whatever was noted.
    if !limits.is_any() || !path.exists() {
        return DropGuard::new(limits, None, VecDeque::new());
    }
    let noted = noted(path);
    let count = format
        .and_then(|format| hosts_in(path, format))
        .or_else(|| usize::try_from(noted.get("hosts")?.as_u64()?).ok());
    let (now, now_s) = (Instant::now(), unix_seconds());
    let earlier = noted.get("earlier").and_then(Value::as_array).into_iter().flatten().take(EARLIER_MAX);
    let earlier = earlier.filter_map(|pair| {
        let (until, count) = (pair.get(0)?.as_u64()?, pair.get(1)?.as_u64()?);
        let until = now.checked_sub(Duration::from_secs(now_s.saturating_sub(until)))?;
        Some((until, usize::try_from(count).ok()?))
    });
    DropGuard::new(limits, count, earlier.collect())
}

/// Returns how many hosts a file has that can be read.
fn hosts_in(path: &Path, format: Format) -> Option<usize> {
    let read = conf::read(format, path).ok()?;
    Some(read.properties.fields().iter().filter(|(name, host)| host.is_object() && *name != COMMON).count())
}

/// Returns what was noted about the file at `path`.
fn noted(path: &Path) -> Value {
    let read = || {
        let noted = beside::hidden(path, NOTED)?;
        let is_usable = fs::metadata(&noted).is_ok_and(|found| found.is_file() && found.len() <= BYTES_MAX);
        serde_json::from_slice(&is_usable.then(|| fs::read(noted).ok()).flatten()?).ok()
    };
    read().unwrap_or_default()
}

/// Notes how many hosts the file at `path` has now, and what it had within the window.
pub(super) fn remember(path: &Path, hosts: usize, guard: &DropGuard) {
    let Some(file) = beside::hidden(path, NOTED) else { return };
    let mut noted = json!({ "hosts": hosts });
    let (now, now_s) = (Instant::now(), unix_seconds());
    let earlier: Vec<_> =
        guard.earlier().map(|(until, count)| json!([now_s.saturating_sub((now - until).as_secs()), count])).collect();
    if !earlier.is_empty() {
        noted["earlier"] = Value::from(earlier);
    }
    let bytes = format!("{noted}\n");
    let written = match differs(&file, bytes.as_bytes()) {
        Ok(true) => Candidate::new(&file, bytes.as_bytes()).and_then(Candidate::install),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        warn!(error = %with_causes(&error), "the next start will not know how many hosts there were");
    }
}

/// Forgets what was noted, because nobody notes it any more.
pub(super) fn forget(path: &Path) {
    if let Some(noted) = beside::hidden(path, NOTED) {
        // Mostly there is none.
        let _ = fs::remove_file(noted);
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Limits = Limits { hosts_min: 0, drop_percent_max: 50.0, window: Duration::from_secs(600) };

    /// Tells whether the next process may write a file with so many hosts.
    fn may(path: &Path, format: Option<Format>, hosts: usize) -> bool {
        guard(HALF, path, format).judge(Instant::now(), Some(hosts)).is_ok()
    }

    #[test]
    fn a_number_is_found_by_the_next_process_if_the_file_is_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("farm.cfg");
        remember(&path, 17, &guard(HALF, &path, None));
        assert!(may(&path, None, 1));
        fs::write(&path, "").unwrap();
        assert!(may(&path, None, 9) && !may(&path, None, 8));
        for damaged in ["{\"hosts\": -1}", "{\"hosts\": 17", "[]", "{\"earlier\": [[], 1, [-1, 2]]}"] {
            fs::write(root.path().join(".farm.cfg.grange-hosts"), damaged).unwrap();
            assert!(may(&path, None, 1), "{damaged}");
        }
    }

    #[test]
    fn what_a_file_says_counts_more_than_what_was_noted() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("farm.json");
        fs::write(&path, r#"{"a": {}, "b": {}, "c": {}, "common": {}, "x": 1}"#).unwrap();
        let json = Some(Format::Json);
        assert!(may(&path, json, 2) && !may(&path, json, 1), "nothing was noted");
        remember(&path, 1, &guard(HALF, &path, json));
        assert!(!may(&path, json, 1), "what was noted is too small");
        fs::write(&path, "{").unwrap();
        assert!(may(&path, json, 1) && !may(&path, json, 0), "it cannot be read");
    }

    #[test]
    fn small_steps_count_together_in_the_next_process_too() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("farm.cfg");
        fs::write(&path, "").unwrap();
        let mut steps = Vec::new();
        for hosts in [200, 150, 100, 75, 50, 99] {
            let mut guard = guard(HALF, &path, None);
            if guard.judge(Instant::now(), Some(hosts)).is_ok() {
                guard.exported(Instant::now(), hosts);
                remember(&path, hosts, &guard);
                steps.push(hosts);
            }
        }
        assert_eq!(steps, [200, 150, 100]);
    }
}
