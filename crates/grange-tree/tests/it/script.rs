//! Scripts: a text that says what sessions do, and one line for each of what comes out.
//!
//! Statements are separated by `;`. Session 1 is open from the start; `2: create /x` lets session 2 do it.
//! - `open`, `close`
//! - `create PATH [data=TEXT|null] [flags=N] [ttl=N] [acl=ACL] [op=create2|container|ttl]`
//! - `delete PATH [version=N]`, `set PATH [TEXT|null] [version=N]`, `setacl PATH ACL [version=N]`
//! - `check PATH [version=N]`, inside `multi [A | B | C]` only
//! - `reap PATH`, `reapable [never=MS]`
//! - `stat PATH`, `exists PATH`, `get PATH`, `getacl PATH`, `ls PATH`, `count PATH`, `ephemerals [PREFIX]`
//! - `auth SCHEME ID`, `quota on`, `time MS`
//!
//! An ACL is `scheme:id:perms` with perms as digits, joined by `,`; `none` is the empty list.

use std::collections::BTreeMap;

use expect_test::Expect;
use grange_proto::acl::put_acls;
use grange_proto::multi::{MultiOp, MultiResult, put_ops};
use grange_proto::request::{Create, PathVersion, SetAcl, SetData};
use grange_proto::{Acl, AclList, ErrorCode, Id, Op, Perms, Reader, Request, SessionId, Stat, Zxid};
use grange_tree::{Applied, ChangeKind, Changes, Identities, Policy, Tree, WriteContext};

/// Runs a script and compares what it prints.
pub(crate) fn check(script: &str, expect: Expect) {
    let mut run = Run::new();
    let mut out = String::new();
    for statement in script.split(';').map(str::trim) {
        let result = run.statement(statement);
        out.push_str(&format!("{statement} -> {result}\n"));
    }
    expect.assert_eq(&out);
}

/// A tree and those who use it.
pub(crate) struct Run {
    pub(crate) tree: Tree,
    pub(crate) changes: Changes,
    identities: BTreeMap<i64, Identities>,
    policy: Policy,
    time_ms: i64,
    /// The member by way of which requests come.
    pub(crate) member: u64,
}

/// The words behind a statement's verb.
struct Words<'s> {
    plain: Vec<&'s str>,
    named: BTreeMap<&'s str, &'s str>,
}

impl<'s> Words<'s> {
    fn parse(text: &'s str) -> Words<'s> {
        let mut words = Words { plain: Vec::new(), named: BTreeMap::new() };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some((name @ ("data" | "flags" | "ttl" | "acl" | "op" | "version" | "never"), value)) => {
                    words.named.insert(name, value);
                }
                _ => words.plain.push(word),
            }
        }
        words
    }

    fn plain(&self, index: usize) -> &'s str {
        self.plain.get(index).copied().unwrap_or("")
    }

    fn number<N: std::str::FromStr>(&self, name: &str, default: N) -> N {
        self.named.get(name).map_or(default, |value| value.parse().ok().expect("a number"))
    }
}

fn data(text: &str) -> Option<&[u8]> {
    (text != "null").then_some(text.as_bytes())
}

/// The bytes of an ACL as a request carries them.
pub(crate) fn acl_bytes(text: &str) -> Vec<u8> {
    let entry = |entry: &str| {
        let (rest, perms) = entry.rsplit_once(':').unwrap();
        let (scheme, id) = rest.split_once(':').unwrap();
        Acl { perms: Perms(perms.parse().unwrap()), id: Id::new(scheme, id) }
    };
    let entries: Vec<Acl> = if text == "none" { vec![] } else { text.split(',').map(entry).collect() };
    let mut bytes = Vec::new();
    put_acls(&mut bytes, &entries);
    bytes
}

fn acl_list(bytes: &[u8]) -> AclList<'_> {
    AclList::decode(&mut Reader::new(bytes)).unwrap()
}

fn brief(stat: &Stat) -> String {
    let Stat { czxid, mzxid, pzxid, version, cversion, aversion, ephemeral_owner, data_length, num_children, .. } =
        stat;
    format!(
        "c={} m={} p={} v={version}/{cversion}/{aversion} owner={ephemeral_owner} bytes={data_length} kids={num_children}",
        czxid.0, mzxid.0, pzxid.0
    )
}

