//! Sections and keys of a file as Python's `ConfigParser` reads them, each with its line.
//!
//! Written here because the crates for such files do not say on which line a key is, which every error of ours names,
//! and because Python has rules that they do not: text behind `]`, `rem` lines, values over several lines, `%%`.

use crate::declared::file::Text;
use crate::declared::problem::{Location, Problem};

/// A `[section]`.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) keys: Vec<Key>,
}

/// A `key = value`.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) location: Location,
    /// A comment was cut off the value.
    pub(crate) had_comment: bool,
}

/// Reads a file. What is wrong is added to `problems`.
pub(crate) fn read(text: &Text, problems: &mut Vec<Problem>) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in text.text.trim_start_matches('\u{feff}').lines().enumerate() {
        let location = text.location(index + 1);
        if is_comment(line) {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            let key = sections.last_mut().and_then(|section| section.keys.last_mut());
            match key {
                Some(key) => key.append(line),
                None => problems.push(Problem::new(
                    &location,
                    "a line that begins with a blank continues a value, and there is none",
                )),
            }
        } else if line.starts_with('[') {
            match section_name(line) {
                Some(name) => sections.push(Section { name: name.to_owned(), location, keys: Vec::new() }),
                None => problems.push(Problem::new(&location, "a section is written [NAME]")),
            }
        } else {
            match (Key::parse(line, &location), sections.last_mut()) {
                (Some(key), Some(section)) => section.keys.push(key),
                (Some(_), None) => problems.push(Problem::new(&location, "there is no [section] before this line")),
                (None, _) => problems.push(Problem::new(&location, "this is neither KEY=VALUE nor a [section]")),
            }
        }
    }
    for key in sections.iter_mut().flat_map(|section| &mut section.keys) {
        match unescape(&key.value) {
            Some(value) => key.value = value,
            None => problems.push(Problem::new(&key.location, "%(…)s is not supported; a plain % is written %%")),
        }
    }
    sections
}

fn is_comment(line: &str) -> bool {
    let first = line.split_whitespace().next();
    line.starts_with(['#', ';'])
        || first.is_none_or(|word| word.eq_ignore_ascii_case("rem") && line.starts_with(['r', 'R']))
}

/// The name goes up to the last bracket before a comment; what follows the bracket does not count.
fn section_name(line: &str) -> Option<&str> {
    let (line, _) = without_comment(line);
    let name = &line[1..line.rfind(']')?];
    (!name.is_empty()).then_some(name)
}

/// Cuts off a comment: from a `;` that follows a blank.
fn without_comment(text: &str) -> (&str, bool) {
    let comment = text.match_indices(';').find(|(at, _)| text[..*at].ends_with([' ', '\t']));
    match comment {
        Some((at, _)) => (text[..at].trim_end(), true),
        None => (text.trim_end(), false),
    }
}

impl Key {
    fn parse(line: &str, location: &Location) -> Option<Key> {
        let at = line.find(['=', ':'])?;
        let name = line[..at].trim().to_owned();
        let (value, had_comment) = without_comment(&line[at + 1..]);
        let value = match value.trim() {
            "\"\"" => "",
            value => value,
        };
        (!name.is_empty()).then(|| Key { name, value: value.to_owned(), location: location.clone(), had_comment })
    }

    fn append(&mut self, line: &str) {
        let (line, had_comment) = without_comment(line);
        self.value += "\n";
        self.value += line.trim();
        self.had_comment |= had_comment;
    }
}

/// Undoes Python's doubled per cent signs; `None` if a name is to be replaced.
fn unescape(value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        text += &rest[..at];
        text.push('%');
        rest = &rest[at + 1..];
        if rest.starts_with('(') {
            return None;
        }
        rest = rest.strip_prefix('%').unwrap_or(rest);
    }
    text += rest;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (String, Vec<String>) {
        let mut problems = Vec::new();
        let mut found = String::new();
        for section in read(&Text::of("f", text), &mut problems) {
            found += &format!("[{}]", section.name);
            for key in section.keys {
                let comment = if key.had_comment { "!" } else { "" };
                found += &format!("{}={:?}{comment};", key.name, key.value);
            }
        }
        (found, problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn the_rules_are_pythons() {
        for (text, found) in [
            ("[a] ; words ]\nk = v \nK: w", r#"[a]k="v";K="w";"#),
            ("; c\n# c\nrem c\nREM\n\n \t\n[a]\nremove=1\n", r#"[a]remove="1";"#),
            ("[a]\nk=v ; c\nl=v;d\nm=\t; c\nn=\"\"\no=\n", r#"[a]k="v"!;l="v;d";m=""!;n="";o="";"#),
            ("[a]\nk=a=b:c\n  more\n\n  last # kept", r#"[a]k="a=b:c\nmore\nlast # kept";"#),
            ("[/x y]\nk=100%% %", r#"[/x y]k="100% %";"#),
            ("\u{feff}[a]\r\nk=v\r\n", r#"[a]k="v";"#),
            ("[a]\n[a]\n[b]]", "[a][a][b]]"),
        ] {
            assert_eq!(read_text(text), (found.to_owned(), Vec::new()), "{text:?}");
        }
    }

    #[test]
    fn a_mistake_has_its_line() {
        let (_, problems) = read_text("k=v\n  x\n[\n[]\n[a]\nwords\n=v\nk=%(home)s");
        assert_eq!(
            problems,
            [
                "f:1: there is no [section] before this line",
                "f:2: a line that begins with a blank continues a value, and there is none",
                "f:3: a section is written [NAME]",
                "f:4: a section is written [NAME]",
                "f:6: this is neither KEY=VALUE nor a [section]",
                "f:7: this is neither KEY=VALUE nor a [section]",
                "f:8: %(…)s is not supported; a plain % is written %%",
            ]
        );
    }
}
