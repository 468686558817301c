//! What is exported of a farm, and what came of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::format::Format;
use crate::properties::Properties;

/// What is exported of a farm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Export {
    /// The hosts that are meant, by name.
    pub hosts: BTreeMap<String, Properties>,
    /// The properties of the farm itself.
    pub farm: Properties,
}

impl Export {
    /// Returns an object with one field per host, as [`write`](fn@super::write) takes it.
    pub fn properties(&self) -> Properties {
        let hosts: Map<String, Value> =
            self.hosts.iter().map(|(name, host)| (name.clone(), Value::from(host.clone()))).collect();
        Properties::from(hosts)
    }
}

/// The text of a file, and which hosts are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// What belongs into the file.
    pub bytes: Vec<u8>,
    /// The hosts, or parts of them, that have no form in it.
    pub left_out: Vec<LeftOut>,
}

/// A host that is not in the file, or not as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The host's name, as it is.
    pub host: String,
    /// What is left out if it is not the whole host, and why.
    pub why: String,
}

/// Why there is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The target is [`Format::Dir`], which has no text; [`write`](fn@super::write) writes it.
    #[error("a directory is written file by file")]
    Directory,
    /// A value has no form in the format.
    #[error("cannot write the farm as {format}: {why}")]
    NoForm {
        /// The format.
        format: Format,
        /// Which value, and why.
        why: String,
    },
    /// Two fields would have the same name in an environment, so that one would pass for the other.
    #[error("both {first} and {second} would be {name}; leave one out with '--filters', or use another format")]
    Collision {
        /// The name.
        name: String,
        /// Host and field.
        first: String,
        /// Host and field.
        second: String,
    },
}
