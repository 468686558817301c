//! `grange completions`.

use std::io::{self, Write};

use clap_complete::Shell;

use crate::context::Context;
use crate::error::CommandError;

/// Print a script that completes grange's commands and flags in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "For bash: grange completions bash > /etc/bash_completion.d/grange")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(_cx: &Context, args: &CompletionsArgs, cli: &mut clap::Command) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, cli, "grange", &mut script);
    io::stdout().lock().write_all(&script).map_err(CommandError::output)
}
