//! Log lines on standard error: how many, and in which form.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::error::CommandError;

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct LoggingArgs {
    /// What to log: error, warn, info, debug, trace, or a list such as `warn,grange_server=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "GRANGE_LOG_LEVEL", hide_env = true)]
    #[arg(help_heading = "Logging")]
    log_level: Option<String>,
    /// The form of log lines on standard error
    #[arg(long, global = true, value_name = "FORMAT", env = "GRANGE_LOG_FORMAT", hide_env = true)]
    #[arg(help_heading = "Logging", default_value = "text")]
    log_format: LogFormat,
}

/// The form of log lines: sentences, or one JSON object per line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What a program that runs for long logs when nobody says: what an operator acts on. A session of its own is no news.
pub(crate) const SERVICE_LEVEL: &str = "info,zookeeper_client=error";

/// What a command that ends logs when nobody says: warnings. The client library's are left out, because they come back
/// as the command's error.
pub(crate) const TOOL_LEVEL: &str = "warn,zookeeper_client=error";

/// Starts logging; once per process.
pub(crate) fn start(args: &LoggingArgs, default_level: &str) -> Result<(), CommandError> {
    let directives = args.log_level.as_deref().unwrap_or(default_level);
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        CommandError::usage(error)
            .context(format!("--log-level {directives} is not understood"))
            .hint("write one of error, warn, info, debug, trace")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A file or a journal gets no escape sequences.
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
