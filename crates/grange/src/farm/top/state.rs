//! What is shown, and what keys do to it. No terminal and no clock.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::net::IpAddr;

use grange_farm::check::is_running;
use grange_farm::{COMMON, FieldPath, Filter, text_of};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::feed::{Seen, Summary, Update};
use crate::farm::watch::lines;
use crate::output::harmless_line;

/// How many events are remembered; the oldest are forgotten.
const EVENTS_MAX: usize = 50;

/// The longest filter that can be typed, in characters; more is not taken.
const FILTER_CHARS_MAX: usize = 1000;

/// By what hosts are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    State,
    Joined,
    Changed,
}

impl Sort {
    fn next(self) -> Sort {
        match self {
            Sort::Name => Sort::State,
            Sort::State => Sort::Joined,
            Sort::Joined => Sort::Changed,
            Sort::Changed => Sort::Name,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Sort::Name => "host",
            Sort::State => "state",
            Sort::Joined => "joined",
            Sort::Changed => "changed",
        }
    }
}

/// Whether a host runs; first what somebody should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostState {
    Unreadable,
    NotRunning,
    Running,
    /// It is `common`, and no host.
    Shared,
}

impl HostState {
    pub(super) fn word(self) -> &'static str {
        match self {
            HostState::Unreadable => "unreadable",
            HostState::NotRunning => "not running",
            HostState::Running => "running",
            HostState::Shared => "shared",
        }
    }
}

/// A line of the table. Nothing in it can move a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) state: HostState,
    pub(super) fields: Vec<String>,
    pub(super) joined_ms: i64,
    pub(super) changed_ms: i64,
    key: Option<IpAddr>,
}

/// Whether it goes on after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Quit,
    Suspend,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct State {
    pub(super) farm: String,
    pub(super) fields: Vec<FieldPath>,
    pub(super) filter: Filter,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    /// What is being typed after `/`.
    pub(super) prompt: Option<String>,
    /// What is wrong with what was typed.
    pub(super) complaint: Option<String>,
    /// Why it is not known how the farm is.
    pub(super) trouble: Option<String>,
    pub(super) summary: Summary,
    pub(super) running: usize,
    /// The hosts that are meant, in order.
    pub(super) rows: Vec<Row>,
    /// The first one that is shown.
    pub(super) scroll: usize,
    /// Lines, the last one last, with the time.
    pub(super) events: VecDeque<(String, String)>,
    seen: Vec<Seen>,
    is_known: bool,
}

impl State {
    pub(super) fn new(farm: &str, fields: Vec<FieldPath>, filter: Filter) -> State {
        State {
            farm: harmless_line(farm),
            fields,
            filter,
            sort: Sort::Name,
            is_reversed: false,
            prompt: None,
            complaint: None,
            trouble: None,
            summary: Summary::default(),
            running: 0,
            rows: Vec::new(),
            scroll: 0,
            events: VecDeque::new(),
            seen: Vec::new(),
            is_known: false,
        }
    }

    /// Takes in what is told.
    pub(super) fn learn(&mut self, update: Update) {
        match update {
            Update::Trouble(why) => self.trouble = Some(harmless_line(&why)),
            Update::Farm { hosts, summary, events } => {
                let time = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
                self.trouble = None;
                self.is_known = true;
                (self.seen, self.summary) = (hosts, summary);
                let told = events.iter().flat_map(lines).map(|line| (time.clone(), harmless_line(&line)));
                self.events.extend(told);
                self.events.drain(..self.events.len().saturating_sub(EVENTS_MAX));
                self.arrange();
            }
        }
    }

    /// Tells whether anything is known yet.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Returns how many hosts there are.
    pub(super) fn host_count(&self) -> usize {
        self.seen.iter().filter(|seen| seen.name != COMMON).count()
    }

