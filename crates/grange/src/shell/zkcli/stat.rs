//! A stat as zkCli prints it: eleven lines, times in the time zone of the machine.

use grange_proto::Stat;
use jiff::tz::TimeZone;

use super::printer::Printer;
use crate::error::CommandError;
use crate::shell::stat_form::date;

/// Prints the eleven lines.
pub(super) fn print_stat(printer: &mut Printer, stat: &Stat) -> Result<(), CommandError> {
    let zone = TimeZone::system();
    for line in [
        format!("cZxid = {}", stat.czxid),
        format!("ctime = {}", date(stat.ctime_ms, &zone)),
        format!("mZxid = {}", stat.mzxid),
        format!("mtime = {}", date(stat.mtime_ms, &zone)),
        format!("pZxid = {}", stat.pzxid),
        format!("cversion = {}", stat.cversion),
        format!("dataVersion = {}", stat.version),
        format!("aclVersion = {}", stat.aversion),
        format!("ephemeralOwner = {:#x}", stat.ephemeral_owner),
        format!("dataLength = {}", stat.data_length),
        format!("numChildren = {}", stat.num_children),
    ] {
        printer.line(&line)?;
    }
    Ok(())
}
