//! Configuration in files: what a host says of itself, and what consumers make of a farm.
//!
//! [`Format`]s are read and written; [`read`] and [`write`](fn@write) go by them, and [`Format::projection`] with
//! [`Format::merge`] keep what a format has no form for. [`Target`]s and a [`Template`] are made from a farm with
//! [`render`], and a [`Candidate`] puts the result in place.
//!
//! Properties come from other machines, so a value never becomes anything but a value in what is written: every format
//! has either a form for any text, or refuses what does not fit.

mod dir;
mod documents;
mod folder;
mod format;
mod install;
mod lines;
mod php;
mod predecessor;
mod projection;
mod render;
mod rendered;
mod strict;
mod template;
mod temporary;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde_json::Value;

pub use dir::claim;
pub use format::{Format, Target, UnknownFormat};
pub use install::{Candidate, InstallError, differs};
pub use lines::{LineOptions, LineOptionsError};
pub use projection::Projection;
pub use render::render;
pub use rendered::{Export, LeftOut, RenderError, Rendered};
pub use template::{Template, TemplateError};

use crate::properties::{Properties, PropertiesError};

/// How large a file may be, in bytes; a larger one is refused. A znode holds 1 MiB unless configured otherwise, a file
/// with a whole farm many times that.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// How many objects and lists may be inside of each other; deeper ones are refused, or left out where the rest can be
/// used. The data of a znode are no deeper either, as [`Properties::decode`] reads them.
pub const DEPTH_MAX: usize = 127;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// Everything that could be read.
    pub properties: Properties,
    /// What could not; only [`Format::Dir`] has any, and every other format is read as a whole or not at all.
    pub problems: Vec<Problem>,
}

/// A field that could not be read or written, while the others could.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Names from the outermost object inwards, as they are; [`Display`](std::fmt::Display) escapes them. A name may have
    /// dots in it, and stands for one that is not UTF-8 with U+FFFD in it.
    pub path: Vec<String>,
    /// The reason, as what follows a colon.
    pub why: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", harmless(&self.path.join("/")), self.why)
    }
}

/// What [`write`](fn@write) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Whether anything is different now.
    pub changed: bool,
    /// What does not have the value it was to have: the format has no form for it, or it was changed by somebody else in
    /// the meantime.
    pub left_alone: Vec<Problem>,
}

/// Why configuration could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// There is none.
    #[error("{} does not exist", shown(.path))]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is not what the format says.
    #[error("{}{} is not {format}: {why}", shown(.path), At(*.line, *.column))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What it was read as.
        format: Format,
        /// The line, from 1; 0 if it is not known.
        line: usize,
        /// The column, from 1; 0 if it is not known.
        column: usize,
        /// What is wrong there.
        why: String,
    },
    /// It is right, but has no fields.
    #[error("{} holds no fields", shown(.path))]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it holds instead.
        #[source]
        source: PropertiesError,
    },
    /// It is a directory and should be a file, or the other way round, or something else.
    #[error("{} is {found}, and {format} is kept in {}", shown(.path), if *.format == Format::Dir { "a directory" } else { "a file" })]
    FileType {
        /// What is there.
        path: PathBuf,
        /// Of which type it is.
        found: &'static str,
        /// What it was read as.
        format: Format,
    },
    /// It has more than [`FILE_BYTES_MAX`] bytes, or more entries than the reader takes.
    #[error("{} has more than {max}", shown(.path))]
    TooLarge {
        /// The file or directory.
        path: PathBuf,
        /// The bound, with its unit.
        max: String,
    },
    /// It holds something that an export would remove, and that no export has written.
    #[error("{} holds {name}, which is no host of an export", shown(.path))]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What it holds, escaped for a terminal.
        name: String,
    },
    /// Somebody else has changed it since it was read; nothing was written. Read again.
    #[error("{} was changed since it was read", shown(.path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The format has no form for a value.
    #[error("cannot write {} as {format}: {why}", shown(.path))]
    NoForm {
        /// The file.
        path: PathBuf,
        /// The format.
        format: Format,
        /// Which value, and why.
        why: String,
    },
    /// The system refused.
    #[error("cannot {action} {}", shown(.path))]
    Io {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be replaced.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Some files of a directory were changed before this came in the way.
    #[error(transparent)]
    Partial(Box<ConfError>),
}

impl ConfError {
    /// Returns what to do about it, if there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ConfError::FileType { found: "a directory", .. } => Some("give '-f dir' for a directory of files"),
            ConfError::Syntax { .. } => Some("it may be half written: save it again, or name its format with '-f'"),
            ConfError::Foreign { .. } => {
                Some("an export removes what is no host: name a directory that is empty or new")
            }
            ConfError::Changed { .. } => Some("run the command again"),
            ConfError::Install(error) => error.hint(),
            ConfError::Partial(error) => error.hint(),
            _ => None,
        }
    }

    /// Tells whether something was written all the same.
    pub fn is_partial(&self) -> bool {
        matches!(self, ConfError::Partial(_) | ConfError::Install(InstallError::Unchecked { .. }))
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ConfError {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => ConfError::Missing { path: path.to_owned() },
            _ => ConfError::Io { action, path: path.to_owned(), source },
        }
    }
}

struct At(usize, usize);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 > 0 { write!(f, ":{}:{}", self.0, self.1) } else { Ok(()) }
    }
}

/// Returns a path for a message: some of its names may have come from other hosts.
fn shown(path: &Path) -> String {
    harmless(&path.to_string_lossy())
}

