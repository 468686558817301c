//! A stat as zkCli prints it: eleven lines, times in the time zone of the machine.

use grange_proto::Stat;
use jiff::tz::TimeZone;

use super::printer::Printer;
use crate::error::CommandError;
use crate::shell::stat_form::lines;

/// Prints the eleven lines.
pub(super) fn print_stat(printer: &mut Printer, stat: &Stat) -> Result<(), CommandError> {
    for line in lines(stat, &TimeZone::system()) {
        printer.line(&line)?;
    }
    Ok(())
}
