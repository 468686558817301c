//! A parser for PHP files that hold nothing but values: no variable, call or expression is ever evaluated.

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};

use crate::conf::{DEPTH_MAX, SyntaxError};

/// Reads a file of the shape `<?php return …;`, where the value is made of arrays in both notations, strings in single
/// and double quotes (also several with `.` between), numbers in all of PHP's notations, true, false and null.
///
/// An array whose keys are left out or 0, 1, 2… is a list, every other one an object; an empty one is an object. A key in
/// quotes makes an object too, though PHP itself takes `'0'` for `0`.
pub(in crate::conf) fn value(text: &str) -> Result<Value, SyntaxError> {
    let mut parser = Parser { text: text.as_bytes(), at: 0 };
    parser.file().map_err(|Wrong { at, why }| {
        let before = &text.as_bytes()[..at.min(text.len())];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        // A column is a character, and only the first byte of one is none of these.
        let characters = before[line_start..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        SyntaxError { line: before.iter().filter(|&&byte| byte == b'\n').count() + 1, column: characters + 1, why }
    })
}

struct Wrong {
    at: usize,
    why: String,
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

/// A key that PHP counts as a number, or any other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(String),
}

impl Parser<'_> {
    fn file(&mut self) -> Result<Value, Wrong> {
        let opens = self.text.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case(b"<?php"));
        if !opens || !self.text.get(5).is_some_and(u8::is_ascii_whitespace) {
            return self.wrong(0, "a PHP file of values begins with '<?php return'");
        }
        self.at = 5;
        self.blank()?;
        if !self.word("return") {
            return self.wrong(self.at, "expected 'return'");
        }
        let value = self.value(0)?;
        self.expect(b';', "expected ';' after the value")?;
        self.blank()?;
        if self.rest().starts_with(b"?>") {
            self.at += 2;
            let rest = self.rest();
            let rest = rest.strip_prefix(b"\r\n").or(rest.strip_prefix(b"\n")).unwrap_or(rest);
            if !rest.is_empty() {
                return self.wrong(self.at, "nothing may follow '?>'");
            }
        } else if self.at < self.text.len() {
            return self.wrong(self.at, "nothing may follow the value");
        }
        Ok(value)
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn wrong<T>(&self, at: usize, why: impl Into<String>) -> Result<T, Wrong> {
        Err(Wrong { at, why: why.into() })
    }

    /// Goes over white space and comments. A comment to the end of the line ends before `?>` too, as in PHP.
    fn blank(&mut self) -> Result<(), Wrong> {
        loop {
            let rest = self.rest();
            if rest.starts_with(b"#[") {
                return self.wrong(self.at, "an attribute is not a value");
            } else if rest.starts_with(b"//") || rest.starts_with(b"#") {
                let end =
                    (0..rest.len()).find(|&at| rest[at] == b'\n' || rest[at] == b'\r' || rest[at..].starts_with(b"?>"));
                self.at += end.unwrap_or(rest.len());
                if self.rest().starts_with(b"?>") {
                    return Ok(());
                }
            } else if rest.starts_with(b"/*") {
                let Some(length) = rest[2..].windows(2).position(|two| two == b"*/") else {
                    return self.wrong(self.at, "this comment does not end");
                };
                self.at += length + 4;
            } else if matches!(rest.first(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
                self.at += 1;
            } else {
                return Ok(());
            }
        }
    }

    /// Takes a word in whatever case, if it is next.
    fn word(&mut self, word: &str) -> bool {
        let (rest, length) = (self.rest(), word.len());
        let is_next = rest.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
            && !rest.get(length).is_some_and(|&byte| is_of_name(byte) || byte == b'\\');
        if is_next {
            self.at += length;
        }
        is_next
    }

    fn expect(&mut self, byte: u8, why: &str) -> Result<(), Wrong> {
        self.blank()?;
        if self.peek() != Some(byte) {
            return self.wrong(self.at, why);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value, Wrong> {
        self.blank()?;
        let start = self.at;
        match self.peek() {
            None => self.wrong(start, "the file ends where a value should be"),
            Some(b'\'' | b'"') => self.strings().map(Value::String),
            Some(b'0'..=b'9' | b'.' | b'+' | b'-') => self.number().map(Value::Number),
            Some(b'[') => {
                self.at += 1;
                self.array(b']', depth)
            }
            Some(b'$') => self.wrong(start, "a variable is not a value"),
            Some(b'<') => self.wrong(start, "a heredoc is not read; use quotes"),
            Some(_) => {
                if self.word("array") {
                    self.expect(b'(', "expected '(' after 'array'")?;
                    self.array(b')', depth)
                } else if self.word("true") {
                    Ok(Value::Bool(true))
                } else if self.word("false") {
                    Ok(Value::Bool(false))
                } else if self.word("null") {
                    Ok(Value::Null)
                } else {
                    self.wrong(
                        start,
                        "expected a string, a number, true, false, null or an array; nothing is evaluated",
                    )
                }
            }
        }
    }

    fn array(&mut self, end: u8, depth: usize) -> Result<Value, Wrong> {
        let start = self.at;
        if depth >= DEPTH_MAX {
            return self.wrong(start, format!("more than {DEPTH_MAX} arrays inside of each other"));
        }
        let mut items = Vec::new();
        let (mut seen, mut next, mut is_list, mut has_negative) = (BTreeSet::new(), 0i64, true, false);
        loop {
            self.blank()?;
            if self.peek() == Some(end) {
                self.at += 1;
                break;
            }
            let at = self.at;
            let mut value = self.value(depth + 1)?;
            self.blank()?;
            let key = if self.rest().starts_with(b"=>") {
                self.at += 2;
                is_list &= value.is_number();
                let key = key(&value).map_err(|why| Wrong { at, why })?;
                value = self.value(depth + 1)?;
                key
            } else if has_negative {
                return self.wrong(at, "after a negative key, which one this has depends on PHP's version; write it");
            } else {
                Key::Number(next)
            };
            if let Key::Number(number) = key {
                is_list &= usize::try_from(number) == Ok(items.len());
                has_negative |= number < 0;
                next = next.max(number.saturating_add(1));
            }
            if !seen.insert(key.clone()) {
                return self.wrong(at, "this key is there twice");
            }
            items.push((key, value));
            self.blank()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == end => {}
                _ => return self.wrong(self.at, format!("expected ',' or '{}'", char::from(end))),
            }
        }
        Ok(if is_list && !items.is_empty() {
            Value::Array(items.into_iter().map(|(_, value)| value).collect())
        } else {
            let named = items.into_iter().map(|(key, value)| match key {
                Key::Number(number) => (number.to_string(), value),
                Key::Text(text) => (text, value),
            });
            Value::Object(named.collect::<Map<_, _>>())
        })
    }

    /// Reads a string, or several with `.` between: that is how `var_export` writes a NUL.
    fn strings(&mut self) -> Result<String, Wrong> {
        let start = self.at;
        let mut bytes = Vec::new();
        loop {
            match self.peek() {
                Some(b'\'') => self.single_quoted(&mut bytes)?,
                Some(b'"') => self.double_quoted(&mut bytes)?,
                _ => return self.wrong(self.at, "expected a string after '.'"),
            }
            self.blank()?;
            if self.peek() != Some(b'.') {
                break;
            }
            self.at += 1;
            self.blank()?;
        }
        String::from_utf8(bytes).or_else(|_| self.wrong(start, "this string is not UTF-8"))
    }

    fn single_quoted(&mut self, bytes: &mut Vec<u8>) -> Result<(), Wrong> {
        let start = self.at;
        self.at += 1;
        loop {
            match *self.rest() {
                [] => return self.wrong(start, "this string does not end"),
                [b'\'', ..] => break,
                [b'\\', escaped @ (b'\\' | b'\''), ..] => {
                    bytes.push(escaped);
                    self.at += 2;
                }
                [byte, ..] => {
                    bytes.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Ok(())
    }

    fn double_quoted(&mut self, bytes: &mut Vec<u8>) -> Result<(), Wrong> {
        let start = self.at;
        self.at += 1;
        loop {
            match *self.rest() {
                [] => return self.wrong(start, "this string does not end"),
                [b'"', ..] => break,
                [b'$', next, ..] if next == b'{' || is_of_name(next) && !next.is_ascii_digit() => {
                    return self.wrong(self.at, "a variable in a string is not a value; write '\\$' for a dollar sign");
                }
                [b'{', b'$', ..] => {
                    return self.wrong(self.at, "an expression in a string is not a value; write '{\\$'");
                }
                [b'\\', ..] => self.escape(bytes)?,
                [byte, ..] => {
                    bytes.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads an escape of a string in double quotes. What is none stands for itself, with its backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Wrong> {
        let start = self.at;
        self.at += 1;
        let Some(escaped) = self.peek() else { return Ok(()) };
        self.at += 1;
        match escaped {
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'r' => bytes.push(b'\r'),
            b'v' => bytes.push(0x0b),
            b'e' => bytes.push(0x1b),
            b'f' => bytes.push(0x0c),
            b'\\' | b'$' | b'"' => bytes.push(escaped),
            b'0'..=b'7' => {
                self.at -= 1;
                let number = self.digits(8, 3);
                // PHP drops what is above a byte.
                bytes.push((number & 0xff).try_into().expect("it is a byte"));
            }
            b'x' | b'X' if self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) => {
                bytes.push(self.digits(16, 2).try_into().expect("two digits are a byte"));
            }
            b'u' if self.peek() == Some(b'{') => {
                self.at += 1;
                let (from, number) = (self.at, self.digits(16, 8));
                let character = char::from_u32(number).filter(|_| self.at > from && self.peek() == Some(b'}'));
                let Some(character) = character else { return self.wrong(start, "this is no character") };
                self.at += 1;
                bytes.extend(character.encode_utf8(&mut [0; 4]).bytes());
            }
            other => bytes.extend([b'\\', other]),
        }
        Ok(())
    }

    fn digits(&mut self, radix: u32, count_max: usize) -> u32 {
        let mut number = 0;
        for _ in 0..count_max {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(radix)) else { break };
            number = number * radix + digit;
            self.at += 1;
        }
        number
    }

    fn number(&mut self) -> Result<Number, Wrong> {
        let start = self.at;
        let is_negative = self.peek() == Some(b'-');
        if matches!(self.peek(), Some(b'-' | b'+')) {
            self.at += 1;
            self.blank()?;
        }
        let length = self.rest().iter().enumerate().take_while(|&(at, &byte)| {
            let is_of_exponent = matches!(byte, b'-' | b'+')
                && at > 0
                && matches!(self.rest()[at - 1], b'e' | b'E')
                && !matches!(self.rest(), [b'0', b'x' | b'X', ..]);
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || is_of_exponent
        });
        let length = length.count();
        let literal = String::from_utf8_lossy(&self.rest()[..length]).into_owned();
        self.at += length;
        let Some(number) = number(&literal, is_negative) else {
            return self.wrong(start, format!("'{literal}' is not a number that can be read"));
        };
        // The only way to write the smallest number there is.
        if number.as_i64() == Some(-i64::MAX) {
            let end = self.at;
            self.blank()?;
            if self.rest().starts_with(b"-") {
                self.at += 1;
                self.blank()?;
                if !self.word("1") {
                    return self.wrong(end, "nothing is evaluated, not even a difference");
                }
                return Ok(Number::from(i64::MIN));
            }
        }
        Ok(number)
    }
}

/// Tells whether a byte may be in a name of PHP's.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Returns which key a value is: PHP takes text that is written like a whole number for that number.
fn key(value: &Value) -> Result<Key, String> {
    match value {
        Value::String(text) => match text.parse::<i64>() {
            Ok(number) if number.to_string() == *text => Ok(Key::Number(number)),
            _ => Ok(Key::Text(text.clone())),
        },
        Value::Number(number) if number.is_i64() => Ok(Key::Number(number.as_i64().expect("it is one"))),
        _ => Err("a key is a string or a whole number of 64 bits".to_owned()),
    }
}

/// Returns the number that a literal without its sign stands for. Whole numbers too large for PHP are floats, except
/// those that 64 bits without sign hold: they are exact.
fn number(literal: &str, is_negative: bool) -> Option<Number> {
    let bytes = literal.as_bytes();
    let is_between_digits = |at: usize| {
        let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_hexdigit);
        is_digit(at.checked_sub(1)) && is_digit(Some(at + 1))
    };
    if (0..bytes.len()).any(|at| bytes[at] == b'_' && !is_between_digits(at)) {
        return None;
    }
    let literal = literal.replace('_', "").to_ascii_lowercase();
    let whole = |digits: &str, radix| {
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
    };
    let with_sign = |number: u64| match (is_negative, i64::try_from(number)) {
        (false, _) => Number::from_u128(number.into()),
        (true, Ok(number)) => Some(Number::from(-number)),
        (true, Err(_)) => None,
    };
    if let Some(digits) = literal.strip_prefix("0x") {
        return with_sign(whole(digits, 16)?);
    } else if let Some(digits) = literal.strip_prefix("0b") {
        return with_sign(whole(digits, 2)?);
    } else if let Some(digits) = literal.strip_prefix("0o") {
        return with_sign(whole(digits, 8)?);
    } else if literal.bytes().all(|byte| byte.is_ascii_digit()) {
        if literal.len() > 1 && literal.starts_with('0') {
            return with_sign(whole(&literal, 8)?);
        }
        if let Some(number) = whole(&literal, 10).and_then(with_sign) {
            return Some(number);
        }
    }
    let is_float = literal.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'-' | b'+'))
        && literal.bytes().any(|byte| byte.is_ascii_digit());
    let float: f64 = is_float.then(|| literal.parse().ok()).flatten()?;
    Number::from_f64(if is_negative { -float } else { float })
}
