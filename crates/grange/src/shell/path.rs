//! Paths as arguments, refused in zkCli's words.

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use grange_proto::ZnodePath;
use grange_proto::path::PathError;

use crate::error::CommandError;
use crate::output::harmless_line;

/// Whether this process has a place where relative paths begin; like the working directory, it is one per process. Where it has
/// none, they are refused with the other arguments, before there is a session.
static HAS_PLACE: AtomicBool = AtomicBool::new(false);

/// Lets relative paths mean something.
pub(super) fn allow_relative() {
    HAS_PLACE.store(true, Ordering::Relaxed);
}

/// A path as it was written: absolute, or relative to where one is.
#[derive(Debug, Clone)]
pub(super) struct PathArg(String);

impl FromStr for PathArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<PathArg, &'static str> {
        match text.starts_with('/') || HAS_PLACE.load(Ordering::Relaxed) {
            true => Ok(PathArg(text.to_owned())),
            false => Err("Path must start with / character"),
        }
    }
}

/// Where relative paths begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Here<'a> {
    /// Nowhere: paths must be absolute.
    Nowhere,
    /// At a znode.
    At(&'a str),
}

impl PathArg {
    /// Returns the path of a znode.
    pub(super) fn resolve(&self, here: Here<'_>) -> Result<String, CommandError> {
        let path = self.absolute(here);
        match ZnodePath::parse(path) {
            Ok(path) => Ok(path.to_string()),
            Err(error) => Err(self.wrong(error)),
        }
    }

    /// Returns a path to which a number will be appended: it may end with a slash.
    pub(super) fn resolve_prefix(&self, here: Here<'_>) -> Result<String, CommandError> {
        let path = self.absolute(here);
        match ZnodePath::parse(format!("{path}0")) {
            Ok(_) => Ok(path),
            Err(error) => Err(self.wrong(error)),
        }
    }

    fn absolute(&self, here: Here<'_>) -> String {
        let Here::At(here) = here else { return self.0.clone() };
        resolve_dots(here, &self.0)
    }

    fn wrong(&self, error: PathError) -> CommandError {
        let why = match error {
            PathError::NotAbsolute => "Path must start with / character".to_owned(),
            PathError::TrailingSlash => "Path must not end with / character".to_owned(),
            other => other.to_string(),
        };
        CommandError::usage(anyhow!("{}: {why}", harmless_line(&self.0)))
    }
}

/// Joins a path to the znode where one is; `.` and `..` mean what they mean in a file system, and nothing is above `/`.
///
/// A slash at the end stays, since it is right before a number and wrong elsewhere.
pub(super) fn resolve_dots(here: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "/" } else { here };
    let mut components: Vec<&str> = base.split('/').filter(|component| !component.is_empty()).collect();
    let (path, end) = match path.strip_suffix('/') {
        Some(path) if !path.is_empty() => (path, "/"),
        _ => (path, ""),
    };
    for component in path.trim_start_matches('/').split('/') {
        match component {
            "." => {}
            ".." => drop(components.pop()),
            "" if path.trim_start_matches('/').is_empty() => {}
            component => components.push(component),
        }
    }
    format!("/{}{end}", components.join("/"))
}

/// Returns the path of a child.
pub(super) fn child_of(parent: &str, name: &str) -> String {
    match parent {
        "/" => format!("/{name}"),
        parent => format!("{parent}/{name}"),
    }
}

/// Returns the last component of a path.
pub(super) fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Tells whether `path` is `root` or lies below it.
pub(super) fn is_at_or_below(path: &str, root: &str) -> bool {
    match path.strip_prefix(root) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || root == "/",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved_where_one_is() {
        for (here, path, resolved) in [
            ("/", "a", "/a"),
            ("/a/b", "c", "/a/b/c"),
            ("/a/b", "../c", "/a/c"),
            ("/a/b", ".", "/a/b"),
            ("/a/b", "..", "/a"),
            ("/a/b", "../../../..", "/"),
            ("/a/b", "/x/./y/../z", "/x/z"),
            ("/a", "/", "/"),
            ("/a", "n-", "/a/n-"),
            ("/a", "b/", "/a/b/"),
        ] {
            assert_eq!(resolve_dots(here, path), resolved, "{here} {path}");
        }
    }

    #[test]
    fn a_path_is_absolute_unless_one_is_somewhere() {
        let path = |text: &str| PathArg(text.to_owned());
        assert!("a".parse::<PathArg>().is_err());
        assert!(path("a").resolve(Here::Nowhere).unwrap_err().to_string().contains("Path must start with /"));
        assert_eq!(path("a").resolve(Here::At("/x")).unwrap(), "/x/a");
        assert!(path("a/").resolve(Here::At("/x")).is_err());
        assert_eq!(path("a/").resolve_prefix(Here::At("/x")).unwrap(), "/x/a/");
    }

    #[test]
    fn what_lies_below_a_root() {
        for (path, root, is_below) in
            [("/a", "/a", true), ("/a/b", "/a", true), ("/ab", "/a", false), ("/a", "/", true), ("/", "/a", false)]
        {
            assert_eq!(is_at_or_below(path, root), is_below, "{path} {root}");
        }
    }
}
