//! A line typed into zkCli, split into words.

use std::sync::LazyLock;

use regex::Regex;

/// A word: what does not begin with a quote, up to the next blank; or what is between two quotes of one kind.
///
/// As in zkCli, a quote inside a word is a character of it, and two words need no blank between them when one is quoted.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    let blank = r"[ \t\n\x0b\x0c\r]";
    let not_blank = r"[^ \t\n\x0b\x0c\r]";
    Regex::new(&format!(r#"{blank}*([^"']{not_blank}*|"[^"]*"|'[^']*'){blank}*"#)).expect("the pattern is sound")
});

/// Splits a line; empty only if there is nothing but a quote that is never closed.
pub(super) fn split(line: &str) -> Vec<String> {
    WORD.captures_iter(line).map(|found| unquoted(&found[1]).to_owned()).collect()
}

fn unquoted(word: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| word.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked against Apache's zkCli 3.8.0.
    #[test]
    fn quotes_group_words() {
        for (line, words) in [
            ("ls /", &["ls", "/"][..]),
            ("  create   /a  'two words' ", &["create", "/a", "two words"]),
            (r#"create /a "it's" x"#, &["create", "/a", "it's", "x"]),
            ("create /a it's", &["create", "/a", "it's"]),
            ("create /a ''", &["create", "/a", ""]),
            (r#"set /a "b"c"#, &["set", "/a", "b", "c"]),
            (r#"set /a b"c d""#, &["set", "/a", "b\"c", "d\""]),
            ("set /a 'open", &["set", "/a", "open"]),
            ("\"", &[]),
        ] {
            assert_eq!(split(line), words, "{line:?}");
        }
        // A line of blanks is a word of one blank, which is no command.
        assert_eq!(split("   "), [" "]);
    }
}
