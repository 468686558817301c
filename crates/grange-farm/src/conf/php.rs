//! PHP files that return an array: `<?php return array('field' => 'value');`.
//!
//! What is written here is run by whoever includes it, and the values come from other machines. So a string is written
//! in single quotes, in which PHP knows two escapes and nothing else: no variable, no tag and no expression can be in
//! it. Only a string with control characters is written in double quotes, so that the file is a text that a terminal
//! can show; there each backslash, quote and dollar sign is escaped, and every control character is a number.

mod parse;

use std::fmt::Write as _;

use serde_json::{Number, Value};

pub(super) use parse::value;

/// Returns the file for a value. PHP reads from it the same value, except that it has no numbers between 2^63 and 2^64:
/// they become floats there.
pub(super) fn text(value: &Value) -> String {
    format!("<?php\n\nreturn {};\n", expression(value))
}

/// Returns the PHP expression for a value.
pub(super) fn expression(value: &Value) -> String {
    let mut text = String::new();
    put(&mut text, value, 0);
    text
}

fn put(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => put_number(text, number),
        Value::String(string) => put_string(text, string),
        Value::Array(values) => {
            put_items(text, depth, values.len(), values.iter().map(|value| (None, value)));
        }
        Value::Object(fields) => {
            put_items(text, depth, fields.len(), fields.iter().map(|(name, value)| (Some(name), value)));
        }
    }
}

fn put_items<'a>(
    text: &mut String,
    depth: usize,
    count: usize,
    items: impl Iterator<Item = (Option<&'a String>, &'a Value)>,
) {
    text.push_str("array(");
    for (name, value) in items {
        new_line(text, depth + 1);
        if let Some(name) = name {
            put_string(text, name);
            text.push_str(" => ");
        }
        put(text, value, depth + 1);
        text.push(',');
    }
    if count > 0 {
        new_line(text, depth);
    }
    text.push(')');
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("    ", depth));
}

fn put_number(text: &mut String, number: &Number) {
    // PHP reads a sign and a number, and this number is too large without its sign.
    if number.as_i64() == Some(i64::MIN) {
        text.push_str("-9223372036854775807-1");
    } else {
        write!(text, "{number}").expect("a String takes any text");
    }
}

fn put_string(text: &mut String, string: &str) {
    if !string.contains(char::is_control) {
        text.push('\'');
        for c in string.chars() {
            if matches!(c, '\\' | '\'') {
                text.push('\\');
            }
            text.push(c);
        }
        return text.push('\'');
    }
    text.push('"');
    for c in string.chars() {
        match c {
            '\\' | '"' | '$' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c.is_ascii_control() => write!(text, "\\x{:02x}", u32::from(c)).expect("a String takes any text"),
            c if c.is_control() => write!(text, "\\u{{{:x}}}", u32::from(c)).expect("a String takes any text"),
            c => text.push(c),
        }
    }
    text.push('"');
}
