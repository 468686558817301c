//! The commands of zkCli 3.8.0: their names, usage and options, in the order in which usage lists them.

mod access;
mod ensemble;
mod quota;
mod watches;
mod znodes;

use super::failure::Failure;
use super::options::{Choice, Opt, Words, flag, parse, value};
use super::printer::Printer;
use super::zk::{Interrupted, Zk};
use crate::error::CommandError;

/// Which command it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    AddWatch,
    AddAuth,
    Close,
    Config,
    Connect,
    Create,
    Delete,
    DeleteAll,
    DelQuota,
    Get,
    GetAcl,
    GetAllChildrenNumber,
    GetEphemerals,
    History,
    ListQuota,
    Ls,
    PrintWatches,
    Quit,
    Reconfig,
    Redo,
    RemoveWatches,
    Set,
    SetAcl,
    SetQuota,
    Stat,
    Sync,
    Version,
    WhoAmI,
}

/// A command's line in the table.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) usage: &'static str,
    pub(super) command: Command,
    options: &'static [Opt],
    choice: Choice,
    /// Fewer words than this are answered with the usage.
    words_min: usize,
}

const fn entry(
    name: &'static str,
    usage: &'static str,
    command: Command,
    options: &'static [Opt],
    words_min: usize,
) -> Entry {
    Entry { name, usage, command, options, choice: Choice::Any, words_min }
}

const QUOTA_KINDS: &[Opt] = &[
    Opt { about: "num soft quota", ..value("n") },
    Opt { about: "bytes soft quota", ..value("b") },
    Opt { about: "num hard quota", ..value("N") },
    Opt { about: "bytes hard quota", ..value("B") },
];

/// Every command, sorted as usage is.
pub(super) const TABLE: &[Entry] = &[
    entry(
        "addWatch",
        "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        Command::AddWatch,
        &[value("m")],
        2,
    ),
    entry("addauth", "scheme auth", Command::AddAuth, &[], 2),
    entry("close", "", Command::Close, &[], 0),
    entry("config", "[-c] [-w] [-s]", Command::Config, &[flag("s"), flag("w"), flag("c")], 1),
    entry("connect", "host:port", Command::Connect, &[], 0),
    entry(
        "create",
        "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        Command::Create,
        &[flag("e"), flag("s"), flag("c"), value("t")],
        2,
    ),
    entry("delete", "[-v version] path", Command::Delete, &[value("v")], 2),
    entry("deleteall", "path [-b batch size]", Command::DeleteAll, &[value("b")], 2),
    Entry {
        choice: Choice::OneAtMost,
        ..entry("delquota", "[-n|-b|-N|-B] path", Command::DelQuota, &[flag("n"), flag("b"), flag("N"), flag("B")], 2)
    },
    entry("get", "[-s] [-w] path", Command::Get, &[flag("s"), flag("w"), flag("b"), flag("x")], 2),
    entry("getAcl", "[-s] path", Command::GetAcl, &[flag("s")], 2),
    entry("getAllChildrenNumber", "path", Command::GetAllChildrenNumber, &[], 2),
    entry("getEphemerals", "path", Command::GetEphemerals, &[], 0),
    entry("history", "", Command::History, &[], 0),
    entry("listquota", "path", Command::ListQuota, &[], 2),
    // Apache's parses `ls` without a path, and fails when it runs: the same words.
    entry("ls", "[-s] [-w] [-R] path", Command::Ls, &[flag("?"), flag("s"), flag("w"), flag("R")], 0),
    entry("printwatches", "on|off", Command::PrintWatches, &[], 0),
    entry("quit", "", Command::Quit, &[], 0),
    entry(
        "reconfig",
        "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | [-add \
         serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
        Command::Reconfig,
        &[flag("s"), value("v"), value("file"), value("members"), value("add"), value("remove")],
        0,
    ),
    entry("redo", "cmdno", Command::Redo, &[], 0),
    entry(
        "removewatches",
        "path [-c|-d|-a] [-l]",
        Command::RemoveWatches,
        &[flag("c"), flag("d"), flag("p"), flag("r"), flag("a"), flag("l")],
        2,
    ),
    entry("set", "[-s] [-v version] path data", Command::Set, &[flag("s"), value("v"), flag("b")], 3),
    entry("setAcl", "[-s] [-v version] [-R] path acl", Command::SetAcl, &[flag("s"), value("v"), flag("R")], 3),
    Entry { choice: Choice::One, ..entry("setquota", "-n|-b|-N|-B val path", Command::SetQuota, QUOTA_KINDS, 2) },
    entry("stat", "[-w] path", Command::Stat, &[flag("w")], 2),
    entry("sync", "path", Command::Sync, &[], 2),
    entry("version", "", Command::Version, &[], 0),
    entry("whoami", "", Command::WhoAmI, &[], 0),
];

