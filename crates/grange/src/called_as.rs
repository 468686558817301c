//! The programs that this one stands in for when it is called by their names, as through a link.
//!
//! Such a program takes its own command line, and its exit statuses are its own.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::context::Context;
use crate::farm::zkfarmer;
use crate::shell::zkcli;
use crate::tree::zkinitree;

/// Runs a program with the arguments behind its name.
pub(crate) type Program = fn(Context, Vec<OsString>) -> ExitCode;

/// Each name, and what is run by it.
const PROGRAMS: &[(&str, Program)] = &[
    ("zkCli.sh", zkcli::main),
    ("zkCli", zkcli::main),
    ("zkcli", zkcli::main),
    ("zkinitree", zkinitree::main),
    ("zkinitree.py", zkinitree::main),
    ("zkfarmer", zkfarmer::main),
];

/// Returns the program that a process was called as, with its arguments; `None` if that is this one.
pub(crate) fn other_program(arguments: impl IntoIterator<Item = OsString>) -> Option<(Program, Vec<OsString>)> {
    let mut arguments = arguments.into_iter();
    let name = arguments.next()?;
    let name = Path::new(&name).file_name()?;
    let (_, program) = PROGRAMS.iter().find(|(known, _)| name == *known)?;
    Some((*program, arguments.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments_of(line: &str) -> Option<Vec<OsString>> {
        other_program(line.split(' ').map(OsString::from)).map(|(_, arguments)| arguments)
    }

    #[test]
    fn a_link_decides_by_its_own_name() {
        assert_eq!(arguments_of("/usr/local/bin/zkCli.sh ls /"), Some(vec!["ls".into(), "/".into()]));
        assert_eq!(arguments_of("zkcli"), Some(Vec::new()));
        assert_eq!(arguments_of("/usr/bin/grange zkCli.sh ls"), None);
        assert_eq!(arguments_of("/usr/local/bin/zkinitree --configfiles=f"), Some(vec!["--configfiles=f".into()]));
        assert_eq!(arguments_of("/usr/bin/grange zkinitree"), None);
        assert_eq!(other_program(Vec::new()).map(|(_, arguments)| arguments), None);
    }
}
