//! Any text out of a farm, by a template that an administrator wrote.
//!
//! The template is trusted and what the hosts say is not. So text is put in as it is only if it is a plain word; whoever
//! wants more says as what: `| json`, `| php`, `| shell`, or `| raw`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectExt as _, Value as Seen, ValueKind};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, HtmlEscape, Output, State, UndefinedBehavior, escape_formatter,
};
use serde_json::{Map, Value};

use super::lines::{is_token, shell_word};
use super::rendered::{Export, Rendered};
use super::{FILE_BYTES_MAX, harmless};

/// How many steps a template may take; one that takes more fails. A line for a host takes some tens.
const STEPS_MAX: u64 = 10_000_000;

/// How large a template may be, in bytes; a larger one is refused.
const TEMPLATE_BYTES_MAX: u64 = 4 << 20;

/// The context of a template.
const HOSTS: &str = "hosts";
const FARM: &str = "farm";

/// A template that was understood.
pub struct Template {
    environment: Environment<'static>,
    name: String,
    missed: Missed,
}

/// Why a template gives no text.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("cannot read the template {}", .path.display())]
    Read {
        /// The template.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is no template, or fails with what there is.
    #[error("template {name}{}: {why}{}", Line(*.line), Of(host.as_deref()))]
    Template {
        /// The template.
        name: String,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong there.
        why: String,
        /// The host and the field that was looked at last, as far as it has to do with it.
        host: Option<String>,
    },
    /// It gives more text than a file may have.
    #[error("template {name} gives more than {} MiB", FILE_BYTES_MAX >> 20)]
    TooLarge {
        /// The template.
        name: String,
    },
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

struct Of<'a>(Option<&'a str>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |host| write!(f, " ({host})"))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Template {
    /// Reads a template for a file by this name: if that ends in `.html`, everything is escaped for HTML.
    pub fn read(path: &Path, target: &Path) -> Result<Template, TemplateError> {
        let failed = |source| TemplateError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let bytes = super::bounded(&file, TEMPLATE_BYTES_MAX).map_err(failed)?;
        let too_large = || failed(io::Error::new(io::ErrorKind::FileTooLarge, "a template has 4 MiB at most"));
        let source = String::from_utf8(bytes.ok_or_else(too_large)?)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))?;
        let is_html = target.extension().is_some_and(|extension| extension == "html" || extension == "htm");
        Template::new(&path.display().to_string(), source, is_html)
    }

    /// Understands a template; its name is for messages.
    pub fn new(name: &str, source: String, is_html: bool) -> Result<Template, TemplateError> {
        let mut environment = Environment::new();
        let mut syntax = minijinja::syntax::SyntaxConfig::builder();
        // A line that holds a block only leaves no empty line, and the file ends as the template does.
        let syntax = syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        environment.set_syntax(syntax.expect("these are no delimiters"));
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(STEPS_MAX));
        // With a form of escaping of its own, what a macro or a block gives is known to have been checked.
        let escape = if is_html { AutoEscape::Html } else { AutoEscape::Custom("words".into()) };
        environment.set_auto_escape_callback(move |_| escape.clone());
        environment.set_formatter(put);
        environment.add_filter("json", |value: &Seen| Ok::<_, Error>(Seen::from_safe_string(json_text(&json(value)?))));
        environment.add_filter("php", |value: &Seen| {
            Ok::<_, Error>(Seen::from_safe_string(super::php::expression(&json(value)?)))
        });
        environment.add_filter("shell", shell);
        for name in ["e", "escape"] {
            environment.add_filter(name, |value: &Seen| match value.is_safe() {
                true => Ok(value.clone()),
                false => Ok::<_, Error>(Seen::from_safe_string(HtmlEscape(&text(value)?).to_string())),
            });
        }
        environment.add_filter("raw", |value: &Seen| Ok::<_, Error>(Seen::from_safe_string(text(value)?)));
        environment.add_filter("token", token);
        environment.add_test("token", |value: &Seen| value.as_str().map_or_else(|| value.is_number(), is_token));
        let template = Template { environment, name: name.to_owned(), missed: Missed::default() };
        template.with_source(source)
    }

    fn with_source(mut self, source: String) -> Result<Template, TemplateError> {
        let added = self.environment.add_template_owned(self.name.clone(), source);
        added.map_err(|error| self.failed(&error))?;
        Ok(self)
    }

    /// Renders a farm. The same farm always gives the same bytes.
    ///
    /// In the template, `hosts` is the list of hosts, sorted by name: `host.name` is a host's name, `host.properties` its
    /// properties, and `host.port` its field `port`, whatever is not called `name` or `properties`. `farm` are the
    /// properties of the farm.
    pub fn render(&self, export: &Export) -> Result<Rendered, TemplateError> {
        self.missed.set(None);
        let hosts: Vec<Seen> = export
            .hosts
            .iter()
            .map(|(name, host)| {
                let fields = |fields: &Map<String, Value>| {
                    Fields::of(fields, &format!("host {name:?}"), String::new(), &self.missed)
                };
                let mut object = fields(host.fields());
                object.fields.insert("properties".to_owned(), Seen::from_object(fields(host.fields())));
                object.fields.insert("name".to_owned(), Seen::from(name.as_str()));
                Seen::from_object(object)
            })
            .collect();
        let farm = Fields::of(export.farm.fields(), "the farm", String::new(), &self.missed);
        let context = Seen::from_pairs([(HOSTS, Seen::from(hosts)), (FARM, Seen::from_object(farm))]);
        let template = self.environment.get_template(&self.name).map_err(|error| self.failed(&error))?;
        let mut bytes = Bounded(Vec::new());
        let rendered = template.render_captured_to(context, &mut bytes).map(|_| ());
        if bytes.is_full() {
            return Err(TemplateError::TooLarge { name: self.name.clone() });
        }
        rendered.map_err(|error| self.failed(&error))?;
        Ok(Rendered { bytes: bytes.0, left_out: Vec::new() })
    }

    fn failed(&self, error: &Error) -> TemplateError {
        let why = match error.kind() {
            ErrorKind::OutOfFuel => "it takes too long; does it loop?".to_owned(),
            ErrorKind::UndefinedError => {
                "there is no such field; write '| default(…)' for one that may be missing".to_owned()
            }
            _ => harmless(error.detail().unwrap_or(&error.kind().to_string())),
        };
        let host = match error.kind() {
            ErrorKind::SyntaxError | ErrorKind::OutOfFuel => None,
            _ => self.missed.get(),
        };
        TemplateError::Template { name: self.name.clone(), line: error.line(), why, host }
    }
}

