//! What is written and what is refused; that PHP agrees is shown in `tests/it/conf_programs.rs`.

use serde_json::{Value, json};

use super::{text, value};

fn read(text: &str) -> Result<Value, String> {
    value(text).map_err(|error| format!("{}:{}: {}", error.line, error.column, error.why))
}

#[test]
fn a_farm_is_written_as_one_expects_it() {
    let farm = json!({
        "10.0.0.1": {"hostname": "db-01.example.com", "enabled": "1", "mysql": {"delay": 0}, "roles": ["a", "b"], "none": []},
        "10.0.0.2": {"note": "a\nb", "weight": 1.5, "gone": null, "up": true},
    });
    assert_eq!(
        text(&farm),
        r#"<?php

return array(
    '10.0.0.1' => array(
        'enabled' => '1',
        'hostname' => 'db-01.example.com',
        'mysql' => array(
            'delay' => 0,
        ),
        'none' => array(),
        'roles' => array(
            'a',
            'b',
        ),
    ),
    '10.0.0.2' => array(
        'gone' => null,
        'note' => "a\nb",
        'up' => true,
        'weight' => 1.5,
    ),
);
"#
    );
}

#[test]
fn text_stays_text() {
    for (string, literal) in [
        ("it's", r"'it\'s'"),
        (r"\", r"'\\'"),
        (r"\'", r"'\\\''"),
        ("$x {$x} ${x} ?> \"", r#"'$x {$x} ${x} ?> "'"#),
        ("\n$x{$x}\"\\", r#""\n\$x{\$x}\"\\""#),
        ("\0\u{1b}[31m\r\t\u{85}", r#""\x00\x1b[31m\r\t\u{85}""#),
    ] {
        let written = text(&json!([string]));
        assert_eq!(written, format!("<?php\n\nreturn array(\n    {literal},\n);\n"));
        assert_eq!(read(&written), Ok(json!([string])));
        assert!(!written.chars().any(|c| c.is_control() && c != '\n'));
    }
}

#[test]
fn lists_and_objects_are_told_apart() {
    for (text, expected) in [
        ("array('a', 'b')", json!(["a", "b"])),
        ("[0 => 'a', 1 => 'b']", json!(["a", "b"])),
        ("['0' => 'a', '1' => 'b']", json!({"0": "a", "1": "b"})),
        ("[1 => 'a', 0 => 'b']", json!({"1": "a", "0": "b"})),
        ("[1 => 'a']", json!({"1": "a"})),
        ("['a', 'x' => 'b', 'c']", json!({"0": "a", "x": "b", "1": "c"})),
        ("[]", json!({})),
        ("array ( )", json!({})),
        ("[[]]", json!([{}])),
    ] {
        assert_eq!(read(&format!("<?php return {text};")), Ok(expected), "{text}");
    }
}

#[test]
fn nothing_is_evaluated() {
    for (text, message) in [
        ("", "1:1: a PHP file of values begins with '<?php return'"),
        ("{}", "1:1: a PHP file of values begins with"),
        (" <?php return [];", "1:1: a PHP file of values begins with"),
        ("<?phpreturn [];", "1:1: a PHP file of values begins with"),
        ("<?php $x = [];", "1:7: expected 'return'"),
        ("<?php returned [];", "1:7: expected 'return'"),
        ("<?php return []", "1:16: expected ';' after the value"),
        ("<?php return [\n 'a' => $b];", "2:9: a variable is not a value"),
        ("<?php return system('id');", "1:14: expected a string, a number"),
        ("<?php return [PHP_EOL];", "1:15: expected a string, a number"),
        ("<?php return [arrays()];", "1:15: expected a string, a number"),
        ("<?php return [nullable];", "1:15: expected a string, a number"),
        ("<?php return [\\null];", "1:15: expected a string, a number"),
        ("<?php return [null\\x];", "1:15: expected a string, a number"),
        ("<?php return [new X];", "1:15: expected a string, a number"),
        ("<?php return [fn() => 1];", "1:15: expected a string, a number"),
        ("<?php return [`id`];", "1:15: expected a string, a number"),
        ("<?php return [(1)];", "1:15: expected a string, a number"),
        ("<?php return [&$x];", "1:15: expected a string, a number"),
        ("<?php return [...[]];", "1:15: '...' is not a number"),
        ("<?php return [<<<X\na\nX];", "1:15: a heredoc is not read"),
        ("<?php return [\"a $b\"];", "1:18: a variable in a string"),
        ("<?php return [\"é{$b}\"];", "1:17: an expression in a string"),
        ("<?php return [\"${b}\"];", "1:16: a variable in a string"),
        ("<?php return ['a' . $b];", "1:21: expected a string after '.'"),
        ("<?php return ['a' . f()];", "1:21: expected a string after '.'"),
        ("<?php return ['a', , 'b'];", "1:20: expected a string, a number"),
        ("<?php return [,];", "1:15: expected a string, a number"),
        ("<?php return ['a' 'b'];", "1:19: expected ',' or ']'"),
        ("<?php return ['a'->b];", "1:18: expected ',' or ']'"),
        ("<?php return [1 + 1];", "1:17: expected ',' or ']'"),
        ("<?php return ['a' => 1, 'a' => 2];", "1:25: this key is there twice"),
        ("<?php return [1 => 1, '1' => 2];", "1:23: this key is there twice"),
        ("<?php return ['x', 0 => 'y'];", "1:20: this key is there twice"),
        ("<?php return [-1 => 'x', 'y'];", "1:26: after a negative key"),
        ("<?php return [true => 'x'];", "1:15: a key is a string or a whole number"),
        ("<?php return [1.5 => 'x'];", "1:15: a key is a string or a whole number"),
        ("<?php return [[] => 'x'];", "1:15: a key is a string or a whole number"),
        ("<?php return array('a');?>\nx", "1:27: nothing may follow '?>'"),
        ("<?php return []; // ?> x", "1:23: nothing may follow '?>'"),
        ("<?php return []; echo 1;", "1:18: nothing may follow the value"),
        ("<?php return ['a", "1:15: this string does not end"),
        ("<?php return [\"a\\", "1:15: this string does not end"),
        ("<?php return [ /* a", "1:16: this comment does not end"),
        ("<?php return [#[A] 1];", "1:15: an attribute is not a value"),
        ("<?php return [1", "1:16: expected ',' or ']'"),
        ("<?php return [1,", "1:17: the file ends where a value should be"),
        ("<?php return array[1];", "1:19: expected '(' after 'array'"),
        ("<?php return [\"\\xff\"];", "1:15: this string is not UTF-8"),
        ("<?php return [\"\\u{d800}\"];", "1:16: this is no character"),
        ("<?php return [\"\\u{110000}\"];", "1:16: this is no character"),
        ("<?php return [\"\\u{}\"];", "1:16: this is no character"),
        ("<?php return [089];", "1:15: '089' is not a number"),
        ("<?php return [1__0];", "1:15: '1__0' is not a number"),
        ("<?php return [_1];", "1:15: expected a string, a number"),
        ("<?php return [1_];", "1:15: '1_' is not a number"),
        ("<?php return [0x];", "1:15: '0x' is not a number"),
        ("<?php return [0xg];", "1:15: '0xg' is not a number"),
        ("<?php return [1e999];", "1:15: '1e999' is not a number"),
        ("<?php return [INF];", "1:15: expected a string, a number"),
        ("<?php return [.];", "1:15: '.' is not a number"),
        ("<?php return [--1];", "1:15: '' is not a number"),
        ("<?php return [1.5.5];", "1:15: '1.5.5' is not a number"),
        ("<?php return [-9223372036854775807-2];", "1:35: nothing is evaluated, not even a difference"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.starts_with(message), "{text:?}: {error}");
    }
}

#[test]
fn depth_has_a_bound() {
    let nested = |depth: usize| format!("<?php return {}{};", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(127)).is_ok());
    for depth in [128, 100_000] {
        assert!(read(&nested(depth)).unwrap_err().contains("more than 127 arrays"), "{depth}");
    }
    let unclosed = format!("<?php return {}", "array(".repeat(100_000));
    assert!(read(&unclosed).is_err());
}
