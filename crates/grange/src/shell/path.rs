//! Paths as arguments, refused in zkCli's words.

use grange_proto::ZnodePath;
use grange_proto::path::PathError;

/// Parses the path of a znode.
pub(super) fn parse(text: &str) -> Result<ZnodePath, String> {
    ZnodePath::parse(text).map_err(say)
}

/// Parses a path to which a number will be appended: it may end with a slash.
pub(super) fn parse_prefix(text: &str) -> Result<String, String> {
    ZnodePath::parse(format!("{text}0")).map_err(say)?;
    Ok(text.to_owned())
}

fn say(error: PathError) -> String {
    match error {
        PathError::NotAbsolute => "Path must start with / character".to_owned(),
        PathError::TrailingSlash => "Path must not end with / character".to_owned(),
        other => other.to_string(),
    }
}

/// Returns the path of a child.
pub(super) fn child_of(parent: &str, name: &str) -> String {
    match parent {
        "/" => format!("/{name}"),
        parent => format!("{parent}/{name}"),
    }
}
