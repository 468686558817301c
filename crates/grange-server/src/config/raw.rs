//! What an operator wrote, word for word: the keys of a `zoo.cfg` and of the command line, with their places.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use java_properties::{LineContent, PropertiesIter};

use super::ConfigError;

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A key that has an effect here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Key { $($(#[$doc])* $name,)* }

        impl Key {
            /// Every key, in the order of the manual.
            pub const ALL: &'static [Key] = &[$(Key::$name,)*];

            /// Returns the name in a `zoo.cfg`.
            pub const fn name(self) -> &'static str {
                match self { $(Key::$name => $text,)* }
            }
        }
    };
}

keys! {
    /// Where snapshots are, and the log too unless it has a place of its own.
    DataDir = "dataDir",
    /// Where the log is.
    DataLogDir = "dataLogDir",
    /// The port for clients.
    ClientPort = "clientPort",
    /// The address for clients.
    ClientPortAddress = "clientPortAddress",
    /// Address and port in one; only the command line has it.
    Listen = "listen",
    /// How many connections may wait to be accepted.
    ClientPortListenBacklog = "clientPortListenBacklog",
    /// The unit of session expiry.
    TickTime = "tickTime",
    /// The shortest session timeout a client gets.
    MinSessionTimeout = "minSessionTimeout",
    /// The longest session timeout a client gets.
    MaxSessionTimeout = "maxSessionTimeout",
    /// The most connections from one address.
    MaxClientCnxns = "maxClientCnxns",
    /// The most connections in all.
    MaxCnxns = "maxCnxns",
    /// How long a connection may take until its handshake is complete.
    SessionlessCnxnTimeout = "nio.sessionlessCnxnTimeout",
    /// The longest frame.
    JuteMaxBuffer = "jute.maxbuffer",
    /// The four-letter words that are answered.
    FourLetterWhitelist = "4lw.commands.whitelist",
    /// Whether znodes with a time to live may be created.
    ExtendedTypesEnabled = "extendedTypesEnabled",
    /// Whether clients may ask for another membership; one server alone has none to change.
    ReconfigEnabled = "reconfigEnabled",
    /// Whether a hard quota refuses writes.
    EnforceQuota = "enforceQuota",
    /// Whether ACLs are ignored.
    SkipAcl = "skipACL",
    /// The digest identity no ACL applies to.
    SuperDigest = "DigestAuthenticationProvider.superDigest",
    /// Requests between two snapshots.
    SnapCount = "snapCount",
    /// Log bytes between two snapshots, in KiB.
    SnapSizeLimitInKb = "snapSizeLimitInKb",
    /// Snapshots kept.
    AutopurgeSnapRetainCount = "autopurge.snapRetainCount",
    /// 0 keeps everything; any other interval purges after each snapshot.
    AutopurgePurgeInterval = "autopurge.purgeInterval",
    /// Bytes of a log segment, in KiB.
    PreAllocSize = "preAllocSize",
    /// Whether a write is synced to the disk before it is acknowledged.
    ForceSync = "forceSync",
    /// How often containers are looked at.
    ContainerCheckIntervalMs = "znode.container.checkIntervalMs",
    /// The most deletions of containers in a minute.
    ContainerMaxPerMinute = "znode.container.maxPerMinute",
    /// When a container that never had a child goes.
    ContainerMaxNeverUsedIntervalMs = "znode.container.maxNeverUsedIntervalMs",
}

impl Key {
    /// Finds a key by its name in a `zoo.cfg`, or by the name of the system property that Apache would make of it.
    fn from_name(name: &str) -> Option<Key> {
        let name = name.strip_prefix("zookeeper.").unwrap_or(name);
        Key::ALL.iter().copied().find(|key| *key != Key::Listen && key.name() == name)
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// On the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// A key that has no effect here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredKey {
    /// The key as it was written.
    pub name: String,
    /// Where.
    pub origin: Origin,
}

/// Everything that was written; nothing of it is checked yet.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    pub(super) settings: BTreeMap<Key, Setting>,
    pub(super) ignored: Vec<IgnoredKey>,
}

impl RawConfig {
    /// Adds the lines of a `zoo.cfg`, in the grammar of Java's property files, encoded in UTF-8.
    ///
    /// A key that is there twice takes its last value, as in Java. Keys without an effect are remembered, to be listed
    /// in one warning: an ensemble's own file must never be refused for them.
    /// Errors: [`ConfigError::Read`], [`ConfigError::Syntax`].
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let lines = PropertiesIter::new_with_encoding(&text[..], encoding_rs::UTF_8);
        for line in lines {
            let line = line.map_err(|source| ConfigError::Syntax {
                path: path.to_owned(),
                line: source.line_number().unwrap_or(0),
                source,
            })?;
            let origin = Origin::File { path: path.to_owned(), line: line.line_number() };
            let LineContent::KVPair(name, value) = line.consume_content() else { continue };
            match Key::from_name(&name) {
                Some(key) => drop(self.settings.insert(key, Setting { value: value.trim().to_owned(), origin })),
                None => self.ignored.push(IgnoredKey { name, origin }),
            }
        }
        Ok(())
    }

    /// Sets a value from the command line; it wins over a file's. `flag` is how the operator wrote it, for messages.
    pub fn set_flag(&mut self, key: Key, flag: &'static str, value: impl Into<String>) {
        self.settings.insert(key, Setting { value: value.into(), origin: Origin::Flag(flag) });
    }
}
