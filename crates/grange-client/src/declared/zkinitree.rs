//! The files of vsc-zk's zkinitree: users and znodes as sections.
//!
//! Facts about that program which are kept: the administrator is the user `root` and has everything everywhere, first
//! in each list; keys of a znode that are not about its creation are sets of permissions; empty ones grant nothing;
//! data is for the creation only; sections of several files are one, and later files win.

use std::collections::BTreeMap;

use grange_proto::acl::{Acl, Id, Perms};
use grange_proto::path;

use crate::auth::Auth;
use crate::declared::acl::{digest_id, parse_letters};
use crate::declared::file::Text;
use crate::declared::ini::{self, Key, Section};
use crate::declared::model::{Declared, DeclaredData, DeclaredZnode, Kind};
use crate::declared::problem::{Location, Problem, ReadError};

/// The user who may do everything.
const ADMINISTRATOR: &str = "root";

/// Reads files, of which later ones win.
pub(crate) fn read(files: &[Text]) -> Result<Declared, ReadError> {
    let mut reader = ZkinitreeReader::default();
    reader.declared.warnings.extend(files.iter().filter_map(|file| file.exposure("the passwords")));
    let sections = reader.merged_sections(files);
    for section in sections.iter().filter(|section| !section.name.starts_with('/') && section.name != "MAIN") {
        reader.user(section);
    }
    let administrator = reader.users.get(ADMINISTRATOR).cloned();
    if let Some(file) = files.first().filter(|_| !sections.iter().any(|section| section.name == ADMINISTRATOR)) {
        reader.problem(&file.location(1), "there is no section [root] with a passwd, the administrator's");
    }
    // Without the administrator there is a problem by now, and the lists are made for the problems in them only.
    let root = Acl { perms: Perms::ALL, id: administrator.unwrap_or_else(|| Id::new("digest", "")) };
    for section in sections.iter().filter(|section| section.name.starts_with('/')) {
        reader.znode(section, &root);
    }
    if let Some(main) = sections.iter().find(|section| section.name == "MAIN") {
        reader.main(main);
    }
    reader.nothing_below_a_sequential_znode();
    match reader.problems.is_empty() {
        true => Ok(reader.declared),
        false => Err(ReadError::Problems(reader.problems)),
    }
}

#[derive(Default)]
struct ZkinitreeReader {
    declared: Declared,
    users: BTreeMap<String, Id>,
    problems: Vec<Problem>,
}

impl ZkinitreeReader {
    fn problem(&mut self, location: &Location, message: impl Into<String>) {
        self.problems.push(Problem::new(location, message));
    }

    fn warn(&mut self, location: &Location, message: impl Into<String>) {
        self.declared.warnings.push(Problem::new(location, message));
    }

    /// One section per name, in the order in which they first come.
    fn merged_sections(&mut self, files: &[Text]) -> Vec<Section> {
        let mut merged: Vec<Section> = Vec::new();
        let mut index_of = BTreeMap::new();
        for file in files {
            let mut in_this_file = BTreeMap::new();
            for section in ini::read(file, &mut self.problems) {
                if let Some(first) = in_this_file.insert(section.name.clone(), section.location.clone()) {
                    let message =
                        format!("the section [{}] is in this file twice, first at {first}", shown(&section.name));
                    self.problem(&section.location, message);
                    continue;
                }
                self.look_for_repeated_keys(&section);
                match index_of.get(&section.name) {
                    None => {
                        index_of.insert(section.name.clone(), merged.len());
                        merged.push(section);
                    }
                    Some(&index) => lay_over(&mut merged[index], section),
                }
            }
        }
        merged
    }

    fn look_for_repeated_keys(&mut self, section: &Section) {
        for (index, key) in section.keys.iter().enumerate() {
            if let Some(first) = section.keys[..index].iter().find(|first| first.name == key.name) {
                let message =
                    format!("the key {} is in this section twice, first at {}", shown(&key.name), first.location);
                self.problem(&key.location, message);
            }
        }
    }

