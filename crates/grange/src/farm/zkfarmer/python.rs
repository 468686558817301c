//! Values as a Python program prints them.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Number, Value};

/// From this power of ten on, and below 10 to the power of [`EXPONENT_MIN`], floats are written with an exponent.
const EXPONENT_MAX: i32 = 16;
const EXPONENT_MIN: i32 = -4;

/// Returns what `print` makes of a value; nothing at all is `None`.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        value => repr(value.unwrap_or(&Value::Null)),
    }
}

/// Returns what `repr` makes of a value.
fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_repr(number),
        Value::String(text) => text_repr(text),
        Value::Array(values) => format!("[{}]", values.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}: {}", text_repr(name), repr(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

fn number_repr(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (EXPONENT_MIN..EXPONENT_MAX).contains(&power) {
        let fixed = float.to_string();
        return if fixed.contains('.') { fixed } else { format!("{fixed}.0") };
    }
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.unsigned_abs())
}

fn text_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for c in text.chars() {
        let code = u32::from(c);
        let escaped = match c {
            '\n' => write!(shown, "\\n"),
            '\r' => write!(shown, "\\r"),
            '\t' => write!(shown, "\\t"),
            c if c == '\\' || c == quote => write!(shown, "\\{c}"),
            c if is_printable(c) => write!(shown, "{c}"),
            _ if code <= 0xff => write!(shown, "\\x{code:02x}"),
            _ if code <= 0xffff => write!(shown, "\\u{code:04x}"),
            _ => write!(shown, "\\U{code:08x}"),
        };
        escaped.expect("a string takes everything");
    }
    shown.push(quote);
    shown
}

/// Near enough to Python's: what has no shape of its own is not printable.
fn is_printable(c: char) -> bool {
    let has_no_shape = c.is_control() || (c.is_whitespace() && c != ' ');
    let is_format = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let is_private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    !(has_no_shape || is_format || is_private)
}

/// Returns what `json.dumps` makes of a value.
pub(super) fn json(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Dumps);
    value.serialize(&mut serializer).expect("a JSON value is JSON, and memory takes it");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// A blank behind each comma and colon, and ASCII only.
struct Dumps;

impl Formatter for Dumps {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if matches!(c, ' '..='~') {
                write!(writer, "{c}")?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    /// Source: `print(json.loads(text))` in Python 3.
    #[test]
    fn values_are_printed_as_python_does() {
        for (value, printed) in [
            (value!("it's"), "it's"),
            (value!(null), "None"),
            (value!(true), "True"),
            (value!(-5), "-5"),
            (value!(18446744073709551615_u64), "18446744073709551615"),
            (value!(1.0), "1.0"),
            (value!(0.5), "0.5"),
            (value!(-0.0001), "-0.0001"),
            (value!(0.00001234), "1.234e-05"),
            (value!(1e15), "1000000000000000.0"),
            (value!(1e16), "1e+16"),
            (value!(1.5e300), "1.5e+300"),
            (value!(["a", false, 1.25, []]), "['a', False, 1.25, []]"),
            (value!({"b": {"c": "it's"}, "a": null}), "{'a': None, 'b': {'c': \"it's\"}}"),
            (value!(["it's \"so\""]), "['it\\'s \"so\"']"),
            (
                value!(["\\ \n\t\r\u{1b}\u{7f}\u{a0}é\u{202e}😀\u{10ffff}"]),
                "['\\\\ \\n\\t\\r\\x1b\\x7f\\xa0é\\u202e😀\\U0010ffff']",
            ),
            (value!({}), "{}"),
        ] {
            assert_eq!(text(Some(&value)), printed);
        }
        assert_eq!(text(None), "None");
    }

    /// Source: `json.dumps` in Python 3.
    #[test]
    fn json_is_written_as_python_does() {
        let value = value!({"a": "é\"\n\u{7f}😀", "b": [1, 2.5, {}, [], null], "c": {"d": true}});
        let written =
            "{\"a\": \"\\u00e9\\\"\\n\\u007f\\ud83d\\ude00\", \"b\": [1, 2.5, {}, [], null], \"c\": {\"d\": true}}";
        assert_eq!(json(&value), written);
    }
}
