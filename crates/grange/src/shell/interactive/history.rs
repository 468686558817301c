//! The lines typed before: a file that only its owner may read, without secrets.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

/// How many lines are kept, the oldest are forgotten first.
pub(super) const LINES_MAX: usize = 1000;

/// Commands that are never kept, since secrets are among their arguments.
const SECRET: &[&str] = &["addauth"];

/// Tells whether a line may be kept: none with a secret, and none that begins with a blank.
pub(super) fn is_kept(line: &str) -> bool {
    let words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"', '\\']));
    // Flags may stand before the command, and quotes anywhere: a line that only looks like one is left out too.
    !line.trim().is_empty()
        && !line.starts_with(char::is_whitespace)
        && !words.clone().any(|word| SECRET.contains(&word))
}

/// Returns the file: `grange/history` below `$XDG_STATE_HOME`, else below `~/.local/state`.
fn file() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = from("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| from("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("grange").join("history"))
}

/// Makes the file, if need be, and sees to it that only its owner may read it.
pub(super) fn prepare() -> io::Result<Option<PathBuf>> {
    let Some(file) = file() else { return Ok(None) };
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&file)?;
    opened.set_permissions(Permissions::from_mode(0o600))?;
    Ok(Some(file))
}

/// Returns the lines in the file, oldest first.
pub(super) fn shown() -> Vec<String> {
    let text = file().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    // The first line says which form the file has.
    text.lines().filter(|line| !line.starts_with("#V2")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        assert!(is_kept("ls /"));
        for line in ["", " ls /", "addauth digest a:b", "--json addauth digest a:b", "'addauth' digest a:b"] {
            assert!(!is_kept(line), "{line:?}");
        }
    }
}
