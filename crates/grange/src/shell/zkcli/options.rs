//! The options of one command, taken apart as Apache's Commons CLI does, with its messages.

use super::failure::Failure;

/// An option of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    pub(super) takes_value: bool,
    /// What the message about a missing option says.
    pub(super) about: &'static str,
}

/// An option without a value.
pub(super) const fn flag(name: &'static str) -> Opt {
    Opt { name, takes_value: false, about: "" }
}

/// An option with a value.
pub(super) const fn value(name: &'static str) -> Opt {
    Opt { name, takes_value: true, about: "" }
}

/// How the options of a command may be combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// As one likes.
    Any,
    /// One at most.
    OneAtMost,
    /// Exactly one.
    One,
}

/// The words of a command.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The name of the command and what is no option.
    pub(super) plain: Vec<String>,
    given: Vec<(&'static str, Option<String>)>,
}

impl Words {
    /// Tells whether an option was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// Returns the first value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().find_map(|(given, value)| if *given == name { value.as_deref() } else { None })
    }

    /// Returns the value of an option as a number, in Java's words if it is none.
    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Failure> {
        self.value(name).map(|text| text.parse().map_err(|_| not_a_number(text))).transpose()
    }
}

/// What Java says of text that is no number.
pub(super) fn not_a_number(text: &str) -> Failure {
    Failure::plain(format!("For input string: \"{text}\""))
}

/// Takes the words of a command apart.
pub(super) fn parse(words: &[String], options: &'static [Opt], choice: Choice) -> Result<Words, Failure> {
    let mut parser = Parser { options, choice, found: Words::default(), open: None };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            parser.found.plain.extend(rest.by_ref().cloned());
            break;
        }
        parser.take(word)?;
    }
    parser.require_value()?;
    if choice == Choice::One && parser.found.given.is_empty() {
        let names: Vec<_> = options.iter().map(|opt| format!("-{} {}", opt.name, opt.about)).collect();
        return Err(exception("MissingOption", &format!("Missing required option: [{}]", names.join(", "))));
    }
    Ok(parser.found)
}

struct Parser {
    options: &'static [Opt],
    choice: Choice,
    found: Words,
    /// The option whose value comes next.
    open: Option<&'static str>,
}

impl Parser {
    fn take(&mut self, word: &str) -> Result<(), Failure> {
        if self.open.is_some() && (!self.looks_like_an_option(word) || is_negative_number(word)) {
            self.close(unquoted(word));
            return Ok(());
        }
        let letters = word.trim_start_matches('-');
        if word == "-" || !word.starts_with('-') {
            self.found.plain.push(word.to_owned());
            return Ok(());
        }
        if word.starts_with("--") {
            return Err(unknown(word));
        }
        if let Some(opt) = self.find(letters) {
            return self.open(opt);
        }
        match letters.split_once('=') {
            Some((name, value)) => match self.find(name).filter(|opt| opt.takes_value && name.len() == 1) {
                Some(opt) => {
                    self.open(opt)?;
                    self.close(value);
                    Ok(())
                }
                None => Err(unknown(word)),
            },
            None => self.take_letters(word),
        }
    }

