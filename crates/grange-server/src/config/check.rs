//! From what was written to what it means: every value is checked here, and every problem is reported at once.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use grange_proto::server_spec::ClientAddress;
use grange_replica::{Reaping, SnapshotPolicy};
use grange_tree::Policy;

use super::ensemble::Ensemble;
use super::raw::{IgnoredKey, Key, Origin, RawConfig, Setting};
use super::{
    CLIENT_PORT_DEFAULT, CONNECTIONS_PER_ADDRESS_MAX_DEFAULT, Config, ConfigError, DataPlace, FRAME_BYTES_DEFAULT,
    HANDSHAKE_MS_MAX_DEFAULT, LISTEN_DEFAULT, Limits, Listen, SNAPSHOT_LOG_BYTES_DEFAULT, SNAPSHOT_REQUESTS_DEFAULT,
    SNAPSHOTS_KEPT_MIN, SessionConfig, StorageConfig, TICK_MS_DEFAULT,
};
use crate::four_letter::{Whitelist, Word};

/// The largest `jute.maxbuffer`, in bytes: a write must fit a segment of the log with room to spare.
const FRAME_BYTES_CEILING: usize = 16 << 20;
/// Bounds and default of `preAllocSize`, in KiB.
const SEGMENT_KIB: (RangeInclusive<u64>, u64) = (8 << 10..=1 << 20, 64 << 10);
/// Frames of the largest size that a log segment must hold: what the replica may hand over as one batch, twice.
const FRAMES_PER_SEGMENT_MIN: u64 = 4;
/// `clientPortListenBacklog` unless it is set: enough for thousands of clients that come back at once.
const BACKLOG_DEFAULT: i32 = 4096;
/// `minSessionTimeout` and `maxSessionTimeout` unless they are set, in ticks.
const TIMEOUT_TICKS_DEFAULT: (i32, i32) = (2, 20);

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written, `None` if it was left out.
    pub origin: Option<Origin>,
    /// Its key, or the name of the file it is in.
    pub name: String,
    /// What is wrong: the value and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { origin, name, what } = self;
        match origin {
            Some(origin @ Origin::File { .. }) => write!(f, "{origin}: {name} {what}"),
            Some(Origin::Flag(flag)) => write!(f, "{flag} {what}"),
            None => write!(f, "{name} {what}"),
        }
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Config, ConfigError> {
        let mut check = Check { raw: &raw, ignored: raw.ignored.clone(), problems: Vec::new() };
        let ensemble = check.ensemble();
        let mut config = Config {
            listen: check.listen(&ensemble),
            storage: check.storage(),
            limits: check.limits(),
            sessions: check.sessions(),
            four_letter: check.whitelist(),
            policy: Policy {
                enforce_quota: check.truth(Key::EnforceQuota, false),
                skip_acl: check.truth(Key::SkipAcl, false),
                extended_types: check.truth(Key::ExtendedTypesEnabled, false),
                reconfig: check.truth(Key::ReconfigEnabled, false),
            },
            super_digest: check.super_digest(),
            reaping: Reaping {
                interval_ms: check.number(Key::ContainerCheckIntervalMs, 1..=u64::from(u32::MAX), 60_000),
                per_minute_max: check.number(Key::ContainerMaxPerMinute, 1..=u32::MAX, 10_000),
                never_used_ms: check.number(Key::ContainerMaxNeverUsedIntervalMs, 0..=i64::from(u32::MAX), 300_000),
            },
            snapshots: SnapshotPolicy {
                requests: check.number(Key::SnapCount, 2..=u64::from(u32::MAX), SNAPSHOT_REQUESTS_DEFAULT),
                log_bytes: check.snapshot_log_bytes(),
            },
            io_threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            ignored: Vec::new(),
            ensemble,
        };
        config.ignored = check.ignored;
        let problems = check.problems;
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Problems(problems)) }
    }
}

