//! From a directory to properties, with whatever cannot be read told apart.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use serde_json::{Map, Value};

use crate::conf::folder::{Folder, Links, kind, name_of_kind};
use crate::conf::{ConfError, DEPTH_MAX, Format, Problem, Read, bounded};

/// How large the file of one field may be, in bytes; a larger one is a problem of that field.
pub(super) const FIELD_BYTES_MAX: u64 = 1 << 20;

/// How many files and directories may be read, with those that links show again; with more, nothing is read.
const ENTRIES_MAX: usize = 1_000_000;

/// How often a directory is listed again because a file went between the listing and the reading: another may have come
/// in its place. After that, what is missing is taken for missing.
const LISTINGS_MAX: usize = 5;

/// Reads a directory.
pub(in crate::conf) fn read(path: &Path) -> Result<Read, ConfError> {
    let io = || ConfError::io("read", path);
    let metadata = std::fs::metadata(path).map_err(io())?;
    if !metadata.is_dir() {
        let found = crate::conf::folder::name_of_type(metadata.file_type()).unwrap_or("a file");
        return Err(ConfError::FileType { path: path.to_owned(), found, format: Format::Dir });
    }
    let folder = Folder::open(path).map_err(io())?;
    let mut reader = Reader::new(path);
    let fields = reader.object(&folder)?;
    if was_removed(&folder) {
        return Err(ConfError::Missing { path: path.to_owned() });
    }
    Ok(Read { properties: fields.into(), problems: reader.problems })
}

/// What is there by a name.
pub(super) enum Entry {
    /// A string or an object.
    Value(Value),
    /// Nothing.
    Gone,
    /// Something that cannot be read, and why.
    Problem(String),
}

