//! `grange shell` without a command: lines from a person at a terminal, or from a script.
//!
//! The session stays for as long as the shell does. When it is lost, that is told at once, and the next command gets a new
//! one: nothing is repeated behind anybody's back.

mod complete;
mod editor;
mod history;
mod line;
mod script;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use clap::error::ErrorKind as ClapKind;
use clap::{ColorChoice, CommandFactory};
use grange_client::{Auth, Client, ConnectOptions, Servers};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::connection;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};
use crate::shell::path::{Here, PathArg};
use crate::shell::{Form, Input, Session, run_command};

use editor::Terminal;
use line::{Line, LineCommand};
use script::Script;

/// What the command line says about the shell as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) form: Form,
    /// A script ends at its first error.
    pub(super) stops_at_error: bool,
    pub(super) has_color: bool,
}

/// What the shell and the editor, which runs on a thread of its own, both look at.
#[derive(Debug, Default)]
struct Place {
    client: Option<Client>,
    here: String,
}

type Shared = Arc<Mutex<Place>>;

/// Where lines come from.
enum Source {
    Terminal(Terminal),
    Script(Script),
}

struct Shell {
    cx: Context,
    settings: Settings,
    options: ConnectOptions,
    place: Shared,
    interrupts: Signal,
    is_script: bool,
    /// The session was closed by the user, who will open another one.
    is_closed: bool,
}

/// Whether the shell goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Quit,
}

pub(super) async fn run(cx: &Context, options: ConnectOptions, settings: Settings) -> Result<(), CommandError> {
    let interrupts =
        signal(SignalKind::interrupt()).map_err(|error| CommandError::failure(error).context("cannot take signals"))?;
    crate::shell::path::allow_relative();
    let client = connection::connect(&options).await?;
    let place = Arc::new(Mutex::new(Place { client: Some(client), here: "/".to_owned() }));
    let is_terminal = cx.is_stdin_terminal && cx.is_stdout_terminal;
    let mut source = match is_terminal {
        true => Source::Terminal(Terminal::start(place.clone(), settings.has_color)?),
        false => Source::Script(Script::start()),
    };
    let is_script = !is_terminal;
    let mut shell = Shell { cx: *cx, settings, options, place, interrupts, is_script, is_closed: false };
    let result = shell.run_lines(&mut source).await;
    drop(source);
    if let Some(client) = shell.take_client() {
        grange_client::close(client).await;
    }
    result
}

impl Shell {
    async fn run_lines(&mut self, source: &mut Source) -> Result<(), CommandError> {
        let mut last = Ok(());
        loop {
            let line = match source {
                Source::Terminal(terminal) => terminal.line(self.prompt()).await?,
                Source::Script(script) => script.line().await?,
            };
            let Some(line) = line else { return last };
            let result = match source {
                Source::Terminal(_) => self.run_line(&line).await,
                Source::Script(script) => self.run_line(&line).await.map_err(|error| script.locate(error)),
            };
            match result {
                Ok(Next::Quit) => return last,
                Ok(Next::GoOn) => last = Ok(()),
                Err(error) if error.is_closed_pipe() => return Err(error),
                Err(error) => match source {
                    // A person has seen it, and goes on.
                    Source::Terminal(_) => self.show(&error),
                    Source::Script(_) if self.settings.stops_at_error || error.is_interrupted() => return Err(error),
                    Source::Script(_) => {
                        self.show(&error);
                        last = Err(error.shown());
                    }
                },
            }
        }
    }

    fn show(&self, error: &CommandError) {
        if error.is_silent() {
            return;
        }
        let text = error.to_string();
        match text.strip_prefix("error:") {
            Some(rest) if self.settings.has_color && self.cx.is_stderr_terminal => {
                eprint!("\x1b[1;31merror:\x1b[0m{rest}");
            }
            _ => eprint!("{text}"),
        }
    }

