//! How far a long command has come: a line on a terminal that goes away again, nothing elsewhere.

use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::context::Context;

/// A command that takes no longer shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

const INTERVAL: Duration = Duration::from_millis(200);

/// The line.
#[derive(Debug)]
pub(super) struct Progress {
    verb: &'static str,
    started: Instant,
    count: Cell<u64>,
    is_shown: bool,
    bar: OnceCell<ProgressBar>,
}

impl Progress {
    /// Starts to count; `verb` says what is done to the znodes counted.
    pub(super) fn start(cx: &Context, verb: &'static str) -> Progress {
        let is_shown = cx.is_stderr_terminal;
        Progress { verb, started: Instant::now(), count: Cell::new(0), is_shown, bar: OnceCell::new() }
    }

    /// The same for a command that prints while it goes: on a terminal, that is progress enough.
    pub(super) fn beside_output(cx: &Context, verb: &'static str) -> Progress {
        let mut progress = Progress::start(cx, verb);
        progress.is_shown &= !cx.is_stdout_terminal;
        progress
    }

    /// Counts a znode.
    pub(super) fn count(&self) {
        self.count.set(self.count.get() + 1);
        if self.is_shown && (self.bar.get().is_some() || self.started.elapsed() > PATIENCE) {
            self.bar.get_or_init(|| bar(self.verb)).set_position(self.count.get());
        }
    }
}

fn bar(verb: &str) -> ProgressBar {
    let template = format!("{{spinner}} {{human_pos}} znodes {verb}, {{elapsed}}");
    let style = ProgressStyle::with_template(&template).expect("the template is sound");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(INTERVAL);
    bar
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