/// Returns the line of a command.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.name == name)
}

/// Prints the usage of all commands, on standard error.
pub(super) fn print_usage(printer: &mut Printer) -> Result<(), CommandError> {
    printer.message("ZooKeeper -server host:port -client-configuration properties-file cmd args")?;
    for entry in TABLE {
        printer.message(&format!("\t{} {}", entry.name, entry.usage))?;
    }
    Ok(())
}

impl Entry {
    /// The usage as a failure.
    fn usage(&self) -> Failure {
        Failure::plain(format!("{} {}", self.name, self.usage))
    }

    fn parse(&self, words: &[String]) -> Result<Words, Failure> {
        parse(words, self.options, self.choice)
    }
}

/// What a command has to work with.
struct Call<'a> {
    zk: &'a mut Zk,
    words: Words,
}

impl Call<'_> {
    /// Returns the path, once it was checked.
    fn path(&self) -> Result<String, Failure> {
        let path = self.words.plain[1].clone();
        super::path::check(&path)?;
        Ok(path)
    }
}

/// Runs a command that needs a session; `words` begins with its name.
pub(super) async fn run(zk: &mut Zk, entry: &'static Entry, words: &[String]) -> Result<(), Interrupted> {
    let mut words = words.to_vec();
    let mut parsed = entry.parse(&words)?;
    if entry.command == Command::Ls && parsed.has("?") {
        znodes::print_ls_help(zk)?;
    }
    let is_short = parsed.plain.len() < entry.words_min;
    if is_short || (entry.command == Command::Ls && parsed.plain.len() < 2) {
        return Err(entry.usage().into());
    }
    if let Some(note) = deprecation(entry.command, &parsed) {
        zk.printer.message(note)?;
        if entry.command != Command::Delete {
            // What stands in the third place becomes the option, whatever it was.
            words[2] = "-w".to_owned();
        }
        parsed = entry.parse(&words)?;
        if parsed.plain.len() < 2 {
            return Err(entry.usage().into());
        }
    }
    let call = Call { zk, words: parsed };
    match entry.command {
        Command::AddWatch => watches::add(call, entry).await,
        Command::RemoveWatches => watches::remove(call).await,
        Command::AddAuth => access::add_auth(call).await,
        Command::GetAcl => access::get_acl(call).await,
        Command::SetAcl => access::set_acl(call).await,
        Command::WhoAmI => access::who_am_i(call).await,
        Command::Config => ensemble::config(call).await,
        Command::Reconfig => ensemble::reconfig(call, entry).await,
        Command::ListQuota => quota::list(call).await,
        Command::SetQuota => quota::set(call).await,
        Command::DelQuota => quota::delete(call).await,
        Command::Create => znodes::create(call).await,
        Command::Delete => znodes::delete(call).await,
        Command::DeleteAll => znodes::delete_all(call).await,
        Command::Get => znodes::get(call).await,
        Command::Set => znodes::set(call).await,
        Command::Ls => znodes::ls(call).await,
        Command::Stat => znodes::stat(call).await,
        Command::Sync => znodes::sync(call).await,
        Command::GetAllChildrenNumber => znodes::count(call).await,
        Command::GetEphemerals => znodes::ephemerals(call).await,
        Command::Version => znodes::version(call, entry),
        Command::Close => Ok(call.zk.close().await?),
        // They need no session, and were carried out before.
        Command::Connect | Command::History | Command::PrintWatches | Command::Quit | Command::Redo => Ok(()),
    }
}

/// The forms of before 3.5, and what zkCli says of them.
fn deprecation(command: Command, words: &Words) -> Option<&'static str> {
    if words.plain.len() <= 2 {
        return None;
    }
    match command {
        Command::Delete => {
            Some("'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.")
        }
        Command::Get => Some("'get path [watch]' has been deprecated. Please use 'get [-s] [-w] path' instead."),
        Command::Ls => Some("'ls path [watch]' has been deprecated. Please use 'ls [-w] path' instead."),
        Command::Stat => Some("'stat path [watch]' has been deprecated. Please use 'stat [-w] path' instead."),
        _ => None,
    }
}
