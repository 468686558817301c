//! From properties to a directory, with as few changes as there are differences.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde_json::{Map, Value};

use super::read::{Entry, FIELD_BYTES_MAX, Reader};
use crate::conf::folder::{Folder, Links, kind};
use crate::conf::predecessor::Predecessor;
use crate::conf::temporary::Temporary;
use crate::conf::{ConfError, Format, Problem, Read, Written};
use crate::properties::Properties;

/// Writes properties into a directory, which is made if only its parent is there.
pub(in crate::conf) fn write(path: &Path, properties: &Properties, seen: Option<&Read>) -> Result<Written, ConfError> {
    let mut projection = Format::Dir.projection(properties);
    let is_new = match std::fs::metadata(path) {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(ConfError::io("write", path)(error)),
    };
    if is_new {
        if seen.is_some_and(|seen| *seen != Read::default()) {
            return Err(ConfError::Changed { path: path.to_owned() });
        }
        std::fs::create_dir(path).map_err(|source| ConfError::Io {
            action: "make the directory",
            path: path.to_owned(),
            source,
        })?;
    } else if !path.is_dir() {
        return super::read(path).map(|_| Written::default());
    }
    let folder = Folder::open(path).map_err(ConfError::io("open", path))?;
    let mut writer = Writer { root: path, path: Vec::new(), seen, changed: is_new, left_alone: Vec::new() };
    let written = writer.object(&folder, projection.properties.fields(), seen.map(|seen| seen.properties.fields()));
    written.map_err(|error| if writer.changed { ConfError::Partial(Box::new(error)) } else { error })?;
    projection.left_out.append(&mut writer.left_alone);
    Ok(Written { changed: writer.changed, left_alone: projection.left_out })
}

struct Writer<'a> {
    root: &'a Path,
    path: Vec<String>,
    seen: Option<&'a Read>,
    changed: bool,
    left_alone: Vec<Problem>,
}

/// What the last reader saw of an object: nothing at all is known, or exactly these fields.
type Seen<'a> = Option<&'a Map<String, Value>>;

