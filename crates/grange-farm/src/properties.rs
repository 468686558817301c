//! What a host says of itself: a JSON object, of which single fields are read and changed.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

/// Why data of a znode are not properties.
#[derive(Debug, thiserror::Error)]
pub enum PropertiesError {
    /// They are not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// They are JSON of another kind.
    #[error("not a JSON object but {0}")]
    Kind(&'static str),
}

/// The properties of a host or of a farm, as its znode holds them.
///
/// Shape: one JSON object in UTF-8; no data at all stand for an empty one. Source: ZkFarmer's `serialize`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties(Map<String, Value>);

impl Properties {
    /// Reads the data of a znode.
    pub fn decode(data: &[u8]) -> Result<Properties, PropertiesError> {
        if data.is_empty() {
            return Ok(Properties::default());
        }
        Properties::try_from(serde_json::from_slice::<Value>(data)?)
    }

    /// Returns the data for a znode.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("an object of JSON values is JSON")
    }

    /// Returns the fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns the value of a field. `null` stands for a field that is missing, as in ZkFarmer.
    pub fn get(&self, path: &FieldPath) -> Option<&Value> {
        self.get_as_is(path).filter(|found| !found.is_null())
    }

    /// Returns the value of a field, also if it is `null`.
    pub fn get_as_is(&self, path: &FieldPath) -> Option<&Value> {
        let (first, rest) = path.split();
        rest.iter().try_fold(self.0.get(first)?, |value, name| value.get(name.as_str()))
    }

    /// Gives a field a value. What is on the way to it and is no object becomes one.
    pub fn set(&mut self, path: &FieldPath, value: Value) {
        let (last, above) = path.split_last();
        let mut object = &mut self.0;
        for name in above {
            let next = object.entry(name.as_str()).or_insert(Value::Null);
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            object = next.as_object_mut().expect("it was made one");
        }
        object.insert(last.to_owned(), value);
    }

    /// Removes a field and returns what it was.
    pub fn unset(&mut self, path: &FieldPath) -> Option<Value> {
        let (last, above) = path.split_last();
        let mut object = &mut self.0;
        for name in above {
            object = object.get_mut(name.as_str())?.as_object_mut()?;
        }
        object.remove(last)
    }
}

impl TryFrom<Value> for Properties {
    type Error = PropertiesError;

    fn try_from(value: Value) -> Result<Properties, PropertiesError> {
        match value {
            Value::Object(fields) => Ok(Properties(fields)),
            Value::Null => Err(PropertiesError::Kind("null")),
            Value::Bool(_) => Err(PropertiesError::Kind("true or false")),
            Value::Number(_) => Err(PropertiesError::Kind("a number")),
            Value::String(_) => Err(PropertiesError::Kind("a string")),
            Value::Array(_) => Err(PropertiesError::Kind("a list")),
        }
    }
}

impl From<Map<String, Value>> for Properties {
    fn from(fields: Map<String, Value>) -> Properties {
        Properties(fields)
    }
}

impl From<Properties> for Value {
    fn from(properties: Properties) -> Value {
        Value::Object(properties.0)
    }
}

/// Returns a value as text: a string as it is, everything else as JSON.
pub fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// Where a field is: names from the outermost object inwards, written with dots between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<String>);

/// Why text is not the path of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field is named like 'enabled' or 'mysql.delay': names with dots between them, none of them empty")]
pub struct FieldPathError;

impl FieldPath {
    /// Returns the paths of the objects on the way to the field, the outermost first.
    pub fn above(&self) -> impl Iterator<Item = FieldPath> + '_ {
        (1..self.0.len()).map(|length| FieldPath(self.0[..length].to_vec()))
    }

    /// Tells whether one of two fields is inside the other one, or they are the same.
    pub fn overlaps(&self, other: &FieldPath) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own == other)
    }

    fn split(&self) -> (&str, &[String]) {
        let (first, rest) = self.0.split_first().expect("there is at least one name");
        (first, rest)
    }

    fn split_last(&self) -> (&str, &[String]) {
        let (last, above) = self.0.split_last().expect("there is at least one name");
        (last, above)
    }
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<FieldPath, FieldPathError> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) { Err(FieldPathError) } else { Ok(FieldPath(names)) }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(value: Value) -> Properties {
        Properties::try_from(value).unwrap()
    }

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    #[test]
    fn data_are_an_object_or_nothing() {
        assert_eq!(Properties::decode(b"").unwrap(), Properties::default());
        assert_eq!(Properties::decode(br#"{"a":"1"}"#).unwrap(), properties(json!({"a": "1"})));
        for data in [&b"{"[..], b"[1]", b"null", b"\"x\"", b"7", b"true", b"\xff", b"{} {}"] {
            assert!(Properties::decode(data).is_err(), "{data:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(Properties::decode(deep.as_bytes()).is_err());
    }

    #[test]
    fn fields_are_found_inside_objects() {
        let host = properties(json!({"a": {"b": {"c": 1}}, "n": null, "a.b": 2}));
        assert_eq!(host.get(&path("a.b.c")), Some(&json!(1)));
        assert_eq!(host.get(&path("a.b")), Some(&json!({"c": 1})));
        for missing in ["b", "a.c", "a.b.c.d", "n", "n.x"] {
            assert_eq!(host.get(&path(missing)), None, "{missing}");
        }
    }

    #[test]
    fn what_is_in_the_way_of_a_field_becomes_an_object() {
        let mut host = properties(json!({"a": "text", "b": 1}));
        host.set(&path("a.b.c"), json!("x"));
        host.set(&path("b"), json!("y"));
        assert_eq!(host, properties(json!({"a": {"b": {"c": "x"}}, "b": "y"})));
    }

    #[test]
    fn a_field_is_removed_wherever_it_is() {
        let mut host = properties(json!({"a": {"b": 1, "c": 2}, "d": 3}));
        assert_eq!(host.unset(&path("a.b")), Some(json!(1)));
        assert_eq!(host.unset(&path("d")), Some(json!(3)));
        for missing in ["x", "a.x", "a.c.x", "d"] {
            assert_eq!(host.unset(&path(missing)), None, "{missing}");
        }
        assert_eq!(host, properties(json!({"a": {"c": 2}})));
    }

    #[test]
    fn names_are_not_empty() {
        for text in ["", ".", "a.", ".a", "a..b"] {
            assert_eq!(text.parse::<FieldPath>(), Err(FieldPathError), "{text}");
        }
        assert_eq!(path("a.b").to_string(), "a.b");
    }
}
