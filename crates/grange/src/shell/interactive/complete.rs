//! Completion of commands, options and paths.
//!
//! Names of znodes come from the server: those with characters that a terminal would obey, or that deceive the reader, are
//! not offered.

use std::time::Duration;

use grange_client::Client;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{Shared, command_line, lock};
use crate::output::harmless_line;
use crate::shell::path::resolve_dots;

/// How long the server may take; then there is nothing to choose from.
const PATIENCE: Duration = Duration::from_millis(800);

/// How many names are offered at most.
const CANDIDATES_MAX: usize = 1000;

/// What the editor asks.
pub(super) struct Completer {
    place: Shared,
    runtime: Handle,
    commands: clap::Command,
}

/// The word under the cursor.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    /// Where it begins in the line.
    start: usize,
    /// Without quotes.
    text: String,
    /// The first word of the line, unless this is it.
    command: Option<String>,
}

impl Completer {
    pub(super) fn new(place: Shared) -> Completer {
        Completer { place, runtime: Handle::current(), commands: command_line() }
    }

    /// Returns where the word under the cursor begins, and what it may become.
    pub(super) fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let word = word_at_end(line);
        let mut found = match &word.command {
            None => self.names(&word.text),
            Some(command) if command == "help" => self.names(&word.text),
            Some(command) if word.text.starts_with('-') => self.options(command, &word.text),
            Some(_) => self.paths(&word.text),
        };
        found.sort_unstable();
        found.dedup();
        found.truncate(CANDIDATES_MAX);
        (word.start, found)
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let commands = self.commands.get_subcommands();
        let names =
            commands.flat_map(|command| std::iter::once(command.get_name()).chain(command.get_visible_aliases()));
        names.filter(|name| name.starts_with(prefix)).map(|name| format!("{name} ")).collect()
    }

    fn options(&self, command: &str, prefix: &str) -> Vec<String> {
        let Some(command) = self.commands.find_subcommand(command) else { return Vec::new() };
        let arguments = command.get_arguments().filter(|argument| !argument.is_positional());
        let names = arguments.flat_map(|argument| {
            let short = argument.get_short().map(|letter| format!("-{letter} "));
            let long = argument.get_long().map(|name| format!("--{name} "));
            [short, long].into_iter().flatten()
        });
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    fn paths(&self, text: &str) -> Vec<String> {
        let (folder, prefix) = match text.rsplit_once('/') {
            Some((folder, prefix)) => (format!("{folder}/"), prefix),
            None => (String::new(), text),
        };
        let (client, here) = {
            let place = lock(&self.place);
            (place.client.clone(), place.here.clone())
        };
        let Some(client) = client else { return Vec::new() };
        let parent = resolve_dots(&here, if folder == "/" { "/" } else { folder.trim_end_matches('/') });
        let names = self.runtime.block_on(children(&client, &parent));
        let fitting = names.into_iter().filter(|name| name.starts_with(prefix) && harmless_line(name) == *name);
        fitting.filter_map(|name| shlex::try_quote(&format!("{folder}{name}")).ok().map(Into::into)).collect()
    }
}

async fn children(client: &Client, parent: &str) -> Vec<String> {
    match timeout(PATIENCE, client.list_children(parent)).await {
        Ok(Ok(names)) => names,
        _ => Vec::new(),
    }
}

/// Takes the last word of a line apart; quotes are those of the shell.
fn word_at_end(line: &str) -> Word {
    let mut words: Vec<(usize, String)> = Vec::new();
    let (mut quote, mut is_in_word, mut is_escaped) = (None, false, false);
    for (at, c) in line.char_indices() {
        let is_blank = c.is_whitespace() && quote.is_none() && !is_escaped;
        if is_blank {
            is_in_word = false;
            continue;
        }
        if !is_in_word {
            words.push((at, String::new()));
            is_in_word = true;
        }
        let Some((_, text)) = words.last_mut() else { continue };
        match (quote, c) {
            _ if is_escaped => {
                text.push(c);
                is_escaped = false;
            }
            (None | Some('"'), '\\') => is_escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (_, c) => text.push(c),
        }
    }
    if !is_in_word {
        words.push((line.len(), String::new()));
    }
    let (start, text) = words.pop().unwrap_or_default();
    let command = words.into_iter().map(|(_, word)| word).find(|word| !word.starts_with('-'));
    Word { start, text, command }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_under_the_cursor_is_found() {
        for (line, start, text, command) in [
            ("", 0, "", None),
            ("l", 0, "l", None),
            ("ls ", 3, "", Some("ls")),
            ("ls -R /a", 6, "/a", Some("ls")),
            ("--json get /a", 11, "/a", Some("get")),
            ("get '/a b", 4, "/a b", Some("get")),
            ("get \"/a b\"/c", 4, "/a b/c", Some("get")),
            ("get /a\\ b", 4, "/a b", Some("get")),
        ] {
            let word = word_at_end(line);
            assert_eq!((word.start, word.text.as_str(), word.command.as_deref()), (start, text, command), "{line:?}");
        }
    }

    #[test]
    fn commands_and_options_are_offered() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let completer = Completer::new(Shared::default());
        assert_eq!(completer.complete("del"), (0, vec!["delete ".into(), "deleteall ".into(), "delquota ".into()]));
        assert_eq!(completer.complete("help pw").1, ["pwd "]);
        assert_eq!(completer.complete("tree --de").1, ["--depth "]);
        assert_eq!(completer.complete("ls /").1, Vec::<String>::new());
    }
}
