//! The TOML form: what is written, all optional, and what it means, checked once with every problem reported.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use grange_proto::acl::{Acl, Id};
use grange_proto::lifetime::TTL_MS_MAX;
use grange_proto::path;
use serde::Deserialize;
use toml::{Spanned, Value};

use crate::declared::acl::{digest_id, parse_entry, parse_letters};
use crate::declared::file::{Text, read_bytes, read_secret};
use crate::declared::model::{Declared, DeclaredData, DeclaredZnode, Kind};
use crate::declared::problem::{Location, Problem, ReadError};
use crate::declared::variables::{NAME_EXPECTED, Variables, is_name};

type Table<T> = BTreeMap<Spanned<String>, T>;

/// A file as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawFile {
    servers: Option<Spanned<String>>,
    #[serde(default)]
    variables: Table<Spanned<Value>>,
    #[serde(default)]
    users: Table<RawUser>,
    #[serde(default)]
    acls: Table<Vec<Spanned<String>>>,
    #[serde(default)]
    znodes: Table<RawZnode>,
}

/// Values of any type, so that the parser's message about a wrong one never shows a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    password: Option<Spanned<Value>>,
    digest: Option<Spanned<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawZnode {
    data: Option<Spanned<Value>>,
    data_base64: Option<Spanned<Value>>,
    data_file: Option<Spanned<String>>,
    initial_data: Option<Spanned<Value>>,
    acl: Option<Spanned<RawAcl>>,
    kind: Option<Spanned<RawKind>>,
    parents: Option<bool>,
    sensitive: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "an ACL is a list of entries or the name of one of [acls]")]
enum RawAcl {
    Name(String),
    Entries(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a kind is \"persistent\", \"container\" or { ttl_ms = N }")]
enum RawKind {
    Name(String),
    Ttl { ttl_ms: i64 },
}

