//! Where the benchmark's znodes are.
//!
//! ```text
//! {root}                      its data marks it as ours, so that cleaning up never takes anybody else's znodes
//! {root}/d000012/n345         znode 12,345 of the preloaded ones: 1,000 to a directory
//! {root}/c00007/n000000042    the 42nd znode that connection 7 creates
//! ```
//! Numbers have a fixed width: a request is made by writing digits over a template.

use std::ops::Range;

/// Children of a directory of preloaded znodes.
pub const DIRECTORY_ZNODES: u64 = 1000;
/// Most znodes to preload: what six digits of directory allow.
pub const ZNODES_MAX: u64 = 1_000_000 * DIRECTORY_ZNODES;
/// Most connections: what five digits allow.
pub const CONNECTIONS_MAX: u64 = 100_000;
/// The data of the root.
pub const ROOT_MARK: &[u8] = b"made by grange bench; deleted when it ends";

const DIRECTORY_DIGITS: usize = 6;
const LEAF_DIGITS: usize = 3;
const SEQUENCE_DIGITS: usize = 9;

/// A path with places for the digits of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedPath {
    /// The path, with zeros where the digits go.
    pub path: String,
    /// Offsets of the digits in the path, the most significant first.
    pub digits: Vec<usize>,
}

impl NumberedPath {
    /// A path without a number.
    pub fn fixed(path: String) -> NumberedPath {
        NumberedPath { path, digits: Vec::new() }
    }

    fn push(&mut self, text: &str) {
        self.path.push_str(text);
    }

    fn push_digits(&mut self, count: usize) {
        let places: Range<usize> = self.path.len()..self.path.len() + count;
        self.path.extend(std::iter::repeat_n('0', count));
        self.digits.extend(places);
    }
}

/// The paths below one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: String,
}

impl Layout {
    /// Places everything below `root`.
    pub fn new(root: &str) -> Layout {
        Layout { root: root.to_owned() }
    }

    /// Returns the root's path.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Returns the path of preloaded znodes; the number is the znode's.
    pub fn preloaded(&self) -> NumberedPath {
        let mut path = self.directories();
        path.push("/n");
        path.push_digits(LEAF_DIGITS);
        path
    }

    /// Returns the path of the directories of preloaded znodes; the number is the directory's.
    pub fn directories(&self) -> NumberedPath {
        let mut path = NumberedPath::fixed(self.root.clone());
        path.push("/d");
        path.push_digits(DIRECTORY_DIGITS);
        path
    }

    /// Returns the path of directory `number` of preloaded znodes.
    pub fn directory(&self, number: u64) -> String {
        format!("{}/d{number:0DIRECTORY_DIGITS$}", self.root)
    }

    /// Returns the directory of connection `connection`.
    pub fn own_directory(&self, connection: usize) -> String {
        format!("{}/c{connection:05}", self.root)
    }

    /// Returns the path of the znodes that connection `connection` creates.
    pub fn own(&self, connection: usize) -> NumberedPath {
        let mut path = NumberedPath::fixed(self.own_directory(connection));
        path.push("/n");
        path.push_digits(SEQUENCE_DIGITS);
        path
    }
}

/// Returns how many directories `znodes` preloaded znodes take.
pub fn directory_count(znodes: u64) -> u64 {
    znodes.div_ceil(DIRECTORY_ZNODES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_where_the_number_goes() {
        let path = Layout::new("/b").preloaded();
        assert_eq!(path.path, "/b/d000000/n000");
        assert_eq!(path.digits, [4, 5, 6, 7, 8, 9, 12, 13, 14]);
        assert_eq!(Layout::new("/b").own(7).path, "/b/c00007/n000000000");
        assert_eq!(Layout::new("/b").directory(12), "/b/d000012");
    }

    #[test]
    fn a_started_directory_counts() {
        assert_eq!([0, 1, 1000, 1001].map(directory_count), [0, 1, 1, 2]);
    }
}