/// Which field of which host was looked at last.
#[derive(Debug, Clone, Default)]
struct Missed(Arc<Mutex<Option<String>>>);

impl Missed {
    fn set(&self, field: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = field;
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An object that remembers what was looked for in it, for messages.
#[derive(Debug)]
struct Fields {
    fields: std::collections::BTreeMap<String, Seen>,
    of: String,
    path: String,
    missed: Missed,
}

impl Fields {
    fn of(fields: &Map<String, Value>, of: &str, path: String, missed: &Missed) -> Fields {
        // A field that is null is one that is missing.
        let fields = fields.iter().filter(|(_, value)| !value.is_null());
        let fields = fields.map(|(name, value)| (name.clone(), seen(value, of, &format!("{path}{name}."), missed)));
        Fields { fields: fields.collect(), of: of.to_owned(), path, missed: missed.clone() }
    }
}

fn seen(value: &Value, of: &str, path: &str, missed: &Missed) -> Seen {
    match value {
        Value::Null => Seen::from(()),
        Value::Bool(is_true) => Seen::from(*is_true),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Seen::from(number),
            (None, Some(number)) => Seen::from(number),
            (None, None) => Seen::from(number.as_f64()),
        },
        Value::String(text) => Seen::from(text.as_str()),
        Value::Array(values) => values.iter().map(|value| seen(value, of, path, missed)).collect(),
        Value::Object(fields) => Seen::from_object(Fields::of(fields, of, path.to_owned(), missed)),
    }
}

impl Object for Fields {
    fn get_value(self: &Arc<Self>, key: &Seen) -> Option<Seen> {
        let key = key.as_str()?;
        self.missed.set(Some(format!("field {} of {}", format!("{}{key}", self.path).escape_debug(), self.of)));
        self.fields.get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|fields| Box::new(fields.fields.keys().map(|key| Seen::from(key.as_str()))))
    }
}

fn wrong(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// Puts a value into the text: any if the whole text is escaped, else a number, a plain word, or what was quoted.
fn put(output: &mut Output, state: &mut State, value: &Seen) -> Result<(), Error> {
    // Jinja's own spelling is Python's, and what is made here is read by other programs.
    if let Ok(is_true) = bool::try_from(value.clone())
        && value.kind() == ValueKind::Bool
    {
        return Ok(output.write_str(if is_true { "true" } else { "false" })?);
    }
    if matches!(state.auto_escape(), AutoEscape::Html) {
        return escape_formatter(output, state, value);
    }
    match value.as_str() {
        Some(text) if value.is_safe() || is_word(text) => Ok(output.write_str(text)?),
        Some(text) => Err(wrong(format!(
            "{text:?} is more than a word; quote it with '| json', '| php' or '| shell', or write '| raw' to put it in as it is"
        ))),
        None if value.is_number() => Ok(write!(output, "{value}")?),
        None => Err(wrong("an object, a list or null is no text; write '| json'")),
    }
}

/// Tells whether text may be put in as it is.
fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '@' | '+' | '%' | '~'))
}

fn json(value: &Seen) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    serde_json::to_value(value).map_err(|error| wrong(error.to_string()))
}

/// Returns JSON that may stand in a page of HTML too: outside of its strings these characters are not in JSON.
fn json_text(value: &Value) -> String {
    let escapes = [("<", r"\u003c"), (">", r"\u003e"), ("&", r"\u0026"), ("'", r"\u0027")];
    escapes.iter().fold(value.to_string(), |text, (character, escape)| text.replace(character, escape))
}

fn text(value: &Seen) -> Result<String, Error> {
    match json(value)? {
        Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

fn shell(value: &Seen) -> Result<Seen, Error> {
    let text = text(value)?;
    if text.contains('\0') {
        return Err(wrong("a shell has no NUL"));
    }
    Ok(Seen::from_safe_string(shell_word(&text)))
}

fn token(value: &Seen) -> Result<Seen, Error> {
    let text = text(value)?;
    if is_token(&text) {
        Ok(Seen::from(text))
    } else {
        Err(wrong(format!("{text:?} has more than letters, digits, '.', '-', '_' and ':'")))
    }
}

/// Takes as much as a file may have.
struct Bounded(Vec<u8>);

impl Bounded {
    fn is_full(&self) -> bool {
        !u64::try_from(self.0.len()).is_ok_and(|length| length <= FILE_BYTES_MAX)
    }
}

impl io::Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.is_full() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
