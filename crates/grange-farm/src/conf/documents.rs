//! JSON, YAML and TOML, each by the crate that knows it.

use serde_json::{Map, Number, Value};

use super::strict::Strict;
use super::{DEPTH_MAX, SyntaxError};

pub(super) fn json_value(text: &str) -> Result<Value, SyntaxError> {
    serde_json::from_str(text).map(|Strict(value)| value).map_err(|error| {
        let whole = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        let why = whole.strip_suffix(&at).unwrap_or(&whole).to_owned();
        SyntaxError { line: error.line(), column: error.column(), why }
    })
}

pub(super) fn json_text(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value is JSON");
    text.push('\n');
    text
}

/// The stack for reading and writing YAML, in bytes. The crate takes up to 30 KB for each level in a build without
/// optimisation, and the caller's thread may have 2 MiB.
const YAML_STACK_BYTES: usize = 16 << 20;

fn with_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(YAML_STACK_BYTES).spawn_scoped(scope, run);
        thread.expect("the system has a thread to give").join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Reads YAML. The parser bounds what anchors and nesting may grow to; a field that is there twice is an error, and so is
/// a second document.
pub(super) fn yaml_value(text: &str) -> Result<Value, SyntaxError> {
    with_stack(|| yaml_value_here(text))
}

fn yaml_value_here(text: &str) -> Result<Value, SyntaxError> {
    let budget = serde_saphyr::budget! { max_depth: DEPTH_MAX, max_documents: 1 };
    let options = serde_saphyr::options! { with_snippet: false, budget: budget };
    serde_saphyr::from_str_with_options(text, options).map(|Strict(value)| value).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |location| {
            let number = |number| usize::try_from(number).unwrap_or(0);
            (number(location.line()), number(location.column()))
        });
        let whole = error.to_string();
        let at = format!(" at line {line}, column {column}");
        SyntaxError { line, column, why: whole.replace(&at, "") }
    })
}

/// Returns a value as YAML in which strings stay strings for readers of YAML 1.1 and of 1.2.
pub(super) fn yaml_text(value: &Value) -> Result<String, String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    with_stack(|| serde_saphyr::to_string_with_options(value, options).map_err(|error| error.to_string()))
}

pub(super) fn toml_value(text: &str) -> Result<Value, SyntaxError> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line = before.split('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        SyntaxError { line, column, why: error.message().replace('\n', "; ") }
    })?;
    json_of(toml::Value::Table(table), 0).map_err(|why| SyntaxError { line: 0, column: 0, why })
}

/// A date becomes text as it is written.
fn json_of(value: toml::Value, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} tables inside of each other"));
    }
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => {
            Value::Number(Number::from_f64(number).ok_or_else(|| format!("{number} is a number that JSON has not"))?)
        }
        toml::Value::Boolean(is_true) => Value::Bool(is_true),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(values) => {
            Value::Array(values.into_iter().map(|value| json_of(value, depth + 1)).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let fields = table.into_iter().map(|(name, value)| Ok((name, json_of(value, depth + 1)?)));
            Value::Object(fields.collect::<Result<Map<_, _>, String>>()?)
        }
    })
}

pub(super) fn toml_text(value: &Value) -> Result<String, String> {
    toml::to_string(value).map_err(|error| error.to_string())
}
