//! `grange farm ls|get|set|unset|check|watch`, and the same as `zkfarmer`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::program::{Outcome, grange, run};
use crate::running::{Ours, Running, on};
use crate::server::Server;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host whose name and data a terminal would obey.
const EVIL_NAME: &str = "evil\u{202e}gpj";
const EVIL_DATA: &str = r#"{"a":"\u001b[2J\u009b31m\u202e","\u001b]0;owned\u0007":1}"#;

/// A server with the farm /farm.
struct Site {
    server: Ours,
}

impl Site {
    fn start(settings: &str) -> Site {
        let site = Site { server: Ours::configured(settings) };
        site.put("/farm", r#"{"size": 3}"#);
        site.put("/farm/10.0.0.1", r#"{"hostname": "db-01", "enabled": "1", "mysql": {"delay": "7"}}"#);
        site.put("/farm/10.0.0.2", r#"{"hostname": "db-02", "enabled": "0", "weight": 5}"#);
        site.put("/farm/common", "");
        site
    }

    fn put(&self, path: &str, data: &str) {
        let words = if data.is_empty() { vec!["shell", "create", path] } else { vec!["shell", "create", path, data] };
        let outcome = on(&self.server, &words);
        assert_eq!(outcome.status, Some(0), "{outcome}");
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        on(&self.server, &[&["farm"], arguments].concat())
    }

    /// Compares all that a command prints, and its exit status.
    fn check(&self, arguments: &[&str], expected: &str) {
        assert_eq!(self.run(arguments).to_string(), expected, "{arguments:?}");
    }

    /// Runs something on a terminal of its own; returns what the terminal gets.
    fn on_terminal(&self, line: &str) -> String {
        let mut command = Command::new("script");
        command.env("GRANGE_SERVERS", self.server.servers()).env("GRANGE_CONFIG", "/dev/null").env("TERM", "xterm");
        let line = format!("{} farm {line}", env!("CARGO_BIN_EXE_grange"));
        let shown = run(command.args(["-qec", &line, "/dev/null"]), b"");
        String::from_utf8(shown.stdout).unwrap().replace("\r\n", "\n")
    }
}

#[test]
fn fields_are_read_and_changed() {
    let site = Site::start("");
    site.check(&["ls", "/farm"], "10.0.0.1\n10.0.0.2\ncommon\n");
    site.check(
        &["ls", "/farm", "--fields", "hostname,weight,mysql.delay", "-F", "enabled<2"],
        "10.0.0.1  hostname=db-01, mysql.delay=7\n10.0.0.2  hostname=db-02, weight=5\n",
    );
    site.check(&["ls", "/farm", "-F", "mysql"], "10.0.0.1\n");
    site.check(&["ls", "/farm", "--long", "--filters", "weight"], "10.0.0.2  enabled=0, hostname=db-02, weight=5\n");
    site.check(
        &["ls", "/farm", "--json", "--fields", "weight,none", "-F", "enabled=0"],
        "{\"fields\":{\"none\":null,\"weight\":5},\"host\":\"10.0.0.2\"}\n",
    );
    site.check(&["ls", "/nowhere"], "! error: there is no farm /nowhere\nexit 1\n");
    assert_eq!(site.run(&["ls", "/farm", "-F", "a>>1"]).status, Some(2));

    site.check(&["get", "/farm/10.0.0.2"], "enabled: \"0\"\nhostname: db-02\nweight: 5\n");
    site.check(&["get", "/farm/10.0.0.2", "-f", "json"], "{\"enabled\":\"0\",\"hostname\":\"db-02\",\"weight\":5}\n");
    site.check(&["get", "/farm/10.0.0.1", "mysql.delay"], "7\n");
    site.check(&["get", "/farm/10.0.0.1", "mysql"], "{\"delay\":\"7\"}\n");
    site.check(&["get", "/farm/10.0.0.1", "mysql", "-f", "yaml"], "delay: \"7\"\n");
    site.check(&["get", "/farm/10.0.0.1", "mysql", "-f", "php"], "<?php\n\nreturn array(\n    'delay' => '7',\n);\n");
    site.check(&["get", "/farm/10.0.0.1", "x.y"], "! error: there is no field x.y in /farm/10.0.0.1\nexit 1\n");
    site.check(&["get", "/farm/10.0.0.9"], "! error: there is no znode /farm/10.0.0.9\nexit 1\n");

    site.check(&["set", "/farm/10.0.0.1", "mysql.role", "-x"], "");
    site.check(&["set", "/farm/10.0.0.1", "ports", "[1, 2]", "--json-value"], "");
    site.check(&["set", "/farm/common", "enabled", "1"], "");
    site.check(&["unset", "/farm/10.0.0.1", "mysql.delay"], "");
    site.check(
        &["unset", "/farm/10.0.0.1", "mysql.delay"],
        "! error: there is no field mysql.delay in /farm/10.0.0.1\nexit 1\n",
    );
    site.check(
        &["get", "/farm/10.0.0.1", "-f", "json"],
        "{\"enabled\":\"1\",\"hostname\":\"db-01\",\"mysql\":{\"role\":\"-x\"},\"ports\":[1,2]}\n",
    );
    site.check(&["get", "/farm/common", "enabled"], "1\n");
    assert_eq!(site.run(&["set", "/farm/10.0.0.1", "a", "{", "--json-value"]).status, Some(2));
    assert_eq!(site.run(&["set", "/farm/10.0.0.1", "a..b", "1"]).status, Some(2));
}

#[test]
fn what_is_no_object_is_named_and_left_alone() {
    let site = Site::start("");
    site.put("/farm/bad", "[1]");
    let listed = site.run(&["ls", "/farm", "--fields", "hostname"]);
    assert_eq!(listed.stderr, "warning: /farm/bad: not a JSON object but a list\n");
    assert!(String::from_utf8(listed.stdout).unwrap().contains("\nbad\n"));
    assert_eq!(site.run(&["ls", "/farm", "-F", "!maintenance"]).stdout, b"10.0.0.1\n10.0.0.2\ncommon\n");
    let refused = site.run(&["set", "/farm/bad", "a", "1"]);
    assert_eq!(refused.status, Some(3));
    assert!(refused.stderr.contains("/farm/bad holds no properties: not a JSON object but a list"), "{refused}");
    assert_eq!(on(&site.server, &["shell", "get", "/farm/bad"]).stdout, b"[1]");
}

#[test]
fn many_processes_set_different_fields_of_one_host() {
    const SETTERS: usize = 16;
    let site = Site::start("");
    let setters: Vec<_> = (0..SETTERS)
        .map(|number| {
            let (field, value) = (format!("f.n{number}"), number.to_string());
            Running::start(&site.server, &["farm", "set", "/farm/10.0.0.1", &field, &value])
        })
        .collect();
    for setter in setters {
        assert_eq!(setter.end().to_string(), "");
    }
    let fields = site.run(&["get", "/farm/10.0.0.1", "f", "-f", "json"]).json();
    let expected: serde_json::Map<_, _> =
        (0..SETTERS).map(|number| (format!("n{number}"), number.to_string().into())).collect();
    assert_eq!(fields, serde_json::Value::Object(expected));
}

#[test]
fn a_check_is_a_line_for_nagios() {
    let site = Site::start("");
    site.check(&["check", "/farm"], "CRITICAL: 2/3 nodes running, 1 nodes failing, max allowed 10%\nexit 2\n");
    site.check(
        &["check", "/farm", "-c", "2", "-w", "1"],
        "WARNING: 2/3 nodes running, 1 nodes failing, max allowed 2\nexit 1\n",
    );
    site.check(&["check", "/farm", "-c", "50%"], "OK: 2/3 nodes running, 1 nodes failing, max allowed 50%\n");
    site.check(
        &["check", "/farm", "-c50%", "-w30%", "--perfdata"],
        "WARNING: 2/3 nodes running, 1 nodes failing, max allowed 50% | running=2;;;0;3 failing=1;0.9;1.5;0;3\nexit 1\n",
    );
    site.check(
        &["check", "/farm", "-c", "3", "--filter", "enabled=1"],
        "OK: 1/3 nodes running, 2 nodes failing, max allowed 3\n",
    );
    site.check(&["check", "/none"], "CRITICAL: 0/0 nodes running, 0 nodes failing, max allowed 10%\nexit 2\n");
    site.check(&["set", "/farm", "size", "3"], "");
    site.check(&["set", "/farm", "running_filter", "enabled=1,weight"], "");
    site.check(&["check", "/farm", "-c", "4"], "OK: 0/3 nodes running, 3 nodes failing, max allowed 4\n");
    let answer = site.run(&["check", "/farm", "-c", "3", "--json"]);
    let expected = json!({
        "farm": "/farm", "status": "CRITICAL", "size": 3, "running": 0, "failing": 3, "maxAllowed": "3", "warnAt": null,
        "message": "CRITICAL: 0/3 nodes running, 3 nodes failing, max allowed 3",
    });
    assert_eq!((answer.json(), answer.status), (expected, Some(2)));
}

#[test]
fn who_cannot_tell_says_unknown() {
    let site = Site::start("");
    let unknown = |arguments: &[&str], part: &str| {
        let outcome = site.run(&[&["check"], arguments].concat());
        let line = String::from_utf8(outcome.stdout.clone()).unwrap();
        let is_one_line = line.starts_with("UNKNOWN: ") && line.ends_with('\n') && line.lines().count() == 1;
        assert!(is_one_line && line.contains(part) && outcome.stderr.is_empty(), "{outcome}");
        assert_eq!(outcome.status, Some(3), "{outcome}");
    };
    unknown(&["/farm/common"], "No `size' property found for `/farm/common' farm");
    unknown(&["/farm", "-c", "x"], "Invalid `max_failed_node' argument format: x");
    unknown(&["/farm", "-w", "-1"], "Invalid `warn_failed_node' argument format: -1");
    unknown(&["/farm", "--filter", "a>>b"], "'a>>b' is not a predicate");
    unknown(&["farm"], "farm: ");
    unknown(&["/farm", "--servers", "127.0.0.1:1"], "no server gave a session");
    unknown(&["/farm", "--servers", "a:b"], "--servers is wrong");
    unknown(&[], "the following required arguments were not provided: <ZNODE>");
    unknown(&["/farm", "--frob"], "unexpected argument '--frob' found");
    unknown(&["/farm", "--connect-timeout", "x"], "invalid value 'x'");
    site.check(&["set", "/farm", "size", "many"], "");
    unknown(&["/farm"], "the property 'size' of /farm must be a whole number and is \"many\"");
    site.check(&["set", "/farm", "size", "3"], "");
    site.check(&["set", "/farm", "running_filter", "a|b>>1"], "");
    unknown(&["/farm"], "the property 'running_filter' of /farm is wrong: 'a/b>>1' is not a predicate");
    assert_eq!(on(&site.server, &["shell", "set", "/farm", "{\"a\n"]).status, Some(0));
    unknown(&["/farm"], "/farm holds no properties: not JSON: ");
}

#[test]
fn joins_leaves_and_changes_are_told() {
    let site = Site::start("");
    let mut watch = Running::start(&site.server, &["farm", "watch", "/farm", "-n", "9"]);
    assert_eq!(watch.message(), "watching /farm");
    let mut told = |arguments: &[&str], lines: &[&str]| {
        let outcome = on(&site.server, arguments);
        assert_eq!(outcome.status, Some(0), "{arguments:?}: {outcome}");
        for line in lines {
            assert_eq!(watch.line(), *line, "{arguments:?}");
        }
    };
    told(&["farm", "set", "/farm/10.0.0.1", "enabled", "0"], &["changed 10.0.0.1 enabled: 1 -> 0"]);
    told(&["farm", "unset", "/farm/10.0.0.1", "mysql.delay"], &["changed 10.0.0.1 mysql.delay: removed 7"]);
    told(&["shell", "create", "/farm/n", "{\"a\": {\"b\": 1}, \"c\": \"d\"}"], &["joined n a.b=1, c=d"]);
    told(
        &["shell", "set", "/farm/n", "{\"a\": {\"b\": 2, \"e\": []}}"],
        &["changed n a.b: 1 -> 2", "changed n a.e: added []", "changed n c: removed d"],
    );
    told(&["shell", "set", "/farm/n", "7"], &["unreadable n not a JSON object but a number"]);
    told(&["shell", "set", "/farm/n", "{}"], &["readable n"]);
    told(&["shell", "create", "/farm/n/below", "x"], &[]);
    told(&["farm", "set", "/farm", "size", "4"], &["farm size: 3 -> 4"]);
    told(&["shell", "deleteall", "-y", "/farm/n"], &["left n"]);
    told(&["shell", "delete", "/farm/10.0.0.2"], &["left 10.0.0.2 enabled=0, hostname=db-02, weight=5"]);
    assert_eq!(watch.end().to_string(), "");

    let initial = site.run(&["watch", "/farm", "--initial", "--json", "-n", "2", "-F", "mysql"]);
    let first = String::from_utf8(initial.stdout).unwrap();
    let mut events: Vec<serde_json::Value> = first.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &mut events {
        assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
        event["time"].take();
    }
    let properties = json!({"enabled": "0", "hostname": "db-01", "mysql": {}});
    let expected = [
        json!({"event": "farmCreated", "properties": {"size": "4"}, "time": null}),
        json!({"event": "joined", "host": "10.0.0.1", "properties": properties, "time": null}),
    ];
    assert_eq!(events, expected);
    let nothing = site.run(&["watch", "/farm", "--wait", "1"]);
    assert_eq!(nothing.to_string(), "! watching /farm\n! error: nothing has changed in time\nexit 1\n");
}

#[test]
fn a_host_that_is_replaced_has_not_left_and_a_lost_session_is_no_end() {
    let site = Site::start("tickTime=100\n4lw.commands.whitelist=*\n");
    let arguments = ["farm", "watch", "/farm", "-n", "2", "--session-timeout", "1"];
    let mut watch = Running::start(&site.server, &arguments);
    assert_eq!(watch.message(), "watching /farm");
    // Its session ends while it stands still.
    watch.signal("STOP");
    let deadline = Instant::now() + PATIENCE;
    while sessions(&site.server) > 0 {
        assert!(Instant::now() < deadline, "the session does not expire");
        std::thread::sleep(Duration::from_millis(50));
    }
    let replaced = on(&site.server, &["shell", "deleteall", "-y", "/farm/10.0.0.1"]);
    assert_eq!(replaced.status, Some(0), "{replaced}");
    site.put("/farm/10.0.0.1", r#"{"hostname": "db-01", "enabled": "1", "mysql": {"delay": "8"}}"#);
    watch.signal("CONT");
    assert_eq!(watch.line(), "changed 10.0.0.1 mysql.delay: 7 -> 8");
    site.put("/farm/10.0.0.3", "{}");
    assert_eq!(watch.line(), "joined 10.0.0.3");
    assert_eq!(watch.end().status, Some(0));
}

/// Counts the sessions of a server.
fn sessions(server: &dyn Server) -> usize {
    let mut stream = TcpStream::connect(server.servers()).unwrap();
    stream.write_all(b"dump").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.lines().filter(|line| line.trim().starts_with("0x")).count()
}

#[test]
fn as_zkfarmer_it_prints_and_ends_as_that_does() {
    let site = Site::start("");
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("zkfarmer");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_grange"), &link).unwrap();
    let check = |line: &str, expected: &str| {
        let mut command = Command::new(&link);
        command.env_clear().env("ZKHOST", site.server.servers()).env("GRANGE_CONFIG", "/dev/null");
        let outcome = run(command.args(line.split(' ').map(|word| word.replace('_', " "))), b"");
        assert_eq!(outcome.to_string(), expected, "{line}");
    };
    check("ls /farm", "10.0.0.1\n10.0.0.2\ncommon\n");
    check("ls /none", "");
    check(
        "ls /farm/ --fields weight,mysql.delay",
        "10.0.0.1             weight=None, mysql.delay=7\n10.0.0.2             weight=5, mysql.delay=None\ncommon\n",
    );
    check("ls -F enabled=1 /farm", "10.0.0.1             \n");
    check("get /farm/10.0.0.1 mysql", "{'delay': '7'}\n");
    check("get /farm/10.0.0.1 none.at.all", "None\n");
    check("get /farm", "size: 3\n");
    check("get /farm -f json", "{\"size\": 3}");
    check("get /none", "size: 0\n");
    check("get /none size", "{'size': 0}\n");
    check("set /farm/10.0.0.1 mysql.role _a", "");
    check("get /farm/10.0.0.1 mysql.role", " a\n");
    check("unset /farm/10.0.0.1 mysql.role", "");
    check("unset /farm/10.0.0.1 mysql.role", "");
    check("get /farm/10.0.0.1 mysql", "{'delay': '7'}\n");
    check("set /none a 1", "! error: there is no znode /none\nexit 1\n");
    check("-q check /farm -c 50%", "OK: 2/3 nodes running, 1 nodes failing, max allowed 50%\n");
    check("check /farm", "CRITICAL: 2/3 nodes running, 1 nodes failing, max allowed 10%\nexit 2\n");
    check("check /farm/common", "UNKNOWN: No `size' property found for `/farm/common' farm\nexit 3\n");
    let mut command = Command::new(&link);
    assert_eq!(run(command.env_clear().args(["ls", "farm"]), b"").status, Some(2));
    let mut command = Command::new(&link);
    let nobody = run(command.env_clear().args(["-r", "1", "-H", "127.0.0.1:1", "get", "/farm"]), b"");
    assert_eq!((nobody.status, nobody.stdout.len()), (Some(1), 0), "{nobody}");
}

#[test]
fn nothing_that_a_host_says_moves_a_cursor() {
    let site = Site::start("");
    let evil = format!("/farm/{EVIL_NAME}");
    site.put(&evil, EVIL_DATA);
    site.put(&format!("{evil}bad"), "[");
    assert_eq!(on(&site.server, &["shell", "set", "/farm", r#"{"size": "\u001b[2J"}"#]).status, Some(0));
    for line in [
        "ls /farm".to_owned(),
        "ls /farm --long".to_owned(),
        "ls /farm --json".to_owned(),
        format!("get {evil}"),
        format!("get {evil} -f json"),
        format!("get {evil} a"),
        format!("get {evil} x"),
        format!("set {evil}bad a 1"),
        "check /farm".to_owned(),
        "check /farm --json".to_owned(),
        "watch /farm --initial -n 6".to_owned(),
        "watch /farm --initial -n 6 --json".to_owned(),
    ] {
        let shown = site.on_terminal(&line);
        let deceives = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.is_empty() && !shown.contains(deceives), "{line}: {shown:?}");
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let site = Site::start("");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = grange();
    command.env("GRANGE_SERVERS", site.server.servers()).args(["farm", "ls", "/farm"]);
    let output = command.stdout(Stdio::from(std::os::fd::OwnedFd::from(writer))).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
