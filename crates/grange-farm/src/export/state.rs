//! How many hosts a file has that was written before this process: kept beside it, in a hidden file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tracing::warn;

use crate::conf::{Candidate, differs};
use crate::sessions::with_causes;

/// The largest file that is read as one of these.
const BYTES_MAX: u64 = 4096;

/// Returns how many hosts the file at `path` has, if that was noted.
pub(super) fn hosts(path: &Path) -> Option<usize> {
    let beside = beside(path)?;
    // A file that was removed has none, whatever was noted.
    let is_usable =
        path.exists() && fs::metadata(&beside).is_ok_and(|found| found.is_file() && found.len() <= BYTES_MAX);
    let noted: Value = serde_json::from_slice(&is_usable.then(|| fs::read(beside).ok()).flatten()?).ok()?;
    usize::try_from(noted.get("hosts")?.as_u64()?).ok()
}

/// Notes how many hosts the file at `path` has now.
pub(super) fn remember(path: &Path, hosts: usize) {
    let Some(beside) = beside(path) else { return };
    let bytes = format!("{}\n", json!({ "hosts": hosts }));
    let noted = match differs(&beside, bytes.as_bytes()) {
        Ok(true) => Candidate::new(&beside, bytes.as_bytes()).and_then(Candidate::install),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        warn!(error = %with_causes(&error), "the next start will not know how many hosts there were");
    }
}

fn beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    Some(path.with_file_name(format!(".{name}.grange-hosts")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_the_next_process_if_the_file_is_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("farm.json");
        assert_eq!(hosts(&path), None);
        remember(&path, 17);
        assert_eq!(hosts(&path), None);
        fs::write(&path, "{}").unwrap();
        assert_eq!(hosts(&path), Some(17));
        fs::write(root.path().join(".farm.json.grange-hosts"), "{\"hosts\": -1}").unwrap();
        assert_eq!(hosts(&path), None);
    }
}