impl Run {
    pub(crate) fn new() -> Run {
        let mut run = Run {
            tree: Tree::new(),
            changes: Changes::new(),
            identities: BTreeMap::new(),
            policy: Policy { extended_types: true, ..Policy::default() },
            time_ms: 1000,
            member: 0,
        };
        run.statement("open");
        run
    }

    pub(crate) fn statement(&mut self, statement: &str) -> String {
        let (session, rest) = match statement.split_once(": ") {
            Some((number, rest)) if number.parse::<i64>().is_ok() => (number.parse().unwrap(), rest),
            _ => (1, statement),
        };
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if verb == "multi" {
            return self.multi(session, rest);
        }
        let words = Words::parse(rest);
        match verb {
            "quota" => self.policy.enforce_quota = words.plain(0) == "on",
            "by" => self.member = words.plain(0).parse().unwrap(),
            "move" => {
                let moved = self.tree.move_session(SessionId(session), words.plain(0).parse().unwrap(), 7000);
                return moved.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
            }
            "time" => self.time_ms = words.plain(0).parse().unwrap(),
            "auth" => {
                self.identities.entry(session).or_default().add(Id::new(words.plain(0), words.plain(1)));
            }
            _ => {
                return self
                    .write(session, verb, &words)
                    .or_else(|| self.read(session, verb, &words))
                    .unwrap_or_else(|| panic!("no statement {statement:?}"));
            }
        }
        "ok".to_owned()
    }

    pub(crate) fn apply(&mut self, session: i64, request: &Request<'_>) -> String {
        self.apply_with(session, |tree, cx, changes| tree.apply(cx, request, changes))
    }

    /// Ends a session for want of signs of life, or goes on with closing it.
    pub(crate) fn end(&mut self, session: i64) -> String {
        self.apply_with(session, |tree, cx, changes| tree.end_session(cx, changes))
    }

    fn apply_with<'r>(
        &mut self,
        session: i64,
        apply: impl FnOnce(&mut Tree, &WriteContext<'_>, &mut Changes) -> Result<Applied<'r>, ErrorCode>,
    ) -> String {
        let identities = self.identities.entry(session).or_default().clone();
        let cx = WriteContext {
            member: self.member,
            zxid: self.tree.last_zxid().next(),
            time_ms: self.time_ms,
            session: SessionId(session),
            identities: &identities,
            policy: self.policy,
        };
        self.changes.clear();
        let out = match apply(&mut self.tree, &cx, &mut self.changes) {
            Ok(applied) => self.show(&applied),
            Err(error) => error.to_string(),
        };
        assert_eq!(self.tree.last_zxid(), cx.zxid);
        out
    }

    fn show(&self, applied: &Applied<'_>) -> String {
        let mut out = match applied {
            Applied::Created { path, .. } => path.to_string(),
            Applied::Deleted => "ok".to_owned(),
            Applied::DataSet(stat) => format!("v{}", stat.version),
            Applied::AclSet(stat) => format!("a{}", stat.aversion),
            Applied::Multi(results) => show_results(&results.to_vec()),
            Applied::SessionOpened => "opened".to_owned(),
            Applied::SessionClosing => "closing".to_owned(),
            Applied::SessionClosed => "closed".to_owned(),
        };
        for change in self.changes.iter() {
            let sign = match change.kind {
                ChangeKind::Created => '+',
                ChangeKind::Deleted => '-',
                ChangeKind::DataChanged => '~',
            };
            out.push_str(&format!(" {sign}{}", change.path));
        }
        out
    }

    fn write(&mut self, session: i64, verb: &str, words: &Words<'_>) -> Option<String> {
        let path = words.plain(0);
        let acl = acl_bytes(words.named.get("acl").copied().unwrap_or("world:anyone:31"));
        let version = words.number("version", -1);
        let set_acl = acl_bytes(if verb == "setacl" { words.plain(1) } else { "none" });
        let request = match verb {
            "open" => Request::CreateSession(5000),
            "close" => Request::CloseSession,
            "end" => return Some(self.end(session)),
            "create" => Request::Create(create(words, &acl)),
            "delete" => Request::Delete(PathVersion { path, version }),
            "set" => Request::SetData(SetData { path, data: data(words.plain(1)), version }),
            "setacl" => Request::SetAcl(SetAcl { path, acl: acl_list(&set_acl), version }),
            "reap" => Request::DeleteContainer(path),
            _ => return None,
        };
        Some(self.apply(session, &request))
    }

