//! What the ensemble has of a declaration, read in pipelines.

use std::collections::{BTreeMap, BTreeSet};

use grange_proto::acl::{Acl, Id, Perms};
use grange_proto::path::split;

use crate::declared::model::{Declared, DeclaredData, DeclaredZnode, Kind, ancestors, child_of, is_below};
use crate::pipeline::pipelined;
use crate::{Client, ClientError, Permission, Stat};

/// The subtree that belongs to the servers.
pub(crate) const SERVERS_OWN: &str = "/zookeeper";

/// The version of what may not be read; no change is ever based on it, because a plan does not change such things.
const UNKNOWN_VERSION: i32 = i32::MIN;

/// The live tree, as far as a declaration is concerned.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The declared znodes that exist.
    pub znodes: BTreeMap<String, LiveZnode>,
    /// The ancestors of declared znodes that exist and are not declared themselves.
    pub ancestors: BTreeSet<String>,
    /// The declared sequential znodes of which there is one.
    pub sequential: BTreeSet<String>,
    /// The znodes below the roots that are not declared, if they were asked for.
    pub unnamed: BTreeMap<String, Unnamed>,
}

/// A znode as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveZnode {
    /// What it holds; `None` unless the declaration says what it should be.
    pub data: Option<LiveData>,
    /// The version of the data.
    pub version: i32,
    /// Who may do what; `None` unless the declaration says who should.
    pub acl: Option<Vec<Acl>>,
    /// The version of the ACL.
    pub aversion: i32,
    /// It goes with its session.
    pub is_ephemeral: bool,
}

impl LiveZnode {
    /// A znode of which this is known; `None` for one that may not be looked at.
    fn of(stat: Option<Stat>) -> LiveZnode {
        LiveZnode {
            data: None,
            version: stat.map_or(UNKNOWN_VERSION, |stat| stat.version),
            acl: None,
            aversion: stat.map_or(UNKNOWN_VERSION, |stat| stat.aversion),
            is_ephemeral: stat.is_some_and(|stat| stat.ephemeral_owner != 0),
        }
    }
}

fn needs_acl(znode: &DeclaredZnode) -> bool {
    znode.acl.is_some()
}

fn needs_data(znode: &DeclaredZnode) -> bool {
    matches!(znode.data, DeclaredData::Exactly(_))
}

/// Data that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveData {
    /// This.
    Known(Vec<u8>),
    /// The caller may not read it.
    Forbidden,
}

/// A znode that is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unnamed {
    /// The version of its data.
    pub version: i32,
    /// It goes with its session.
    pub is_ephemeral: bool,
    /// The caller may not list its children.
    pub is_closed: bool,
}

