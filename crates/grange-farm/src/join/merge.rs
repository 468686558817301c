//! What becomes of two sides that have both changed since they were equal.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::properties::Properties;

/// Which side is right where both say something different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Winner {
    Local,
    Remote,
}

/// Both sides in one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Merged {
    pub(super) properties: Properties,
    /// The fields, with dots between their names, of which both sides had changed and one won.
    pub(super) conflicts: Vec<String>,
}

/// Takes each change since `base` from the side that made it; where both did, `winner` is right.
///
/// Without a base, which is what both were when they were equal, the winner is right in everything.
pub(super) fn merge(base: Option<&Properties>, local: &Properties, remote: &Properties, winner: Winner) -> Merged {
    let Some(base) = base else {
        let properties = match winner {
            Winner::Local => local.clone(),
            Winner::Remote => remote.clone(),
        };
        return Merged { properties, conflicts: Vec::new() };
    };
    let mut conflicts = Vec::new();
    let merged = objects(base.fields(), local.fields(), remote.fields(), winner, "", &mut conflicts);
    Merged { properties: Properties::from(merged), conflicts }
}

type Object = Map<String, Value>;

fn objects(
    base: &Object,
    local: &Object,
    remote: &Object,
    winner: Winner,
    above: &str,
    conflicts: &mut Vec<String>,
) -> Object {
    let names: BTreeSet<&String> = local.keys().chain(remote.keys()).collect();
    let mut merged = Object::new();
    for name in names {
        let (was, here, there) = (base.get(name), local.get(name), remote.get(name));
        let value = if here == there || there == was {
            here.cloned()
        } else if here == was {
            there.cloned()
        } else if let (Some(Value::Object(here)), Some(Value::Object(there))) = (here, there) {
            let empty = Object::new();
            let was = was.and_then(Value::as_object).unwrap_or(&empty);
            Some(Value::Object(objects(was, here, there, winner, &format!("{above}{name}."), conflicts)))
        } else {
            conflicts.push(format!("{above}{name}"));
            match winner {
                Winner::Local => here.cloned(),
                Winner::Remote => there.cloned(),
            }
        };
        if let Some(value) = value {
            merged.insert(name.clone(), value);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(base: Value, local: Value, remote: Value, merged: Value, conflicts: &[&str]) {
        let [base, local, remote, merged] =
            [base, local, remote, merged].map(|value| Properties::try_from(value).unwrap());
        let found = merge(Some(&base), &local, &remote, Winner::Local);
        assert_eq!((found.properties, found.conflicts), (merged, conflicts.iter().map(ToString::to_string).collect()));
    }

    #[test]
    fn changes_of_different_fields_are_both_kept() {
        let base = json!({"enabled": "1", "mysql": {"delay": "0", "role": "slave"}, "gone": 1, "left": 2});
        let local = json!({"enabled": "1", "mysql": {"delay": "7", "role": "slave"}, "left": 2, "new": 3});
        let remote = json!({"enabled": "0", "mysql": {"delay": "0", "role": "master"}, "gone": 1});
        let merged = json!({"enabled": "0", "mysql": {"delay": "7", "role": "master"}, "new": 3});
        check(base, local, remote, merged, &[]);
    }

    #[test]
    fn the_winner_is_right_about_a_field_that_both_changed() {
        let (base, local, remote) =
            (json!({"a": 1, "b": {"c": 1}}), json!({"a": 2, "b": {"c": 2}}), json!({"a": 3, "b": "x"}));
        check(base.clone(), local.clone(), remote.clone(), local.clone(), &["a", "b"]);
        let [base, local, remote] = [base, local, remote].map(|value| Properties::try_from(value).unwrap());
        assert_eq!(merge(Some(&base), &local, &remote, Winner::Remote).properties, remote);
        // A removal is a change.
        check(json!({"a": 1}), json!({}), json!({"a": 2}), json!({}), &["a"]);
        check(json!({"a": 1}), json!({"a": 2}), json!({}), json!({"a": 2}), &["a"]);
        check(
            json!({}),
            json!({"o": {"x": 1, "y": 1}}),
            json!({"o": {"x": 2, "z": 1}}),
            json!({"o": {"x": 1, "y": 1, "z": 1}}),
            &["o.x"],
        );
    }

    #[test]
    fn the_same_change_on_both_sides_is_no_conflict() {
        check(json!({"a": 1}), json!({"a": 2}), json!({"a": 2}), json!({"a": 2}), &[]);
        check(json!({"a": 1}), json!({}), json!({}), json!({}), &[]);
    }

    #[test]
    fn without_a_base_one_side_is_right() {
        let [local, remote] =
            [json!({"a": 1, "b": 1}), json!({"b": 2, "c": 2})].map(|value| Properties::try_from(value).unwrap());
        assert_eq!(merge(None, &local, &remote, Winner::Local).properties, local);
        assert_eq!(merge(None, &local, &remote, Winner::Remote).properties, remote);
    }
}
