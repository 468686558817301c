//! The servers of an ensemble: lines `server.N`, the file `myid`, and how members reach each other.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grange_proto::{Role, ServerSpec};

use super::check::{Check, Problem};
use super::raw::{self, IgnoredKey, Key, Origin, ServerLine, Setting};

/// `initLimit` and `syncLimit` unless they are set, in ticks: those of Apache's sample file.
const LIMIT_TICKS_DEFAULT: (u32, u32) = (10, 5);
/// The file with this server's number, in the data directory.
const MY_ID_FILE: &str = "myid";

/// This server's number, the others, and how they reach each other.
#[derive(Debug, Clone)]
pub struct Ensemble {
    /// The number of this server (`myid`); 0 if it has none.
    pub server_id: u8,
    /// Every server by its number, this one included; empty if this one stands alone.
    pub servers: Vec<(u8, ServerSpec)>,
    /// Whether members are listened to on every address of the machine instead of the one in this server's line.
    pub listens_on_all: bool,
    /// What members prove to each other who they are by; `None` for connections without TLS.
    pub tls: Option<TlsFiles>,
    /// `initLimit`, in ticks; shown to operators, and without an effect.
    pub init_limit: u32,
    /// `syncLimit`, in ticks; likewise.
    pub sync_limit: u32,
    /// Whether clients that can do without writes are served while there is no leader.
    pub read_only_mode: bool,
    /// Whether every read sees all writes acknowledged before it was sent.
    pub linearizable_reads: bool,
    /// A socket that listens already, to take members' connections from instead of one of the server's own: for
    /// programs that embed several servers, and must know their ports before they start.
    pub socket: Option<Arc<TcpListener>>,
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// This server's private key and certificate, with those between it and the authority.
    pub key_store: PathBuf,
    /// The certificates of the authorities that vouch for members.
    pub trust_store: PathBuf,
}

impl Ensemble {
    /// Returns the settings of a server without others and without a number.
    pub fn alone() -> Ensemble {
        let (init_limit, sync_limit) = LIMIT_TICKS_DEFAULT;
        Ensemble {
            server_id: 0,
            servers: Vec::new(),
            listens_on_all: false,
            tls: None,
            init_limit,
            sync_limit,
            read_only_mode: false,
            linearizable_reads: false,
            socket: None,
        }
    }

    /// Tells whether this server has no others.
    pub fn is_alone(&self) -> bool {
        self.servers.is_empty()
    }

    /// Returns this server's own line.
    pub fn own(&self) -> Option<&ServerSpec> {
        self.servers.iter().find_map(|(id, spec)| (*id == self.server_id).then_some(spec))
    }

    /// Returns the numbers of those that vote, in order.
    pub fn participants(&self) -> impl Iterator<Item = u8> {
        self.servers.iter().filter(|(_, spec)| spec.role == Role::Participant).map(|(id, _)| *id)
    }
}