    fn multi(&mut self, session: i64, text: &str) -> String {
        let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap();
        let statements: Vec<(&str, Words<'_>, Vec<u8>)> = text
            .split('|')
            .filter(|statement| !statement.is_empty())
            .map(|statement| {
                let (verb, rest) = statement.trim().split_once(' ').unwrap();
                let words = Words::parse(rest);
                let acl = acl_bytes(words.named.get("acl").copied().unwrap_or("world:anyone:31"));
                (verb, words, acl)
            })
            .collect();
        let ops: Vec<MultiOp<'_>> = statements
            .iter()
            .map(|(verb, words, acl)| {
                let (path, version) = (words.plain(0), words.number("version", -1));
                match *verb {
                    "create" => MultiOp::Create(create(words, acl)),
                    "delete" => MultiOp::Delete(PathVersion { path, version }),
                    "check" => MultiOp::Check(PathVersion { path, version }),
                    _ => MultiOp::SetData(SetData { path, data: data(words.plain(1)), version }),
                }
            })
            .collect();
        let mut bytes = Vec::new();
        put_ops(&mut bytes, ops.into_iter());
        let request = Request::decode(Op::Multi, &mut Reader::new(&bytes)).unwrap();
        self.apply(session, &request)
    }

    fn read(&mut self, session: i64, verb: &str, words: &Words<'_>) -> Option<String> {
        let path = words.plain(0);
        let identities = self.identities.entry(session).or_default().clone();
        let (tree, policy) = (&self.tree, self.policy);
        let result = match verb {
            "stat" => tree.stat(path).map(|stat| brief(&stat)).ok_or(ErrorCode::NoNode),
            "exists" => tree.exists(path, &identities, policy).map(|stat| format!("v{}", stat.version)),
            "get" => tree
                .get_data(path, &identities, policy)
                .map(|(data, _)| data.map_or("null".to_owned(), |data| String::from_utf8_lossy(data).into_owned())),
            "getacl" => tree.get_acl(path, &identities, policy).map(|(acl, _)| {
                let entries = acl.iter().map(|Acl { perms, id }| format!("{}:{}:{}", id.scheme, id.id, perms.0));
                entries.collect::<Vec<_>>().join(",")
            }),
            "ls" => tree.children(path, &identities, policy).map(|(names, stat)| {
                assert_eq!(names.len(), usize::try_from(stat.num_children).unwrap());
                let mut names: Vec<_> = names.collect();
                names.sort_unstable();
                names.join(" ")
            }),
            "count" => tree.descendant_count(path, &identities, policy).map(|count| count.to_string()),
            "ephemerals" => {
                let mut paths: Vec<_> = tree.ephemerals(SessionId(session), path).collect();
                paths.sort_unstable();
                Ok(paths.join(" "))
            }
            "reapable" => Ok(tree.reapable(self.time_ms, words.number("never", 0), 100).join(" ")),
            _ => return None,
        };
        Some(result.unwrap_or_else(|error| error.to_string()))
    }
}

fn create<'a>(words: &Words<'a>, acl: &'a [u8]) -> Create<'a> {
    let op = match words.named.get("op") {
        Some(&"create2") => Op::Create2,
        Some(&"container") => Op::CreateContainer,
        Some(&"ttl") => Op::CreateTtl,
        _ => Op::Create,
    };
    Create {
        op,
        path: words.plain(0),
        data: data(words.named.get("data").copied().unwrap_or("")),
        acl: acl_list(acl),
        flags: words.number("flags", 0),
        ttl_ms: words.named.get("ttl").map(|ttl| ttl.parse().unwrap()),
    }
}

fn show_results(results: &[MultiResult<'_>]) -> String {
    let show = |result: &MultiResult<'_>| match result {
        MultiResult::Create(path) => path.to_string(),
        MultiResult::CreateStat(path, stat) => format!("{path}@{}", stat.czxid.0),
        MultiResult::Delete | MultiResult::Check => "ok".to_owned(),
        MultiResult::SetData(stat) => format!("v{}", stat.version),
        MultiResult::Error(code) => ErrorCode::from_code(*code).map_or(code.to_string(), |code| code.to_string()),
        other => format!("{other:?}"),
    };
    format!("[{}]", results.iter().map(show).collect::<Vec<_>>().join(" | "))
}

#[test]
fn a_new_tree_is_apaches() {
    let tree = Tree::new();
    assert_eq!((tree.node_count(), tree.data_bytes(), tree.last_zxid()), (4, 44, Zxid::ZERO));
}
