//! What fields were before they were set for a while, and putting them back.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::properties::{FieldPath, Properties};

/// What is needed to put fields of a host back: for each what it was, and what it was set to.
///
/// Shape: `{"by": …, "started": …, "fields": [{"field": …, "before": …, "during": …, "above": …}]}`; `before` is missing
/// where the field was.
#[derive(Debug, Clone, PartialEq)]
pub struct Undo {
    /// Who has set the fields, such as `host-a:4711`.
    pub by: String,
    /// When.
    pub started: Timestamp,
    /// The fields.
    pub fields: Vec<FieldUndo>,
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldUndo {
    /// Where it is.
    pub field: FieldPath,
    /// What it was; `None` if it was missing.
    pub before: Option<Value>,
    /// What it was set to.
    pub during: Value,
    /// How many of the objects on the way to it were there.
    pub above: usize,
}

/// What came of putting fields back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Fields that are as they were before.
    pub restored: Vec<FieldPath>,
    /// Fields that somebody has changed meanwhile, and which were left alone.
    pub left: Vec<FieldPath>,
}

/// Something that is not an object is where the object that holds the field would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{at}' is not an object, so '{field}' can only be set by giving up what is there")]
pub struct InTheWay {
    /// The field that was to be set.
    pub field: FieldPath,
    /// What is in its way.
    pub at: FieldPath,
}

/// Why data of a znode are not a record.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// They are not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// They are JSON of another shape.
    #[error("'{0}' is missing or of the wrong kind")]
    Shape(&'static str),
}

impl Undo {
    /// Sets fields, none of which is inside another one, and returns what undoes it. An error leaves all as they were.
    pub fn set(
        properties: &mut Properties,
        wants: &[(FieldPath, Value)],
        by: &str,
        started: Timestamp,
    ) -> Result<Undo, InTheWay> {
        let fields: Vec<_> =
            wants.iter().map(|(field, value)| FieldUndo::of(properties, field, value)).collect::<Result<_, _>>()?;
        for (field, value) in wants {
            properties.set(field, value.clone());
        }
        Ok(Undo { by: by.to_owned(), started, fields })
    }

    /// Puts those fields back that are still what they were set to. A second time changes nothing, unless they have been set
    /// again.
    pub fn apply(&self, properties: &mut Properties) -> Applied {
        let mut applied = Applied::default();
        for field in &self.fields {
            let outcome = if field.apply(properties) { &mut applied.restored } else { &mut applied.left };
            outcome.push(field.field.clone());
        }
        applied
    }

    /// Tells whether a field is among these, or inside one of them, or around one.
    pub fn touches(&self, field: &FieldPath) -> bool {
        self.fields.iter().any(|own| own.field.overlaps(field))
    }

    /// Returns the data for a znode.
    pub fn encode(&self) -> Vec<u8> {
        let fields: Vec<Value> = self.fields.iter().map(FieldUndo::to_json).collect();
        let object = json!({ "by": self.by, "started": self.started.to_string(), "fields": fields });
        object.to_string().into_bytes()
    }

    /// Reads the data of a znode.
    pub fn decode(data: &[u8]) -> Result<Undo, UndoError> {
        let object: Map<String, Value> = serde_json::from_slice(data)?;
        let text = |name: &'static str| object.get(name).and_then(Value::as_str).ok_or(UndoError::Shape(name));
        let fields = object.get("fields").and_then(Value::as_array).ok_or(UndoError::Shape("fields"))?;
        Ok(Undo {
            by: text("by")?.to_owned(),
            started: text("started")?.parse().map_err(|_| UndoError::Shape("started"))?,
            fields: fields.iter().map(FieldUndo::from_json).collect::<Result<_, _>>()?,
        })
    }
}

impl FieldUndo {
    fn of(properties: &Properties, field: &FieldPath, value: &Value) -> Result<FieldUndo, InTheWay> {
        let mut above = 0;
        for at in field.above() {
            match properties.get_as_is(&at) {
                Some(Value::Object(_)) => above += 1,
                Some(_) => return Err(InTheWay { field: field.clone(), at }),
                None => break,
            }
        }
        let before = properties.get_as_is(field).cloned();
        Ok(FieldUndo { field: field.clone(), before, during: value.clone(), above })
    }

    /// Returns false if somebody has changed the field.
    fn apply(&self, properties: &mut Properties) -> bool {
        if properties.get_as_is(&self.field) != Some(&self.during) {
            return false;
        }
        if let Some(before) = &self.before {
            properties.set(&self.field, before.clone());
            return true;
        }
        properties.unset(&self.field);
        // The objects that were made for it go too, unless they are used otherwise by now.
        let made: Vec<_> = self.field.above().skip(self.above).collect();
        for at in made.iter().rev() {
            match properties.get_as_is(at) {
                Some(Value::Object(object)) if object.is_empty() => properties.unset(at),
                _ => break,
            };
        }
        true
    }

