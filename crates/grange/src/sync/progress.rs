//! How a running `grange sync` shows where it is: a bar on a terminal, a line now and then when piped, JSON lines.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use grange_transfer::sync::{Figures, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::context::Context;

const BAR_INTERVAL: Duration = Duration::from_millis(200);
const JSON_INTERVAL: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// For whom progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A person: two bars on standard error.
    Bar,
    /// A log: a line on standard error every five seconds.
    Lines,
    /// A program: a JSON object on standard output every second.
    Json,
}

impl Style {
    pub(super) fn of(cx: &Context) -> Style {
        if cx.is_stderr_terminal { Style::Bar } else { Style::Lines }
    }

    fn interval(self) -> Duration {
        match self {
            Style::Bar => BAR_INTERVAL,
            Style::Json => JSON_INTERVAL,
            Style::Lines => LINE_INTERVAL,
        }
    }
}

/// Shows progress from a thread of its own, until it is finished.
#[derive(Debug)]
pub(super) struct Display {
    finish: Sender<()>,
    thread: JoinHandle<()>,
}

impl Display {
    pub(super) fn start(style: Style, progress: Arc<Progress>) -> Display {
        let (finish, finished) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut bars = (style == Style::Bar).then(Bars::new);
            let started = Instant::now();
            // The channel closes when the display finishes.
            while finished.recv_timeout(style.interval()) == Err(RecvTimeoutError::Timeout) {
                show(style, bars.as_mut(), &progress.figures(), started.elapsed());
            }
            if let Some(bars) = bars {
                bars.clear();
            }
        });
        Display { finish, thread }
    }

    pub(super) fn finish(self) {
        drop(self.finish);
        // A display that has panicked has said so itself.
        let _ = self.thread.join();
    }
}

fn show(style: Style, bars: Option<&mut Bars>, figures: &Figures, elapsed: Duration) {
    match (style, bars) {
        (Style::Json, _) => {
            let mut line = json!({"event": "progress", "seconds": elapsed.as_secs_f64()});
            line["figures"] = figures_json(figures);
            line["eta_seconds"] = json!(eta(figures, elapsed).map(|eta| eta.as_secs()));
            // A reader that has gone away is noticed when the summary is printed.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
        (_, Some(bars)) => bars.show(figures, elapsed),
        (_, None) => eprintln!("{}", describe(figures, elapsed)),
    }
}

/// One line: how far, how fast, how long still.
fn describe(figures: &Figures, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let eta = eta(figures, elapsed).map_or(String::new(), |eta| format!(", {} left", clock(eta)));
    format!(
        "{} of {} entries compared, {} of {} files copied, {} of {}, {}/s{eta}",
        figures.compared,
        figures.discovered,
        figures.transferred,
        figures.files_to_move,
        bytes(figures.bytes_moved),
        bytes(figures.bytes_to_move),
        bytes_f64(per_second(figures.bytes_moved, seconds)),
    )
}

/// How long what is known still takes at the pace so far; `None` before there is a pace. The walk may find more.
fn eta(figures: &Figures, elapsed: Duration) -> Option<Duration> {
    let left = |done: u64, all: u64| {
        let pace = per_second(done, elapsed.as_secs_f64());
        let left = as_f64(all.saturating_sub(done));
        if left == 0.0 { Some(0.0) } else { (pace > 0.0).then(|| left / pace) }
    };
    let compare = left(figures.compared, figures.discovered)?;
    let files = left(figures.transferred, figures.files_to_move)?;
    let bytes = left(figures.bytes_moved, figures.bytes_to_move)?;
    Duration::try_from_secs_f64(compare.max(files.min(bytes))).ok()
}

pub(super) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { as_f64(count) / seconds } else { 0.0 }
}

/// Exact up to 2^53, and nobody reads more digits.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A number of bytes for people: `512 B`, `1.5 KiB`, `3.0 GiB`.
pub(super) fn bytes(count: u64) -> String {
    bytes_f64(as_f64(count))
}

pub(super) fn bytes_f64(count: f64) -> String {
    let mut value = count;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} EiB")
}

/// All figures by name.
pub(super) fn figures_json(f: &Figures) -> Value {
    json!({
        "discovered": f.discovered, "compared": f.compared, "directories": f.directories, "files": f.files,
        "matched": f.matched, "transferred": f.transferred, "created": f.created, "linked": f.linked,
        "attributes": f.attributes, "deleted": f.deleted, "excluded": f.excluded, "bytes_total": f.bytes_total,
        "bytes_to_move": f.bytes_to_move, "bytes_moved": f.bytes_moved, "files_to_move": f.files_to_move,
        "failed": f.failed, "changed": f.changed, "vanished": f.vanished,
        "parts_shared": f.parts_shared, "movers_started": f.movers_started,
    })
}

/// The bars on a terminal: entries compared, and bytes copied.
#[derive(Debug)]
struct Bars {
    bar: ProgressBar,
}

impl Bars {
    fn new() -> Bars {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("[{bar:32}] {msg}").expect("the template is sound");
        bar.set_style(style.progress_chars("=> "));
        Bars { bar }
    }

    fn show(&mut self, figures: &Figures, elapsed: Duration) {
        // What is copied weighs by bytes, what is compared by entries; a byte to copy counts like a thousandth of an
        // entry, about what it costs.
        let length = figures.discovered + figures.bytes_to_move / 1000;
        let position = figures.compared + figures.bytes_moved / 1000;
        self.bar.set_length(length);
        self.bar.set_position(position.min(length));
        self.bar.set_message(describe(figures, elapsed));
    }

    fn clear(self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!([0, 1023, 1024, 1536, 3 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "3.0 GiB"]);
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_secs(3_671)), "1:01:11");
    }

    #[test]
    fn the_time_left_follows_the_slower_of_comparing_and_copying() {
        let figures = Figures { discovered: 200, compared: 100, ..Figures::default() };
        assert_eq!(eta(&figures, Duration::from_secs(10)), Some(Duration::from_secs(10)));
        let figures = Figures { files_to_move: 4, transferred: 1, bytes_to_move: 40, bytes_moved: 10, ..figures };
        assert_eq!(eta(&figures, Duration::from_secs(10)), Some(Duration::from_secs(30)));
        assert_eq!(eta(&Figures { compared: 0, ..figures }, Duration::from_secs(10)), None);
    }
}
