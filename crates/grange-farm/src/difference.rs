//! What two states of a host differ in, field by field.

use serde_json::{Map, Value};

use crate::properties::Properties;

/// A field that came, went or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// Where it is, with dots between the names.
    pub field: String,
    /// What it was; `None` if it was not there.
    pub before: Option<Value>,
    /// What it is; `None` if it is not there.
    pub after: Option<Value>,
}

/// Returns each value with its field, in order of the fields. An object is told by the values in it, unless it is empty.
pub fn leaves(properties: &Properties) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    collect("", properties.fields(), &mut found);
    found
}

fn collect<'a>(above: &str, fields: &'a Map<String, Value>, found: &mut Vec<(String, &'a Value)>) {
    for (name, value) in fields {
        let field = dotted(above, name);
        match value {
            Value::Object(inner) if !inner.is_empty() => collect(&field, inner, found),
            value => found.push((field, value)),
        }
    }
}

/// Returns what has to change to make one state the other, in order of the fields.
pub fn difference(before: &Properties, after: &Properties) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare("", before.fields(), after.fields(), &mut changes);
    changes
}

fn compare(above: &str, before: &Map<String, Value>, after: &Map<String, Value>, changes: &mut Vec<FieldChange>) {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let field = dotted(above, name);
        match (before.get(name), after.get(name)) {
            (Some(one), Some(two)) if one == two => {}
            // Of two objects, what differs within; one that came or went as a whole is told as a whole.
            (Some(Value::Object(one)), Some(Value::Object(two))) => compare(&field, one, two, changes),
            (one, two) => changes.push(FieldChange { field, before: one.cloned(), after: two.cloned() }),
        }
    }
}

fn dotted(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(value: Value) -> Properties {
        Properties::try_from(value).unwrap()
    }

    #[test]
    fn leaves_are_told_with_their_fields() {
        let host = properties(json!({"b": {"y": 1, "x": {"z": "2"}}, "a": [1], "e": {}, "n": null}));
        let shown: Vec<_> = leaves(&host).into_iter().map(|(field, value)| format!("{field}={value}")).collect();
        assert_eq!(shown, ["a=[1]", r#"b.x.z="2""#, "b.y=1", "e={}", "n=null"]);
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = properties(json!({"same": 1, "gone": "x", "mysql": {"delay": "0", "role": "slave"}, "kind": {}}));
        let after =
            properties(json!({"same": 1, "come": true, "mysql": {"delay": "9", "role": "slave"}, "kind": "text"}));
        let shown: Vec<_> = difference(&before, &after)
            .into_iter()
            .map(|change| format!("{} {:?} {:?}", change.field, change.before.is_some(), change.after.is_some()))
            .collect();
        assert_eq!(shown, ["come false true", "gone true false", "kind true true", "mysql.delay true true"]);
        assert_eq!(difference(&after, &after), []);
    }
}
