//! `grange shell grep`.

use clap::Args;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::json;

use crate::error::CommandError;
use crate::shell::path::PathArg;
use crate::shell::progress::Progress;
use crate::shell::walk::{Contents, Denied, Walk, Wanted};
use crate::shell::{Form, Session};

/// Print the lines of data in which a regular expression matches, each behind the path of its znode
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 1 if there are none. Data that is not UTF-8 is searched too; only the path is printed."
)]
pub(super) struct GrepArgs {
    /// Upper and lower case are the same
    #[arg(short = 'i', long)]
    ignore_case: bool,
    /// The pattern is plain text
    #[arg(short = 'F', long)]
    fixed: bool,
    /// Print only the paths
    #[arg(short = 'l', long)]
    list: bool,
    /// The regular expression
    pattern: String,
    /// The znode where to begin [default: /, or where cd went]
    path: Option<PathArg>,
}

pub(super) async fn run(session: &mut Session<'_>, args: &GrepArgs) -> Result<(), CommandError> {
    let root = session.path_or_here(args.path.as_ref())?;
    let pattern = args.regex()?;
    let mut contents = Contents::new(Walk::new(session.client, &root).denied(Denied::IsTold), Wanted::Data);
    let progress = Progress::beside_output(session.cx, "searched");
    let mut has_found = false;
    while let Some(znode) = contents.next().await? {
        progress.count();
        if pattern.is_match(&znode.data) {
            has_found = true;
            print(session, args, &pattern, &znode.step.path, &znode.data)?;
        }
    }
    if has_found { Ok(()) } else { Err(CommandError::silently_negative()) }
}

fn print(
    session: &mut Session<'_>,
    args: &GrepArgs,
    pattern: &Regex,
    path: &str,
    found: &[u8],
) -> Result<(), CommandError> {
    let Ok(text) = std::str::from_utf8(found) else {
        return match session.form {
            Form::Json => session.out.json(&json!({ "path": path, "binary": true })),
            Form::Text if args.list => session.out.line(path),
            Form::Text => session.out.line(&format!("{path}: binary data matches")),
        };
    };
    if args.list {
        return match session.form {
            Form::Json => session.out.json(&json!({ "path": path })),
            Form::Text => session.out.line(path),
        };
    }
    let matching = |(_, line): &(usize, &str)| pattern.is_match(line.as_bytes());
    for (index, line) in text.lines().enumerate().filter(matching) {
        match session.form {
            Form::Json => session.out.json(&json!({ "path": path, "line": index + 1, "text": line }))?,
            Form::Text => session.out.line(&format!("{path}:{line}"))?,
        }
    }
    Ok(())
}

impl GrepArgs {
    fn regex(&self) -> Result<Regex, CommandError> {
        let pattern = if self.fixed { regex::escape(&self.pattern) } else { self.pattern.clone() };
        // Patterns come from who runs the command; the engine takes linear time on whatever data there is.
        let built = RegexBuilder::new(&pattern).case_insensitive(self.ignore_case).multi_line(true).build();
        built.map_err(|error| CommandError::usage(error).hint("-F takes the pattern as plain text"))
    }
}
