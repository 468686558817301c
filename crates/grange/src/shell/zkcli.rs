//! `zkCli.sh`: what Apache's command line client of that name prints, line for line.
//!
//! Scripts read its output, so here the words, the streams, the exit statuses and the order are those of Apache ZooKeeper
//! 3.8.0, not Grange's own. Where Apache's dies with a stack trace, or would do harm that nobody can mean, this one says
//! so in a line instead; docs/shell.md lists these differences.

mod arguments;
mod commands;
mod failure;
mod line;
mod options;
mod path;
mod printer;
mod stat;
mod zk;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, BufRead};
use std::process::ExitCode;

use grange_client::Servers;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::CommandError;

use arguments::Arguments;
use commands::{Command, Entry};
use failure::Failure;
use printer::Printer;
use zk::{Interrupted, SessionSettings, Zk};

/// How many commands `history` shows besides itself.
const HISTORY_SHOWN: usize = 10;

/// How many commands are remembered, the oldest are forgotten first; Apache's remembers all of them.
const HISTORY_MAX: usize = 10_000;

/// The most bytes of one line of input; a longer one ends the run.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Runs zkCli with the arguments behind its name.
pub(crate) fn main(cx: Context, arguments: Vec<OsString>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CommandError::failure(error).context("cannot start threads").report(),
    };
    let status = runtime.block_on(run(&cx, arguments));
    // A thread may wait for input for ever.
    runtime.shutdown_background();
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => error.report(),
    }
}

async fn run(cx: &Context, arguments: Vec<OsString>) -> Result<u8, CommandError> {
    let mut printer = Printer::new(cx);
    let arguments = match arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(failure) => {
            printer.message(failure.message())?;
            return Ok(failure.status());
        }
    };
    for note in &arguments.notes {
        printer.message(note)?;
    }
    printer.line(&format!("Connecting to {}", arguments.server_text))?;
    printer.flush()?;
    let zk = Zk::start(&arguments.servers, arguments.settings, printer);
    let mut cli = Cli::new(zk, &arguments);
    if arguments.waits_for_connection && !cli.zk.wait_connected(arguments.settings.timeout).await? {
        cli.zk.printer.message("KeeperErrorCode = ConnectionLoss")?;
        return Ok(1);
    }
    let next = match arguments.command {
        Some(words) => cli.run_command(&words).await?,
        None => cli.run_input(cx).await?,
    };
    cli.leave(next).await?;
    Ok(cli.status)
}

/// A run: the session, and what zkCli remembers.
struct Cli {
    zk: Zk,
    settings: SessionSettings,
    server_text: String,
    history: HashMap<usize, String>,
    count: usize,
    status: u8,
}

/// Whether the run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Quit,
}

impl Cli {
    fn new(zk: Zk, arguments: &Arguments) -> Cli {
        Cli {
            zk,
            settings: arguments.settings,
            server_text: arguments.server_text.clone(),
            history: HashMap::new(),
            count: 0,
            status: 0,
        }
    }

    /// Runs the lines of standard input until it ends, or one says quit.
    async fn run_input(&mut self, cx: &Context) -> Result<Next, CommandError> {
        self.zk.printer.line("Welcome to ZooKeeper!")?;
        self.zk.printer.line("JLine support is disabled")?;
        self.zk.printer.flush()?;
        let mut lines = read_lines();
        loop {
            if cx.is_stdin_terminal && cx.is_stdout_terminal {
                self.prompt()?;
            }
            let line = loop {
                tokio::select! {
                    line = lines.recv() => break line,
                    event = self.zk.next_event() => event?,
                }
            };
            match line {
                None => return Ok(Next::GoOn),
                Some(Err(error)) => return Err(CommandError::failure(error).context("cannot read standard input")),
                Some(Ok(line)) if line.is_empty() => {}
                Some(Ok(line)) => {
                    if self.run_line(&line).await? == Next::Quit {
                        return Ok(Next::Quit);
                    }
                }
            }
        }
    }

    fn prompt(&mut self) -> Result<(), CommandError> {
        let prompt = format!("[zk: {}({}) {}] ", self.server_text, self.zk.state_name(), self.count);
        self.zk.printer.fragment(&prompt)
    }

    async fn run_line(&mut self, line: &str) -> Result<Next, CommandError> {
        self.history.insert(self.count, line.to_owned());
        let next = self.run_command(&line::split(line)).await?;
        self.count += 1;
        if let Some(old) = self.count.checked_sub(HISTORY_MAX) {
            self.history.remove(&old);
        }
        Ok(next)
    }

