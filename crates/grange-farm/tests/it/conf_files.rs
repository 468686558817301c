//! Every format: what is written is read again, whatever the values are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use grange_farm::Properties;
use grange_farm::conf::{ConfError, Format, Read, read, write};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::conf_dir::{names, properties};

const FORMATS: [Format; 5] = [Format::Json, Format::Yaml, Format::Toml, Format::Php, Format::Dir];

/// Text that some format takes for something else.
pub(crate) const TRICKY: &[&str] = &[
    "",
    " ",
    "1",
    "0",
    "-1",
    "+1",
    "01",
    "1.0",
    "1e3",
    "1E3",
    ".5",
    "0x10",
    "0b1",
    "0o7",
    "017",
    "1_000",
    "190:20:30",
    "yes",
    "Yes",
    "no",
    "NO",
    "on",
    "off",
    "y",
    "n",
    "true",
    "True",
    "FALSE",
    "null",
    "Null",
    "~",
    ".inf",
    "-.inf",
    ".nan",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "2026-01-01 00:00:00",
    "=",
    "<<",
    "- a",
    "-",
    "--",
    "---",
    "...",
    "? a",
    ": a",
    "a: b",
    "a:",
    "a #b",
    "#a",
    "#",
    "&a",
    "*a",
    "!a",
    "!!str a",
    "|",
    ">",
    "@a",
    "`a`",
    "%YAML 1.2",
    "{a: b}",
    "[a]",
    ",",
    "'",
    "\"",
    "''",
    "\"\"",
    "it's",
    "\\",
    "\\n",
    "\\'",
    "a\\",
    "\n",
    "a\n",
    "\na",
    "a\nb",
    "a\n\nb\n\n",
    "a\r\nb",
    "\r",
    "\t",
    "\ta",
    "a\tb",
    "\0",
    "a\0b",
    "\u{1}",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{feff}a",
    "\u{fffd}",
    "\u{fffe}",
    "é",
    "日本",
    "😀",
    "\u{10ffff}",
    "$x",
    "${x}",
    "{$x}",
    "{$x['a']}",
    "$",
    "$$",
    "\\$x",
    "?>",
    "<?php",
    "<?php system('id'); ?>",
    "');system('id');//",
    "\");system('id');//",
    "\" . system('id') . \"",
    "' . system('id') . '",
    "//",
    "/*",
    "*/",
    "EOT",
    "<<<EOT",
    "\u{2a}\u{2f}",
    "`id`",
    "$(id)",
    "; id",
    "| id",
    "&& id",
    "{{ x }}",
    "{% x %}",
    "INF",
    "NAN",
    "array()",
    "[]",
    "{}",
    "null ",
    " null",
    "18446744073709551616",
    "9223372036854775808",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n o p q r s t u v",
];

fn tricky() -> Value {
    let fields: Map<String, Value> =
        TRICKY.iter().map(|text| ((*text).to_owned(), json!({"value": text, "list": [text, text]}))).collect();
    Value::Object(fields)
}

fn numbers() -> Value {
    json!({
        "integers": [0, 1, -1, i64::MAX, i64::MIN, -i64::MAX], "u64": u64::MAX, "small": 5e-324, "large": f64::MAX,
        "floats": [0.0, -0.0, 1.0, 1.5, -2.25, 0.1, 1e300, 1e-300, 1e16, 123456789.0, 1e21], "true": true, "false": false,
        "nested": [[], [[]], [{"a": []}], {}],
    })
}

/// Writes properties and reads what they have become.
fn written(format: Format, fields: &Properties) -> Read {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("conf");
    let written = write(format, &path, fields, None).unwrap();
    assert!(written.changed);
    assert!(!write(format, &path, fields, None).unwrap().changed, "{format} differs from itself");
    assert_eq!(names(temp.path()), ["conf"]);
    read(format, &path).unwrap()
}

fn comes_back(format: Format, fields: &Properties) {
    let (read, projection) = (written(format, fields), format.projection(fields));
    assert_eq!(Value::from(read.properties.clone()), Value::from(projection.properties.clone()), "{format}");
    assert_eq!(read.problems, []);
    let merged = format.merge(fields, &projection.properties, &read.properties);
    assert_eq!(Value::from(merged), Value::from(fields.clone()), "{format}: nothing was edited");
}

#[test]
fn what_is_tricky_comes_back_from_every_format() {
    for format in FORMATS {
        comes_back(format, &properties(tricky()));
        comes_back(format, &properties(numbers()));
        comes_back(format, &properties(json!({"none": null, "list": [null, 1, "1"], "o": {"none": null}})));
        comes_back(format, &Properties::default());
    }
}

