//! What a format keeps of a value, and how the rest survives being edited in it.

use serde_json::{Map, Value};

use super::format::Format;
use super::{DEPTH_MAX, Problem};
use crate::properties::{Properties, text_of};

/// What reading gives back after writing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Projection {
    /// The properties, as the format has them.
    pub properties: Properties,
    /// The fields that it has no form for.
    pub left_out: Vec<Problem>,
}

impl Format {
    /// Returns what reading gives back after these properties were written.
    ///
    /// JSON and YAML keep everything. TOML has no null and no whole numbers beyond 64 bits with sign. In PHP an empty
    /// list is an empty object. In a directory everything is text without white space around it (numbers, true, false,
    /// null and lists as JSON), and a name must be one of a file that is not hidden.
    pub fn projection(self, properties: &Properties) -> Projection {
        let mut walk = Walk { format: self, path: Vec::new(), left_out: Vec::new() };
        let fields = walk.object(properties.fields());
        Projection { properties: fields.into(), left_out: walk.left_out }
    }

    /// Returns properties with what was changed in a file, and everything else as it was.
    ///
    /// `base` are the properties in full, `before` is what [`read`](fn@super::read) gave when the file last agreed with
    /// them (their [`projection`](Format::projection)), and `local` what it gives now. A field whose text has not changed
    /// keeps its value and type, and so does one that the format has no form for; one that was changed, added or removed
    /// in the file is so in the result. `base` may have changed as well: where both have, the file wins.
    pub fn merge(self, base: &Properties, before: &Properties, local: &Properties) -> Properties {
        merged(base.fields(), before.fields(), local.fields()).into()
    }
}

fn merged(base: &Map<String, Value>, before: &Map<String, Value>, local: &Map<String, Value>) -> Map<String, Value> {
    let mut result = Map::new();
    for (name, value) in base {
        // Without a form in the file, or newer than it: what is not there was not removed there.
        if !local.contains_key(name) && !before.contains_key(name) {
            result.insert(name.clone(), value.clone());
        }
    }
    for (name, here) in local {
        match (base.get(name), before.get(name)) {
            (Some(kept), Some(was)) if was == here => {
                result.insert(name.clone(), kept.clone());
            }
            // Removed meanwhile, and untouched here.
            (None, Some(was)) if was == here => {}
            (base, was) => {
                let value = match (base, was, here) {
                    (Some(Value::Object(base)), was, Value::Object(here)) => {
                        let none = Map::new();
                        Value::Object(merged(base, was.and_then(Value::as_object).unwrap_or(&none), here))
                    }
                    _ => here.clone(),
                };
                result.insert(name.clone(), value);
            }
        }
    }
    result
}

struct Walk {
    format: Format,
    path: Vec<String>,
    left_out: Vec<Problem>,
}

impl Walk {
    fn object(&mut self, fields: &Map<String, Value>) -> Map<String, Value> {
        let mut kept = Map::new();
        for (name, value) in fields {
            self.path.push(name.clone());
            match self.field(name, value) {
                Ok(value) => {
                    kept.insert(name.clone(), value);
                }
                Err(why) => self.left_out.push(Problem { path: self.path.clone(), why }),
            }
            self.path.pop();
        }
        kept
    }

    /// Returns the value as the format has it, or why it has no form for it.
    fn field(&mut self, name: &str, value: &Value) -> Result<Value, String> {
        if self.path.len() >= DEPTH_MAX && value.is_object() {
            return Err(format!("more than {DEPTH_MAX} objects inside of each other"));
        }
        if self.format == Format::Dir {
            check_file_name(name)?;
        }
        match (self.format, value) {
            (_, Value::Object(fields)) => Ok(Value::Object(self.object(fields))),
            (Format::Dir, value) => Ok(Value::String(text_of(value).trim().to_owned())),
            (Format::Toml, value) => toml_form(value).map(|()| value.clone()),
            (Format::Php, value) => Ok(php_form(value)),
            (Format::Json | Format::Yaml, value) => Ok(value.clone()),
        }
    }
}

/// The longest name of a file, in bytes, as Linux has it.
const FILE_NAME_BYTES_MAX: usize = 255;

