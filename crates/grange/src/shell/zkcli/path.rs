//! Paths as zkCli checks them before it asks the server.

use super::failure::Failure;

/// Checks a path. Source: `org.apache.zookeeper.common.PathUtils`.
pub(super) fn check(path: &str) -> Result<(), Failure> {
    match first_mistake(path) {
        None => Ok(()),
        Some(mistake) => Err(Failure::plain(mistake)),
    }
}

fn first_mistake(path: &str) -> Option<String> {
    // Positions are counted in UTF-16, as Java does.
    let units: Vec<u16> = path.encode_utf16().collect();
    match units[..] {
        [] => return Some("Path length must be > 0".to_owned()),
        [SLASH] => return None,
        [first, ..] if first != SLASH => return Some("Path must start with / character".to_owned()),
        [.., SLASH] => return Some("Path must not end with / character".to_owned()),
        _ => {}
    }
    let mut component = 1;
    for (at, &unit) in units.iter().enumerate().skip(1) {
        let reason = match unit {
            0 => "null character not allowed",
            SLASH if at == component => "empty node name specified",
            DOT if is_end(&units, at + 1) && matches!(units[component..at], [] | [DOT]) => "relative paths not allowed",
            unit if is_forbidden(unit) => "invalid character",
            unit => {
                if unit == SLASH {
                    component = at + 1;
                }
                continue;
            }
        };
        return Some(format!("Invalid path string \"{path}\" caused by {reason} @{at}"));
    }
    None
}

const SLASH: u16 = b'/' as u16;
const DOT: u16 = b'.' as u16;

fn is_end(units: &[u16], at: usize) -> bool {
    units.get(at).is_none_or(|&unit| unit == SLASH)
}

fn is_forbidden(unit: u16) -> bool {
    matches!(unit, 0x01..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_in_javas_words() {
        for good in ["/", "/a", "/a/...", "/a./b", "/..a", "/é"] {
            assert_eq!(first_mistake(good), None, "{good}");
        }
        for (bad, mistake) in [
            ("", "Path length must be > 0"),
            ("a", "Path must start with / character"),
            ("/a/", "Path must not end with / character"),
            ("/a//b", "Invalid path string \"/a//b\" caused by empty node name specified @3"),
            ("/a/./b", "Invalid path string \"/a/./b\" caused by relative paths not allowed @3"),
            ("/a/..", "Invalid path string \"/a/..\" caused by relative paths not allowed @4"),
            ("/a\u{1}", "Invalid path string \"/a\u{1}\" caused by invalid character @2"),
        ] {
            assert_eq!(first_mistake(bad).as_deref(), Some(mistake));
        }
    }
}