#[test]
fn what_is_deep_comes_back_from_every_format_that_has_it() {
    let nested = |depth: usize| {
        let mut value = json!("bottom");
        for _ in 0..depth {
            value = json!({"a": value});
        }
        properties(value)
    };
    // A znode's data are no deeper.
    assert!(Properties::decode(&nested(127).encode()).is_ok() && Properties::decode(&nested(128).encode()).is_err());
    for format in [Format::Json, Format::Yaml, Format::Php, Format::Dir] {
        comes_back(format, &nested(127));
    }
    comes_back(Format::Toml, &nested(60));
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        3 => "\\PC{0,12}",
        1 => any::<String>(),
        2 => proptest::sample::select(TRICKY).prop_map(str::to_owned),
        1 => "[-+0-9_.:eExXoObB]{1,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| if number.is_finite() { json!(number) } else { json!(0.5) }),
        text.clone().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((text.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Properties> {
    proptest::collection::vec(("[a-z]{1,3}|\\PC{0,6}", value()), 0..5)
        .prop_map(|fields| Properties::from(fields.into_iter().collect::<Map<_, _>>()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_from_every_format(fields in object()) {
        for format in FORMATS {
            comes_back(format, &fields);
        }
    }

    #[test]
    fn every_directory_becomes_every_other(first in object(), second in object()) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("conf");
        write(Format::Dir, &path, &first, None).unwrap();
        let seen = read(Format::Dir, &path).unwrap();
        write(Format::Dir, &path, &second, Some(&seen)).unwrap();
        let now = read(Format::Dir, &path).unwrap();
        prop_assert_eq!(&now.properties, &Format::Dir.projection(&second).properties);
        prop_assert_eq!(now.problems, []);
    }
}

fn error(format: Format, text: impl AsRef<[u8]>) -> String {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("conf");
    fs::write(&path, text).unwrap();
    let error = read(format, &path).unwrap_err();
    let shown = match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    shown.replace(&format!("{}/", temp.path().display()), "")
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (format, text, message) in [
        (Format::Json, "", "conf:1:0 is not json: EOF while parsing a value"),
        (Format::Json, "{\"a\": 1,\n \"b", "conf:2:3 is not json: EOF while parsing a string"),
        (Format::Json, "{\"a\": 1, \"a\": 2}", "conf:1:12 is not json: the field 'a' is there twice"),
        (Format::Json, "[1]", "conf holds no fields: not a JSON object but a list"),
        (Format::Json, "{} x", "conf:1:4 is not json: trailing characters"),
        (Format::Yaml, "a: 1\nb: [", "conf"),
        (Format::Yaml, "a: 1\na: 2\n", "conf:2:1 is not yaml: "),
        (Format::Yaml, "1: a\n", "conf is not yaml: the name of a field is a string: write \"1\", not 1"),
        (Format::Yaml, "a: 1\n---\nb: 2\n", "conf"),
        (Format::Yaml, "a: .nan\n", "conf:1:4 is not yaml: "),
        (Format::Yaml, "", "conf holds no fields"),
        (Format::Yaml, "just text", "conf holds no fields: not a JSON object but a string"),
        (Format::Toml, "a = 1\nb = ", "conf:2:5 is not toml: "),
        (Format::Toml, "a = 1\na = 2", "conf:2:1 is not toml: "),
        (Format::Toml, "a = nan", "conf is not toml: NaN is a number that JSON has not"),
        (Format::Php, "<?php return array(\n  'a' => $b);", "conf:2:10 is not php: a variable is not a value"),
    ] {
        let found = error(format, text);
        assert!(found.starts_with(message) && !found.contains('\n'), "{format} {text:?}: {found}");
    }
    assert_eq!(error(Format::Json, b"{\n\"a\xff\": 1}"), "conf:2:3 is not json: this is not UTF-8");
}

#[test]
fn a_yaml_file_cannot_grow_by_its_anchors() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        let list = [before.as_str(); 9].join(", ");
        text += &format!("a{level}: &a{level} [{list}]\n");
    }
    assert!(error(Format::Yaml, text).contains("is not yaml"));
    let deep = format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(error(Format::Yaml, deep).contains("is not yaml"));
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("conf");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for format in FORMATS {
        let error = read(format, &path).unwrap_err();
        assert!(matches!(error, ConfError::FileType { found: "a FIFO", .. }), "{error}");
        assert!(write(format, &path, &Properties::default(), None).is_err());
    }
}

#[test]
fn a_file_that_reads_the_same_keeps_its_form() {
    let temp = tempfile::tempdir().unwrap();
    for (format, text) in [
        (Format::Json, "{ \"a\":1 }"),
        (Format::Yaml, "# mine\na: 1\n"),
        (Format::Toml, "# mine\na = 1"),
        (Format::Php, "<?php /* mine */ return ['a' => 1];"),
    ] {
        let path = temp.path().join(format.name());
        fs::write(&path, text).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        assert!(!write(format, &path, &properties(json!({"a": 1})), None).unwrap().changed, "{format}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(write(format, &path, &properties(json!({"a": "1"})), None).unwrap().changed, "{format}");
        assert_ne!(fs::metadata(&path).unwrap().ino(), inode);
    }
}

fn seen(path: &Path) -> Read {
    read(Format::Json, path).unwrap()
}

#[test]
fn a_file_that_was_changed_since_it_was_read_is_not_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("conf");
    let fields = properties(json!({"a": 3}));
    let nothing = Read::default();
    let write = |seen| write(Format::Json, &path, &fields, seen);
    // Nobody has seen anything, and there is something.
    fs::write(&path, r#"{"a":1}"#).unwrap();
    assert!(matches!(write(Some(&nothing)), Err(ConfError::Changed { .. })));
    let before = seen(&path);
    fs::write(&path, r#"{"a":2}"#).unwrap();
    assert!(matches!(write(Some(&before)), Err(ConfError::Changed { .. })));
    fs::write(&path, r#"{"a":"#).unwrap();
    assert!(matches!(write(Some(&before)), Err(ConfError::Syntax { .. })));
    assert_eq!(fs::read(&path).unwrap(), br#"{"a":"#);
    fs::remove_file(&path).unwrap();
    assert!(matches!(write(Some(&before)), Err(ConfError::Changed { .. })));
    assert!(!path.exists());
    // An export does not ask.
    fs::write(&path, r#"{"a":"#).unwrap();
    assert!(write(None).unwrap().changed);
    assert_eq!(seen(&path).properties, fields);
}
