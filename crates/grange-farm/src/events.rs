//! What happens in a farm, in words for people and programs: who joined, who left, which fields changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::difference::{FieldChange, difference};
use crate::filter::Filter;
use crate::hosts::Host;
use crate::properties::{Properties, PropertiesError};
use crate::view::{FarmChange, FarmView};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum FarmEvent {
    /// A host came, or is meant by the filter now.
    Joined {
        /// Its name.
        host: String,
        /// What it says of itself.
        properties: Properties,
    },
    /// A host went, or is meant by the filter no longer.
    Left {
        /// Its name.
        host: String,
        /// What it said of itself last, unless that could not be read.
        properties: Option<Properties>,
    },
    /// Fields of a host changed.
    Changed {
        /// Its name.
        host: String,
        /// Which; never empty.
        fields: Vec<FieldChange>,
    },
    /// A host's data can be read as properties no longer.
    Unreadable {
        /// Its name.
        host: String,
        /// Why.
        why: String,
    },
    /// A host's data can be read as properties again.
    Readable {
        /// Its name.
        host: String,
        /// What it says of itself.
        properties: Properties,
    },
    /// There is a farm.
    FarmCreated {
        /// Its own properties.
        properties: Properties,
    },
    /// Fields of the farm itself changed.
    FarmChanged {
        /// Which; never empty.
        fields: Vec<FieldChange>,
    },
    /// The farm's own data can be read as properties no longer.
    FarmUnreadable {
        /// Why.
        why: String,
    },
    /// There is no farm any more.
    FarmDeleted,
}

/// The last that was told of a host or of the farm.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Properties(Properties),
    Unreadable(String),
}

impl Told {
    fn of(data: Result<&Properties, &PropertiesError>) -> Told {
        match data {
            Ok(properties) => Told::Properties(properties.clone()),
            Err(error) => Told::Unreadable(explain(error)),
        }
    }

    fn properties(self) -> Option<Properties> {
        match self {
            Told::Properties(properties) => Some(properties),
            Told::Unreadable(_) => None,
        }
    }
}

/// Turns states into events: tells what is different from what it has told before.
#[derive(Debug, Default)]
pub struct Teller {
    filter: Filter,
    hosts: BTreeMap<String, Told>,
    farm: Option<Told>,
}

impl Teller {
    /// Begins with a farm of which nothing is known. Only hosts that the filter means are told.
    pub fn new(filter: Filter) -> Teller {
        Teller { filter, ..Teller::default() }
    }

    /// Returns what a change of a view means.
    pub fn learn(&mut self, change: &FarmChange, view: &FarmView) -> Option<FarmEvent> {
        match change {
            FarmChange::Joined(host) | FarmChange::Left(host, _) | FarmChange::Changed(host, _) => {
                self.host(host, view.hosts().get(host))
            }
            FarmChange::Farm => self.farm(view.exists().then(|| view.properties())),
            FarmChange::Ready => None,
        }
    }

    /// Takes in what a host is now; `None` if it is not there.
    pub fn host(&mut self, name: &str, now: Option<&Host>) -> Option<FarmEvent> {
        let before = self.hosts.remove(name);
        let host = name.to_owned();
        let now = now.filter(|now| match now {
            Ok(properties) => self.filter.matches(properties),
            // Nobody knows whether it is meant; if it was, that is worth a word.
            Err(_) => self.filter.is_empty() || before.is_some(),
        });
        let now = now.map(|now| Told::of(now.as_ref().map_err(Arc::as_ref)));
        if let Some(now) = &now {
            self.hosts.insert(host.clone(), now.clone());
        }
        match (before, now) {
            (None, None) => None,
            (None, Some(Told::Properties(properties))) => Some(FarmEvent::Joined { host, properties }),
            (Some(before), None) => Some(FarmEvent::Left { host, properties: before.properties() }),
            (Some(Told::Properties(before)), Some(Told::Properties(after))) => {
                let fields = difference(&before, &after);
                (!fields.is_empty()).then_some(FarmEvent::Changed { host, fields })
            }
            (Some(Told::Unreadable(_)), Some(Told::Properties(properties))) => {
                Some(FarmEvent::Readable { host, properties })
            }
            (Some(Told::Unreadable(before)), Some(Told::Unreadable(why))) if before == why => None,
            (_, Some(Told::Unreadable(why))) => Some(FarmEvent::Unreadable { host, why }),
        }
    }