/// Reads directories.
pub(super) struct Reader<'a> {
    root: &'a Path,
    /// The names down to where the reader is.
    path: Vec<String>,
    /// The directories down to where it is, to tell when a link leads back.
    above: Vec<(u64, u64)>,
    entries: usize,
    /// Everything that could not be read so far.
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(root: &'a Path) -> Reader<'a> {
        Reader { root, path: Vec::new(), above: Vec::new(), entries: 0, problems: Vec::new() }
    }

    /// Starts below the root, so that problems have their whole path.
    pub(super) fn at(root: &'a Path, path: &[String]) -> Reader<'a> {
        Reader { path: path.to_vec(), ..Reader::new(root) }
    }

    fn object(&mut self, folder: &Folder) -> Result<Map<String, Value>, ConfError> {
        let stat = folder.own_stat().map_err(|error| self.failed(error))?;
        self.above.push(identity(&stat));
        let so_far = self.problems.len();
        let mut listings = 1;
        let fields = loop {
            let (fields, is_whole) = self.listing(folder)?;
            if is_whole || listings == LISTINGS_MAX {
                break fields;
            }
            self.problems.truncate(so_far);
            listings += 1;
        };
        self.above.pop();
        Ok(fields)
    }

    /// Returns also whether everything that was listed was still there.
    fn listing(&mut self, folder: &Folder) -> Result<(Map<String, Value>, bool), ConfError> {
        let mut fields = Map::new();
        let mut is_whole = true;
        for name in folder.names().map_err(|error| self.failed(error))? {
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                let max = format!("{ENTRIES_MAX} files");
                return Err(ConfError::TooLarge { path: self.root.to_owned(), max });
            }
            self.path.push(name.to_string_lossy().into_owned());
            let entry = match name.to_str() {
                Some(_) => self.entry(folder, &name)?,
                None => Entry::Problem("its name is not UTF-8".to_owned()),
            };
            let field = self.path.pop().expect("it was just pushed");
            match entry {
                Entry::Value(value) => drop(fields.insert(field, value)),
                Entry::Gone => is_whole = false,
                Entry::Problem(why) => {
                    let path = [&self.path[..], &[field]].concat();
                    self.problems.push(Problem { path, why });
                }
            }
        }
        Ok((fields, is_whole))
    }

    /// Reads what is there by a name; `path` already has it.
    pub(super) fn entry(&mut self, folder: &Folder, name: &OsStr) -> Result<Entry, ConfError> {
        let stat = match folder.stat(name, Links::Follow) {
            Ok(Some(stat)) => stat,
            // A link to nothing does not go away by itself.
            Ok(None) if matches!(folder.stat(name, Links::Keep), Ok(Some(it)) if kind(&it) == FileType::Symlink) => {
                return Ok(Entry::Problem("it is a link to nothing".to_owned()));
            }
            Ok(None) => return Ok(Entry::Gone),
            Err(error) => return Ok(Entry::Problem(error.to_string())),
        };
        match kind(&stat) {
            FileType::RegularFile => Ok(text(folder, name)),
            FileType::Directory if self.above.contains(&identity(&stat)) => {
                Ok(Entry::Problem("it leads back to a directory that it is in".to_owned()))
            }
            FileType::Directory if self.path.len() >= DEPTH_MAX => {
                Ok(Entry::Problem(format!("it is more than {DEPTH_MAX} directories deep")))
            }
            FileType::Directory => match folder.open_folder(name, Links::Follow) {
                Ok(folder) => self.inner(&folder),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Entry::Gone),
                Err(error) => Ok(Entry::Problem(error.to_string())),
            },
            kind => Ok(Entry::Problem(format!("it is {}", name_of_kind(kind).unwrap_or("no file")))),
        }
    }

    /// Reads a directory in another one: that it went, or cannot be listed, is no reason not to read the rest.
    fn inner(&mut self, folder: &Folder) -> Result<Entry, ConfError> {
        let (depth, above, problems) = (self.path.len(), self.above.len(), self.problems.len());
        let entry = match self.object(folder) {
            Ok(_) if was_removed(folder) => Entry::Gone,
            Ok(fields) => return Ok(Entry::Value(Value::Object(fields))),
            Err(ConfError::Missing { .. }) => Entry::Gone,
            Err(ConfError::Io { source, .. }) => Entry::Problem(source.to_string()),
            Err(error) => return Err(error),
        };
        self.path.truncate(depth);
        self.above.truncate(above);
        self.problems.truncate(problems);
        Ok(entry)
    }

    fn failed(&self, source: io::Error) -> ConfError {
        let path = self.path.iter().fold(self.root.to_owned(), |path: PathBuf, name| path.join(name));
        ConfError::io("read", &path)(source)
    }
}

/// Tells whether a directory has gone since it was opened: it reads like an empty one then.
fn was_removed(folder: &Folder) -> bool {
    folder.own_stat().is_ok_and(|stat| stat.st_nlink == 0)
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn text(folder: &Folder, name: &OsStr) -> Entry {
    let file = match folder.open_file(name, Links::Follow) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Entry::Gone,
        Err(error) => return Entry::Problem(error.to_string()),
    };
    // It may have been exchanged for another kind of file, whose reading would never end.
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Entry::Problem("it is no file".to_owned()),
        Err(error) => return Entry::Problem(error.to_string()),
    }
    match bounded(&file, FIELD_BYTES_MAX) {
        Ok(None) => Entry::Problem(format!("it has more than {} MiB", FIELD_BYTES_MAX >> 20)),
        Ok(Some(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => Entry::Value(Value::String(text.trim().to_owned())),
            Err(_) => Entry::Problem("it is not UTF-8".to_owned()),
        },
        Err(error) => Entry::Problem(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_went_while_it_was_read_is_gone_and_the_rest_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("went");
        std::fs::create_dir(&path).unwrap();
        let folder = Folder::open(&path).unwrap();
        std::fs::remove_dir(&path).unwrap();
        let mut reader = Reader::new(temp.path());
        assert!(matches!(reader.inner(&folder), Ok(Entry::Gone)));
        assert!(reader.path.is_empty() && reader.above.is_empty() && reader.problems.is_empty());
    }
}
