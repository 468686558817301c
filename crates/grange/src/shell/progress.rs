//! How far a long command has come: a line on a terminal that goes away again, nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::context::Context;

const INTERVAL: Duration = Duration::from_millis(200);

/// The line. It appears once a command takes longer than a moment.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts to count; `verb` says what is done to the znodes counted.
    pub(super) fn start(cx: &Context, verb: &str) -> Progress {
        let bar = cx.is_stderr_terminal.then(|| {
            let template = format!("{{spinner}} {{human_pos}} znodes {verb}, {{elapsed}}");
            let style = ProgressStyle::with_template(&template).expect("the template is sound");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(INTERVAL);
            bar
        });
        Progress { bar }
    }

    /// Counts a znode.
    pub(super) fn count(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