    /// Takes in what the farm itself is now; `None` if it is not there.
    pub fn farm(&mut self, now: Option<Result<Properties, PropertiesError>>) -> Option<FarmEvent> {
        let now = now.map(|now| Told::of(now.as_ref()));
        match (std::mem::replace(&mut self.farm, now.clone()), now) {
            (None, None) => None,
            (Some(_), None) => Some(FarmEvent::FarmDeleted),
            (None, Some(Told::Properties(properties))) => Some(FarmEvent::FarmCreated { properties }),
            (Some(before), Some(Told::Properties(after))) => {
                let fields = difference(&before.properties().unwrap_or_default(), &after);
                (!fields.is_empty()).then_some(FarmEvent::FarmChanged { fields })
            }
            (Some(Told::Unreadable(before)), Some(Told::Unreadable(why))) if before == why => None,
            (_, Some(Told::Unreadable(why))) => Some(FarmEvent::FarmUnreadable { why }),
        }
    }
}

/// Says in one line why data are no properties.
pub fn explain(error: &PropertiesError) -> String {
    match error {
        PropertiesError::Json(cause) => format!("{error}: {cause}"),
        PropertiesError::Kind(_) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(data: &str) -> Host {
        Properties::decode(data.as_bytes()).map_err(Arc::new)
    }

    /// What is told when a host has these data one after the other; `-` for none.
    fn told(filter: &str, states: &[&str]) -> Vec<String> {
        let mut teller = Teller::new(filter.parse().unwrap());
        let mut name = |data: &&str| {
            let now = (*data != "-").then(|| host(data));
            match teller.host("h", now.as_ref())? {
                FarmEvent::Joined { .. } => Some("joined".to_owned()),
                FarmEvent::Left { properties, .. } => Some(format!("left {}", properties.is_some())),
                FarmEvent::Changed { fields, .. } => {
                    Some(fields.into_iter().map(|change| change.field).collect::<Vec<_>>().join(" "))
                }
                FarmEvent::Unreadable { .. } => Some("unreadable".to_owned()),
                FarmEvent::Readable { .. } => Some("readable".to_owned()),
                other => panic!("{other:?}"),
            }
        };
        states.iter().filter_map(&mut name).collect()
    }

    #[test]
    fn a_host_is_told_as_it_comes_changes_and_goes() {
        let states = ["-", "", "{}", r#"{"a":{"b":1}}"#, r#"{"a":{"b":2},"c":1}"#, "-", "-", "{}"];
        assert_eq!(told("", &states), ["joined", "a", "a.b c", "left true", "joined"]);
    }

    #[test]
    fn data_that_cannot_be_read_are_told_once() {
        assert_eq!(
            told("", &["[", "[", "[]", "{}", "[", "-"]),
            ["unreadable", "unreadable", "readable", "unreadable", "left false"]
        );
    }

    #[test]
    fn a_filter_decides_who_has_joined() {
        let states = [r#"{"on":0}"#, "[", r#"{"on":1}"#, r#"{"on":1,"x":1}"#, "[", r#"{"on":1}"#, r#"{"on":0}"#, "-"];
        assert_eq!(told("on=1", &states), ["joined", "x", "unreadable", "readable", "left true"]);
    }

    #[test]
    fn the_farm_itself_is_told_too() {
        let mut teller = Teller::default();
        let mut now = |data: Option<&str>| teller.farm(data.map(|data| Properties::decode(data.as_bytes())));
        assert_eq!(now(None), None);
        assert!(matches!(now(Some("{\"size\": 1}")), Some(FarmEvent::FarmCreated { .. })));
        assert_eq!(now(Some("{\"size\":1}")), None);
        assert!(matches!(now(Some("{\"size\": 2}")), Some(FarmEvent::FarmChanged { fields }) if fields.len() == 1));
        assert!(matches!(now(Some("[")), Some(FarmEvent::FarmUnreadable { .. })));
        assert!(matches!(now(Some("{\"size\": 2}")), Some(FarmEvent::FarmChanged { .. })));
        assert_eq!(now(None), Some(FarmEvent::FarmDeleted));
    }
}
