//! The directory of a machine that is to join an ensemble: its `zoo.cfg` and `myid`, written before anything else, so
//! that whoever is interrupted can go on.

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use grange_proto::ServerSpec;

use crate::storage::dir::{has_snapshots, replace_file};

/// The first line of the file, by which a second run knows it.
const MARK: &str = "# Written by `grange ensemble add`.";
const CONFIG_FILE: &str = "zoo.cfg";
const MY_ID_FILE: &str = "myid";

/// What a new member is told.
#[derive(Debug, Clone)]
pub struct NewMember<'a> {
    /// Its number.
    pub server_id: u8,
    /// Every server of the ensemble, the new one included.
    pub servers: &'a [(u8, ServerSpec)],
    /// Lines of a `zoo.cfg` to append, for what the ensemble's servers have in common; may hold secrets.
    pub settings: &'a str,
}

/// What is in a directory where a member is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Blank,
    /// What an earlier run has begun.
    Begun {
        /// Whether the server has been told anything by others.
        has_data: bool,
    },
    /// Something else.
    Other,
}

/// Why a directory cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", .path.display())]
pub struct PrepareError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = path.to_owned();
    move |source| PrepareError { action, path, source }
}

/// Returns where the settings of a member made in `dir` are.
pub fn config_path(dir: &Path) -> PathBuf {
    dir.join(CONFIG_FILE)
}

/// Looks at what is in `dir`, which need not exist.
pub fn look(dir: &Path) -> Result<Found, PrepareError> {
    let config = config_path(dir);
    match std::fs::read_to_string(&config) {
        Ok(text) if text.starts_with(MARK) => return Ok(Found::Begun { has_data: has_snapshots(dir) }),
        Ok(_) => return Ok(Found::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", &config)(error)),
    }
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Blank),
        Err(error) => return Err(failed("read", dir)(error)),
    };
    for entry in entries {
        let name = entry.map_err(failed("read", dir))?.file_name();
        // `myid` is written before the file that marks a beginning, and each under another name first.
        let is_ours = [MY_ID_FILE, "myid.tmp", "zoo.cfg.tmp"].iter().any(|ours| name.as_os_str() == *ours);
        // A file system's own.
        if !is_ours && name.as_os_str() != "lost+found" {
            return Ok(Found::Other);
        }
    }
    Ok(Found::Blank)
}

/// Writes `zoo.cfg` and `myid` into `dir`, which is made if it is missing; both are durable when this returns.
pub fn prepare(dir: &Path, member: &NewMember<'_>) -> Result<(), PrepareError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
    let dir = &dir.canonicalize().map_err(failed("find", dir))?;
    write(dir, MY_ID_FILE, &format!("{}\n", member.server_id))?;
    write(dir, CONFIG_FILE, &config_text(dir, member))
}

fn config_text(dir: &Path, member: &NewMember<'_>) -> String {
    let mut text = format!("{MARK}\n# The members are those of /zookeeper/config; the lines below were theirs then.\n");
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key}={value}").expect("text takes everything");
    };
    // Java's property files take a backslash for an escape.
    line("dataDir", &dir.display().to_string().replace('\\', "\\\\"));
    line("reconfigEnabled", &"true");
    for (server_id, spec) in member.servers {
        line(&format!("server.{server_id}"), spec);
    }
    if !member.settings.is_empty() {
        write!(text, "# From --settings.\n{}\n", member.settings.trim_end()).expect("text takes everything");
    }
    text
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), PrepareError> {
    replace_file(dir, name, text).map_err(failed("write", &dir.join(name)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{Config, RawConfig};

    #[test]
    fn what_is_written_is_what_a_server_reads() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("made/here");
        assert_eq!(look(&dir).unwrap(), Found::Blank);
        let line = |text: &str| text.parse::<ServerSpec>().unwrap();
        let servers = [(1, line("127.0.0.1:1:2;3")), (4, line("127.0.0.1:4:5:observer;127.0.0.1:6"))];
        prepare(&dir, &NewMember { server_id: 4, servers: &servers, settings: "tickTime=500" }).unwrap();
        assert_eq!(look(&dir).unwrap(), Found::Begun { has_data: false });
        let mut raw = RawConfig::default();
        raw.read_file(&config_path(&dir)).unwrap();
        let config = Config::try_from(raw).unwrap();
        assert_eq!(config.ensemble.server_id, 4);
        assert_eq!(config.ensemble.servers, servers);
        assert_eq!(config.sessions.tick_ms, 500);
        assert_eq!(config.listen.address, "127.0.0.1:6".parse().unwrap());
        assert!(config.policy.reconfig);
        let mode = std::fs::metadata(config_path(&dir)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_directory_with_something_in_it_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(look(directory.path()).unwrap(), Found::Blank);
        std::fs::write(directory.path().join("myid"), "4\n").unwrap();
        assert_eq!(look(directory.path()).unwrap(), Found::Blank, "a run that was killed early");
        std::fs::write(directory.path().join("zoo.cfg"), "dataDir=/x\n").unwrap();
        assert_eq!(look(directory.path()).unwrap(), Found::Other);
        std::fs::remove_file(directory.path().join("zoo.cfg")).unwrap();
        std::fs::create_dir(directory.path().join("version-2")).unwrap();
        assert_eq!(look(directory.path()).unwrap(), Found::Other);
    }
}