impl Check<'_> {
    pub(super) fn ensemble(&mut self) -> Ensemble {
        let own = self.server_id();
        let server_id = own.as_ref().ok().copied().flatten();
        let mut servers = self.servers();
        let (init_default, sync_default) = LIMIT_TICKS_DEFAULT;
        let alone = match &servers[..] {
            [] => true,
            [(id, _)] => {
                self.truth(Key::StandaloneEnabled, true)
                    && own.as_ref().is_ok_and(|own| own.is_none_or(|own| own == *id))
            }
            _ => false,
        };
        if alone {
            servers.clear();
        } else {
            self.check_servers(&servers, own);
        }
        Ensemble {
            server_id: server_id.unwrap_or(0),
            listens_on_all: self.truth(Key::QuorumListenOnAllIps, false),
            tls: self.tls(),
            init_limit: self.number(Key::InitLimit, 1..=1_000_000, init_default),
            sync_limit: self.number(Key::SyncLimit, 1..=1_000_000, sync_default),
            read_only_mode: self.truth(Key::ReadOnlyModeEnabled, false),
            linearizable_reads: self.truth(Key::LinearizableReads, false),
            socket: None,
            servers,
        }
    }

    /// Finds this server's number; what keeps it from being found is a problem only where there are others.
    fn server_id(&mut self) -> Result<Option<u8>, Problem> {
        if self.value(Key::MyId).is_some() {
            return Ok(Some(self.number(Key::MyId, 1..=u8::MAX, 1)));
        }
        let Some(path) = self.value(Key::DataDir).map(|data| Path::new(data).join(MY_ID_FILE)) else { return Ok(None) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let (name, what) = (path.display().to_string(), format!("cannot be read ({error})"));
                return Err(Problem { origin: None, name, what });
            }
        };
        let number = text.lines().next().unwrap_or_default().trim();
        match number.parse() {
            Ok(id) if id > 0 => Ok(Some(id)),
            _ => {
                let what = format!("is {number:?}; it must be a number from 1 to {}", u8::MAX);
                Err(Problem { origin: Some(Origin::File { path, line: 1 }), name: MY_ID_FILE.to_owned(), what })
            }
        }
    }

    fn servers(&mut self) -> Vec<(u8, ServerSpec)> {
        let mut lines = self.raw.servers.clone();
        if let Some(path) = self.value(Key::DynamicConfigFile).map(PathBuf::from) {
            match raw::read_server_lines(&path) {
                Ok(_) if !lines.is_empty() => {
                    let what = "cannot be combined with lines server.N in the same file".to_owned();
                    self.problem(Key::DynamicConfigFile, what);
                }
                Ok(read) => lines = read,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
                    self.problem(Key::DynamicConfigFile, format!("is no use: {error}{}", cause.unwrap_or_default()));
                }
            }
        }
        let mut servers: Vec<(u8, ServerSpec)> = Vec::new();
        for ServerLine { number, setting: Setting { value, origin } } in lines {
            let name = format!("server.{number}");
            let id = match number.parse::<u8>() {
                Ok(id) if id > 0 => id,
                _ => {
                    let what = format!("names no server: a number from 1 to {} must follow the point", u8::MAX);
                    self.named_problem(Some(origin), &name, what);
                    continue;
                }
            };
            match value.parse::<ServerSpec>() {
                Ok(spec) => {
                    // The last of two equal keys counts, as everywhere in the file.
                    servers.retain(|(other, _)| *other != id);
                    servers.push((id, spec));
                }
                Err(error) => self.named_problem(Some(origin), &name, format!("is {error}")),
            }
        }
        servers.sort_unstable_by_key(|(id, _)| *id);
        servers
    }

    fn check_servers(&mut self, servers: &[(u8, ServerSpec)], server_id: Result<Option<u8>, Problem>) {
        let own = servers.iter().find(|(id, _)| server_id.as_ref().is_ok_and(|own| *own == Some(*id)));
        match (server_id, own) {
            (Err(problem), _) => self.named_problem(problem.origin, &problem.name, problem.what),
            (Ok(None), _) => {
                let place = self.value(Key::DataDir).map_or("dataDir", |dir| dir).to_owned();
                let example = servers.first().map_or(1, |(id, _)| *id);
                let what = format!(
                    "is missing: there are lines server.N, so say which of them this server is: \
                     echo {example} > {place}/{MY_ID_FILE}"
                );
                self.named_problem(None, MY_ID_FILE, what);
            }
            (Ok(Some(id)), None) if !self.has_problems() => {
                let known: Vec<String> = servers.iter().map(|(id, _)| id.to_string()).collect();
                let what = format!("is {id}, but there is no line server.{id}; there are {}", known.join(", "));
                self.named_problem(None, MY_ID_FILE, what);
            }
            _ => {}
        }
        if !servers.is_empty() && servers.iter().all(|(_, spec)| spec.role == Role::Observer) {
            self.named_problem(
                None,
                "server.N",
                "has observers only; at least one server must be a participant".to_owned(),
            );
        }
        for (at, (id, spec)) in servers.iter().enumerate() {
            let peer = &spec.peers[0];
            let same = servers[..at].iter().find(|(_, other)| other.peers[0] == *peer && peer.quorum_port != 0);
            if let Some((other, _)) = same {
                let what = format!("has the address of server.{other} ({}:{})", peer.host, peer.quorum_port);
                self.named_problem(None, &format!("server.{id}"), what);
            }
        }
        if let (Some(role), Some((_, own))) = (self.peer_type(), own)
            && role != own.role
        {
            // Apache's server too believes the line and warns.
            let origin = self.setting(Key::PeerType).map(|setting| setting.origin.clone());
            self.ignored.extend(origin.map(|origin| IgnoredKey { name: Key::PeerType.name().to_owned(), origin }));
        }
    }

    fn peer_type(&mut self) -> Option<Role> {
        let text = self.value(Key::PeerType)?;
        let role = [Role::Participant, Role::Observer].into_iter().find(|role| text.eq_ignore_ascii_case(role.name()));
        if role.is_none() {
            self.problem(Key::PeerType, format!("is {text}; it must be participant or observer"));
        }
        role
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        if !self.truth(Key::SslQuorum, false) {
            return None;
        }
        let key_store =
            self.pem(Key::SslQuorumKeyStoreLocation, Key::SslQuorumKeyStoreType, "this server's key and certificate");
        let trust_store = self.pem(
            Key::SslQuorumTrustStoreLocation,
            Key::SslQuorumTrustStoreType,
            "the certificates of the authorities",
        );
        Some(TlsFiles { key_store: key_store?, trust_store: trust_store? })
    }

    fn pem(&mut self, location: Key, kind: Key, contents: &str) -> Option<PathBuf> {
        let Some(path) = self.value(location).map(PathBuf::from) else {
            self.problem(location, format!("is missing: with sslQuorum it names a PEM file with {contents}"));
            return None;
        };
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        let is_java = extension.is_some_and(|extension| ["jks", "p12", "pfx", "bcfks"].contains(&extension.as_str()));
        let said = self.value(kind);
        if said.map_or(is_java, |kind| !kind.eq_ignore_ascii_case("PEM")) {
            let key = if said.is_some() { kind } else { location };
            let text = self.value(key).unwrap_or_default();
            self.problem(key, format!("is {text}; only PEM files can be read, with {contents}"));
            return None;
        }
        Some(path)
    }
}