    /// Runs a line; Ctrl-C stops what it does.
    async fn run_line(&mut self, text: &str) -> Result<Next, CommandError> {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(Next::GoOn);
        }
        let words = shlex::split(text).ok_or_else(|| CommandError::usage(anyhow!("a quote is not closed")))?;
        let Some(line) = self.parse(words)? else { return Ok(Next::GoOn) };
        match line.command {
            LineCommand::Quit => Ok(Next::Quit),
            LineCommand::Shell(command) => {
                let form = if line.json { Form::Json } else { self.settings.form };
                self.run_command(&command, form).await.map(|()| Next::GoOn)
            }
            other => self.run_own(other).await.map(|()| Next::GoOn),
        }
    }

    fn parse(&self, words: Vec<String>) -> Result<Option<Line>, CommandError> {
        let color = if self.settings.has_color { ColorChoice::Auto } else { ColorChoice::Never };
        let parsed = Line::command().color(color).try_get_matches_from(words);
        match parsed.and_then(|matches| <Line as clap::FromArgMatches>::from_arg_matches(&matches)) {
            Ok(line) => Ok(Some(line)),
            Err(help) if matches!(help.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion) => {
                help.print().map_err(CommandError::output)?;
                Ok(None)
            }
            Err(error) => Err(CommandError::usage(anyhow!("{}", line::message(&error)))),
        }
    }

    async fn run_command(&mut self, command: &crate::shell::ShellCommand, form: Form) -> Result<(), CommandError> {
        let client = self.client().await?;
        let here = self.here();
        let (cx, out) = (self.cx, Output::new(&self.cx));
        let input = if self.is_script { Input::Taken } else { Input::Free };
        let here = Here::At(&here);
        let mut session = Session { cx: &cx, client: &client, form, out, here, is_interactive: true, input };
        let result = tokio::select! {
            // A command that ends at Ctrl-C by itself knows better how.
            biased;
            result = run_command(&mut session, command) => result,
            _ = self.interrupts.recv() => Err(CommandError::interrupted(anyhow!("interrupted"))
                .hint("changes that were on their way may have been made")),
        };
        let flushed = session.out.finish();
        result.and(flushed)
    }

    /// Runs a command of the shell itself.
    async fn run_own(&mut self, command: LineCommand) -> Result<(), CommandError> {
        match command {
            LineCommand::Cd { path } => self.cd(path.as_ref()).await,
            LineCommand::Pwd => self.print(&self.here()),
            LineCommand::History => history::shown().iter().try_for_each(|line| self.print(line)),
            LineCommand::Close => {
                self.is_closed = true;
                if let Some(client) = self.take_client() {
                    grange_client::close(client).await;
                }
                Ok(())
            }
            LineCommand::Connect { servers } => self.connect(servers.as_deref()).await,
            LineCommand::Addauth { scheme, credential } => self.add_auth(&scheme, &credential).await,
            LineCommand::Quit | LineCommand::Shell(_) => Ok(()),
        }
    }

    fn print(&self, line: &str) -> Result<(), CommandError> {
        let mut out = Output::new(&self.cx);
        out.line(line)?;
        out.finish()
    }

    async fn cd(&mut self, path: Option<&PathArg>) -> Result<(), CommandError> {
        let here = self.here();
        let path = match path {
            Some(path) => path.resolve(Here::At(&here))?,
            None => "/".to_owned(),
        };
        let client = self.client().await?;
        let found = client.check_stat(&path).await.map_err(|error| crate::shell::answer::refused(&path, error))?;
        if found.is_none() {
            return Err(crate::shell::answer::refused(&path, grange_client::ClientError::NoNode));
        }
        self.place().here = path;
        Ok(())
    }

    async fn connect(&mut self, servers: Option<&str>) -> Result<(), CommandError> {
        if let Some(servers) = servers {
            self.options.servers = Servers::parse(servers).map_err(CommandError::usage)?;
        }
        if let Some(client) = self.take_client() {
            grange_client::close(client).await;
        }
        let client = connection::connect(&self.options).await?;
        self.is_closed = false;
        let mut place = self.place();
        *place = Place { client: Some(client), here: "/".to_owned() };
        Ok(())
    }

    async fn add_auth(&mut self, scheme: &str, credential: &str) -> Result<(), CommandError> {
        let client = self.client().await?;
        client.auth(scheme, credential.as_bytes()).await.map_err(|_| {
            CommandError::failure(anyhow!("the server refused the credentials"))
                .hint("the next command gets a new session")
        })?;
        self.options.credentials.auths.push(Auth::new(scheme, credential));
        Ok(())
    }

    /// Returns a session; a new one if the old one has ended, which is told.
    async fn client(&mut self) -> Result<Client, CommandError> {
        if let Some(client) = self.place().client.clone().filter(|client| !client.state().is_terminated()) {
            return Ok(client);
        }
        if self.is_closed {
            return Err(CommandError::failure(anyhow!("there is no session")).hint("to open one: connect"));
        }
        eprintln!("the session was lost, and its ephemeral znodes with it; opening a new one");
        drop(self.take_client());
        let client = connection::connect(&self.options).await?;
        self.place().client = Some(client.clone());
        Ok(client)
    }

    fn take_client(&self) -> Option<Client> {
        self.place().client.take()
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        lock(&self.place)
    }

    fn here(&self) -> String {
        self.place().here.clone()
    }

    /// What stands in front of the cursor: where one is, and whether there is a connection.
    fn prompt(&self) -> String {
        let place = self.place();
        let state = match place.client.as_ref().map(Client::state) {
            Some(state) if state.is_terminated() => " (session lost)",
            Some(grange_client::SessionState::Disconnected) => " (connection lost)",
            Some(grange_client::SessionState::ConnectedReadOnly) => " (read-only)",
            Some(_) => "",
            None => " (closed)",
        };
        let servers = harmless_line(&self.options.servers.addresses()[0].to_string());
        format!("{servers}{state} {}> ", harmless_line(&place.here))
    }
}

/// Looks at what is shared. What a thread that panicked has left is whole: it is set in one go.
fn lock(place: &Shared) -> std::sync::MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the commands of a line, for completion.
fn command_line() -> clap::Command {
    let mut command = <Line as CommandFactory>::command();
    command.build();
    command
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_definition_of_a_line_is_sound() {
        Line::command().debug_assert();
        assert!(Line::try_parse_from(["ls", "-R", "/a"]).is_ok());
        assert!(Line::try_parse_from(["cd"]).is_ok());
        assert!(Line::try_parse_from(["exit"]).is_ok());
    }
}