/// Reads a file and the overlays on it, in this order.
pub(crate) fn read(
    files: &[Text],
    variables: Variables,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Declared, ReadError> {
    let mut problems = Vec::new();
    let mut raw_files = Vec::new();
    for text in files {
        match toml::from_str::<RawFile>(&text.text) {
            Ok(raw) => raw_files.push((text, raw)),
            Err(error) => {
                let location = text.line_of(error.span().map_or(0, |span| span.start));
                problems.push(Problem::new(&location, one_line(error.message())));
            }
        }
    }
    let mut reader = TomlReader {
        declared: Declared::default(),
        variables,
        users: BTreeMap::new(),
        acls: BTreeMap::new(),
        problems,
        environment,
    };
    // Each kind of thing over all files before the next, because it may be used in all of them.
    raw_files.iter().for_each(|(text, raw)| reader.servers_and_variables(text, raw));
    raw_files.iter().for_each(|(text, raw)| reader.users(text, raw));
    raw_files.iter().for_each(|(text, raw)| reader.acls(text, raw));
    raw_files.iter().for_each(|(text, raw)| reader.znodes(text, raw));
    match reader.problems.is_empty() {
        true => Ok(reader.declared),
        false => Err(ReadError::Problems(reader.problems)),
    }
}

/// A message of the parser, in one line and without the text of the file that it may quote: a value in a wrong place can
/// be a password.
fn one_line(message: &str) -> String {
    let message = message.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ");
    let quoted = message.find(" string \"").zip(message.rfind("\", expected "));
    match quoted {
        Some((from, to)) => format!("{} string{}", &message[..from], &message[to + 1..]),
        None => message,
    }
}

/// Tells whether a file has a hash of a password in it.
fn has_hashes(raw: &RawFile) -> bool {
    let is_hash = |entry: &str| entry.starts_with("digest:");
    let of_znode = |znode: &RawZnode| match znode.acl.as_ref().map(Spanned::get_ref) {
        Some(RawAcl::Entries(entries)) => entries.iter().any(|entry| is_hash(entry)),
        _ => false,
    };
    raw.users.values().any(|user| user.digest.is_some())
        || raw.acls.values().flatten().any(|entry| is_hash(entry.get_ref()))
        || raw.znodes.values().any(of_znode)
}

impl Text {
    fn of_span<T>(&self, value: &Spanned<T>) -> Location {
        self.line_of(value.span().start)
    }
}

struct TomlReader<'a> {
    declared: Declared,
    variables: Variables,
    /// `None` for one whose own problem is reported already.
    users: BTreeMap<String, Option<Id>>,
    /// The same.
    acls: BTreeMap<String, Option<Vec<Acl>>>,
    problems: Vec<Problem>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl TomlReader<'_> {
    /// Takes a result, or notes what is wrong.
    fn take<T>(&mut self, location: &Location, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.problems.push(Problem::new(location, message))).ok()
    }

    fn servers_and_variables(&mut self, text: &Text, raw: &RawFile) {
        if let Some(servers) = &raw.servers {
            self.declared.servers = Some((servers.get_ref().clone(), text.of_span(servers)));
        }
        for (name, value) in &raw.variables {
            let location = text.of_span(name);
            let name = name.get_ref();
            let read = match is_name(name) {
                true => self.variable(name, value.get_ref()),
                false => Err(format!("'{}': {NAME_EXPECTED}", name.escape_debug())),
            };
            if let Some(value) = self.take(&location, read) {
                self.variables.set(name, value);
            }
        }
    }

    fn variable(&self, name: &str, value: &Value) -> Result<String, String> {
        let expected = "a variable is a text, or { env = \"NAME\", default = \"TEXT\" }";
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Table(table) if table.keys().all(|key| matches!(key.as_str(), "env" | "default")) => {
                let env = table.get("env").and_then(Value::as_str).ok_or(expected)?;
                let default = match table.get("default") {
                    None => None,
                    Some(default) => Some(default.as_str().ok_or(expected)?.to_owned()),
                };
                let found = (self.environment)(env).or(default);
                // What the command line sets need not be in the environment.
                found
                    .or_else(|| self.variables.is_given(name).then(String::new))
                    .ok_or_else(|| format!("the environment has no variable {env}, and there is no default"))
            }
            _ => Err(expected.to_owned()),
        }
    }

    fn users(&mut self, text: &Text, raw: &RawFile) {
        if has_hashes(raw) {
            self.declared.warnings.extend(text.exposure("the hashes of passwords"));
        }
        for (name, user) in &raw.users {
            let location = text.of_span(name);
            let name = name.get_ref();
            let read = match name.is_empty() || name.contains(':') {
                true => Err("the name of a user is not empty and has no colon".to_owned()),
                false => self.identity(text, name, user),
            };
            let id = self.take(&location, read);
            self.users.insert(name.clone(), id);
        }
    }

    fn identity(&self, text: &Text, name: &str, user: &RawUser) -> Result<Id, String> {
        let expected =
            "a user has password = { env = \"VARIABLE\" }, password = { file = \"PATH\" } or digest = \"HASH\"";
        match (&user.password, &user.digest) {
            (Some(password), None) => match password.get_ref() {
                Value::Table(table) if table.len() == 1 => {
                    let password = match (table.get("env"), table.get("file")) {
                        (Some(Value::String(variable)), None) => (self.environment)(variable)
                            .filter(|password| !password.is_empty())
                            .ok_or_else(|| format!("the environment has no variable {variable} with the password"))?,
                        (None, Some(Value::String(file))) => read_secret(&beside(&text.file, file))?,
                        _ => return Err(expected.to_owned()),
                    };
                    Ok(digest_id(name, &password))
                }
                Value::String(_) => Err(format!("a password is not written into this file; {expected}")),
                _ => Err(expected.to_owned()),
            },
            (None, Some(digest)) => {
                let hash = digest
                    .get_ref()
                    .as_str()
                    .filter(|hash| BASE64_STANDARD.decode(hash).is_ok_and(|bytes| bytes.len() == 20));
                let hash = hash.ok_or("digest is the base64 of 20 bytes: what follows 'USER:' in an ACL")?;
                Ok(Id::new("digest", format!("{name}:{hash}")))
            }
            _ => Err(expected.to_owned()),
        }
    }

    fn acls(&mut self, text: &Text, raw: &RawFile) {
        for (name, entries) in &raw.acls {
            let mut acl = Some(Vec::new());
            for entry in entries {
                let read = self.entry(entry.get_ref());
                match (self.take(&text.of_span(entry), read), &mut acl) {
                    (Some(read), Some(acl)) => acl.extend(read),
                    _ => acl = None,
                }
            }
            if entries.is_empty() {
                self.take::<()>(&text.of_span(name), Err(EMPTY_ACL.to_owned()));
            }
            self.acls.insert(name.get_ref().clone(), acl);
        }
    }

    /// Reads an entry; `None` if its user has a problem of his own.
    fn entry(&self, text: &str) -> Result<Option<Acl>, String> {
        let text = self.variables.expand(text)?;
        let Some(rest) = text.strip_prefix("user:") else { return parse_entry(&text).map(Some) };
        let (name, perms) = rest.rsplit_once(':').ok_or("a user's entry is user:NAME:PERMS")?;
        let perms = match parse_letters(perms) {
            Ok(_) if perms.is_empty() => return Err("a user's entry is user:NAME:PERMS".to_owned()),
            Ok(perms) => perms,
            Err(letter) => {
                return Err(format!("'{}' is none of the permissions c, d, r, w and a", letter.escape_debug()));
            }
        };
        match self.users.get(name) {
            Some(id) => Ok(id.clone().map(|id| Acl { perms, id })),
            None => Err(format!("there is no user '{}' in [users]", name.escape_debug())),
        }
    }

    fn znodes(&mut self, text: &Text, raw: &RawFile) {
        // A path that two keys of one file expand to is a mistake; in two files the later one is an overlay.
        let mut in_this_file: BTreeMap<String, Location> = BTreeMap::new();
        for (key, raw) in &raw.znodes {
            let location = text.of_span(key);
            let read = self.variables.expand(key.get_ref()).and_then(|path| match path::validate(&path) {
                Ok(()) => Ok(path),
                Err(why) => Err(format!("'{}' is no path of a znode: {why}", path.escape_debug())),
            });
            let Some(path) = self.take(&location, read) else { continue };
            if let Some(first) = in_this_file.insert(path.clone(), location.clone()) {
                let message = format!("'{path}' is declared twice, first at {first}");
                self.take::<()>(&location, Err(message));
                continue;
            }
            let below = self.declared.znodes.remove(&path);
            let znode = self.znode(text, location, raw, below);
            self.declared.znodes.insert(path, znode);
        }
    }

    fn znode(
        &mut self,
        text: &Text,
        location: Location,
        raw: &RawZnode,
        below: Option<DeclaredZnode>,
    ) -> DeclaredZnode {
        let mut znode = below.unwrap_or_else(|| DeclaredZnode {
            data: DeclaredData::Any,
            acl: None,
            kind: Kind::Persistent,
            makes_parents: false,
            is_sensitive: false,
            location: location.clone(),
        });
        let data = self.data(text, raw);
        if let Some(Some(data)) = self.take(&location, data) {
            znode.data = data;
        }
        if let Some(raw) = &raw.acl {
            let acl = self.acl(&text.of_span(raw), raw.get_ref());
            znode.acl = acl.or(znode.acl);
        }
        if let Some(raw) = &raw.kind {
            let read = kind(raw.get_ref());
            znode.kind = self.take(&text.of_span(raw), read).unwrap_or(Kind::Persistent);
        }
        znode.makes_parents = raw.parents.unwrap_or(znode.makes_parents);
        znode.is_sensitive = raw.sensitive.unwrap_or(znode.is_sensitive);
        znode
    }

    fn data(&self, text: &Text, raw: &RawZnode) -> Result<Option<DeclaredData>, String> {
        let text_of = |value: &Spanned<Value>| {
            let text = value.get_ref().as_str().ok_or("data is text; bytes are data_base64 or data_file")?;
            self.variables.expand(text).map(String::into_bytes)
        };
        match (&raw.data, &raw.data_base64, &raw.data_file, &raw.initial_data) {
            (None, None, None, None) => Ok(None),
            (Some(data), None, None, None) => Ok(Some(DeclaredData::Exactly(text_of(data)?))),
            (None, None, None, Some(data)) => Ok(Some(DeclaredData::Initially(text_of(data)?))),
            (None, Some(data), None, None) => {
                let bytes = data.get_ref().as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
                Ok(Some(DeclaredData::Exactly(bytes.ok_or("data_base64 is not base64 with padding")?)))
            }
            (None, None, Some(file), None) => {
                let path = beside(&text.file, &self.variables.expand(file.get_ref())?);
                match read_bytes(&path) {
                    Ok((bytes, _)) => Ok(Some(DeclaredData::Exactly(bytes))),
                    Err(ReadError::Open { source, .. }) => {
                        Err(format!("cannot read {}: {}", path.display(), crate::connect::plain(&source)))
                    }
                    Err(other) => Err(other.to_string()),
                }
            }
            _ => Err("a znode has one of data, data_base64, data_file and initial_data".to_owned()),
        }
    }

    fn acl(&mut self, location: &Location, raw: &RawAcl) -> Option<Vec<Acl>> {
        let entries = match raw {
            RawAcl::Name(name) => {
                let found = self.acls.get(name).cloned();
                let read = found.ok_or_else(|| format!("there is no list '{}' in [acls]", name.escape_debug()));
                return self.take(location, read).flatten();
            }
            RawAcl::Entries(entries) => entries,
        };
        if entries.is_empty() {
            return self.take(location, Err(EMPTY_ACL.to_owned()));
        }
        let read: Result<Vec<_>, String> = entries.iter().map(|entry| self.entry(entry)).collect();
        self.take(location, read).map(|entries| entries.into_iter().flatten().collect())
    }
}

const EMPTY_ACL: &str = "an ACL has at least one entry: servers refuse an empty one";

fn kind(raw: &RawKind) -> Result<Kind, String> {
    match raw {
        RawKind::Name(name) if name == "persistent" => Ok(Kind::Persistent),
        RawKind::Name(name) if name == "container" => Ok(Kind::Container),
        RawKind::Ttl { ttl_ms } if (1..=TTL_MS_MAX).contains(ttl_ms) => Ok(Kind::Ttl(ttl_ms.unsigned_abs())),
        RawKind::Ttl { .. } => Err(format!("ttl_ms is from 1 to {TTL_MS_MAX}")),
        RawKind::Name(_) => Err("a kind is \"persistent\", \"container\" or { ttl_ms = N }".to_owned()),
    }
}

/// A path in a file is relative to the file's directory.
fn beside(file: &Path, path: &str) -> std::path::PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}