    /// Does what a key says; `page` is how many hosts are shown at once.
    pub(super) fn press(&mut self, key: KeyEvent, page: usize) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::GoOn;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Next::Quit,
                KeyCode::Char('z') => Next::Suspend,
                _ => Next::GoOn,
            };
        }
        match self.prompt.take() {
            Some(prompt) => self.edit(prompt, key.code),
            None => return self.command(key.code, page),
        }
        Next::GoOn
    }

    fn edit(&mut self, mut prompt: String, key: KeyCode) {
        self.complaint = None;
        match key {
            KeyCode::Esc => return,
            KeyCode::Enter => match prompt.parse() {
                Ok(filter) => {
                    self.filter = filter;
                    self.scroll = 0;
                    self.arrange();
                    return;
                }
                Err(error) => self.complaint = Some(harmless_line(&error.to_string())),
            },
            KeyCode::Backspace => {
                prompt.pop();
            }
            KeyCode::Char(c) if prompt.chars().count() < FILTER_CHARS_MAX => prompt.push(c),
            _ => {}
        }
        self.prompt = Some(prompt);
    }

    fn command(&mut self, key: KeyCode, page: usize) -> Next {
        let last = self.rows.len().saturating_sub(page);
        match key {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Char('/') => self.prompt = Some(self.filter.to_string()),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down => self.scroll += 1,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::PageDown => self.scroll += page,
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = last,
            _ => {}
        }
        self.scroll = self.scroll.min(last);
        self.arrange();
        Next::GoOn
    }

    fn arrange(&mut self) {
        let running = &self.summary.running;
        self.running = self.seen.iter().filter(|seen| is_running(&seen.name, &seen.host, running)).count();
        let filter = &self.filter;
        let is_meant = |seen: &&Seen| filter.is_empty() || seen.host.as_ref().is_ok_and(|host| filter.matches(host));
        self.rows = self.seen.iter().filter(is_meant).map(|seen| row(seen, &self.fields, running)).collect();
        let (sort, is_reversed) = (self.sort, self.is_reversed);
        self.rows.sort_by(|one, two| {
            let ordering = compare(sort, one, two).then_with(|| compare(Sort::Name, one, two));
            if is_reversed { ordering.reverse() } else { ordering }
        });
        self.scroll = self.scroll.min(self.rows.len().saturating_sub(1));
    }
}

fn row(seen: &Seen, fields: &[FieldPath], running: &Filter) -> Row {
    let state = match &seen.host {
        _ if seen.name == COMMON => HostState::Shared,
        Err(_) => HostState::Unreadable,
        Ok(_) if is_running(&seen.name, &seen.host, running) => HostState::Running,
        Ok(_) => HostState::NotRunning,
    };
    let value = |field| seen.host.as_ref().ok().and_then(|host| host.get(field));
    let shown = |field| value(field).map(|value| harmless_line(&text_of(value))).unwrap_or_default();
    Row {
        name: harmless_line(&seen.name),
        state,
        fields: fields.iter().map(shown).collect(),
        joined_ms: seen.joined_ms,
        changed_ms: seen.changed_ms,
        key: seen.name.parse().ok(),
    }
}

/// The newest first where it is about time; addresses by their numbers, before other names.
fn compare(sort: Sort, one: &Row, two: &Row) -> Ordering {
    match sort {
        Sort::Name => match (one.key, two.key) {
            (Some(a), Some(b)) => a.cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => one.name.cmp(&two.name),
        },
        Sort::State => one.state.cmp(&two.state),
        Sort::Joined => two.joined_ms.cmp(&one.joined_ms),
        Sort::Changed => two.changed_ms.cmp(&one.changed_ms),
    }
}

