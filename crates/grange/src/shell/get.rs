//! `grange shell get`.

use anyhow::anyhow;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::output::{harmless_line, hex_dump};
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::{Form, Session, stat_form};

/// Print the data of a znode: byte by byte when piped, made harmless on a terminal
#[derive(Debug, Args)]
#[command(after_help = "With --json, data that is UTF-8 text is in \"data\", other data in \"dataBase64\".")]
pub(super) struct GetArgs {
    /// Print the znode's stat too
    #[arg(short = 's')]
    stat: bool,
    /// How the data is shown
    #[arg(short = 'f', long, value_name = "FORMAT", default_value = "auto")]
    format: Format,
    /// The znode
    path: PathArg,
}

/// How data is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Raw when piped; on a terminal JSON with line breaks, bytes with zeros among them as hex, else text
    Auto,
    /// JSON with line breaks; it is an error if it is none
    Json,
    /// JSON or YAML as YAML; it is an error if it is neither
    Yaml,
    /// Rows of 16 bytes
    Hex,
    /// Text, and what is not UTF-8 escaped
    Text,
    /// Byte by byte; on a terminal escaped all the same
    Raw,
}

pub(super) async fn run(session: &mut Session<'_>, args: &GetArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let (data, stat) = session.client.get_data(path).await.map_err(|error| refused(path, error))?;
    if session.form == Form::Json {
        let mut object = data_object(path, &data);
        if args.stat {
            object["stat"] = stat_form::object(&stat);
        }
        return session.out.json(&object);
    }
    print(session, args, path, &data)?;
    if args.stat { session.print_stat(&stat) } else { Ok(()) }
}

fn print(session: &mut Session<'_>, args: &GetArgs, path: &str, data: &[u8]) -> Result<(), CommandError> {
    let is_terminal = session.cx.is_stdout_terminal;
    let wrong = |what: &str| {
        CommandError::failure(anyhow!("the data of {} is no {what}", harmless_line(path)))
            .hint("--format text and --format hex show anything")
    };
    match args.format {
        Format::Json => session.out.text(&pretty_json(data).ok_or_else(|| wrong("JSON"))?),
        Format::Yaml => session.out.text(yaml(data).ok_or_else(|| wrong("YAML"))?.trim_end()),
        Format::Hex => session.out.text(&hex_dump(data)),
        Format::Text => session.out.escaped(data),
        Format::Auto if is_terminal && data.contains(&0) => session.out.text(&hex_dump(data)),
        Format::Auto if is_terminal => match pretty_json(data).filter(|_| matches!(data.first(), Some(b'{' | b'['))) {
            Some(text) => session.out.text(&text),
            None => session.out.data(data),
        },
        Format::Auto | Format::Raw => {
            session.out.data(data)?;
            let is_open = !is_terminal && !data.is_empty() && !data.ends_with(b"\n");
            if is_open && (args.stat || session.is_interactive) { session.out.line("") } else { Ok(()) }
        }
    }
}

/// Breaks JSON into lines; keys keep their order and numbers their digits, which a parser would not leave alone.
fn pretty_json(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    serde_json::from_str::<Value>(text).ok()?;
    let mut pretty = String::with_capacity(text.len() * 2);
    let (mut depth, mut is_in_string, mut is_escaped) = (0, false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if is_in_string {
            pretty.push(c);
            is_in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            c if c.is_ascii_whitespace() => {}
            '{' | '[' => {
                pretty.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = chars.next_if(|&next| matches!(next, '}' | ']')) {
                    pretty.push(end);
                } else {
                    depth += 1;
                    break_line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                break_line(&mut pretty, depth);
                pretty.push(c);
            }
            ',' => {
                pretty.push(c);
                break_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            c => {
                is_in_string = c == '"';
                pretty.push(c);
            }
        }
    }
    Some(pretty)
}

fn break_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

fn yaml(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    // The parser has bounds for what anchors and nesting may grow to.
    let value: Value = serde_json::from_str(text).ok().or_else(|| serde_saphyr::from_str(text).ok())?;
    serde_saphyr::to_string(&value).ok()
}

/// Returns the data of a znode as JSON.
pub(super) fn data_object(path: &str, data: &[u8]) -> Value {
    match std::str::from_utf8(data) {
        Ok(text) => json!({ "path": path, "data": text }),
        Err(_) => json!({ "path": path, "dataBase64": STANDARD.encode(data) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_not_text_is_encoded() {
        assert_eq!(data_object("/a", "é".as_bytes()), json!({ "path": "/a", "data": "é" }));
        assert_eq!(data_object("/a", b"\xff\x00"), json!({ "path": "/a", "dataBase64": "/wA=" }));
    }

    #[test]
    fn data_is_shown_as_yaml() {
        assert_eq!(yaml(b"{\"a\":[1,\"x\"]}").unwrap().trim(), "a:\n- 1\n- x");
        assert_eq!(yaml(b"a: 1\n").unwrap().trim(), "a: 1");
        assert_eq!(yaml(b"\xff"), None);
    }

    #[test]
    fn json_gets_line_breaks() {
        assert_eq!(pretty_json(b"{\"a\":1}").unwrap(), "{\n  \"a\": 1\n}");
        let odd = r#"{"z": [ ], "a":{}, "t":"{\"[,:", "n":[1.50,1e400]}"#;
        let value = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let pretty = pretty_json(odd.replace("1e400", "100000000000000000000000").as_bytes()).unwrap();
        assert_eq!(value(&pretty), value(&odd.replace("1e400", "100000000000000000000000")));
        assert!(pretty.contains("\n    1.50,\n"), "{pretty}");
        assert_eq!(pretty_json(b"a"), None);
    }
}