/// Why the live tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A request about a znode failed.
    #[error("cannot read {path}")]
    Znode {
        /// The znode.
        path: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The session cannot be used.
    #[error("cannot read the tree")]
    Session(#[source] ClientError),
}

fn cannot_read(path: &str) -> impl FnOnce(ClientError) -> LiveError {
    let path = path.to_owned();
    move |source| LiveError::Znode { path, source }
}

impl Live {
    /// Reads what there is, after a `sync`, so that it is not older than this moment.
    ///
    /// `finds_unnamed` asks for everything below the roots too.
    pub async fn read(client: &Client, declared: &Declared, finds_unnamed: bool) -> Result<Live, LiveError> {
        client.sync("/").await.map_err(LiveError::Session)?;
        let mut live = Live::default();
        live.read_stats(client, declared).await?;
        live.read_acls(client, declared).await?;
        live.read_data(client, declared).await?;
        live.read_sequential(client, declared).await?;
        if finds_unnamed {
            live.read_unnamed(client, declared).await?;
        }
        Ok(live)
    }

    /// Asks which ancestors exist, and which declared znodes of which nothing else is asked: the other requests tell it
    /// too.
    ///
    /// Some servers need READ for that; who has not got it learns that there is a znode.
    async fn read_stats(&mut self, client: &Client, declared: &Declared) -> Result<(), LiveError> {
        let is_asked = |path: &&str| match declared.znodes.get(*path) {
            Some(znode) => znode.kind != Kind::Sequential && !needs_acl(znode) && !needs_data(znode),
            None => true,
        };
        let paths: BTreeSet<&str> =
            declared.znodes.keys().flat_map(|path| std::iter::once(path.as_str()).chain(ancestors(path))).collect();
        pipelined(
            paths.iter().copied().filter(is_asked),
            |path| Box::pin(client.check_stat(path)),
            |path, reply: Result<Option<Stat>, _>| {
                let stat = match reply {
                    Ok(Some(stat)) => Some(stat),
                    Ok(None) => return Ok(()),
                    Err(ClientError::NoAuth) => None,
                    Err(error) => return Err(cannot_read(path)(error)),
                };
                if declared.znodes.contains_key(path) {
                    self.znodes.insert(path.to_owned(), LiveZnode::of(stat));
                } else {
                    self.ancestors.insert(path.to_owned());
                }
                Ok(())
            },
        )
        .await
    }

    async fn read_acls(&mut self, client: &Client, declared: &Declared) -> Result<(), LiveError> {
        let asked = declared.znodes.iter().filter(|(_, znode)| znode.kind != Kind::Sequential && needs_acl(znode));
        pipelined(
            asked.map(|(path, _)| path),
            |path| Box::pin(client.get_acl(path)),
            |path, reply: Result<(Vec<crate::Acl>, Stat), _>| {
                let znode = match reply {
                    Ok((acl, stat)) => LiveZnode { acl: Some(acls_from_client(&acl)), ..LiveZnode::of(Some(stat)) },
                    // Who may not even see it may not change it either; the plan says so.
                    Err(ClientError::NoAuth) => LiveZnode::of(None),
                    Err(ClientError::NoNode) => return Ok(()),
                    Err(error) => return Err(cannot_read(path)(error)),
                };
                self.znodes.insert(path.clone(), znode);
                Ok(())
            },
        )
        .await
    }

    async fn read_data(&mut self, client: &Client, declared: &Declared) -> Result<(), LiveError> {
        // One that was not there a moment ago is still missing: both are of the same moment, as far as it is known.
        let is_missing = |path: &String, znode| needs_acl(znode) && !self.znodes.contains_key(path);
        let asked = declared
            .znodes
            .iter()
            .filter(|(path, znode)| znode.kind != Kind::Sequential && needs_data(znode) && !is_missing(path, znode));
        let asked: Vec<&String> = asked.map(|(path, _)| path).collect();
        pipelined(
            asked,
            |path| Box::pin(client.get_data(path)),
            |path, reply: Result<(Vec<u8>, Stat), _>| {
                let (data, stat) = match reply {
                    Ok((data, stat)) => (LiveData::Known(data), Some(stat)),
                    Err(ClientError::NoAuth) => (LiveData::Forbidden, None),
                    Err(ClientError::NoNode) => {
                        self.znodes.remove(path);
                        return Ok(());
                    }
                    Err(error) => return Err(cannot_read(path)(error)),
                };
                let znode = self.znodes.entry(path.clone()).or_insert_with(|| LiveZnode::of(stat));
                znode.data = Some(data);
                znode.version = stat.map_or(znode.version, |stat| stat.version);
                Ok(())
            },
        )
        .await
    }

    async fn read_sequential(&mut self, client: &Client, declared: &Declared) -> Result<(), LiveError> {
        let sequential = declared.znodes.iter().filter(|(_, znode)| znode.kind == Kind::Sequential);
        for (path, _) in sequential {
            let Some((parent, prefix)) = split(path) else { continue };
            match client.list_children(parent).await {
                Ok(names) if names.iter().any(|name| is_numbered(name, prefix)) => {
                    self.sequential.insert(path.clone());
                }
                Ok(_) | Err(ClientError::NoNode) => {}
                Err(error) => return Err(cannot_read(parent)(error)),
            }
        }
        Ok(())
    }

    /// Goes through everything below the roots, one level after the other.
    async fn read_unnamed(&mut self, client: &Client, declared: &Declared) -> Result<(), LiveError> {
        let mut level: Vec<String> =
            declared.roots().filter(|root| self.znodes.contains_key(*root)).map(str::to_owned).collect();
        let chroot = client.path().to_owned();
        while !level.is_empty() {
            let mut next = Vec::new();
            pipelined(
                std::mem::take(&mut level),
                |path| Box::pin(client.get_children(path)),
                |path, reply: Result<(Vec<String>, Stat), _>| {
                    let is_declared = declared.znodes.contains_key(&path);
                    let (names, unnamed) = match reply {
                        Ok((names, stat)) => (names, Some((stat.version, stat.ephemeral_owner != 0, false))),
                        Err(ClientError::NoAuth) => (Vec::new(), Some((-1, false, true))),
                        Err(ClientError::NoNode) => (Vec::new(), None),
                        Err(error) => return Err(cannot_read(&path)(error)),
                    };
                    if let Some((version, is_ephemeral, is_closed)) = unnamed.filter(|_| !is_declared) {
                        self.unnamed.insert(path.clone(), Unnamed { version, is_ephemeral, is_closed });
                    }
                    let children = names.iter().map(|name| child_of(&path, name));
                    next.extend(children.filter(|child| !is_servers_own(&chroot, child)));
                    Ok(())
                },
            )
            .await?;
            level = next;
        }
        let sequential = declared.znodes.iter().filter(|(_, znode)| znode.kind == Kind::Sequential);
        let prefixes: Vec<&str> = sequential.map(|(path, _)| path.as_str()).collect();
        self.unnamed.retain(|path, _| !prefixes.iter().any(|prefix| is_numbered(path, prefix)));
        Ok(())
    }
}

/// Tells whether a znode belongs to the servers: `chroot` is where the session's root really is.
pub(crate) fn is_servers_own(chroot: &str, path: &str) -> bool {
    let absolute = match chroot {
        "/" => path.to_owned(),
        chroot => format!("{chroot}{}", if path == "/" { "" } else { path }),
    };
    absolute == SERVERS_OWN || is_below(&absolute, SERVERS_OWN)
}

/// Tells whether `name` is `prefix` with a number as servers append it.
fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|number| number.len() >= 10 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An entry as the client library has it.
fn acl_from_client(acl: &crate::Acl) -> Acl {
    let bits = [
        (Permission::READ, Perms::READ),
        (Permission::WRITE, Perms::WRITE),
        (Permission::CREATE, Perms::CREATE),
        (Permission::DELETE, Perms::DELETE),
        (Permission::ADMIN, Perms::ADMIN),
    ];
    let granted = bits.iter().filter(|(permission, _)| acl.permission().has(*permission));
    let perms = granted.fold(Perms(0), |perms, (_, perm)| perms.union(*perm));
    Acl { perms, id: Id::new(acl.scheme(), acl.id()) }
}

/// An entry for the client library.
pub(crate) fn acl_for_client(acl: &Acl) -> crate::Acl {
    let bits = [
        (Perms::READ, Permission::READ),
        (Perms::WRITE, Permission::WRITE),
        (Perms::CREATE, Permission::CREATE),
        (Perms::DELETE, Permission::DELETE),
        (Perms::ADMIN, Permission::ADMIN),
    ];
    let granted = bits.iter().filter(|(perm, _)| acl.perms.intersects(*perm));
    let permission = granted.fold(Permission::NONE, |permission, (_, more)| permission | *more);
    crate::Acl::new(permission, crate::AuthId::new(&acl.id.scheme, &acl.id.id))
}

pub(crate) fn acls_from_client(acls: &[crate::Acl]) -> Vec<Acl> {
    acls.iter().map(acl_from_client).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_servers_is_known_under_every_root() {
        for (chroot, path, is_own) in [
            ("/", "/zookeeper", true),
            ("/", "/zookeeper/config", true),
            ("/", "/zookeeper2", false),
            ("/", "/a/zookeeper", false),
            ("/a", "/zookeeper", false),
            ("/zookeeper", "/quota", true),
            ("/zookeeper", "/", true),
            ("/zookeeper/quota", "/a", true),
        ] {
            assert_eq!(is_servers_own(chroot, path), is_own, "{chroot} {path}");
        }
    }

    #[test]
    fn a_number_is_what_servers_append() {
        assert!(is_numbered("n-0000000012", "n-"));
        assert!(!is_numbered("n-12", "n-"));
        assert!(!is_numbered("n-000000001x", "n-"));
    }
}