    /// Takes `-swR`, or `-v5`.
    fn take_letters(&mut self, word: &str) -> Result<(), Failure> {
        for (at, letter) in word.char_indices().skip(1) {
            let opt = self.find(letter.encode_utf8(&mut [0; 4])).ok_or_else(|| unknown(word))?;
            self.open(opt)?;
            let behind = &word[at + letter.len_utf8()..];
            if self.open.is_some() && !behind.is_empty() {
                self.close(behind);
                break;
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&'static Opt> {
        self.options.iter().find(|opt| opt.name == name)
    }

    fn open(&mut self, opt: &'static Opt) -> Result<(), Failure> {
        self.require_value()?;
        if self.choice != Choice::Any
            && let Some((other, _)) = self.found.given.iter().find(|(given, _)| *given != opt.name)
        {
            return Err(exception(
                "AlreadySelected",
                &format!(
                    "The option '{}' was specified but an option from this group has already been selected: '{other}'",
                    opt.name
                ),
            ));
        }
        self.found.given.push((opt.name, None));
        self.open = opt.takes_value.then_some(opt.name);
        Ok(())
    }

    fn close(&mut self, value: &str) {
        if let Some((_, slot)) = self.found.given.last_mut() {
            *slot = Some(value.to_owned());
        }
        self.open = None;
    }

    fn require_value(&self) -> Result<(), Failure> {
        match self.open {
            Some(name) => Err(exception("MissingArgument", &format!("Missing argument for option: {name}"))),
            None => Ok(()),
        }
    }

    fn looks_like_an_option(&self, word: &str) -> bool {
        let Some(letters) = word.strip_prefix('-').map(|_| word.trim_start_matches('-')) else { return false };
        let name = letters.split('=').next().unwrap_or(letters);
        let first = name.chars().next().map(String::from);
        self.find(name).is_some() || first.is_some_and(|first| self.find(&first).is_some())
    }
}

fn is_negative_number(word: &str) -> bool {
    word.parse::<f64>().is_ok()
}

fn unquoted(word: &str) -> &str {
    match word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('"') => inner,
        _ => word,
    }
}

fn unknown(word: &str) -> Failure {
    exception("UnrecognizedOption", &format!("Unrecognized option: {word}"))
}

/// zkCli prints the exception of the library with its class.
fn exception(class: &str, message: &str) -> Failure {
    Failure::plain(format!("org.apache.commons.cli.{class}Exception: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[Opt] = &[flag("s"), flag("w"), value("v"), value("file")];

    fn check(line: &str, expected: &str) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let found = match parse(&words, OPTIONS, Choice::Any) {
            Ok(words) => format!("{:?} {:?}", words.plain, words.given),
            Err(failure) => failure.message().to_owned(),
        };
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn options_stand_anywhere() {
        check("ls /a -s", r#"["ls", "/a"] [("s", None)]"#);
        check("ls -sw /a", r#"["ls", "/a"] [("s", None), ("w", None)]"#);
        check("ls -v 5 /a", r#"["ls", "/a"] [("v", Some("5"))]"#);
        check("ls -v -1 /a", r#"["ls", "/a"] [("v", Some("-1"))]"#);
        check("ls -v5 /a", r#"["ls", "/a"] [("v", Some("5"))]"#);
        check("ls -v=5 /a", r#"["ls", "/a"] [("v", Some("5"))]"#);
        check("ls -file x -- -s", r#"["ls", "-s"] [("file", Some("x"))]"#);
        check("ls - /a", r#"["ls", "-", "/a"] []"#);
    }

    #[test]
    fn mistakes_are_told_in_the_words_of_the_library() {
        let unknown = "org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: ";
        check("ls -z /a", &format!("{unknown}-z"));
        check("ls -sz /a", &format!("{unknown}-sz"));
        check("ls --s /a", &format!("{unknown}--s"));
        check("create /a -5", &format!("{unknown}-5"));
        let missing = "org.apache.commons.cli.MissingArgumentException: Missing argument for option: v";
        check("ls /a -v", missing);
        check("ls /a -v -s", missing);
    }

    #[test]
    fn one_of_a_group() {
        const GROUP: &[Opt] =
            &[Opt { about: "num soft quota", ..value("n") }, Opt { about: "bytes soft quota", ..value("b") }];
        let mistake = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            parse(&words, GROUP, Choice::One).map(drop).map_err(|failure| failure.message().to_owned())
        };
        assert_eq!(mistake("setquota -n 1 /a"), Ok(()));
        assert_eq!(
            mistake("setquota /a").unwrap_err(),
            "org.apache.commons.cli.MissingOptionException: Missing required option: [-n num soft quota, -b bytes soft \
             quota]"
        );
        assert_eq!(
            mistake("setquota -n 1 -b 2 /a").unwrap_err(),
            "org.apache.commons.cli.AlreadySelectedException: The option 'b' was specified but an option from this \
             group has already been selected: 'n'"
        );
    }
}
