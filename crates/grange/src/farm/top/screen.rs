//! The terminal: what is drawn, and which keys are pressed.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};
use ratatui::{DefaultTerminal, Frame};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc;

use super::state::{HostState, Row, State, age};
use crate::error::CommandError;

/// How many events are shown at most; fewer on a low terminal.
const EVENT_ROWS: u16 = 5;

/// How much of the height is left to the table before events are shown.
const TABLE_ROWS_MIN: u16 = 6;

/// The widest column; what is longer is cut.
const COLUMN_MAX: usize = 40;

/// How long a look at the keyboard waits; so long does the end of the program.
const LOOK: Duration = Duration::from_millis(50);

/// Keys that were pressed and not obeyed yet; more are waited for.
const KEYS_MAX: usize = 64;

/// The terminal, taken over until the value is dropped. A panic gives it back too, before its message is printed.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    page: usize,
    has_color: bool,
}

impl Screen {
    pub(super) fn open() -> Result<Screen, CommandError> {
        let terminal = ratatui::try_init().map_err(cannot_draw)?;
        let has_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Screen { terminal, page: 0, has_color })
    }

    /// Returns how many hosts are shown at once.
    pub(super) fn page(&self) -> usize {
        self.page
    }

    pub(super) fn draw(&mut self, state: &State) -> Result<(), CommandError> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let mut page = 0;
        let drawn = self.terminal.draw(|frame| page = draw(frame, state, now_ms, self.has_color));
        drawn.map_err(cannot_draw)?;
        self.page = page;
        Ok(())
    }

    /// Gives the terminal back and stops, until somebody continues us.
    pub(super) fn suspend(&mut self) -> Result<(), CommandError> {
        ratatui::restore();
        // A process may always signal itself.
        let _ = kill_process(getpid(), Signal::STOP);
        self.terminal = ratatui::try_init().map_err(cannot_draw)?;
        self.terminal.clear().map_err(cannot_draw)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn cannot_draw(error: io::Error) -> CommandError {
    CommandError::output(error)
}

/// Draws everything, and returns how many hosts there is room for.
fn draw(frame: &mut Frame<'_>, state: &State, now_ms: i64, has_color: bool) -> usize {
    let height = frame.area().height;
    let events = if height > TABLE_ROWS_MIN + 4 { EVENT_ROWS.min(height - TABLE_ROWS_MIN - 4) } else { 0 };
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(events),
        Constraint::Length(1),
    ]);
    let [head, note, table, told, foot] = parts.areas(frame.area());
    let painter = Painter { has_color };
    frame.render_widget(painter.head(state), head);
    frame.render_widget(painter.note(state), note);
    painter.table(frame, state, now_ms, table);
    frame.render_widget(painter.events(state, events), told);
    frame.render_widget(painter.foot(state), foot);
    usize::from(table.height.saturating_sub(1))
}

#[derive(Debug, Clone, Copy)]
struct Painter {
    has_color: bool,
}

impl Painter {
    fn color(self, color: Color) -> Style {
        if self.has_color { Style::new().fg(color) } else { Style::new() }
    }

