//! `grange shell find`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use globset::{Glob, GlobMatcher};
use grange_client::Stat;
use regex::Regex;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::path::{PathArg, name_of};
use crate::shell::progress::Progress;
use crate::shell::units::{parse_duration, parse_size, size};
use crate::shell::walk::{Contents, Denied, Walk, Wanted};
use crate::shell::{Form, Session, stat_form};

/// Print the paths of the znodes that fit all conditions
#[derive(Debug, Args)]
#[command(after_help = "Exit status 1 if there are none. Sizes: 100, 10k, 1MiB. Ages: 90s, 15m, 2h, 7d, by the last \
                        change of the data.")]
pub(super) struct FindArgs {
    /// The znode where to begin [default: /, or where cd went]
    path: Option<PathArg>,
    /// The name fits a pattern with * ? [a-z] {a,b}
    #[arg(short = 'n', long, value_name = "GLOB", value_parser = glob)]
    name: Option<GlobMatcher>,
    /// A regular expression matches in the path
    #[arg(short = 'r', long, value_name = "REGEX")]
    regex: Option<Regex>,
    /// The kind; servers do not show which znodes are containers or have a time to live
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// The data has more bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    larger: Option<u64>,
    /// The data has fewer bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    smaller: Option<u64>,
    /// The data was changed within this time
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    newer: Option<Duration>,
    /// The data was not changed for this time
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    older: Option<Duration>,
    /// Go so many levels down and no further
    #[arg(short = 'L', long, value_name = "LEVELS")]
    depth: Option<usize>,
    /// Print size, version and owner too
    #[arg(short = 'l', long)]
    long: bool,
}

/// The kind of a znode, as far as servers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Persistent,
    Ephemeral,
}

impl Kind {
    fn of(stat: &Stat) -> Kind {
        if stat.ephemeral_owner == 0 { Kind::Persistent } else { Kind::Ephemeral }
    }
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    Glob::new(text).map(|glob| glob.compile_matcher()).map_err(|error| error.to_string())
}

pub(super) async fn run(session: &mut Session<'_>, args: &FindArgs) -> Result<(), CommandError> {
    let root = session.path_or_here(args.path.as_ref())?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let walk = Walk::new(session.client, &root).depth_max(args.depth).denied(Denied::IsTold);
    let mut contents = Contents::new(walk, Wanted::Stat);
    let progress = Progress::beside_output(session.cx, "looked at");
    let mut has_found = false;
    while let Some(znode) = contents.next().await? {
        progress.count();
        let (path, stat) = (&znode.step.path, &znode.stat);
        if !args.fits(path, stat, now_ms) {
            continue;
        }
        has_found = true;
        match session.form {
            Form::Json => session.out.json(&json!({ "path": path, "stat": stat_form::object(stat) }))?,
            Form::Text if args.long => session.out.line(&long_line(path, stat))?,
            Form::Text => session.out.line(path)?,
        }
    }
    if has_found { Ok(()) } else { Err(CommandError::silently_negative()) }
}

fn long_line(path: &str, stat: &Stat) -> String {
    let kind = match Kind::of(stat) {
        Kind::Persistent => "persistent".to_owned(),
        Kind::Ephemeral => format!("ephemeral of {:#x}", stat.ephemeral_owner),
    };
    let length = size(u64::try_from(stat.data_length).unwrap_or(0));
    format!("{length:>10}  version {}  {kind}  {path}", stat.version)
}

impl FindArgs {
    fn fits(&self, path: &str, stat: &Stat, now_ms: i64) -> bool {
        let length = u64::try_from(stat.data_length).unwrap_or(0);
        let age = Duration::from_millis(u64::try_from(now_ms.saturating_sub(stat.mtime)).unwrap_or(0));
        self.name.as_ref().is_none_or(|glob| glob.is_match(name_of(path)))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(path))
            && self.kind.is_none_or(|kind| kind == Kind::of(stat))
            && self.larger.is_none_or(|bytes| length > bytes)
            && self.smaller.is_none_or(|bytes| length < bytes)
            && self.newer.is_none_or(|within| age <= within)
            && self.older.is_none_or(|without| age > without)
    }
}