impl Writer<'_> {
    /// Makes a directory hold exactly these fields, but for what nobody has seen yet.
    fn object(&mut self, folder: &Folder, fields: &Map<String, Value>, seen: Seen<'_>) -> Result<(), ConfError> {
        folder.remove_leftovers().map_err(|error| self.failed("list", error))?;
        let mut is_changed = false;
        let put = self.put_fields(folder, fields, seen, &mut is_changed);
        self.changed |= is_changed;
        // What was put is to be on the disk, whatever came in its way then.
        let synced = if is_changed { folder.sync().map_err(|error| self.failed("sync", error)) } else { Ok(()) };
        put.and(synced)
    }

    fn put_fields(
        &mut self,
        folder: &Folder,
        fields: &Map<String, Value>,
        seen: Seen<'_>,
        is_changed: &mut bool,
    ) -> Result<(), ConfError> {
        for (name, value) in fields {
            self.path.push(name.clone());
            *is_changed |= self.field(folder, name, value, seen)?;
            self.path.pop();
        }
        for name in folder.names().map_err(|error| self.failed("list", error))? {
            let Some(field) = name.to_str() else {
                if seen.is_none() {
                    *is_changed |= self.remove(folder, &name)?;
                }
                continue;
            };
            if field.starts_with('.') || fields.contains_key(field) {
                continue;
            }
            self.path.push(field.to_owned());
            *is_changed |= self.vanished(folder, field, seen)?;
            self.path.pop();
        }
        Ok(())
    }

    /// Gives one field its value; returns whether a name in this directory is another thing now.
    fn field(&mut self, folder: &Folder, name: &str, value: &Value, seen: Seen<'_>) -> Result<bool, ConfError> {
        let name_of_file = OsStr::new(name);
        if let Value::String(text) = value
            && !u64::try_from(text.len()).is_ok_and(|length| length <= FIELD_BYTES_MAX)
        {
            return Ok(self.leave(format!("a file of more than {} MiB would not be read", FIELD_BYTES_MAX >> 20)));
        }
        let there = folder.stat(name_of_file, Links::Keep).map_err(|error| self.failed("look at", error))?;
        if let (Value::Object(fields), Some(FileType::Directory)) = (value, there.as_ref().map(kind)) {
            let inner = folder.open_folder(name_of_file, Links::Keep).map_err(|error| self.failed("open", error))?;
            let none = Map::new();
            let seen = seen.map(|seen| seen.get(name).and_then(Value::as_object).unwrap_or(&none));
            return self.object(&inner, fields, seen).map(|()| false);
        }
        let (entry, problems) = self.look(folder, name_of_file)?;
        if matches!(&entry, Entry::Value(there) if there == value) && problems.is_empty() {
            return Ok(false);
        }
        if !self.is_as_seen(&entry, name, seen) {
            return Ok(self.leave("it was changed meanwhile".to_owned()));
        }
        if let (Some(_), Some(problem)) = (seen, problems.first()) {
            return Ok(self.leave(format!("{} in it could not be read", problem.path.join("/"))));
        }
        match value {
            Value::Object(fields) => self.put_object(folder, name_of_file, fields)?,
            other => {
                let text = other.as_str().expect("a projection is text");
                return self.put_text(folder, name_of_file, text, (name, seen));
            }
        }
        Ok(true)
    }

    /// Removes a field that the properties do not have; returns whether it did.
    fn vanished(&mut self, folder: &Folder, name: &str, seen: Seen<'_>) -> Result<bool, ConfError> {
        let name_of_file = OsStr::new(name);
        let Some(fields) = seen else { return self.remove(folder, name_of_file) };
        // What nobody has seen has just been made.
        let Some(before) = fields.get(name) else { return Ok(false) };
        let (entry, problems) = self.look(folder, name_of_file)?;
        if matches!(entry, Entry::Gone) {
            return Ok(false);
        }
        let is_link = folder
            .stat(name_of_file, Links::Keep)
            .is_ok_and(|stat| stat.is_some_and(|stat| kind(&stat) == FileType::Symlink));
        if let (false, false, Some(before)) = (is_link, problems.is_empty(), before.as_object()) {
            // What could not be read stays, and with it the directories down to it.
            let inner = folder.open_folder(name_of_file, Links::Keep).map_err(|error| self.failed("open", error))?;
            return self.object(&inner, &Map::new(), Some(before)).map(|()| false);
        }
        if !self.is_as_seen(&entry, name, seen) {
            return Ok(self.leave("it was changed meanwhile".to_owned()));
        }
        self.remove(folder, name_of_file)
    }

    fn look(&mut self, folder: &Folder, name: &OsStr) -> Result<(Entry, Vec<Problem>), ConfError> {
        let mut reader = Reader::at(self.root, &self.path);
        let entry = reader.entry(folder, name)?;
        Ok((entry, reader.problems))
    }

    fn is_as_seen(&self, entry: &Entry, name: &str, seen: Seen<'_>) -> bool {
        let Some(fields) = seen else { return true };
        match (entry, fields.get(name)) {
            (Entry::Value(there), Some(before)) => there == before,
            (Entry::Gone, before) => before.is_none(),
            (Entry::Problem(_), _) => {
                self.seen.is_some_and(|seen| seen.problems.iter().any(|problem| problem.path == self.path))
            }
            (Entry::Value(_), None) => false,
        }
    }

    fn leave(&mut self, why: String) -> bool {
        self.left_alone.push(Problem { path: self.path.clone(), why });
        false
    }

    /// Puts a text in place of what was seen there; false if somebody has changed that since it was looked at.
    fn put_text(
        &mut self,
        folder: &Folder,
        name: &OsStr,
        text: &str,
        (field, seen): (&str, Seen<'_>),
    ) -> Result<bool, ConfError> {
        // A link gives its file's permissions to what takes its place.
        let old = Predecessor::find(folder, name, Links::Follow).ok().flatten();
        let old = old.filter(|old| old.kind() == FileType::RegularFile);
        let filled = Temporary::file(folder, "", old.as_ref()).and_then(|mut file| {
            file.fill(text.as_bytes())?;
            Ok(file)
        });
        let file = filled.map_err(|error| self.failed("write", error))?;
        let is_file = |stat: &rustix::fs::Stat| kind(stat) == FileType::RegularFile;
        let there = folder.stat(name, Links::Keep).map_err(|error| self.failed("look at", error))?;
        if seen.is_none() || !there.as_ref().is_some_and(is_file) {
            return self.put(folder, file, name).map(|()| true).map_err(|error| self.failed("write", error));
        }
        // Somebody may save the file between a look and its replacement. So both change places first.
        let old = file.swap(name).map_err(|error| self.failed("write", error))?;
        // Whatever comes now: it is another file.
        self.changed = true;
        let (entry, _) = self.look(folder, &old)?;
        let is_as_seen = self.is_as_seen(&entry, field, seen);
        let restored = if is_as_seen { Ok(()) } else { folder.exchange(&old, name) };
        restored.and_then(|()| folder.remove(&old)).map_err(|error| self.failed("write", error))?;
        if !is_as_seen {
            return Ok(self.leave("it was changed meanwhile".to_owned()));
        }
        Ok(true)
    }

    fn put_object(&mut self, folder: &Folder, name: &OsStr, fields: &Map<String, Value>) -> Result<(), ConfError> {
        let made = Temporary::folder(folder).map_err(|error| self.failed("make", error))?;
        let inner = made.as_folder().map_err(|error| self.failed("make", error))?;
        let was_changed = self.changed;
        let filled = self.object(&inner, fields, None);
        // It is not there yet.
        self.changed = was_changed;
        filled?;
        self.put(folder, made, name).map_err(|error| self.failed("write", error))
    }

    /// Puts what is complete in the place of what was there, in one step.
    fn put(&mut self, folder: &Folder, new: Temporary, name: &OsStr) -> io::Result<()> {
        let is = |kind_of| -> io::Result<bool> {
            Ok(folder.stat(name, Links::Keep)?.is_some_and(|stat| (kind(&stat) == FileType::Directory) == kind_of))
        };
        let is_folder =
            kind(&folder.stat(new.name(), Links::Keep)?.ok_or(io::ErrorKind::NotFound)?) == FileType::Directory;
        if is(true)? {
            let old = new.swap(name)?;
            self.changed = true;
            self.dispose(folder, &old, name)
        } else if is_folder && is(false)? {
            let old = new.swap(name)?;
            self.changed = true;
            folder.remove(&old)
        } else {
            new.put(name)?;
            self.changed = true;
            Ok(())
        }
    }

    /// Removes a name and, without following links, everything in it.
    fn remove(&mut self, folder: &Folder, name: &OsStr) -> Result<bool, ConfError> {
        let removed = match folder.stat(name, Links::Keep) {
            Ok(None) => return Ok(false),
            Ok(Some(stat)) if kind(&stat) == FileType::Directory => {
                let aside = crate::conf::folder::temporary_name("");
                folder.rename_new(name, &aside).and_then(|()| {
                    self.changed = true;
                    self.dispose(folder, &aside, name)
                })
            }
            Ok(Some(_)) => folder.remove(name),
            Err(error) => Err(error),
        };
        removed.map(|()| true).map_err(|error| self.failed("remove", error))
    }

    fn dispose(&mut self, folder: &Folder, aside: &OsStr, name: &OsStr) -> io::Result<()> {
        if let Some(kept) = folder.dispose(aside, Some(name))? {
            self.leave(format!("hidden files in it were kept as {}", kept.display()));
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ConfError {
        let path = self.path.iter().fold(self.root.to_owned(), |path: PathBuf, name| path.join(name));
        ConfError::Io { action, path, source }
    }
}
