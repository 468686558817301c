//! Items from standard input: lines, or whatever stands between two NUL bytes, or all of it as one.

use std::io::{self, BufRead, Read};

use anyhow::anyhow;
use tokio::sync::mpsc;

use crate::error::CommandError;

/// The longest item. Servers refuse requests above their `jute.maxbuffer`, 1 MiB by default, and a request has a path too.
const ITEM_BYTES_MAX: usize = 1_000_000;

/// How many items are read ahead while others are put.
const READ_AHEAD: usize = 2000;

/// What ends an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    Line,
    Nul,
    /// Only the end of the input.
    None,
}

/// Reads items in a thread of its own; ends after the first error.
pub(super) fn items(separator: Separator) -> mpsc::Receiver<Result<Vec<u8>, CommandError>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    // The thread is left behind in a read when the command ends for another reason, and ends with the process.
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut number = 0_u64;
        loop {
            number += 1;
            let item = next(&mut input, separator, number);
            let is_last = !matches!(item, Ok(Some(_)));
            let sent = item.transpose().map_or(Ok(()), |item| sender.blocking_send(item));
            if is_last || sent.is_err() || separator == Separator::None {
                return;
            }
        }
    });
    receiver
}

/// Reads one item; `None` at the end. The last one need not be ended.
fn next(input: &mut impl BufRead, separator: Separator, number: u64) -> Result<Option<Vec<u8>>, CommandError> {
    let mut item = Vec::new();
    let limit = u64::try_from(ITEM_BYTES_MAX + 1).unwrap_or(u64::MAX);
    let mut limited = input.take(limit);
    let (read, end) = match separator {
        Separator::Line => (limited.read_until(b'\n', &mut item), Some(b'\n')),
        Separator::Nul => (limited.read_until(0, &mut item), Some(0)),
        Separator::None => (limited.read_to_end(&mut item), None),
    };
    let count = read.map_err(|error| CommandError::failure(error).context("cannot read standard input"))?;
    if count == 0 && separator != Separator::None {
        return Ok(None);
    }
    if end.is_some() && item.last().copied() == end {
        item.pop();
    }
    check(&item, || format!("item {number} of standard input"))?;
    Ok(Some(item))
}

/// Returns an error if an item is too long.
pub(super) fn check(item: &[u8], which: impl FnOnce() -> String) -> Result<(), CommandError> {
    if item.len() <= ITEM_BYTES_MAX {
        return Ok(());
    }
    Err(CommandError::usage(anyhow!("{} has more than {ITEM_BYTES_MAX} bytes", which()))
        .hint("put where the data are instead, such as the name of a file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], separator: Separator) -> Result<Vec<String>, String> {
        let (mut input, mut found) = (input, Vec::new());
        while let Some(item) = next(&mut input, separator, 1).map_err(|error| error.to_string())? {
            found.push(String::from_utf8(item).unwrap());
            if separator == Separator::None {
                break;
            }
        }
        Ok(found)
    }

    #[test]
    fn input_becomes_items() {
        assert_eq!(all(b"a\n\nb c", Separator::Line).unwrap(), ["a", "", "b c"]);
        assert_eq!(all(b"a\nb\0c\0", Separator::Nul).unwrap(), ["a\nb", "c"]);
        assert_eq!(all(b"a\nb\0", Separator::None).unwrap(), ["a\nb\0"]);
        assert_eq!(all(b"", Separator::Line).unwrap(), [""; 0]);
        assert_eq!(all(b"", Separator::None).unwrap(), [""]);
    }

    #[test]
    fn an_item_that_no_server_takes_is_refused() {
        let error = all(&vec![b'x'; ITEM_BYTES_MAX + 1], Separator::Line).unwrap_err();
        assert!(error.contains("item 1 of standard input has more than"), "{error}");
        assert!(all(&vec![b'x'; ITEM_BYTES_MAX], Separator::Line).is_ok());
    }
}