/// Returns how long ago something was, in the largest unit that fits.
pub(super) fn age(now_ms: i64, then_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(then_ms).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use grange_farm::Properties;
    use grange_farm::events::FarmEvent;

    use super::*;

    pub(crate) fn seen(name: &str, data: &str, joined_ms: i64, changed_ms: i64) -> Seen {
        let host = Properties::decode(data.as_bytes()).map_err(Arc::new);
        Seen { name: name.to_owned(), host, joined_ms, changed_ms }
    }

    pub(crate) fn state() -> State {
        let mut state =
            State::new("/farm", vec!["hostname".parse().unwrap(), "on".parse().unwrap()], Filter::default());
        state.learn(Update::Farm {
            hosts: vec![
                seen("10.0.0.10", r#"{"hostname": "db-10", "on": "1"}"#, 1_000, 9_000),
                seen("10.0.0.2", r#"{"hostname": "db-02", "on": "0"}"#, 2_000, 8_000),
                seen("bad", "[", 3_000, 7_000),
                seen("common", r#"{"on": "1"}"#, 4_000, 6_000),
                seen("evil", "{\"hostname\": \"\\u001b[2J\", \"on\": true}", 5_000, 5_000),
            ],
            summary: Summary { size: Some(5), running: "on=1".parse().unwrap(), complaint: None },
            events: vec![FarmEvent::Left { host: "gone\u{1b}[2J".to_owned(), properties: None }],
        });
        state
    }

    fn press(state: &mut State, keys: &str) -> Next {
        let mut next = Next::GoOn;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\u{8}' => KeyCode::Backspace,
                '\u{1b}' => KeyCode::Esc,
                'v' => KeyCode::PageDown,
                '^' => KeyCode::PageUp,
                '$' => KeyCode::End,
                c => KeyCode::Char(c),
            };
            next = state.press(KeyEvent::from(code), 2);
        }
        next
    }

    fn names(state: &State) -> Vec<&str> {
        state.rows.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn hosts_are_in_the_order_that_was_asked_for() {
        let mut state = state();
        assert_eq!(names(&state), ["10.0.0.2", "10.0.0.10", "bad", "common", "evil"]);
        press(&mut state, "s");
        assert_eq!(names(&state), ["bad", "10.0.0.2", "10.0.0.10", "evil", "common"]);
        press(&mut state, "s");
        assert_eq!(names(&state), ["evil", "common", "bad", "10.0.0.2", "10.0.0.10"]);
        press(&mut state, "sr");
        assert_eq!(names(&state), ["evil", "common", "bad", "10.0.0.2", "10.0.0.10"]);
    }

    #[test]
    fn hosts_are_counted_by_the_farms_filter_and_shown_by_that_of_the_user() {
        let mut state = state();
        assert_eq!((state.running, state.host_count()), (2, 4));
        press(&mut state, "/on=0\n");
        assert_eq!((names(&state), state.running), (vec!["10.0.0.2"], 2));
        // What was there can be edited; what is no filter stays to be mended.
        press(&mut state, "/,>\n");
        assert_eq!(state.prompt.as_deref(), Some("on=0,>"));
        assert!(state.complaint.is_some());
        press(&mut state, "\u{8}\u{8}\u{8}1\n");
        assert_eq!(names(&state), ["10.0.0.10", "common", "evil"]);
        press(&mut state, "/q\u{1b}");
        assert_eq!((names(&state).len(), state.prompt.is_none()), (3, true));
    }

    #[test]
    fn keys_quit_and_scroll_within_bounds() {
        let mut state = state();
        press(&mut state, "vv");
        assert_eq!(state.scroll, 3);
        press(&mut state, "^^^");
        assert_eq!(state.scroll, 0);
        press(&mut state, "$");
        assert_eq!(state.scroll, 3);
        assert_eq!(press(&mut state, "q"), Next::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.press(interrupt, 2), Next::Quit);
    }

    #[test]
    fn nothing_in_it_moves_a_cursor() {
        let state = state();
        let texts = state.rows.iter().flat_map(|row| row.fields.iter().chain([&row.name]));
        assert!(texts.chain(state.events.iter().map(|(_, line)| line)).all(|text| !text.contains('\u{1b}')));
        assert_eq!(state.events[0].1, "left gone\\u{1b}[2J");
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, shown) in [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (200_000, "2d")] {
            assert_eq!(age(seconds * 1000, 0), shown);
        }
    }
}