    fn user(&mut self, section: &Section) {
        let name = &section.name;
        if name == "DEFAULT" {
            return self.problem(
                &section.location,
                "a section [DEFAULT] would be in every other section; it is not supported",
            );
        }
        if name.contains([':', ',']) {
            return self.problem(&section.location, "the name of a user has no colon and no comma");
        }
        for key in &section.keys {
            match key.name.as_str() {
                "passwd" if key.had_comment => self.warn_of_comment(key),
                "passwd" => {}
                "path" if name == ADMINISTRATOR => {}
                other => self.warn(&key.location, format!("{} of a user has no meaning here", shown(other))),
            }
        }
        match section.keys.iter().find(|key| key.name == "passwd") {
            Some(key) if !key.value.is_empty() => {
                if name == ADMINISTRATOR {
                    self.declared.auths.push(Auth::digest(name, &key.value));
                }
                self.users.insert(name.clone(), digest_id(name, &key.value));
            }
            Some(key) => self.problem(&key.location, format!("the passwd of {} is empty", shown(name))),
            None => self.problem(&section.location, format!("the user {} has no passwd", shown(name))),
        }
    }

    fn warn_of_comment(&mut self, key: &Key) {
        let name = &key.name;
        self.warn(&key.location, format!("what follows ' ;' is taken as a comment, not as a part of {name}"));
    }

    fn main(&mut self, section: &Section) {
        for key in &section.keys {
            match key.name.as_str() {
                "servers" if key.value.is_empty() => {}
                "servers" => self.declared.servers = Some((key.value.clone(), key.location.clone())),
                other => self.warn(&key.location, format!("{} in [MAIN] has no meaning here", shown(other))),
            }
        }
    }

    fn znode(&mut self, section: &Section, root: &Acl) {
        if let Err(why) = path::validate(&section.name) {
            return self.problem(&section.location, format!("'{}' is no path of a znode: {why}", shown(&section.name)));
        }
        let mut znode = DeclaredZnode {
            data: DeclaredData::Any,
            acl: None,
            kind: Kind::Persistent,
            makes_parents: false,
            is_sensitive: false,
            location: section.location.clone(),
        };
        let mut acl = vec![root.clone()];
        let mut is_ephemeral = false;
        for key in section.keys.iter().filter(|key| !key.value.is_empty()) {
            match key.name.as_str() {
                "value" => {
                    if key.had_comment {
                        self.warn_of_comment(key);
                    }
                    znode.data = DeclaredData::Initially(key.value.clone().into_bytes());
                }
                "makepath" => znode.makes_parents = self.flag(key),
                "sequence" if self.flag(key) => znode.kind = Kind::Sequential,
                "ephemeral" => is_ephemeral = self.flag(key),
                "sequence" => {}
                _ => self.grant(key, &mut acl),
            }
        }
        znode.acl = Some(acl);
        if is_ephemeral {
            return self.warn(&section.location, "an ephemeral znode is gone when the command ends; it is left out");
        }
        if section.name == "/" && znode.kind == Kind::Sequential {
            return self.problem(&section.location, "the root has no number");
        }
        self.declared.znodes.insert(section.name.clone(), znode);
    }

    fn flag(&mut self, key: &Key) -> bool {
        match key.value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => {
                self.problem(&key.location, format!("{} is true or false", key.name));
                false
            }
        }
    }

    fn grant(&mut self, key: &Key, acl: &mut Vec<Acl>) {
        let perms = match key.name.as_str() {
            "all" => Ok(Perms::ALL),
            letters => parse_letters(letters),
        };
        let perms = match perms {
            Ok(perms) => perms,
            Err(letter) => {
                let message = format!(
                    "{}: '{}' is none of the permissions r, w, c, d and a; other keys are all, value, makepath, sequence, ephemeral",
                    shown(&key.name),
                    letter.escape_debug(),
                );
                return self.problem(&key.location, message);
            }
        };
        for user in key.value.split(',').map(str::trim) {
            match self.users.get(user) {
                Some(id) => acl.push(Acl { perms, id: id.clone() }),
                None => self.problem(
                    &key.location,
                    format!("there is no user '{}': it needs a section [{0}] with a passwd", shown(user)),
                ),
            }
        }
    }

    /// Nobody knows the name of a sequential znode beforehand.
    fn nothing_below_a_sequential_znode(&mut self) {
        let sequential =
            |path: &str| self.declared.znodes.get(path).is_some_and(|znode| znode.kind == Kind::Sequential);
        let below: Vec<_> = self
            .declared
            .znodes
            .iter()
            .filter(|(path, _)| super::model::ancestors(path).any(sequential))
            .map(|(_, znode)| znode.location.clone())
            .collect();
        for location in below {
            self.problem(&location, "the znode above this one gets a number, so nothing can be declared below it");
        }
    }
}

fn lay_over(below: &mut Section, above: Section) {
    for key in above.keys {
        match below.keys.iter_mut().find(|old| old.name == key.name) {
            Some(old) => *old = key,
            None => below.keys.push(key),
        }
    }
}

/// Text of a file in an error, in one line.
fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}
