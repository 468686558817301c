//! Paths of znodes and the rules for them.

use std::fmt;

/// Why text is not the path of a znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// There is no character.
    #[error("a path must not be empty")]
    Empty,
    /// The first character is not a slash.
    #[error("a path must start with /")]
    NotAbsolute,
    /// The last character is a slash, and it is not the root.
    #[error("a path must not end with /")]
    TrailingSlash,
    /// Two slashes follow each other.
    #[error("a path must not have an empty component")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("a path must not have a component . or ..")]
    Relative,
    /// A character is in a range that paths may not use.
    #[error("a path must not have the character {}", .0.escape_unicode())]
    Character(char),
}

/// Checks `path` by ZooKeeper's rules without copying it.
///
/// Control characters (U+0000 to U+001F, U+007F to U+009F), U+D800 to U+F8FF, U+FFF0 to U+FFFF and everything
/// beyond U+FFFF are refused. Source: `org.apache.zookeeper.common.PathUtils.validatePath`, which looks at UTF-16
/// units and so meets surrogates for the last group.
pub fn validate(path: &str) -> Result<(), PathError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(if path.is_empty() { PathError::Empty } else { PathError::NotAbsolute });
    };
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    // Nearly every path is plain ASCII: look at the bytes once, and at characters only when one of them asks for it.
    let mut component_start = 0;
    let bytes = rest.as_bytes();
    for index in 0..=bytes.len() {
        match bytes.get(index) {
            None | Some(b'/') => {
                match &bytes[component_start..index] {
                    b"" => return Err(PathError::EmptyComponent),
                    b"." | b".." => return Err(PathError::Relative),
                    _ => {}
                }
                component_start = index + 1;
            }
            Some(&byte) if !(0x20..0x7f).contains(&byte) => return validate_characters(rest, component_start),
            Some(_) => {}
        }
    }
    Ok(())
}

/// The slow half of [`validate`]: `component_start` is where the component with the first odd character begins.
fn validate_characters(rest: &str, component_start: usize) -> Result<(), PathError> {
    for component in rest[component_start..].split('/') {
        match component {
            "" => return Err(PathError::EmptyComponent),
            "." | ".." => return Err(PathError::Relative),
            _ => {}
        }
        if let Some(bad) = component.chars().find(|&c| !is_allowed(c)) {
            return Err(PathError::Character(bad));
        }
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    !matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Splits a valid path into its parent and its last component; the root has none.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() {
        return None;
    }
    Some((if parent.is_empty() { "/" } else { parent }, name))
}

/// The path of a znode: absolute, without an empty, `.` or `..` component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZnodePath(String);

impl ZnodePath {
    /// Parses a path; the only constructor.
    pub fn parse(path: impl Into<String>) -> Result<ZnodePath, PathError> {
        let path = path.into();
        validate(&path)?;
        Ok(ZnodePath(path))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ZnodePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ZnodePath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        ZnodePath::parse(path)
    }
}

impl fmt::Display for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_rules() {
        for good in ["/", "/a", "/a/b.c", "/...", "/a b", "/é", "/\u{d7ff}", "/\u{ffef}", "/a/..b"] {
            assert_eq!(validate(good), Ok(()), "{good:?}");
        }
        for (bad, why) in [
            ("", PathError::Empty),
            ("a", PathError::NotAbsolute),
            ("/a/", PathError::TrailingSlash),
            ("//", PathError::TrailingSlash),
            ("/a//b", PathError::EmptyComponent),
            ("/a/./b", PathError::Relative),
            ("/é/..", PathError::Relative),
            ("/a/..", PathError::Relative),
            ("/a\0b", PathError::Character('\0')),
            ("/\u{7f}", PathError::Character('\u{7f}')),
            ("/\u{85}", PathError::Character('\u{85}')),
            ("/\u{e000}", PathError::Character('\u{e000}')),
            ("/\u{ffff}", PathError::Character('\u{ffff}')),
            ("/\u{1f600}", PathError::Character('\u{1f600}')),
        ] {
            assert_eq!(validate(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn the_root_has_no_parent() {
        assert_eq!(split("/"), None);
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
    }
}
