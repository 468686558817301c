//! Files on disk: which form they have, and how long they may be.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::declared::model::Declared;
use crate::declared::problem::{Location, Problem, ReadError};
use crate::declared::variables::{NAME_EXPECTED, Variables, is_name};
use crate::declared::{toml_form, zkinitree};

/// The most bytes of a file; a longer one is refused. A hundred thousand znodes with small data need a tenth of it.
pub(crate) const FILE_BYTES_MAX: u64 = 256 << 20;

/// Permission bits of group and others.
const NOT_THE_OWNER: u32 = 0o077;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Our own.
    Toml,
    /// The one that vsc-zk's zkinitree reads.
    Zkinitree,
}

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The files: one in TOML, or several of zkinitree's, of which later ones win.
    pub files: Vec<PathBuf>,
    /// TOML files that are laid over the first one, in this order.
    pub overlays: Vec<PathBuf>,
    /// `NAME=VALUE`, which win over the file's own variables.
    pub variables: Vec<String>,
    /// The form; `None` looks at the name and the text.
    pub form: Option<Form>,
}

/// Reads a declaration; `variable` looks up an environment variable.
///
/// Errors: [`ReadError::Problems`] lists everything that is wrong, each with file and line.
pub fn read(source: &Source, variable: &dyn Fn(&str) -> Option<String>) -> Result<Declared, ReadError> {
    let variables = source.variables.iter().map(|text| parse_variable(text)).collect::<Result<Vec<_>, _>>()?;
    let files = source.files.iter().map(|path| Text::read(path)).collect::<Result<Vec<_>, _>>()?;
    let form = source.form.or_else(|| files.first().map(Text::form)).unwrap_or(Form::Toml);
    let mut declared = match form {
        Form::Zkinitree => {
            let overlay = source.overlays.first().or_else(|| source.files.first().filter(|_| !variables.is_empty()));
            match overlay {
                Some(path) => return Err(ReadError::NoOverlays(path.clone())),
                None => zkinitree::read(&files)?,
            }
        }
        Form::Toml => {
            let overlays = source.overlays.iter().map(|path| Text::read(path)).collect::<Result<Vec<_>, _>>()?;
            let files: Vec<Text> = files.into_iter().chain(overlays).collect();
            toml_form::read(&files, Variables::given(variables), variable)?
        }
    };
    declared.warnings.sort_by_key(|warning| warning.location.to_string());
    Ok(declared)
}

fn parse_variable(text: &str) -> Result<(String, String), ReadError> {
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(ReadError::Variable(format!("{text}: {NAME_EXPECTED}"))),
    }
}

/// The text of a file.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) file: Arc<Path>,
    pub(crate) text: String,
    /// Permission bits.
    mode: u32,
    /// Where each line begins.
    line_starts: Vec<usize>,
}

impl Text {
    fn read(path: &Path) -> Result<Text, ReadError> {
        let (bytes, mode) = read_bytes(path)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line_number = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            let location = Location::new(Arc::from(path), line_number);
            ReadError::Problems(vec![Problem::new(&location, "this line is not UTF-8")])
        })?;
        Ok(Text { file: Arc::from(path), line_starts: line_starts(&text), text, mode })
    }

    #[cfg(test)]
    pub(crate) fn of(name: &str, text: &str) -> Text {
        Text { file: Arc::from(Path::new(name)), line_starts: line_starts(text), text: text.to_owned(), mode: 0o600 }
    }

    fn form(&self) -> Form {
        if self.file.extension().is_some_and(|extension| extension == "toml") {
            return Form::Toml;
        }
        let is_zkinitrees =
            |line: &str| line.starts_with("[/") || line.starts_with("[root]") || line.starts_with("[MAIN]");
        if self.text.lines().any(is_zkinitrees) { Form::Zkinitree } else { Form::Toml }
    }

    /// Returns the line that holds a byte of the text.
    pub(crate) fn line_of(&self, offset: usize) -> Location {
        self.location(self.line_starts.partition_point(|&start| start <= offset).max(1))
    }

    pub(crate) fn location(&self, line_number: usize) -> Location {
        Location::new(Arc::clone(&self.file), line_number)
    }

    /// Returns a warning if somebody else may read or change the file, which holds `what`.
    pub(crate) fn exposure(&self, what: &str) -> Option<Problem> {
        let mode = self.mode & 0o7777;
        (mode & NOT_THE_OWNER != 0).then(|| {
            let message = format!("mode {mode:04o} gives others access to {what} in this file; chmod 600");
            Problem::new(&self.location(1), message)
        })
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

/// Reads a whole file, and its permission bits.
pub(crate) fn read_bytes(path: &Path) -> Result<(Vec<u8>, u32), ReadError> {
    let open = |source: io::Error| ReadError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(open)?;
    let mode = file.metadata().map_err(open)?.mode();
    let mut bytes = Vec::new();
    (&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(open)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(ReadError::TooLong { path: path.to_owned(), limit: FILE_BYTES_MAX });
    }
    Ok((bytes, mode))
}

/// Reads a file that only its owner may have access to.
pub(crate) fn read_secret(path: &Path) -> Result<String, String> {
    let (bytes, mode) = read_bytes(path).map_err(|error| match error {
        ReadError::Open { source, .. } => format!("cannot read {}: {}", path.display(), crate::connect::plain(&source)),
        other => other.to_string(),
    })?;
    if mode & NOT_THE_OWNER != 0 {
        let mode = mode & 0o7777;
        return Err(format!("{} has mode {mode:04o}, and only its owner may have access to it", path.display()));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))?;
    Ok(text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).unwrap_or(&text).to_owned())
}
