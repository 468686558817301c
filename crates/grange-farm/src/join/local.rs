//! The configuration on this host.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tracing::warn;

use super::local_watch::{LocalWatch, Shape};
use crate::conf::{self, ConfError, Format, Problem, Read};
use crate::properties::Properties;
use crate::sessions::with_causes;

/// A configuration that others change too.
#[derive(Debug)]
pub(super) struct Local {
    format: Format,
    path: PathBuf,
    watch: LocalWatch,
    /// As it was read last; `None` while it cannot be read.
    now: Option<Read>,
    /// As it was when it was the same as in the farm.
    before: Option<Properties>,
    /// It has been read once, so that one that is not there has been removed.
    was_read: bool,
    /// It said nothing at the start: it was not there, or an empty directory.
    began_empty: bool,
    /// What was said last about what is wrong with it.
    said: String,
}

impl Local {
    /// Looks at a configuration and starts to watch it. One that is not there is empty; one that cannot be read now may
    /// be readable later.
    ///
    /// Errors: it will never be readable, as a directory that should be a file.
    pub(super) fn open(format: Format, path: &Path) -> Result<Local, ConfError> {
        let shape = if format == Format::Dir { Shape::Directory } else { Shape::File };
        let watch = LocalWatch::new(path, shape);
        let path = path.to_owned();
        let said = String::new();
        let mut local =
            Local { format, path, watch, now: None, before: None, was_read: false, began_empty: false, said };
        match conf::read(format, &local.path) {
            Err(error @ ConfError::FileType { .. }) => return Err(error),
            Err(ConfError::Missing { .. }) => local.began_empty = true,
            Ok(read) => local.began_empty = format == Format::Dir && read == Read::default(),
            Err(_) => {}
        }
        local.read();
        Ok(local)
    }

    /// Waits until it may have changed, and reads it.
    pub(super) async fn changed(&mut self) {
        self.watch.changed().await;
        self.read();
    }

    fn read(&mut self) {
        let read = match conf::read(self.format, &self.path) {
            Err(ConfError::Missing { .. }) if !self.was_read => Ok(Read::default()),
            read => read,
        };
        match read {
            // All at once is nobody's wish: a file system is not mounted, or is being filled.
            Ok(read) if self.format == Format::Dir && read == Read::default() && self.had_fields() => {
                self.say("it is empty".to_owned(), "the configuration counts as unchanged");
                self.now = None;
            }
            Ok(read) => {
                let problems: Vec<_> = read.problems.iter().map(Problem::to_string).collect();
                self.say(problems.join("; "), "cannot be read, and counts as unchanged");
                self.was_read = true;
                self.now = Some(read);
            }
            Err(error) => {
                self.say(with_causes(&error), "the configuration cannot be read, and counts as unchanged");
                self.now = None;
            }
        }
    }

    fn had_fields(&self) -> bool {
        self.before.as_ref().is_some_and(|before| !before.fields().is_empty())
    }

    /// Tells whether it said nothing when this began, which is no reason to remove anything.
    pub(super) fn began_empty(&self) -> bool {
        self.began_empty
    }

    /// Returns what is wrong with it.
    pub(super) fn trouble(&self) -> &str {
        &self.said
    }

    fn say(&mut self, what: String, meaning: &str) {
        if !what.is_empty() && what != self.said {
            warn!(path = %self.path.display(), "{meaning}: {what}");
        }
        self.said = what;
    }

    /// Returns what it says now; `None` while it cannot be read.
    ///
    /// With what it was in full when both sides were equal, values keep types that the format has no form for, and a
    /// part that cannot be read counts as unchanged.
    pub(super) fn properties(&self, agreed: Option<&Properties>) -> Option<Properties> {
        let now = self.now.as_ref()?;
        let (Some(agreed), Some(before)) = (agreed, &self.before) else { return Some(now.properties.clone()) };
        let mut filled = Value::from(now.properties.clone());
        for problem in &now.problems {
            fill(&mut filled, before, &problem.path);
        }
        let filled = Properties::try_from(filled).expect("it was made of an object");
        Some(self.format.merge(agreed, before, &filled))
    }

