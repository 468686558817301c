//! Names and paths as bytes.
//!
//! A file name on Linux is any bytes but `/` and NUL, so nothing here is a `str`. A [`RelPath`] is always relative to
//! a base directory that is held open; it is never absolute and has no `.` or `..` component, which is what makes it
//! safe to resolve beneath the base.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path below a base directory: components joined by `/`, empty for the base itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The base directory itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes `bytes` as a path, or returns `None` if it is absolute, holds a NUL, or has an empty, `.` or `..` component.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fine = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
        (bytes.is_empty() || bytes.split(|&b| b == b'/').all(fine)).then(|| Self(bytes.into()))
    }

    /// The entry `name` of this directory. `name` comes from a directory listing: no `/`, not empty, not `.` or `..`.
    pub fn join(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/'), "a single component");
        if self.0.is_empty() {
            return Self(name.into());
        }
        let mut joined = Vec::with_capacity(self.0.len() + 1 + name.len());
        joined.extend_from_slice(&self.0);
        joined.push(b'/');
        joined.extend_from_slice(name);
        Self(joined.into_boxed_slice())
    }

    /// The directory that holds this entry and the entry's name in it; `None` for the base itself.
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        let cut = self.0.iter().rposition(|&b| b == b'/');
        Some(match cut {
            Some(at) => (Self(self.0[..at].into()), &self.0[at + 1..]),
            None => (Self::root(), &self.0[..]),
        })
    }

    /// The path's bytes, without a leading or trailing `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many components it has; 0 for the base.
    pub fn depth(&self) -> usize {
        if self.0.is_empty() { 0 } else { 1 + self.0.iter().filter(|&&b| b == b'/').count() }
    }

    /// As a path of the standard library.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// Shows the path so that it is harmless on a terminal, see [`escape`]; the base itself is `.`.
impl fmt::Display for RelPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&if self.0.is_empty() { ".".to_owned() } else { escape(&self.0) })
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RelPath({self})")
    }
}

/// Untrusted bytes as text: control characters, backslashes and bytes that are not UTF-8 become `\n`, `\t`, `\\` or
/// `\xHH`, so that a name can neither move the cursor nor pretend to be two lines.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for ch in chunk.valid().chars() {
            match ch {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\\' => text.push_str("\\\\"),
                // C0, DEL, C1, and the marks that change the direction of what follows.
                ch if ch.is_control()
                    || matches!(ch, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    for byte in ch.encode_utf8(&mut [0; 4]).bytes() {
                        push_hex(&mut text, byte);
                    }
                }
                ch => text.push(ch),
            }
        }
        for &byte in chunk.invalid() {
            push_hex(&mut text, byte);
        }
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_base_parse() {
        for good in [&b""[..], b"a", b"a/b", b" ", b"-n", b"a\nb", b"\xff", b"...", b"a/..b"] {
            assert!(RelPath::parse(good).is_some(), "{}", escape(good));
        }
        for bad in [&b"/"[..], b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"a/.", b"a\0b"] {
            assert!(RelPath::parse(bad).is_none(), "{}", escape(bad));
        }
    }

    #[test]
    fn join_and_split_are_inverse() {
        let path = RelPath::root().join(b"a").join(b"b c");
        assert_eq!(path.as_bytes(), b"a/b c");
        assert_eq!(path.depth(), 2);
        assert_eq!(path.split(), Some((RelPath::root().join(b"a"), &b"b c"[..])));
        assert_eq!(RelPath::root().join(b"a").split(), Some((RelPath::root(), &b"a"[..])));
        assert_eq!(RelPath::root().split(), None);
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(escape(b"a\x1b[2Jb\nc\xff\\"), "a\\x1b[2Jb\\nc\\xff\\\\");
        assert_eq!(escape("h\u{e9} \u{202e}x".as_bytes()), "h\u{e9} \\xe2\\x80\\xaex");
        assert_eq!(RelPath::root().to_string(), ".");
    }
}
