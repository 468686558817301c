//! What an operator wrote, word for word: the keys of a `zoo.cfg` and of the command line, with their places.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use java_properties::{LineContent, PropertiesIter};

use super::ConfigError;

const SERVER_PREFIX: &str = "server.";

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
    /// The number of this server among the lines `server.N`, instead of the file `myid`.
    MyId = "myid",
    /// Whether this server votes; its line says it too.
    PeerType = "peerType",
    /// Ticks that Apache's followers have to catch up.
    InitLimit = "initLimit",
    /// Ticks that Apache's followers may fall behind.
    SyncLimit = "syncLimit",
    /// Whether a single line `server.N` means a server that stands alone.
    StandaloneEnabled = "standaloneEnabled",
    /// A file with the lines `server.N`.
    DynamicConfigFile = "dynamicConfigFile",
    /// Whether members are listened to on every address.
    QuorumListenOnAllIps = "quorumListenOnAllIPs",
    /// Whether clients may be served reads while there is no leader.
    ReadOnlyModeEnabled = "readonlymode.enabled",
    /// Whether every read sees all earlier writes.
    LinearizableReads = "linearizableReads",
    /// Whether members use TLS among themselves.
    SslQuorum = "sslQuorum",
    /// The key and certificate of this server, in PEM.
    SslQuorumKeyStoreLocation = "ssl.quorum.keyStore.location",
    /// The form of that file.
    SslQuorumKeyStoreType = "ssl.quorum.keyStore.type",
    /// The certificates of the authorities, in PEM.
    SslQuorumTrustStoreLocation = "ssl.quorum.trustStore.location",
    /// The form of that file.
    SslQuorumTrustStoreType = "ssl.quorum.trustStore.type",
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

/// A line `server.N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerLine {
    /// What follows the point.
    pub(super) number: String,
    pub(super) setting: Setting,
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
    pub(super) servers: Vec<ServerLine>,
    pub(super) ignored: Vec<IgnoredKey>,
}

impl RawConfig {
    /// Adds the lines of a `zoo.cfg`, in the grammar of Java's property files, encoded in UTF-8.
    ///
    /// A key that is there twice takes its last value, as in Java. Keys without an effect are remembered, to be listed
    /// in one warning: an ensemble's own file must never be refused for them.
    /// Errors: [`ConfigError::Read`], [`ConfigError::Syntax`].
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        for (name, setting) in read_properties(path)? {
            match (Key::from_name(&name), name.strip_prefix(SERVER_PREFIX)) {
                (Some(key), _) => drop(self.settings.insert(key, setting)),
                (None, Some(number)) => self.servers.push(ServerLine { number: number.to_owned(), setting }),
                (None, None) => self.ignored.push(IgnoredKey { name, origin: setting.origin }),
            }
        }
        Ok(())
    }

    /// Sets a value from the command line; it wins over a file's. `flag` is how the operator wrote it, for messages.
    pub fn set_flag(&mut self, key: Key, flag: &'static str, value: impl Into<String>) {
        self.settings.insert(key, Setting { value: value.into(), origin: Origin::Flag(flag) });
    }
}

/// Reads the lines `server.N` of a file that `dynamicConfigFile` names; whatever else is in it has no meaning here.
pub(super) fn read_server_lines(path: &Path) -> Result<Vec<ServerLine>, ConfigError> {
    let lines = read_properties(path)?.into_iter().filter_map(|(name, setting)| {
        let number = name.strip_prefix(SERVER_PREFIX)?.to_owned();
        Some(ServerLine { number, setting })
    });
    Ok(lines.collect())
}

/// Reads keys and values in the order of the file.
fn read_properties(path: &Path) -> Result<Vec<(String, Setting)>, ConfigError> {
    let text = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let mut read = Vec::new();
    for line in PropertiesIter::new_with_encoding(&text[..], encoding_rs::UTF_8) {
        let line = line.map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            line: source.line_number().unwrap_or(0),
            source,
        })?;
        let origin = Origin::File { path: path.to_owned(), line: line.line_number() };
        if let LineContent::KVPair(name, value) = line.consume_content() {
            read.push((name, Setting { value: value.trim().to_owned(), origin }));
        }
    }
    Ok(read)
}
