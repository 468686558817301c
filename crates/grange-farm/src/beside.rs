//! Small hidden files in which something is kept about another file.

use std::path::{Path, PathBuf};

/// Returns the path of the hidden file for `what` beside the one at `path`; `None` if that has no name, or none in UTF-8.
pub(crate) fn hidden(path: &Path, what: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    Some(path.with_file_name(format!(".{name}.grange-{what}")))
}