    fn head(self, state: &State) -> Paragraph<'static> {
        let hosts = state.host_count();
        let counts = match (state.is_known(), state.summary.size) {
            (false, _) => "reading".to_owned(),
            (true, None) => format!("{}/{hosts} running", state.running),
            (true, Some(size)) => {
                let running = i64::try_from(state.running).unwrap_or(i64::MAX);
                let failing = i64::from(size).saturating_sub(running);
                format!("{}/{size} running, {failing} failing, {hosts} there", state.running)
            }
        };
        let farm = Span::styled(state.farm.clone(), Style::new().add_modifier(Modifier::BOLD));
        Paragraph::new(Line::from(vec![farm, Span::raw("  "), Span::raw(counts)]))
    }

    /// What is wrong, or what is being typed, or what is shown.
    fn note(self, state: &State) -> Paragraph<'static> {
        let wrong = state.complaint.as_ref().or(state.trouble.as_ref()).or(state.summary.complaint.as_ref());
        if let Some(wrong) = wrong {
            let wrong = crate::output::harmless_line(wrong);
            return Paragraph::new(Span::styled(wrong, self.color(Color::Red).add_modifier(Modifier::BOLD)));
        }
        let order = if state.is_reversed { ", reversed" } else { "" };
        let filter = match state.filter.is_empty() {
            true => String::new(),
            false => format!(", of {}: {}", state.rows.len(), crate::output::harmless_line(&state.filter.to_string())),
        };
        Paragraph::new(format!("by {}{order}{filter}", state.sort.word()))
    }

    fn table(self, frame: &mut Frame<'_>, state: &State, now_ms: i64, area: Rect) {
        let fields = state.fields.iter().map(|field| crate::output::harmless_line(&field.to_string()).to_uppercase());
        let heads: Vec<String> = ["HOST".to_owned(), "STATE".to_owned()]
            .into_iter()
            .chain(fields)
            .chain(["JOINED".to_owned(), "CHANGED".to_owned()])
            .collect();
        let page = usize::from(area.height.saturating_sub(1));
        let shown: Vec<(&Row, Vec<String>)> =
            state.rows.iter().skip(state.scroll).take(page).map(|row| (row, cells(row, now_ms))).collect();
        let width = |column: usize| {
            let texts = shown.iter().map(|(_, cells)| &cells[column]).chain([&heads[column]]);
            texts.map(|text| Span::raw(text.as_str()).width()).max().unwrap_or(0).min(COLUMN_MAX)
        };
        let widths: Vec<_> = (0..heads.len())
            .map(|column| Constraint::Length(u16::try_from(width(column)).unwrap_or(u16::MAX)))
            .collect();
        let rows = shown.iter().map(|(row, cells)| {
            TableRow::new(cells.iter().map(|cell| Cell::from(cell.clone()))).style(self.style(row.state))
        });
        let head = TableRow::new(heads).style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_widget(Table::new(rows, widths).header(head).column_spacing(2), area);
    }

    fn style(self, state: HostState) -> Style {
        match state {
            HostState::Running => Style::new(),
            HostState::Shared => Style::new().add_modifier(Modifier::DIM),
            HostState::NotRunning => self.color(Color::Yellow),
            HostState::Unreadable => self.color(Color::Red),
        }
    }

    fn events(self, state: &State, rows: u16) -> Paragraph<'static> {
        let first = state.events.len().saturating_sub(usize::from(rows));
        let lines = state.events.iter().skip(first).map(|(time, line)| Line::raw(format!("{time}  {line}")));
        Paragraph::new(lines.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::DIM))
    }

    fn foot(self, state: &State) -> Paragraph<'static> {
        match &state.prompt {
            Some(prompt) => Paragraph::new(format!("filter: {}_", crate::output::harmless_line(prompt))),
            None => Paragraph::new("q quit  s sort  r reverse  / filter  arrows scroll")
                .style(Style::new().add_modifier(Modifier::DIM)),
        }
    }
}

fn cells(row: &Row, now_ms: i64) -> Vec<String> {
    let head = [row.name.clone(), row.state.word().to_owned()];
    let ages = [age(now_ms, row.joined_ms), age(now_ms, row.changed_ms)];
    head.into_iter().chain(row.fields.iter().cloned()).chain(ages).collect()
}

/// What is typed, read by a thread of its own, since a terminal cannot be waited for otherwise.
pub(super) struct Keys {
    events: mpsc::Receiver<io::Result<Event>>,
    reader: Option<JoinHandle<()>>,
}

impl Keys {
    pub(super) fn start() -> Keys {
        let (sender, events) = mpsc::channel(KEYS_MAX);
        let reader = std::thread::spawn(move || {
            while !sender.is_closed() {
                let event = match event::poll(LOOK) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let is_over = event.is_err();
                if sender.blocking_send(event).is_err() || is_over {
                    return;
                }
            }
        });
        Keys { events, reader: Some(reader) }
    }

    /// Returns the next one.
    pub(super) async fn next(&mut self) -> Result<Event, CommandError> {
        match self.events.recv().await {
            Some(event) => event.map_err(|error| CommandError::failure(error).context("cannot read from the terminal")),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.events.close();
        // What is typed from now on is the shell's.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::farm::top::state::tests::state;

    fn drawn(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| _ = draw(frame, state, 10_000, true)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content.chunks(usize::from(width));
        let lines = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_farm_is_shown() {
        let mut state = state();
        state.events = [("12:00:00".to_owned(), "left gone".to_owned())].into();
        expect![[r#"
            /farm  2/5 running, 3 failing, 4 there
            by host
            HOST       STATE        HOSTNAME   ON    JOINED  CHANGED
            10.0.0.2   not running  db-02      0     8s      2s
            10.0.0.10  running      db-10      1     9s      1s
            bad        unreadable                    7s      3s
            common     shared                  1     6s      4s
            evil       running      \u{1b}[2J  true  5s      5s

            12:00:00  left gone



            q quit  s sort  r reverse  / filter  arrows scroll"#]]
        .assert_eq(&drawn(&state, 70, 14));
    }

    #[test]
    fn any_size_of_terminal_will_do() {
        let state = state();
        for (width, height) in [(1, 1), (5, 2), (20, 5), (300, 100)] {
            let shown = drawn(&state, width, height);
            assert!(!shown.contains('\u{1b}'), "{shown}");
        }
    }
}
