//! What is written for another program, as that program understands it.
//!
//! PHP and PyYAML must be there if `GRANGE_TEST_APACHE` is set, as `scripts/test` does; otherwise these tests are skipped
//! without them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use grange_farm::conf::{Format, read, write};
use serde_json::{Map, Value, json};

use crate::conf_dir::properties;
use crate::conf_files::TRICKY;

/// Starts a program if it is there.
fn program(candidates: &[&[&str]]) -> Option<Vec<String>> {
    let works = |command: &&&[&str]| {
        let probe = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output();
        probe.is_ok_and(|output| output.status.success())
    };
    let found = candidates.iter().find(works);
    if found.is_none() {
        assert!(std::env::var_os("GRANGE_TEST_APACHE").is_none(), "{candidates:?}: not there");
        eprintln!("skipped: none of {candidates:?} is there");
    }
    found.map(|command| vec![command[0].to_owned()])
}

fn php() -> Option<Vec<String>> {
    program(&[&["php", "-v"]])
}

fn python() -> Option<Vec<String>> {
    program(&[&["/usr/bin/python3", "-c", "import yaml"], &["python3", "-c", "import yaml"]])
}

/// Runs a program's script on a file and returns what it prints.
fn output(program: &[String], option: &str, script: &str, path: &Path, input: &str) -> Vec<u8> {
    let mut child = Command::new(&program[0])
        .args([option, script])
        .args(if option == "-r" { &["--"][..] } else { &[] })
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    output.stdout
}

/// A value in which text is written by its bytes, so that no program's own encoding of text comes between.
fn in_hexadecimal(value: &Value) -> Value {
    let hexadecimal = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        Value::String(text) => json!(format!("s{}", hexadecimal(text))),
        Value::Array(values) => values.iter().map(in_hexadecimal).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (hexadecimal(name), in_hexadecimal(value))).collect()
        }
        other => other.clone(),
    }
}

const PHP_SHOW: &str = r"
    function show($value) {
        if (is_string($value)) return 's' . bin2hex($value);
        if (!is_array($value)) return $value;
        $shown = [];
        foreach ($value as $name => $inner) {
            if (array_is_list($value)) $shown[] = show($inner); else $shown[bin2hex((string) $name)] = show($inner);
        }
        return $shown;
    }
    ini_set('serialize_precision', -1);
    echo json_encode(show(include $argv[1]), JSON_PRESERVE_ZERO_FRACTION | JSON_THROW_ON_ERROR, 512);
";

const YAML_SHOW: &str = r"
import sys, json, yaml
def show(value):
    if isinstance(value, str): return 's' + value.encode().hex()
    if isinstance(value, list): return [show(inner) for inner in value]
    if isinstance(value, dict):
        assert all(isinstance(name, str) for name in value), value
        return {name.encode().hex(): show(inner) for name, inner in value.items()}
    assert value is None or isinstance(value, (bool, int, float)), repr(value)
    return value
print(json.dumps(show(yaml.safe_load(open(sys.argv[1], encoding='utf-8', newline='')))))
";

fn numbers() -> Value {
    json!([
        0,
        1,
        -1,
        i64::MAX,
        i64::MIN,
        -i64::MAX,
        0.5,
        1.0,
        -2.25,
        1e300,
        1e-300,
        5e-324,
        1e16,
        1e21,
        true,
        false,
        null
    ])
}

