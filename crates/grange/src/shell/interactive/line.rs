//! One line of the shell: a command with its arguments.

use clap::{Parser, Subcommand};

use crate::shell::ShellCommand;
use crate::shell::path::PathArg;

/// A line.
#[derive(Debug, Parser)]
#[command(name = "grange", no_binary_name = true, disable_version_flag = true)]
#[command(override_usage = "COMMAND [ARGUMENTS]", about = None)]
#[command(
    after_help = "Paths may be relative to where cd went. Ctrl-C stops a command, Ctrl-D leaves. help COMMAND says more."
)]
pub(super) struct Line {
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: LineCommand,
}

/// What a line may do.
#[derive(Debug, Subcommand)]
pub(super) enum LineCommand {
    #[command(flatten)]
    Shell(ShellCommand),
    /// Go to a znode; relative paths begin there
    Cd {
        /// The znode [default: /]
        path: Option<PathArg>,
    },
    /// Print where one is
    Pwd,
    /// Add an identity to the session, and to those that follow it; never kept in the history
    Addauth {
        /// The scheme, such as digest
        scheme: String,
        /// What proves the identity, such as user:password
        credential: String,
    },
    /// Print the lines typed before
    History,
    /// End the session
    Close,
    /// Open a new session, on other servers perhaps
    Connect {
        /// HOST:PORT,HOST:PORT/CHROOT [default: as before]
        servers: Option<String>,
    },
    /// Leave
    #[command(visible_alias = "exit")]
    Quit,
}

/// Returns what clap says of a mistake, as one error of ours.
pub(super) fn message(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    crate::output::harmless_line(&lines.join("; "))
}