/// Tells whether a field can be a file that is not hidden, and whose name stays in its directory.
pub(super) fn check_file_name(name: &str) -> Result<(), String> {
    let why = match name {
        "" => "a file has a name",
        _ if name.starts_with('.') => "files whose names begin with a dot are not read",
        _ if name.contains('/') => "the name of a file has no '/'",
        _ if name.contains('\0') => "the name of a file has no NUL",
        _ if name.len() > FILE_NAME_BYTES_MAX => "the name of a file has 255 bytes at most",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

fn toml_form(value: &Value) -> Result<(), String> {
    match value {
        Value::Null => Err("TOML has no null".to_owned()),
        Value::Number(number) if number.is_u64() && !number.is_i64() => {
            Err(format!("TOML has no whole number as large as {number}"))
        }
        Value::Array(values) => values.iter().try_for_each(toml_form),
        Value::Object(fields) => fields.values().try_for_each(toml_form),
        Value::Bool(_) | Value::String(_) | Value::Number(_) => Ok(()),
    }
}

fn php_form(value: &Value) -> Value {
    match value {
        Value::Array(values) if values.is_empty() => Value::Object(Map::new()),
        Value::Array(values) => Value::Array(values.iter().map(php_form).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), php_form(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(value: Value) -> Properties {
        Properties::try_from(value).unwrap()
    }

    fn left_out(projection: &Projection) -> Vec<String> {
        projection.left_out.iter().map(|problem| problem.path.join("/")).collect()
    }

    #[test]
    fn a_directory_holds_text() {
        let projection = Format::Dir.projection(&properties(json!({
            "n": 1, "f": 1.5, "yes": true, "none": null, "list": [1, "a"], "text": " a b\n", "o": {"n": -1, "e": {}},
        })));
        assert_eq!(
            Value::from(projection.properties),
            json!({
                "n": "1", "f": "1.5", "yes": "true", "none": "null", "list": "[1,\"a\"]", "text": "a b",
                "o": {"n": "-1", "e": {}},
            })
        );
        assert!(projection.left_out.is_empty());
    }

    #[test]
    fn a_field_that_cannot_be_a_file_is_left_out_of_a_directory() {
        let long = "é".repeat(128);
        let mut fields = json!({"ok": {"../x": "1", "y": "1"}, "a b\n*": ""});
        for name in ["", ".", "..", ".hidden", "a/b", "/etc/passwd", "a\0", &long] {
            fields[name] = json!("1");
        }
        let projection = Format::Dir.projection(&properties(fields.clone()));
        assert_eq!(Value::from(projection.properties.clone()), json!({"ok": {"y": "1"}, "a b\n*": ""}));
        let mut expected = vec!["", ".", "..", ".hidden", "/etc/passwd", "a\0", "a/b", "ok/../x", &long];
        expected.sort_unstable();
        let mut found = left_out(&projection);
        found.sort_unstable();
        assert_eq!(found, expected);
        let base = properties(fields);
        let before = projection.properties;
        assert_eq!(Format::Dir.merge(&base, &before, &before), base, "nothing was edited");
    }

    #[test]
    fn toml_has_no_null() {
        let fields = properties(json!({"a": null, "b": [1, null], "c": u64::MAX, "d": {"e": null, "f": 1}, "g": [[]]}));
        let projection = Format::Toml.projection(&fields);
        assert_eq!(Value::from(projection.properties.clone()), json!({"d": {"f": 1}, "g": [[]]}));
        assert_eq!(left_out(&projection), ["a", "b", "c", "d/e"]);
    }

    #[test]
    fn an_edited_field_has_its_new_text_and_all_others_their_type() {
        let base = properties(json!({
            "weight": 10, "enabled": true, "name": " padded ", "mysql": {"delay": 0, "lag": 1, ".secret": 1}, "gone": 5,
        }));
        let before = Format::Dir.projection(&base).properties;
        let mut local = before.clone();
        local.set(&"enabled".parse().unwrap(), json!("false"));
        local.set(&"mysql.delay".parse().unwrap(), json!("7"));
        local.set(&"new.x".parse().unwrap(), json!("1"));
        local.unset(&"gone".parse().unwrap());
        assert_eq!(
            Value::from(Format::Dir.merge(&base, &before, &local)),
            json!({
                "weight": 10, "enabled": "false", "name": " padded ",
                "mysql": {"delay": "7", "lag": 1, ".secret": 1}, "new": {"x": "1"},
            })
        );
    }

    #[test]
    fn what_both_sides_changed_is_taken_together_and_the_file_wins() {
        let before = properties(json!({"a": "1", "b": "1", "c": "1", "o": {"x": "1", "y": "1"}}));
        let base = properties(json!({"a": "2", "c": "2", "d": 1, "o": {"x": "2", "y": "1", "z": 3}}));
        let local = properties(json!({"a": "1", "b": "1", "c": "3", "o": {"x": "1", "y": "4"}}));
        assert_eq!(
            Value::from(Format::Json.merge(&base, &before, &local)),
            json!({"a": "2", "c": "3", "d": 1, "o": {"x": "2", "y": "4", "z": 3}})
        );
    }

    #[test]
    fn a_value_becomes_an_object_and_back() {
        let (text, object) = (properties(json!({"a": "1"})), properties(json!({"a": {"b": "1"}})));
        assert_eq!(Format::Dir.merge(&text, &text, &object), object);
        assert_eq!(Format::Dir.merge(&object, &object, &text), text);
    }
}