    /// Runs a command, and keeps its exit status.
    async fn run_command(&mut self, words: &[String]) -> Result<Next, CommandError> {
        let result = self.dispatch(words).await;
        match result {
            Ok(Next::Quit) => return Ok(Next::Quit),
            Ok(Next::GoOn) => self.status = 0,
            Err(Interrupted::Run(error)) => return Err(error),
            Err(Interrupted::Failed(failure)) => self.fail(&failure)?,
            Err(Interrupted::Refused(error)) => self.fail(&Failure::refused(error, None))?,
        }
        self.zk.printer.flush()?;
        Ok(Next::GoOn)
    }

    fn fail(&mut self, failure: &Failure) -> Result<(), CommandError> {
        self.status = failure.status();
        self.zk.printer.message(failure.message())
    }

    async fn dispatch(&mut self, words: &[String]) -> Result<Next, Interrupted> {
        let Some(name) = words.first() else {
            commands::print_usage(&mut self.zk.printer)?;
            return Err(Failure::plain("No command entered").into());
        };
        let Some(entry) = commands::find(name) else {
            commands::print_usage(&mut self.zk.printer)?;
            return Err(Failure::not_found(name).into());
        };
        match entry.command {
            Command::Quit => return Ok(Next::Quit),
            Command::Redo if words.len() > 1 => self.redo(&words[1]).await?,
            Command::History => self.print_history()?,
            Command::PrintWatches => self.print_watches(words.get(1))?,
            Command::Connect => self.connect(words.get(1)).await?,
            _ => {}
        }
        self.run_with_session(entry, words).await?;
        Ok(Next::GoOn)
    }

    async fn run_with_session(&mut self, entry: &'static Entry, words: &[String]) -> Result<(), Interrupted> {
        self.zk.take_events()?;
        if !self.zk.is_alive() {
            return Ok(self.zk.printer.line("Not connected")?);
        }
        commands::run(&mut self.zk, entry, words).await
    }

    async fn redo(&mut self, number: &str) -> Result<(), Interrupted> {
        let index: i64 = number.parse().map_err(|_| options::not_a_number(number))?;
        let index = usize::try_from(index).ok().filter(|index| *index < self.count);
        let Some(line) = index.and_then(|index| self.history.get(&index)).cloned() else {
            return Err(Failure::plain("Command index out of range").into());
        };
        let words = line::split(&line);
        if words.first().is_some_and(|name| name == "redo") {
            return Err(Failure::plain("No redoing redos").into());
        }
        self.history.insert(self.count, line);
        // Its failure is told, and does not make the redo fail.
        Box::pin(self.run_command(&words)).await?;
        Ok(())
    }

    fn print_history(&mut self) -> Result<(), CommandError> {
        for index in self.count.saturating_sub(HISTORY_SHOWN)..=self.count {
            let line = self.history.get(&index).map_or("null", String::as_str);
            self.zk.printer.line(&format!("{index} - {line}"))?;
        }
        Ok(())
    }

    fn print_watches(&mut self, value: Option<&String>) -> Result<(), CommandError> {
        match value {
            None => {
                let state = if self.zk.prints_watches { "on" } else { "off" };
                self.zk.printer.line(&format!("printwatches is {state}"))
            }
            Some(value) => {
                self.zk.prints_watches = value == "on";
                Ok(())
            }
        }
    }

    async fn connect(&mut self, server_text: Option<&String>) -> Result<(), Interrupted> {
        let text = server_text.unwrap_or(&self.server_text).clone();
        let servers = Servers::parse(&text).map_err(|error| Failure::plain(error.to_string()))?;
        self.zk.restart(&servers, self.settings).await?;
        self.server_text = text;
        Ok(())
    }

    /// Ends the session, so that its ephemeral znodes go at once. Only who said quit is told of it.
    async fn leave(&mut self, next: Next) -> Result<(), CommandError> {
        self.zk.prints_watches &= next == Next::Quit;
        if self.zk.is_alive() {
            self.zk.close().await?;
        }
        self.zk.printer.flush()
    }
}

/// Reads lines on a thread of its own, one ahead.
fn read_lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut line);
            let line = match read {
                Ok(0) => return,
                Ok(_) if u64::try_from(line.len()).is_ok_and(|bytes| bytes == LINE_BYTES_MAX) => {
                    Err(io::Error::other("a line is too long"))
                }
                Ok(_) => Ok(text_of(&line)),
                Err(error) => Err(error),
            };
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// Returns a line without what ends it.
fn text_of(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}
