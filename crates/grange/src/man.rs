//! `grange man`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::CommandError;

/// Print the manual page, or write one page per command into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "To read it: grange man | man -l -")]
pub(crate) struct ManArgs {
    /// Write grange.1, grange-shell.1 and so on into this directory
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) fn run(_cx: &Context, args: &ManArgs, cli: clap::Command) -> Result<(), CommandError> {
    match &args.directory {
        None => print_page(cli),
        Some(directory) => write_pages(cli, directory),
    }
}

fn print_page(cli: clap::Command) -> Result<(), CommandError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(cli).render(&mut page).map_err(CommandError::failure)?;
    io::stdout().lock().write_all(&page).map_err(CommandError::output)
}

fn write_pages(cli: clap::Command, directory: &Path) -> Result<(), CommandError> {
    clap_mangen::generate_to(cli, directory).map_err(|error| {
        CommandError::failure(error).context(format!("cannot write manual pages into {}", directory.display()))
    })
}
