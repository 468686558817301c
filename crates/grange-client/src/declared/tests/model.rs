//! A server in memory, as naive as possible: what steps do to a tree, and what `Live::read` would see of it.

use std::collections::BTreeMap;

use grange_proto::acl::{Acl, Perms};
use grange_proto::path::split;

use crate::declared::model::{ancestors, is_below};
use crate::declared::{Caller, Declared, DeclaredData, Live, LiveData, LiveZnode, Step, Unnamed, Write};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Znode {
    pub(super) data: Vec<u8>,
    pub(super) version: i32,
    pub(super) acl: Vec<Acl>,
    pub(super) aversion: i32,
    pub(super) is_ephemeral: bool,
}

impl Znode {
    pub(super) fn new(data: &[u8], acl: Vec<Acl>) -> Znode {
        Znode { data: data.to_vec(), version: 0, acl, aversion: 0, is_ephemeral: false }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) znodes: BTreeMap<String, Znode>,
    pub(super) caller: Caller,
}

impl Server {
    pub(super) fn new(caller: Caller) -> Server {
        Server { znodes: BTreeMap::from([("/".to_owned(), Znode::new(b"", Acl::open()))]), caller }
    }

    pub(super) fn live(&self, declared: &Declared) -> Live {
        let mut live = Live::default();
        for (path, znode) in &self.znodes {
            if let Some(wanted) = declared.znodes.get(path) {
                let known = LiveData::Known(znode.data.clone());
                let seen = LiveZnode {
                    data: matches!(wanted.data, DeclaredData::Exactly(_)).then_some(known),
                    version: znode.version,
                    acl: wanted.acl.as_ref().map(|_| znode.acl.clone()),
                    aversion: znode.aversion,
                    is_ephemeral: znode.is_ephemeral,
                };
                live.znodes.insert(path.clone(), seen);
            } else if declared.znodes.keys().any(|below| ancestors(below).any(|ancestor| ancestor == path)) {
                live.ancestors.insert(path.clone());
            }
            if !declared.znodes.contains_key(path) && declared.roots().any(|root| is_below(path, root)) {
                let unnamed = Unnamed { version: znode.version, is_ephemeral: znode.is_ephemeral, is_closed: false };
                live.unnamed.insert(path.clone(), unnamed);
            }
        }
        live
    }

    fn may(&self, path: &str, perm: Perms) -> Result<(), String> {
        let znode = self.znodes.get(path).ok_or_else(|| format!("there is no {path}"))?;
        self.caller.may(&znode.acl, perm).then_some(()).ok_or_else(|| format!("no {perm:?} on {path}"))
    }

    /// Carries out a step as a server would; a step that fails leaves the rest of it undone.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Transaction(writes) => {
                let before = self.znodes.clone();
                let done = writes.iter().try_for_each(|write| self.write(write));
                if done.is_err() {
                    self.znodes = before;
                }
                done
            }
            Step::Create(create) => self.write(&Write::Create(create.clone())),
            Step::Acls(writes) => writes.iter().try_for_each(|write| {
                self.may(&write.path, Perms::ADMIN)?;
                let znode = self.znodes.get_mut(&write.path).expect("it was found above");
                if znode.aversion != write.aversion {
                    return Err(format!("another aversion on {}", write.path));
                }
                znode.acl = write.acl.clone();
                znode.aversion += 1;
                Ok(())
            }),
        }
    }

    fn write(&mut self, write: &Write) -> Result<(), String> {
        let path = write.path();
        let parent = split(path).map(|(parent, _)| parent);
        match write {
            Write::Create(create) => {
                self.may(parent.ok_or("the root is not created")?, Perms::CREATE)?;
                let znode = Znode::new(&create.data, create.acl.clone());
                match self.znodes.insert(path.to_owned(), znode) {
                    None => Ok(()),
                    Some(_) => Err(format!("{path} exists")),
                }
            }
            Write::SetData { data, version, .. } => {
                self.may(path, Perms::WRITE)?;
                let znode = self.znodes.get_mut(path).expect("it was found above");
                if znode.version != *version {
                    return Err(format!("another version of {path}"));
                }
                znode.data = data.clone();
                znode.version += 1;
                Ok(())
            }
            Write::Delete { version, .. } => {
                self.may(parent.ok_or("the root is not deleted")?, Perms::DELETE)?;
                if self.znodes.keys().any(|other| is_below(other, path)) {
                    return Err(format!("{path} is not empty"));
                }
                match self.znodes.remove(path) {
                    Some(znode) if znode.version == *version => Ok(()),
                    found => Err(format!("{path} is {found:?}")),
                }
            }
        }
    }
}