/// Escapes what a terminal might obey, or show in another order than it is.
fn harmless(text: &str) -> String {
    let is_direction = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_direction(c) { harmless.extend(c.escape_default()) } else { harmless.push(c) }
    }
    harmless
}

/// What is wrong with text, and where: line and column count from 1, and are 0 if they are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SyntaxError {
    line: usize,
    column: usize,
    why: String,
}

/// Reads configuration.
///
/// Errors: [`ConfError::Missing`] if there is none. An empty file is an error in every format, so that one which is just
/// being written is not taken for one that says nothing.
pub fn read(format: Format, path: &Path) -> Result<Read, ConfError> {
    if format == Format::Dir {
        return dir::read(path);
    }
    let text = text_of_file(format, path)?;
    let value = parse(format, &text).map_err(|SyntaxError { line, column, why }| ConfError::Syntax {
        path: path.to_owned(),
        format,
        line,
        column,
        why: harmless(&why),
    })?;
    let properties = Properties::try_from(value).map_err(|source| ConfError::Kind { path: path.to_owned(), source })?;
    Ok(Read { properties, problems: Vec::new() })
}

/// Writes configuration, unless what is there reads the same.
///
/// `seen` is what the writer knows to be there, as [`read`] returned it: whatever differs from it was changed by somebody
/// else in the meantime, and is not overwritten or removed. A file gives [`ConfError::Changed`] then; in a directory such
/// entries are left alone and told. Without `seen` (an export) the directory or file belongs to the writer as it is.
///
/// A file is replaced as a whole, a directory file by file, only where it differs; names that begin with a dot are left
/// alone.
pub fn write(format: Format, path: &Path, properties: &Properties, seen: Option<&Read>) -> Result<Written, ConfError> {
    if format == Format::Dir {
        return dir::write(path, properties, seen);
    }
    let projection = format.projection(properties);
    let written = Written { changed: true, left_alone: projection.left_out };
    match read(format, path) {
        Ok(there) if there.properties == projection.properties => return Ok(Written { changed: false, ..written }),
        Ok(there) if seen.is_some_and(|seen| seen.properties != there.properties) => {
            return Err(ConfError::Changed { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(ConfError::Missing { .. }) if seen.is_none_or(|seen| *seen == Read::default()) => {}
        Err(ConfError::Missing { path }) => return Err(ConfError::Changed { path }),
        Err(error @ (ConfError::Syntax { .. } | ConfError::Kind { .. })) if seen.is_some() => return Err(error),
        Err(ConfError::Syntax { .. } | ConfError::Kind { .. } | ConfError::TooLarge { .. }) => {}
        Err(error) => return Err(error),
    }
    let text = text_of(format, &projection.properties.into()).map_err(|why| ConfError::NoForm {
        path: path.to_owned(),
        format,
        why,
    })?;
    let candidate = Candidate::new(path, text.as_bytes())?;
    let Some(seen) = seen else {
        candidate.install()?;
        return Ok(written);
    };
    let is_as_seen = |there: Option<&[u8]>| match there {
        None => *seen == Read::default(),
        Some(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| parse(format, text).ok())
            .is_some_and(|value| value == Value::from(seen.properties.clone())),
    };
    if !candidate.install_over(is_as_seen)? {
        return Err(ConfError::Changed { path: path.to_owned() });
    }
    Ok(written)
}

/// Returns the text for a value in a format of files.
///
/// Errors: the reason why the format has no form for it.
pub fn text_of(format: Format, value: &Value) -> Result<String, String> {
    let text = match format {
        Format::Json => Ok(documents::json_text(value)),
        Format::Yaml => documents::yaml_text(value),
        Format::Toml => documents::toml_text(value),
        Format::Php => Ok(php::text(value)),
        Format::Dir => Err("a directory has no text".to_owned()),
    };
    text.map_err(|why| harmless(&why))
}

fn parse(format: Format, text: &str) -> Result<Value, SyntaxError> {
    match format {
        Format::Json => documents::json_value(text),
        Format::Yaml => documents::yaml_value(text),
        Format::Toml => documents::toml_value(text),
        Format::Php => php::value(text),
        Format::Dir => unreachable!("a directory has no text"),
    }
}

/// Reads a file, never waiting for anybody: a FIFO is refused, not opened.
fn text_of_file(format: Format, path: &Path) -> Result<String, ConfError> {
    let io = |action| ConfError::io(action, path);
    let regular = |kind: std::fs::FileType| match folder::name_of_type(kind) {
        None => Ok(()),
        Some(found) => Err(ConfError::FileType { path: path.to_owned(), found, format }),
    };
    regular(std::fs::metadata(path).map_err(io("read"))?.file_type())?;
    let unwaiting = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let unwaiting = i32::try_from(unwaiting).expect("the flags of open are an int");
    let file = OpenOptions::new().read(true).custom_flags(unwaiting).open(path).map_err(io("read"))?;
    // What was looked at may have been replaced.
    regular(file.metadata().map_err(io("read"))?.file_type())?;
    let bytes = bounded(&file, FILE_BYTES_MAX)
        .map_err(io("read"))?
        .ok_or_else(|| ConfError::TooLarge { path: path.to_owned(), max: format!("{} MiB", FILE_BYTES_MAX >> 20) })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|&byte| byte == b'\n').count();
        let column = valid.len() - valid.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1) + 1;
        ConfError::Syntax { path: path.to_owned(), format, line, column, why: "this is not UTF-8".to_owned() }
    })
}

/// Reads a file to its end; `None` if it is longer than a bound.
fn bounded(file: &File, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max)).then_some(bytes))
}
