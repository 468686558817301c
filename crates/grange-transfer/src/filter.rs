//! Which entries are left out: rsync's `--exclude` patterns.
//!
//! An excluded entry is invisible on both sides: it is not copied, not descended into, and not deleted.
//! Rules are tried in order and the first that matches decides. Source: rsync(1), "PATTERN MATCHING RULES".

use std::fmt;

use crate::wildmatch::wildmatch;

/// An ordered list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    rules: Vec<Rule>,
}

/// One pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    text: Vec<u8>,
    /// Without the leading `/` and the trailing `/` or `/***`.
    pattern: Vec<u8>,
    includes: bool,
    anchored: bool,
    directories_only: bool,
    /// The pattern ended in `/***`: the directory itself and everything in it.
    with_contents: bool,
    wild: bool,
    scope: Scope,
}

/// What of a path a pattern is matched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The last component: the pattern has no `/` and no `**`.
    Name,
    /// The last so many components.
    Tail(usize),
    /// The whole path.
    Whole,
    /// The whole path or what follows any `/` in it.
    AnyTail,
}

/// A pattern that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern is empty")]
pub struct EmptyPattern;

impl Filter {
    /// Appends the pattern of one `--exclude`. As in rsync, `+ pattern` includes, `- pattern` excludes, and `!` alone
    /// forgets all rules so far. Errors: [`EmptyPattern`].
    pub fn push_exclude(&mut self, text: &[u8]) -> Result<(), EmptyPattern> {
        if text == b"!" {
            self.rules.clear();
            return Ok(());
        }
        let (includes, pattern) = match text {
            [b'+', b' ', rest @ ..] => (true, rest),
            [b'-', b' ', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        self.rules.push(Rule::parse(text, pattern, includes)?);
        Ok(())
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the entry at `path` (relative to the base, not empty) is left out.
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        let rule = self.rules.iter().find(|rule| rule.matches(path, is_directory));
        rule.is_some_and(|rule| !rule.includes)
    }

    /// The patterns as they were given, in order.
    pub fn patterns(&self) -> impl Iterator<Item = &[u8]> {
        self.rules.iter().map(|rule| &rule.text[..])
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.patterns().map(crate::path::escape).collect();
        out.write_str(&shown.join(" "))
    }
}

impl Rule {
    fn parse(text: &[u8], pattern: &[u8], includes: bool) -> Result<Self, EmptyPattern> {
        if pattern.is_empty() {
            return Err(EmptyPattern);
        }
        let (anchored, rest) = match pattern {
            [b'/', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let (with_contents, directories_only, rest) = match rest {
            [rest @ .., b'/', b'*', b'*', b'*'] => (true, false, rest),
            [rest @ .., b'/'] => (false, true, rest),
            rest => (false, false, rest),
        };
        let doubled = rest.windows(2).any(|pair| pair == b"**") || with_contents;
        // A `/***` counts as a slash, but not a trailing `/`.
        let slashes = rest.iter().filter(|&&b| b == b'/').count() + usize::from(with_contents);
        let scope = if anchored || rest.starts_with(b"**") {
            Scope::Whole
        } else if doubled {
            Scope::AnyTail
        } else if slashes > 0 {
            Scope::Tail(slashes + 1)
        } else {
            Scope::Name
        };
        Ok(Self {
            text: text.to_vec(),
            pattern: rest.to_vec(),
            includes,
            anchored,
            directories_only,
            with_contents,
            wild: rest.iter().any(|b| b"*?[".contains(b)),
            scope,
        })
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        if !self.with_contents {
            return self.matches_scoped(path);
        }
        // `dir/***` is `dir/` and `dir/**`: the path itself as a directory, or any directory above it.
        (is_directory && self.matches_scoped(path))
            || path.iter().enumerate().any(|(at, &b)| b == b'/' && self.matches_scoped(&path[..at]))
    }

    fn matches_scoped(&self, path: &[u8]) -> bool {
        match self.scope {
            Scope::Name => self.matches_text(tail(path, 1)),
            // A pattern with an inner slash must match that many components, at the end of the path.
            Scope::Tail(count) => {
                let components = 1 + path.iter().filter(|&&b| b == b'/').count();
                components >= count && self.matches_text(tail(path, count))
            }
            Scope::Whole if self.anchored => self.matches_text(path),
            // `**/x` also matches `x` at the top: rsync sees a `/` in front of the path.
            Scope::Whole => self.matches_text(path) || self.matches_text(&[b"/", path].concat()),
            Scope::AnyTail => {
                self.matches_text(path)
                    || path.iter().enumerate().any(|(at, &b)| b == b'/' && self.matches_text(&path[at + 1..]))
            }
        }
    }

    fn matches_text(&self, text: &[u8]) -> bool {
        if self.wild { wildmatch(&self.pattern, text) } else { self.pattern == text }
    }
}

/// The last `count` components of `path`.
fn tail(path: &[u8], count: usize) -> &[u8] {
    let cut = path.iter().enumerate().rev().filter(|&(_, &b)| b == b'/').nth(count - 1);
    cut.map_or(path, |(at, _)| &path[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `shown` lists paths that stay, `left_out` those that go; a trailing `/` marks a directory.
    fn check(patterns: &[&str], left_out: &[&str], stay: &[&str]) {
        let mut filter = Filter::default();
        for pattern in patterns {
            filter.push_exclude(pattern.as_bytes()).unwrap();
        }
        let excludes = |path: &str| filter.excludes(path.trim_end_matches('/').as_bytes(), path.ends_with('/'));
        for path in left_out {
            assert!(excludes(path), "{patterns:?} must exclude {path}");
        }
        for path in stay {
            assert!(!excludes(path), "{patterns:?} must not exclude {path}");
        }
    }

    #[test]
    fn a_plain_name_matches_at_any_depth() {
        check(&["foo"], &["foo", "a/foo", "a/b/foo/"], &["foobar", "a/foo.c", "foo/x"]);
        check(&["foo/"], &["foo/", "a/foo/"], &["foo", "a/foo"]);
        check(&["/foo"], &["foo", "foo/"], &["a/foo"]);
    }

    #[test]
    fn an_inner_slash_matches_whole_components_at_the_end() {
        check(&["foo/bar"], &["foo/bar", "a/foo/bar"], &["xfoo/bar", "bar", "foo/bar/c"]);
        check(&["/foo/bar"], &["foo/bar"], &["a/foo/bar"]);
        check(&["foo/*/bar"], &["foo/x/bar", "a/foo/x/bar"], &["foo/bar", "foo/x/y/bar"]);
    }

    #[test]
    fn one_star_stops_at_a_slash_and_two_do_not() {
        check(&["*.o"], &["a.o", "x/a.o"], &["a.oo", "a.o/x"]);
        check(&["/a/*"], &["a/b", "a/.c"], &["a/b/c"]);
        check(&["/a/**"], &["a/b", "a/b/c"], &["a", "b/a/c"]);
        check(&["a/**/z"], &["a/b/z", "a/b/c/z", "q/a/b/z"], &["a/z", "ba/b/z"]);
        check(&["**/cache"], &["cache", "a/cache", "a/b/cache/"], &["cached"]);
        check(&["a**z"], &["abz", "a/z", "q/a/b/z"], &["qa/b/y"]);
    }

    #[test]
    fn three_stars_take_the_directory_and_its_contents() {
        check(&["foo/***"], &["foo/", "foo/a", "x/foo/a/b"], &["foo", "xfoo/a"]);
        check(&["/foo/***"], &["foo/", "foo/a/b"], &["x/foo/", "x/foo/a"]);
    }

    #[test]
    fn classes_question_marks_and_escapes() {
        check(&["f[0-9]?"], &["f1x", "a/f9_"], &["f1", "fxx", "f1/"]);
        check(&["[!a]b"], &["cb"], &["ab"]);
        check(&["[[:digit:]]*"], &["1", "2x"], &["x2"]);
        check(&["\\*x"], &["*x"], &["ax"]);
        check(&["a\\b"], &["a\\b"], &["ab"]);
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        check(&["+ keep.o", "*.o"], &["a.o"], &["keep.o", "x/keep.o"]);
        check(&["*.o", "+ keep.o"], &["keep.o"], &[]);
        check(&["*.o", "!", "*.c"], &["a.c"], &["a.o"]);
        check(&["- a b"], &["a b"], &["- a b"]);
    }
}