/// Random text, and pieces of what a parser may take for the end of text.
fn random(seed: u64, count: usize) -> Vec<String> {
    let mut state = seed;
    let mut next = move |bound: usize| {
        // Knuth's generator: the same text every time.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    (0..count)
        .map(|_| {
            let mut text = String::new();
            for _ in 0..next(12) {
                match next(4) {
                    0 => text.push(char::from_u32(u32::try_from(next(0x80)).unwrap()).unwrap()),
                    1 => text.push(char::from_u32(u32::try_from(next(0x11_0000)).unwrap()).unwrap_or('\'')),
                    2 => text.push(
                        ['\\', '\'', '"', '$', '{', '}', '?', '>', '<', '\n', '\r', '\0', ':', '#', ' '][next(15)],
                    ),
                    _ => text.push_str(TRICKY[next(TRICKY.len())]),
                }
            }
            text
        })
        .collect()
}

fn fields(texts: &[String]) -> Value {
    let fields: Map<String, Value> =
        texts.iter().map(|text| (text.clone(), json!({"value": text, "list": [text, [text]]}))).collect();
    json!({"texts": fields, "numbers": numbers()})
}

fn every_text() -> Vec<String> {
    let tricky = TRICKY.iter().map(|text| (*text).to_owned());
    let bytes = (0u8..128).map(|byte| format!("a{}b", char::from(byte)));
    tricky.chain(bytes).chain(random(1, 1500)).collect()
}

#[test]
fn php_reads_what_was_written() {
    let Some(php) = php() else { return };
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("conf.php");
    let fields = fields(&every_text());
    write(Format::Php, &path, &properties(fields.clone()), None).unwrap();
    let shown: Value = serde_json::from_slice(&output(&php, "-r", PHP_SHOW, &path, "")).unwrap();
    let expected = in_hexadecimal(&fields);
    for (name, value) in expected["7465787473"].as_object().unwrap() {
        assert_eq!(&shown["7465787473"][name], value, "{name}");
    }
    assert_eq!(shown, expected);
}

#[test]
fn what_php_writes_is_read() {
    let Some(php) = php() else { return };
    let temp = tempfile::tempdir().unwrap();
    let (source, path) = (temp.path().join("source.json"), temp.path().join("conf.php"));
    // To PHP, a name that is a number is one, and an empty object an empty list.
    let fields = fields(&every_text());
    std::fs::write(&source, fields.to_string()).unwrap();
    let export = r#"
        ini_set("serialize_precision", -1);
        $value = json_decode(file_get_contents($argv[1]), true, 512, JSON_THROW_ON_ERROR);
        echo "<?php\nreturn " . var_export($value, true) . ";\n";
    "#;
    std::fs::write(&path, output(&php, "-r", export, &source, "")).unwrap();
    let there = read(Format::Php, &path).unwrap();
    assert_eq!(Value::from(there.properties), fields);
}

#[test]
fn php_and_this_reader_take_literals_for_the_same() {
    let Some(php) = php() else { return };
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("conf.php");
    let values = [
        r#"'a\\b\'c\n\$x'"#,
        r#""\n\r\t\v\e\f\\\$\"\'\q""#,
        r#""\0\01\012\0123\101""#,
        r#""\x41\x4\xg\X41""#,
        r#""\u{41}\u{1f600}\u{000e9}""#,
        r#""$ $1 {x} \{$ {\$x} %$""#,
        r#"'a' . "b" . 'c'"#,
        "''",
        r#""""#,
        "0",
        "-0",
        "+7",
        "- 7",
        "007",
        "0o17",
        "0O17",
        "0x1F",
        "0XfF",
        "0b101",
        "-0x10",
        "1_000",
        "0x7fff_ffff",
        "1_0.5",
        "9223372036854775807",
        "-9223372036854775807-1",
        "-9223372036854775807 - 1",
        "0x7FFFFFFFFFFFFFFF",
        "1.",
        ".5",
        "1e3",
        "1E+3",
        "1.5e-3",
        "-.5e1",
        "1.0",
        "-0.0",
        "123456789012345678901234567890",
        "0.1",
        "TRUE",
        "False",
        "NULL",
        "Null",
        "array()",
        "[]",
        "[1, 2, 3,]",
        "array(0 => 'a', 1 => 'b')",
        "array(1 => 'a', 'b')",
        "array('x' => 1, 2, 3)",
        "['a' => ['b' => [null]]]",
        "ARRAY(1)",
        "array (\n)",
        "[ // one\n 1, # two\n 2 /* three */ ]",
        "[5 => 'a', 'b', '7' => 'c', 'd']",
        "['01' => 1, '-1' => 2]",
        "[-5 => 1]",
        "array( 'a'=>1 , )",
    ];
    let list: String = values.iter().map(|value| format!("[{value}],\n")).collect();
    let text = format!("<?PHP\n# values\nRETURN ['values' => [\n{list}] ] ;\n// the end ?>\n");
    std::fs::write(&path, text).unwrap();
    let ours = in_hexadecimal(&Value::from(read(Format::Php, &path).unwrap().properties));
    let shown: Value = serde_json::from_slice(&output(&php, "-r", PHP_SHOW, &path, "")).unwrap();
    let (ours, shown) = (&ours["76616c756573"], &shown["76616c756573"]);
    for (at, value) in values.iter().enumerate() {
        // An empty array is an object to one and a list to the other, in JSON only.
        let both = |of: &Value| of[at].to_string().replace("{}", "[]");
        assert_eq!(both(ours), both(shown), "{value}");
    }
}

#[test]
fn pyyaml_reads_what_was_written() {
    let Some(python) = python() else { return };
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("conf.yaml");
    let fields = fields(&every_text());
    write(Format::Yaml, &path, &properties(fields.clone()), None).unwrap();
    let shown: Value = serde_json::from_slice(&output(&python, "-c", YAML_SHOW, &path, "")).unwrap();
    let expected = in_hexadecimal(&fields);
    for (name, value) in expected["7465787473"].as_object().unwrap() {
        assert_eq!(&shown["7465787473"][name], value, "{name}");
    }
    assert_eq!(shown, expected);
}
