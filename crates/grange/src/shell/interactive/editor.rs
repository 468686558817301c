//! The line editor, on a thread of its own: the session goes on while somebody types.

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::anyhow;
use rustyline::completion::Completer as Completes;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::complete::Completer;
use super::{Shared, history, lock};
use crate::error::CommandError;

type LineEditor = Editor<Completion, DefaultHistory>;

/// The terminal.
pub(super) struct Terminal {
    prompts: mpsc::Sender<String>,
    lines: mpsc::Receiver<Result<Option<String>, ReadlineError>>,
    watching: JoinHandle<()>,
}

impl Terminal {
    /// Starts the editor.
    pub(super) fn start(place: Shared, has_color: bool) -> Result<Terminal, CommandError> {
        let wrong = |error: ReadlineError| CommandError::failure(anyhow!("cannot use the terminal: {error}"));
        let config = Config::builder()
            .max_history_size(history::LINES_MAX)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(wrong)?
            .completion_type(CompletionType::List)
            .auto_add_history(false)
            .build();
        let mut editor = LineEditor::with_config(config).map_err(wrong)?;
        editor.set_helper(Some(Completion { completer: Completer::new(place.clone()), has_color }));
        let printer = editor.create_external_printer().map_err(wrong)?;
        let history = open_history(&mut editor);
        let (prompts, prompt_receiver) = mpsc::channel(1);
        let (line_sender, lines) = mpsc::channel(1);
        std::thread::spawn(move || edit(editor, history, prompt_receiver, line_sender));
        let watching = tokio::spawn(watch_connection(place, printer));
        Ok(Terminal { prompts, lines, watching })
    }

    /// Lets somebody type a line; `None` if they leave.
    pub(super) async fn line(&mut self, prompt: String) -> Result<Option<String>, CommandError> {
        // A thread that has ended has said why, or that somebody left.
        let _ = self.prompts.send(prompt).await;
        match self.lines.recv().await {
            Some(Ok(line)) => Ok(line),
            Some(Err(error)) => Err(CommandError::failure(anyhow!("cannot read from the terminal: {error}"))),
            None => Ok(None),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Without a history one can still work, so its failure is told and no more.
fn open_history(editor: &mut LineEditor) -> Option<PathBuf> {
    let file = match history::prepare() {
        Ok(file) => file?,
        Err(error) => {
            eprintln!("note: lines are not kept: {error}");
            return None;
        }
    };
    // An empty file has no header yet.
    let _ = editor.load_history(&file);
    Some(file)
}

fn edit(
    mut editor: LineEditor,
    history: Option<PathBuf>,
    mut prompts: mpsc::Receiver<String>,
    lines: mpsc::Sender<Result<Option<String>, ReadlineError>>,
) {
    while let Some(prompt) = prompts.blocking_recv() {
        let line = loop {
            match editor.readline(&prompt) {
                Ok(line) => break Ok(Some(line)),
                // Ctrl-C gives up what was typed.
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
                Err(ReadlineError::Eof) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        if let Ok(Some(line)) = &line
            && history::is_kept(line)
            && editor.add_history_entry(line).unwrap_or(false)
            && let Some(file) = &history
        {
            // A full disk must not keep anybody from working.
            let _ = editor.append_history(file);
        }
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Says above the prompt when the connection goes and comes.
async fn watch_connection(place: Shared, mut printer: impl ExternalPrinter) {
    loop {
        let Some(mut states) = lock(&place).client.as_ref().map(grange_client::Client::state_watcher) else {
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        };
        let mut state = states.state();
        while !state.is_terminated() {
            state = states.changed().await;
            let text = match state {
                grange_client::SessionState::Disconnected => "connection lost; trying to get it back",
                grange_client::SessionState::SyncConnected => "connected again",
                grange_client::SessionState::ConnectedReadOnly => "connected again, to a server that only serves reads",
                grange_client::SessionState::Expired => "the session has expired; the next command gets a new one",
                _ => continue,
            };
            // What cannot be printed is in the next prompt.
            let _ = printer.print(format!("{text}\n"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How soon a new session is noticed.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// What the editor asks while somebody types.
struct Completion {
    completer: Completer,
    has_color: bool,
}

impl Completes for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.completer.complete(&line[..at]))
    }
}

impl Highlighter for Completion {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        match self.has_color {
            true => Cow::Owned(format!("\x1b[1;36m{prompt}\x1b[0m")),
            false => Cow::Borrowed(prompt),
        }
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Validator for Completion {}

impl Helper for Completion {}
