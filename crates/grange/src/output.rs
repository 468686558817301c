//! What is printed how: as it is when piped, made harmless on a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::context::Context;
use crate::error::CommandError;

/// Standard output of a command that prints names, data and JSON.
#[derive(Debug)]
pub(crate) struct Output {
    is_terminal: bool,
    stdout: io::BufWriter<io::Stdout>,
}

impl Output {
    /// Takes hold of standard output.
    pub(crate) fn new(cx: &Context) -> Output {
        Output { is_terminal: cx.is_stdout_terminal, stdout: io::BufWriter::new(io::stdout()) }
    }

    /// Prints a line of text that came from a server; on a terminal nothing in it can move the cursor.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CommandError> {
        let written = match self.is_terminal {
            true => writeln!(self.stdout, "{}", harmless(text.as_bytes(), LineBreaks::Escape)),
            false => writeln!(self.stdout, "{text}"),
        };
        written.map_err(CommandError::output)
    }

    /// Prints data byte by byte when piped; on a terminal made harmless, with a line break at the end.
    pub(crate) fn data(&mut self, data: &[u8]) -> Result<(), CommandError> {
        let written = match self.is_terminal {
            true => {
                let text = harmless(data, LineBreaks::Keep);
                let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                write!(self.stdout, "{text}{end}")
            }
            false => self.stdout.write_all(data),
        };
        written.map_err(CommandError::output)
    }

    /// Prints text that may have line breaks, and a line break; on a terminal nothing else in it can move the cursor.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CommandError> {
        let written = match self.is_terminal {
            true => writeln!(self.stdout, "{}", harmless(text.as_bytes(), LineBreaks::Keep)),
            false => writeln!(self.stdout, "{text}"),
        };
        written.map_err(CommandError::output)
    }

    /// Prints data made harmless, on a terminal or not, with a line break at the end.
    pub(crate) fn escaped(&mut self, data: &[u8]) -> Result<(), CommandError> {
        let text = harmless(data, LineBreaks::Keep);
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        write!(self.stdout, "{text}{end}").map_err(CommandError::output)
    }

    /// Prints text without a line break; on a terminal nothing in it can move the cursor.
    pub(crate) fn fragment(&mut self, text: &str) -> Result<(), CommandError> {
        let written = match self.is_terminal {
            true => write!(self.stdout, "{}", harmless(text.as_bytes(), LineBreaks::Escape)),
            false => write!(self.stdout, "{text}"),
        };
        written.map_err(CommandError::output)
    }

    /// Prints one line of JSON. The encoder escapes the control characters of ASCII; on a terminal the others are, too.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> Result<(), CommandError> {
        let written = match self.is_terminal {
            true => writeln!(self.stdout, "{}", harmless_json(&value.to_string())),
            false => writeln!(self.stdout, "{value}"),
        };
        written.map_err(CommandError::output)
    }

    /// Hands on to the reader what was printed so far.
    pub(crate) fn flush(&mut self) -> Result<(), CommandError> {
        self.stdout.flush().map_err(CommandError::output)
    }

    /// Hands everything on to the reader.
    pub(crate) fn finish(mut self) -> Result<(), CommandError> {
        self.stdout.flush().map_err(CommandError::output)
    }
}

/// What becomes of line breaks and tabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineBreaks {
    Keep,
    Escape,
}

/// Returns `text` for a message on a terminal, in one line.
pub(crate) fn harmless_line(text: &str) -> String {
    harmless(text.as_bytes(), LineBreaks::Escape)
}

/// Escapes in JSON what a terminal would obey; it stays the same JSON, since such characters stand in texts only.
pub(crate) fn harmless_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && (c.is_control() || is_direction(c)) {
            write!(text, "\\u{:04x}", u32::from(c)).expect("a string takes everything");
        } else {
            text.push(c);
        }
    }
    text
}

/// Returns data in rows of 16 bytes: offset, hexadecimal digits, printable characters.
pub(crate) fn hex_dump(data: &[u8]) -> String {
    const ROW_BYTES: usize = 16;
    let mut text = String::new();
    for (row, bytes) in data.chunks(ROW_BYTES).enumerate() {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown: String =
            bytes.iter().map(|&byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' }).collect();
        let break_before = if row == 0 { "" } else { "\n" };
        write!(text, "{break_before}{:08x}  {:47}  {shown}", row * ROW_BYTES, digits.join(" "))
            .expect("a string takes everything");
    }
    text
}

/// Escapes what a terminal would obey or what would deceive the reader: control characters, characters that change the
/// direction of writing, and bytes that are not UTF-8.
fn harmless(bytes: &[u8], line_breaks: LineBreaks) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' if line_breaks == LineBreaks::Keep => text.push(c),
                c if c.is_control() || is_direction(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    text
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_move_the_cursor() {
        for (bytes, shown) in [
            (&b"plain \xc3\xa9"[..], "plain é"),
            (b"a\x1b[2Jb\x07", "a\\u{1b}[2Jb\\u{7}"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"a\r\n\tb", "a\\r\\n\\tb"),
            ("\u{9b}31m\u{202e}".as_bytes(), "\\u{9b}31m\\u{202e}"),
        ] {
            assert_eq!(harmless(bytes, LineBreaks::Escape), shown);
        }
    }

    #[test]
    fn json_stays_json() {
        let value = serde_json::json!({ "a\u{9b}": "\u{202e}\u{7f}\n\u{1b}" });
        let shown = harmless_json(&value.to_string());
        assert!(shown.chars().all(|c| !c.is_control() && !is_direction(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn a_dump_has_rows() {
        assert_eq!(hex_dump(b""), "");
        let dump = hex_dump(b"0123456789abcdef\x1b!");
        let rows: Vec<_> = dump.lines().collect();
        assert_eq!(rows[0], "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef");
        assert_eq!(rows[1].split_whitespace().collect::<Vec<_>>(), ["00000010", "1b", "21", ".!"]);
    }

    #[test]
    fn data_keeps_its_lines() {
        assert_eq!(harmless(b"a\n\tb\r\n", LineBreaks::Keep), "a\n\tb\\r\n");
    }
}
