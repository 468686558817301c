//! Where the data of a znode comes from: an argument, standard input or a file, byte by byte.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use crate::error::CommandError;
use crate::shell::Session;

/// The most bytes that are read; a longer input is refused, because no server would take it.
const DATA_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The data of a znode.
#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// Read the data from a file instead
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Returns the data, or `None` if it was given nowhere.
///
/// `argument` stands for itself, except that `-` stands for standard input.
pub(super) fn read(
    session: &Session<'_>,
    argument: Option<&str>,
    args: &FileArgs,
) -> Result<Option<Vec<u8>>, CommandError> {
    match (argument, &args.file) {
        (Some(_), Some(_)) => {
            Err(CommandError::usage(anyhow!("the data is given twice: as an argument and with --file")))
        }
        (Some("-"), None) => {
            session.check_input_is_free()?;
            read_all(io::stdin().lock(), "standard input").map(Some)
        }
        (Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(path)) => {
            let name = path.display().to_string();
            let file = File::open(path)
                .map_err(|error| CommandError::failure(error).context(format!("cannot open {name}")))?;
            read_all(file, &name).map(Some)
        }
        (None, None) => Ok(None),
    }
}

fn read_all(input: impl Read, name: &str) -> Result<Vec<u8>, CommandError> {
    let mut data = Vec::new();
    let read = input
        .take(DATA_BYTES_MAX + 1)
        .read_to_end(&mut data)
        .map_err(|error| CommandError::failure(error).context(format!("cannot read {name}")))?;
    match u64::try_from(read) {
        Ok(bytes) if bytes <= DATA_BYTES_MAX => Ok(data),
        _ => Err(CommandError::failure(anyhow!("{name} has more than {DATA_BYTES_MAX} bytes"))
            .hint("a server takes 1 MiB unless jute.maxbuffer says otherwise")),
    }
}