    /// Notes that both sides are equal, and these in full.
    pub(super) fn agree(&mut self, properties: &Properties) {
        self.before = Some(self.format.projection(properties).properties);
    }

    /// Makes it say this; tells whether anything was different. What was changed by somebody else since it was read is not
    /// overwritten.
    pub(super) fn write(&mut self, properties: &Properties) -> Result<bool, ConfError> {
        let seen = self.now.clone().unwrap_or_default();
        let mut wanted = Value::from(properties.clone());
        for problem in &seen.problems {
            // What cannot be read is replaced only if the farm has something new for it.
            let before = self.before.as_ref().and_then(|before| at(before.fields(), &problem.path));
            if before.is_some() && at(properties.fields(), &problem.path) == before {
                cut(&mut wanted, &problem.path);
            }
        }
        let wanted = Properties::try_from(wanted).expect("it was made of an object");
        let written = conf::write(self.format, &self.path, &wanted, Some(&seen))?;
        for problem in &written.left_alone {
            warn!(path = %self.path.display(), "left alone: {problem}");
        }
        self.read();
        Ok(written.changed)
    }
}

/// Returns the field at `path`.
fn at<'a>(object: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(first)?, |value, name| value.get(name.as_str()))
}

/// Removes the field at `path`.
fn cut(object: &mut Value, path: &[String]) {
    let Some((last, above)) = path.split_last() else { return };
    let place = above.iter().try_fold(object, |value, name| value.get_mut(name.as_str()));
    if let Some(fields) = place.and_then(Value::as_object_mut) {
        fields.remove(last);
    }
}

/// Gives the field at `path` the value that it had before, if it had one.
fn fill(object: &mut Value, before: &Properties, path: &[String]) {
    let Some(known) = at(before.fields(), path) else { return };
    let mut place = object;
    for name in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let fields = place.as_object_mut().expect("it was made one");
        place = fields.entry(name.as_str()).or_insert(Value::Null);
    }
    *place = known.clone();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn properties(value: Value) -> Properties {
        Properties::try_from(value).unwrap()
    }

    #[tokio::test]
    async fn values_keep_their_types_in_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut local = Local::open(Format::Dir, root.path()).unwrap();
        let full = properties(json!({"number": 5, "list": [1], "text": "a", "none": null}));
        assert!(local.write(&full).unwrap());
        local.agree(&full);
        assert_eq!(local.properties(Some(&full)), Some(full.clone()));
        fs::write(root.path().join("text"), "b").unwrap();
        local.read();
        let changed = properties(json!({"number": 5, "list": [1], "text": "b", "none": null}));
        assert_eq!(local.properties(Some(&full)), Some(changed));
    }

    #[tokio::test]
    async fn what_cannot_be_read_counts_as_unchanged() {
        let root = tempfile::tempdir().unwrap();
        let mut local = Local::open(Format::Dir, root.path()).unwrap();
        let full = properties(json!({"a": "1", "b": {"c": "2"}}));
        local.write(&full).unwrap();
        local.agree(&full);
        fs::write(root.path().join("b/c"), b"\xff\xfe").unwrap();
        fs::write(root.path().join("a"), "3").unwrap();
        local.read();
        assert_eq!(local.properties(Some(&full)), Some(properties(json!({"a": "3", "b": {"c": "2"}}))));
        // And it is not removed because of that.
        local.write(&properties(json!({"a": "4", "b": {"c": "2"}}))).unwrap();
        assert_eq!(fs::read(root.path().join("b/c")).unwrap(), b"\xff\xfe");
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_no_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("conf.json");
        let mut local = Local::open(Format::Json, &path).unwrap();
        assert_eq!(local.properties(None), Some(Properties::default()));
        fs::write(&path, "{\"a\": 1}").unwrap();
        local.read();
        assert_eq!(local.properties(None), Some(properties(json!({"a": 1}))));
        for broken in [None, Some(""), Some("{\"a\":"), Some("[]")] {
            match broken {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            local.read();
            assert_eq!(local.properties(None), None, "{broken:?}");
        }
    }
}