    fn to_json(&self) -> Value {
        let mut object = json!({ "field": self.field.to_string(), "during": self.during, "above": self.above });
        if let Some(before) = &self.before {
            object["before"] = before.clone();
        }
        object
    }

    fn from_json(value: &Value) -> Result<FieldUndo, UndoError> {
        let field = value.get("field").and_then(Value::as_str).and_then(|field| field.parse().ok());
        let above = value.get("above").and_then(Value::as_u64).and_then(|above| usize::try_from(above).ok());
        Ok(FieldUndo {
            field: field.ok_or(UndoError::Shape("field"))?,
            before: value.get("before").cloned(),
            during: value.get("during").cloned().ok_or(UndoError::Shape("during"))?,
            above: above.ok_or(UndoError::Shape("above"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(value: Value) -> Properties {
        Properties::try_from(value).unwrap()
    }

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    /// Sets fields to "1", checks what that gives, and returns the undo after a way through a znode.
    fn set(host: &mut Properties, fields: &[&str]) -> Undo {
        let wants: Vec<_> = fields.iter().map(|field| (path(field), json!("1"))).collect();
        let undo = Undo::set(host, &wants, "host-a:1", Timestamp::UNIX_EPOCH).unwrap();
        for (field, value) in &wants {
            assert_eq!(host.get(field), Some(value));
        }
        assert_eq!(Undo::decode(&undo.encode()).unwrap(), undo);
        undo
    }

    #[test]
    fn everything_is_as_it_was() {
        for (before, fields) in [
            (json!({}), &["maintenance"][..]),
            (json!({"maintenance": "0", "a": 1}), &["maintenance"]),
            (json!({"maintenance": "1"}), &["maintenance"]),
            (
                json!({"n": 7, "f": 2.50, "t": true, "l": [1, {"a": null}], "o": {"a": 1}, "z": null}),
                &["n", "f", "t", "l", "o", "z"],
            ),
            (json!({}), &["a.b.c"]),
            (json!({"a": {}}), &["a.b.c"]),
            (json!({"a": {"b": {"c": null, "d": 1}}}), &["a.b.c"]),
            (json!({}), &["a.b", "a.c", "a.d.e"]),
            (json!({"a": {"c": 5}}), &["a.b", "a.c"]),
        ] {
            let mut host = properties(before.clone());
            let undo = set(&mut host, fields);
            let applied = undo.apply(&mut host);
            assert_eq!(Value::from(host.clone()), before, "{fields:?}");
            assert_eq!((applied.restored.len(), applied.left.len()), (fields.len(), 0));
            // Once more changes nothing.
            undo.apply(&mut host);
            assert_eq!(Value::from(host), before, "{fields:?} twice");
        }
    }

    #[test]
    fn what_somebody_changed_meanwhile_is_left_alone() {
        let mut host = properties(json!({"x": "0", "y": "0"}));
        let undo = set(&mut host, &["x", "y", "a.b", "a.c"]);
        host.set(&path("x"), json!("other"));
        host.set(&path("a.c"), json!(1));
        host.set(&path("new"), json!("z"));
        let applied = undo.apply(&mut host);
        assert_eq!(Value::from(host), json!({"x": "other", "y": "0", "a": {"c": 1}, "new": "z"}));
        assert_eq!(applied.restored, [path("y"), path("a.b")]);
        assert_eq!(applied.left, [path("x"), path("a.c")]);
    }

    #[test]
    fn nothing_is_given_up_for_a_field() {
        for at in [json!("text"), json!(null), json!([1]), json!(1)] {
            let before = properties(json!({"a": {"b": at}, "c": "0"}));
            let mut host = before.clone();
            let wants = [(path("c"), json!("1")), (path("a.b.c.d"), json!("1"))];
            let refused = Undo::set(&mut host, &wants, "", Timestamp::UNIX_EPOCH);
            assert_eq!(refused, Err(InTheWay { field: path("a.b.c.d"), at: path("a.b") }));
            assert_eq!(host, before);
        }
    }

    #[test]
    fn fields_touch_what_is_in_them_and_around_them() {
        let undo = set(&mut Properties::default(), &["a.b"]);
        for (field, touches) in
            [("a", true), ("a.b", true), ("a.b.c", true), ("a.c", false), ("ab", false), ("b", false)]
        {
            assert_eq!(undo.touches(&path(field)), touches, "{field}");
        }
    }

    #[test]
    fn data_of_another_shape_are_no_record() {
        for data in [
            "",
            "[]",
            "{}",
            r#"{"by":"a","started":"never","fields":[]}"#,
            r#"{"by":"a","started":"2026-01-01T00:00:00Z","fields":[{}]}"#,
            r#"{"by":"a","started":"2026-01-01T00:00:00Z","fields":[{"field":"a","above":0}]}"#,
            r#"{"by":"a","started":"2026-01-01T00:00:00Z","fields":[{"field":"a.","during":1,"above":0}]}"#,
        ] {
            assert!(Undo::decode(data.as_bytes()).is_err(), "{data}");
        }
    }
}
