//! The paths of sequential znodes: what the client asked for, and the parent's counter behind it.

use std::fmt::Write as _;

/// Puts together one path after the other; a buffer to be used again and again.
#[derive(Debug, Default)]
pub(crate) struct SequentialPath {
    path: String,
    prefix_bytes: usize,
    number: i32,
}

impl SequentialPath {
    /// Appends a number to a prefix: ten digits, or what a number below zero takes with its sign.
    pub(crate) fn complete(&mut self, prefix: &str, number: i32) -> &str {
        let follows = self.number.checked_add(1) == Some(number) && self.path.get(..self.prefix_bytes) == Some(prefix);
        match u8::try_from(number % 10) {
            // A multi asks for thousands in a row, of which nine in ten differ from the one before by a digit.
            Ok(digit @ 1..) if follows && !self.path.is_empty() => {
                self.path.pop();
                self.path.push(char::from(b'0' + digit));
            }
            _ => {
                self.path.clear();
                self.path.push_str(prefix);
                write!(self.path, "{number:010}").expect("a String takes everything");
            }
        }
        (self.prefix_bytes, self.number) = (prefix.len(), number);
        &self.path
    }

    /// Returns the last path, `None` if there was none.
    pub(crate) fn into_path(self) -> Option<String> {
        Some(self.path).filter(|path| !path.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_ten_digits_whatever_was_there_before() {
        let mut path = SequentialPath::default();
        let steps = [("/a", 1), ("/a", 2), ("/a", 9), ("/a", 10), ("/a", 11), ("/ab", 12), ("/a", 13), ("/b", 14)];
        let edges = [-2, -1, 0, 1, i32::MAX - 1, i32::MAX, i32::MIN, i32::MIN + 1].map(|number| ("/a-", number));
        for (prefix, number) in steps.into_iter().chain(edges) {
            assert_eq!(path.complete(prefix, number), format!("{prefix}{number:010}"));
        }
        assert_eq!(SequentialPath::default().into_path(), None);
    }
}