/// Reads values and collects what is wrong with them; after a problem it goes on with the default.
pub(super) struct Check<'a> {
    pub(super) raw: &'a RawConfig,
    pub(super) ignored: Vec<IgnoredKey>,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    pub(super) fn setting(&self, key: Key) -> Option<&'a Setting> {
        self.raw.settings.get(&key).filter(|setting| !setting.value.is_empty())
    }

    pub(super) fn value(&self, key: Key) -> Option<&'a str> {
        self.setting(key).map(|setting| setting.value.as_str())
    }

    pub(super) fn problem(&mut self, key: Key, what: String) {
        let origin = self.raw.settings.get(&key).map(|setting| setting.origin.clone());
        self.named_problem(origin, key.name(), what);
    }

    /// Like [`Check::problem`], for what has no [`Key`].
    pub(super) fn named_problem(&mut self, origin: Option<Origin>, name: &str, what: String) {
        self.problems.push(Problem { origin, name: name.to_owned(), what });
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    pub(super) fn number<N>(&mut self, key: Key, range: RangeInclusive<N>, default: N) -> N
    where
        N: FromStr + PartialOrd + fmt::Display + Copy,
    {
        let Some(text) = self.value(key) else { return default };
        match text.parse::<N>() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problem(key, format!("is {text}; it must be a number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    pub(super) fn truth(&mut self, key: Key, default: bool) -> bool {
        match self.value(key).map(str::to_ascii_lowercase).as_deref() {
            None => default,
            Some("true" | "yes") => true,
            Some("false" | "no") => false,
            Some(text) => {
                self.problem(key, format!("is {text}; it must be one of true, yes, false, no"));
                default
            }
        }
    }

    fn listen(&mut self, ensemble: &Ensemble) -> Listen {
        // -1 leaves it to the server, as it does in Java.
        let backlog = match self.number(Key::ClientPortListenBacklog, -1..=i32::MAX, -1) {
            count if count > 0 => count,
            _ => BACKLOG_DEFAULT,
        };
        let own = ensemble.own().and_then(|own| own.client.as_ref());
        let port = self.number(Key::ClientPort, 0..=u16::MAX, own.map_or(CLIENT_PORT_DEFAULT, |own| own.port));
        if let Some(own) = own.filter(|own| own.port != port && self.value(Key::Listen).is_none()) {
            let what = format!("is {port}, but the line server.{} says {}", ensemble.server_id, own.port);
            self.problem(Key::ClientPort, what);
        }
        let address = if let Some(text) = self.value(Key::Listen) {
            self.resolve(Key::Listen, text)
        } else if let Some(host) = self.value(Key::ClientPortAddress) {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            self.resolve(Key::ClientPortAddress, (host, port))
        } else if self.value(Key::ClientPort).is_some() {
            // A zoo.cfg that names a port alone means every address of the machine.
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
        } else if let Some(own) = own {
            self.resolve_own(own, ensemble.server_id)
        } else {
            LISTEN_DEFAULT
        };
        Listen { address, backlog }
    }

    fn resolve(&mut self, key: Key, address: impl ToSocketAddrs) -> SocketAddr {
        let text = self.value(key).unwrap_or_default();
        let what = match address.to_socket_addrs().map(|mut found| found.next()) {
            Ok(Some(address)) => return address,
            Ok(None) => format!("is {text}, which has no address"),
            Err(error) if key == Key::Listen => format!("is {text}; it must be ADDRESS:PORT ({error})"),
            Err(error) => format!("is {text}, which has no address ({error})"),
        };
        self.problem(key, what);
        LISTEN_DEFAULT
    }

    /// Returns the address for clients that this server's own line names.
    fn resolve_own(&mut self, own: &ClientAddress, server_id: u8) -> SocketAddr {
        if own.host == Ipv4Addr::UNSPECIFIED.to_string() {
            // A port alone; it means every address, as above.
            return SocketAddr::from((Ipv6Addr::UNSPECIFIED, own.port));
        }
        let found = (own.host.as_str(), own.port).to_socket_addrs().map(|mut found| found.next());
        found.ok().flatten().unwrap_or_else(|| {
            let what = format!("names {own} for clients, which has no address");
            self.named_problem(None, &format!("server.{server_id}"), what);
            LISTEN_DEFAULT
        })
    }

    fn storage(&mut self) -> StorageConfig {
        let log = self.value(Key::DataLogDir).map(PathBuf::from);
        let data = self.value(Key::DataDir).map(PathBuf::from).unwrap_or_else(|| {
            self.problem(Key::DataDir, "is missing: say where data is kept".to_owned());
            PathBuf::new()
        });
        let log = log.filter(|log| *log != data);
        let kept = self.number(Key::AutopurgeSnapRetainCount, SNAPSHOTS_KEPT_MIN..=10_000, SNAPSHOTS_KEPT_MIN);
        let purges = self.value(Key::AutopurgePurgeInterval) != Some("0");
        StorageConfig {
            place: DataPlace::Directory { data, log },
            segment_bytes: self.segment_bytes(),
            sync: self.truth(Key::ForceSync, true),
            snapshots_kept: purges.then_some(kept),
        }
    }

    fn segment_bytes(&mut self) -> u64 {
        let (range, default) = SEGMENT_KIB;
        let bytes = self.number(Key::PreAllocSize, range, default) << 10;
        // A value out of its range is reported where the limits are read.
        let frame_bytes = self.parsed_frame_bytes_max().unwrap_or(FRAME_BYTES_DEFAULT) as u64;
        if bytes < FRAMES_PER_SEGMENT_MIN * frame_bytes {
            let text = self.value(Key::PreAllocSize).unwrap_or_default();
            let least = (FRAMES_PER_SEGMENT_MIN * frame_bytes).div_ceil(1 << 10);
            self.problem(Key::PreAllocSize, format!("is {text}; with this jute.maxbuffer it must be at least {least}"));
        }
        bytes
    }

    fn limits(&mut self) -> Limits {
        let most = 1_000_000;
        let per_address = self.number(Key::MaxClientCnxns, 0..=most, CONNECTIONS_PER_ADDRESS_MAX_DEFAULT);
        let handshake_ms_max = self.number(Key::SessionlessCnxnTimeout, 1..=3_600_000, HANDSHAKE_MS_MAX_DEFAULT);
        Limits {
            connections_per_address_max: NonZeroUsize::new(per_address),
            connections_max: NonZeroUsize::new(self.number(Key::MaxCnxns, 0..=most, 0)),
            handshake_time_max: Duration::from_millis(handshake_ms_max),
            frame_bytes_max: self.frame_bytes_max(),
        }
    }

    fn frame_bytes_max(&mut self) -> usize {
        self.parsed_frame_bytes_max().unwrap_or_else(|| {
            let text = self.value(Key::JuteMaxBuffer).unwrap_or_default();
            let what = format!("is {text}; it must be a number of bytes from 1024 to {FRAME_BYTES_CEILING}");
            self.problem(Key::JuteMaxBuffer, what);
            FRAME_BYTES_DEFAULT
        })
    }

    /// Takes the forms that Java's `Integer.getInteger` takes: decimal, `0x` and `#` for hexadecimal, `0` for octal.
    fn parsed_frame_bytes_max(&self) -> Option<usize> {
        let Some(text) = self.value(Key::JuteMaxBuffer) else { return Some(FRAME_BYTES_DEFAULT) };
        let lower = text.to_ascii_lowercase();
        let parsed = if let Some(hex) = lower.strip_prefix("0x").or_else(|| lower.strip_prefix('#')) {
            usize::from_str_radix(hex, 16)
        } else if lower.len() > 1 && lower.starts_with('0') {
            usize::from_str_radix(&lower, 8)
        } else {
            lower.parse()
        };
        parsed.ok().filter(|bytes| (1024..=FRAME_BYTES_CEILING).contains(bytes))
    }

    fn sessions(&mut self) -> SessionConfig {
        let tick_ms = self.number(Key::TickTime, 1..=3_600_000, TICK_MS_DEFAULT);
        let ticks = |count: i32| i32::try_from(tick_ms).unwrap_or(i32::MAX).saturating_mul(count);
        let (min_default, max_default) = (ticks(TIMEOUT_TICKS_DEFAULT.0), ticks(TIMEOUT_TICKS_DEFAULT.1));
        let timeout_ms_min = self.timeout(Key::MinSessionTimeout, min_default);
        let timeout_ms_max = self.timeout(Key::MaxSessionTimeout, max_default);
        if timeout_ms_min > timeout_ms_max {
            let key = if self.value(Key::MinSessionTimeout).is_some() {
                Key::MinSessionTimeout
            } else {
                Key::MaxSessionTimeout
            };
            let what = match key {
                Key::MinSessionTimeout => {
                    format!("is {timeout_ms_min} ms; it must not exceed maxSessionTimeout ({timeout_ms_max} ms)")
                }
                _ => format!("is {timeout_ms_max} ms; it must not be below minSessionTimeout ({timeout_ms_min} ms)"),
            };
            self.problem(key, what);
        }
        SessionConfig { tick_ms, timeout_ms_min, timeout_ms_max }
    }

    /// -1 leaves a timeout to the server, as it does in Apache's.
    fn timeout(&mut self, key: Key, default: i32) -> i32 {
        if self.value(key) == Some("-1") { default } else { self.number(key, 1..=i32::MAX, default) }
    }

    fn whitelist(&mut self) -> Whitelist {
        let listed = self.value(Key::FourLetterWhitelist).map_or_else(Whitelist::default, Whitelist::parse);
        // Clients that are served reads only ask other servers whether they are better off there.
        let read_only_mode = self.value(Key::ReadOnlyModeEnabled).map(str::to_ascii_lowercase);
        match read_only_mode.as_deref() {
            Some("true" | "yes") => listed.with(Word::Isro),
            _ => listed,
        }
    }

    fn super_digest(&mut self) -> Option<String> {
        let text = self.value(Key::SuperDigest)?;
        if text.split_once(':').is_none_or(|(user, hash)| user != "super" || hash.is_empty()) {
            // The value is a credential: it is not repeated.
            self.problem(Key::SuperDigest, "is not in the form super:HASH".to_owned());
        }
        Some(text.to_owned())
    }

    fn snapshot_log_bytes(&mut self) -> u64 {
        let default = SNAPSHOT_LOG_BYTES_DEFAULT >> 10;
        // Apache switches this bound off with a number below 1; here the log's growth always has one.
        if self.value(Key::SnapSizeLimitInKb).is_some_and(|text| text == "0" || text.starts_with('-')) {
            return SNAPSHOT_LOG_BYTES_DEFAULT;
        }
        self.number(Key::SnapSizeLimitInKb, 1..=u64::from(u32::MAX), default) << 10
    }
}
