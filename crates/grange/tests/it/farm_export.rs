//! A file that follows a farm, and when it does not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::farm_join::eventually;
use crate::running::{Ours, Running, on};
use crate::server::{GrangeServer, Server, Signal};

/// The flag of an ephemeral znode.
const EPHEMERAL: i32 = 1;

/// A server with a farm.
struct Fixture {
    server: Ours,
    root: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let fixture = Fixture { server: Ours::start(), root: tempfile::tempdir().unwrap() };
        fixture.shell(&["create", "/farm", ""]);
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn shell(&self, arguments: &[&str]) {
        let outcome = on(&self.server, &[&["shell"], arguments].concat());
        assert_eq!(outcome.status, Some(0), "{arguments:?}: {outcome}");
    }

    fn host(&self, name: &str, data: &str) {
        self.shell(&["create", &format!("/farm/{name}"), data]);
    }

    fn export(&self, file: &Path, more: &[&str]) -> Running {
        Running::start(&self.server, &[&["farm", "export"], more, &["/farm", file.to_str().unwrap()]].concat())
    }

    fn once(&self, file: &Path, more: &[&str]) -> crate::program::Outcome {
        on(&self.server, &[&["farm", "export", "--once"], more, &["/farm", file.to_str().unwrap()]].concat())
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap_or(Value::Null)
}

#[test]
fn a_file_has_the_hosts_that_are_meant() {
    let fixture = Fixture::new();
    fixture.host("a", r#"{"enabled": "1", "n": 5}"#);
    fixture.host("b", r#"{"enabled": "0"}"#);
    fixture.host("broken", "{");
    fixture.host("list", "[1]");
    let (file, log) = (fixture.path("farm.json"), fixture.path("log"));
    let command = format!("echo $GRANGE_FARM $GRANGE_CONF >> {}", log.display());
    let mut exported = fixture.export(&file, &["-F", "enabled=1", "--settle", "0", "-c", &command]);
    eventually("the file is there", || json_of(&file) == json!({"a": {"enabled": "1", "n": 5}}));
    let said: Vec<_> =
        std::iter::from_fn(|| Some(exported.message())).filter(|line| line.contains("left out")).take(2).collect();
    assert!(said[0].contains("/farm/broken: ") && said[1].contains("/farm/list: "), "{said:?}");
    eventually("the command was run", || read(&log).lines().count() == 1);
    let before = fs::metadata(&file).unwrap().ino();
    // No change of what is meant is no change of the file.
    fixture.shell(&["set", "/farm/b", r#"{"enabled": "0", "x": 1}"#]);
    fixture.shell(&["set", "/farm/a", r#"{"n":5,"enabled":"1"}"#]);
    fixture.shell(&["set", "/farm", r#"{"size": 9}"#]);
    fixture.shell(&["set", "/farm/b", r#"{"enabled": "1"}"#]);
    eventually("the file has both", || json_of(&file)["b"] == json!({"enabled": "1"}));
    eventually("the command was run again", || read(&log).lines().count() == 2);
    assert_ne!(fs::metadata(&file).unwrap().ino(), before);
    assert_eq!(read(&log).lines().last().unwrap(), format!("/farm {}", file.display()));
    fixture.shell(&["delete", "/farm/a"]);
    eventually("one has left", || json_of(&file) == json!({"b": {"enabled": "1"}}));
    exported.signal("TERM");
    assert_eq!(exported.end().status, Some(0));
}

#[test]
fn a_file_that_is_equal_is_left_alone() {
    let fixture = Fixture::new();
    fixture.host("a", r#"{"x": "1"}"#);
    let (file, log) = (fixture.path("farm.yaml"), fixture.path("log"));
    let command = format!("echo >> {}", log.display());
    for _ in 0..2 {
        let outcome = fixture.once(&file, &["--changed-cmd", &command]);
        assert_eq!(outcome.status, Some(0), "{outcome}");
    }
    assert_eq!(read(&log).lines().count(), 1);
    let before = fs::metadata(&file).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    fixture.shell(&["set", "/farm/a", r#"{"x": "2"}"#]);
    assert_eq!(fixture.once(&file, &[]).status, Some(0));
    let after = fs::metadata(&file).unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!(after.mode() & 0o777, 0o640);
}

#[test]
fn a_file_that_does_not_pass_is_never_installed() {
    let fixture = Fixture::new();
    fixture.host("a", r#"{"x": "good"}"#);
    let file = fixture.path("farm.json");
    let check = ["--check-cmd", "grep -q good {file} && test {file} = $GRANGE_FILE"];
    assert_eq!(fixture.once(&file, &check).status, Some(0));
    let good = read(&file);
    fixture.shell(&["set", "/farm/a", r#"{"x": "bad"}"#]);
    let outcome = fixture.once(&file, &check);
    assert_eq!(outcome.status, Some(3), "{outcome}");
    assert!(outcome.stderr.contains("the check ended with status 1"), "{outcome}");
    assert_eq!(read(&file), good);
    let status = fixture.path("status");
    let exported = fixture.export(&file, &[&check[..], &["--status-file", status.to_str().unwrap()]].concat());
    eventually("it says so", || read(&status).contains("failed"));
    fixture.shell(&["set", "/farm/a", r#"{"x": "good again"}"#]);
    eventually("the next one passes", || read(&file).contains("good again"));
    eventually("and it says that", || json_of(&status)["state"] == "ok");
    drop(exported);
    let names: Vec<_> = fs::read_dir(fixture.root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left over: {names:?}");
    let directory = fixture.path("dir");
    fs::create_dir(&directory).unwrap();
    assert_eq!(fixture.once(&directory, &check).status, Some(2));
}

#[test]
fn a_storm_gives_one_file() {
    let fixture = Fixture::new();
    let (file, log) = (fixture.path("farm.json"), fixture.path("log"));
    fixture.host("a", r#"{"x": "0"}"#);
    let command = format!("echo >> {}", log.display());
    let _exported = fixture.export(&file, &["--settle", "3000", "--max-wait", "60000", "-c", &command]);
    eventually("the first one is not delayed", || read(&log).lines().count() == 1);
    let before = fs::metadata(&file).unwrap().ino();
    for index in 1..10 {
        fixture.shell(&["set", "/farm/a", &json!({ "x": index.to_string() }).to_string()]);
    }
    eventually("the file is the last state", || json_of(&file)["a"]["x"] == "9");
    eventually("the command was run once more", || read(&log).lines().count() == 2);
    assert_ne!(fs::metadata(&file).unwrap().ino(), before);
    // What is undone in time is no change.
    let inode = fs::metadata(&file).unwrap().ino();
    fixture.shell(&["set", "/farm/a", r#"{"x": "10"}"#]);
    fixture.shell(&["set", "/farm/a", r#"{"x": "9"}"#]);
    fixture.host("witness", "{}");
    eventually("a change of another host is there", || json_of(&file).get("witness").is_some());
    eventually("one run for one file", || read(&log).lines().count() == 3);
    assert_ne!(fs::metadata(&file).unwrap().ino(), inode);
}

#[test]
fn a_mass_expiry_does_not_empty_the_file() {
    let data = tempfile::tempdir().unwrap();
    let server = GrangeServer::start(&["--data", data.path().to_str().unwrap()]);
    let root = tempfile::tempdir().unwrap();
    let (file, status) = (root.path().join("farm.json"), root.path().join("status"));
    let (mut keeper, _) = Client::open(&server, 30_000);
    assert_eq!(keeper.create("/farm", b"", 0), 0);
    let hosts = |client: &mut Client, range: std::ops::Range<usize>| {
        for index in range {
            let data = json!({ "index": index }).to_string();
            assert_eq!(client.create(&format!("/farm/h{index:03}"), data.as_bytes(), EPHEMERAL), 0);
        }
    };
    let (mut many, _) = Client::open(&server, 2_000);
    hosts(&mut keeper, 0..20);
    hosts(&mut many, 20..200);
    let export = |more: &[&str]| {
        let arguments = ["farm", "export", "--settle", "500", "/farm", file.to_str().unwrap()];
        [&arguments[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let arguments = export(&["--status-file", status.to_str().unwrap()]);
    let exported = Running::start(&server, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let count = || json_of(&file).as_object().map_or(0, serde_json::Map::len);
    eventually("all are there", || count() == 200);
    // 180 of 200 are gone at once.
    drop(many);
    eventually("it says that it is held", || json_of(&status)["state"] == "held");
    assert_eq!(json_of(&status)["text"], "180 of 200 hosts are gone, which is more than 50 %");
    assert_eq!(count(), 200);
    let once = |more: &[&str]| {
        let arguments = export(&[&["--once"], more].concat());
        on(&server, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let held = once(&[]);
    assert_eq!(held.status, Some(1), "{held}");
    assert!(held.stderr.contains("180 of 200 hosts are gone") && held.stderr.contains("--force"), "{held}");
    assert_eq!(count(), 200);
    // Half of them come back.
    hosts(&mut keeper, 20..110);
    eventually("it goes on by itself", || count() == 110);
    eventually("and says so", || json_of(&status)["state"] == "ok");
    // Somebody says that the others are not coming.
    for index in 20..110 {
        delete(&server, index);
    }
    eventually("it is held again", || json_of(&status)["state"] == "held");
    assert!(count() >= 100);
    exported.signal("USR1");
    eventually("it takes the farm as it is", || count() == 20);
    exported.signal("TERM");
    assert_eq!(exported.end().status, Some(0));
    assert_eq!(once(&["--min-hosts", "21"]).status, Some(1));
    assert_eq!(once(&["--min-hosts", "20"]).status, Some(0));
}

fn delete(server: &GrangeServer, index: usize) {
    let outcome = on(server, &["shell", "delete", &format!("/farm/h{index:03}")]);
    assert_eq!(outcome.status, Some(0), "{outcome}");
}

#[test]
fn without_a_session_the_file_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir().unwrap();
    let (file, status) = (root.path().join("farm.json"), root.path().join("status"));
    let server = GrangeServer::start(&["--data", data.path().to_str().unwrap()]);
    let (mut client, _) = Client::open(&server, 30_000);
    assert_eq!(client.create("/farm", b"", 0), 0);
    assert_eq!(client.create("/farm/a", b"{}", 0), 0);
    let arguments = ["farm", "export", "--session-timeout", "2", "--status-file", status.to_str().unwrap(), "/farm"];
    let exported = Running::start(&server, &[&arguments[..], &[file.to_str().unwrap()]].concat());
    eventually("the file is there", || json_of(&file) == json!({"a": {}}));
    let servers = server.servers();
    server.end(Signal::Kill);
    eventually("it says that there is no session", || json_of(&status)["state"] == "disconnected");
    assert_eq!(json_of(&file), json!({"a": {}}));
    let once =
        on(&Nowhere(servers), &["farm", "export", "--once", "--connect-timeout", "1", "/farm", file.to_str().unwrap()]);
    assert_eq!(once.status, Some(3), "{once}");
    assert_eq!(json_of(&file), json!({"a": {}}));
    exported.signal("TERM");
    assert_eq!(exported.end().status, Some(0));
}

/// Where a server was.
struct Nowhere(String);

impl Server for Nowhere {
    fn servers(&self) -> String {
        self.0.clone()
    }
}

#[test]
fn a_farm_that_is_not_there_empties_no_file() {
    let fixture = Fixture::new();
    let file = fixture.path("farm.json");
    fs::write(&file, "{\"a\": {}}").unwrap();
    let outcome = on(&fixture.server, &["farm", "export", "--once", "/frm", file.to_str().unwrap()]);
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert!(outcome.stderr.contains("there is no such farm"), "{outcome}");
    assert_eq!(read(&file), "{\"a\": {}}");
}

#[test]
fn once_prints_to_standard_output() {
    let fixture = Fixture::new();
    fixture.host("a", r#"{"x": "1"}"#);
    let print = |more: &[&str]| on(&fixture.server, &[&["farm", "export"], more, &["/farm", "-"]].concat());
    assert_eq!(print(&["--once", "-f", "json"]).json(), json!({"a": {"x": "1"}}));
    assert_eq!(print(&["--once"]).status, Some(2), "it does not say its format");
    assert_eq!(print(&["-f", "json"]).status, Some(2));
    assert_eq!(on(&fixture.server, &["farm", "export", "--once", "-f", "json", "/frm", "-"]).status, Some(1));
}

#[test]
fn a_directory_follows_too() {
    let fixture = Fixture::new();
    fixture.host("10.0.0.1", r#"{"enabled": "1", "mysql": {"delay": 7}}"#);
    let directory = fixture.path("hosts");
    // As an export by ZkFarmer left it: a host that has gone.
    fs::create_dir_all(directory.join("10.0.0.9")).unwrap();
    fs::write(directory.join("10.0.0.9/enabled"), "1").unwrap();
    let _exported = fixture.export(&directory, &["--settle", "0"]);
    eventually("a host is a directory", || read(&directory.join("10.0.0.1/mysql/delay")) == "7");
    eventually("what is not in the farm goes", || !directory.join("10.0.0.9").exists());
    fixture.host("10.0.0.2", r#"{"enabled": "1"}"#);
    eventually("another one comes", || read(&directory.join("10.0.0.2/enabled")) == "1");
    fixture.shell(&["delete", "/farm/10.0.0.2"]);
    eventually("and goes", || !directory.join("10.0.0.2").exists());
}

#[test]
fn a_directory_that_is_somebody_elses_is_not_taken_over() {
    let fixture = Fixture::new();
    fixture.host("10.0.0.1", r#"{"enabled": "1"}"#);
    let directory = fixture.path("etc");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("passwd"), "x").unwrap();
    let outcome = fixture.once(&directory, &[]);
    assert_eq!(outcome.status, Some(3), "{outcome}");
    assert!(outcome.stderr.contains("holds passwd, which is no host of an export"), "{outcome}");
    assert!(outcome.stderr.contains("(an export removes what is no host: "), "{outcome}");
    assert_eq!(read(&directory.join("passwd")), "x");
    assert!(!directory.join("10.0.0.1").exists());
}

#[test]
fn a_template_is_read_again_when_asked() {
    let fixture = Fixture::new();
    fixture.host("a", r#"{"port": 1}"#);
    let (file, template) = (fixture.path("out"), fixture.path("farm.j2"));
    fs::write(&template, "{% for host in hosts %}{{ host.name }}:{{ host.port }}\n{% endfor %}").unwrap();
    let exported = fixture.export(&file, &["--template", template.to_str().unwrap()]);
    eventually("the file is there", || read(&file) == "a:1\n");
    fs::write(&template, "{% for host in hosts %}{{ host.nme }}{% endfor %}").unwrap();
    exported.signal("HUP");
    fs::write(&template, "{{ hosts | length }}").unwrap();
    exported.signal("HUP");
    eventually("the new one is used", || read(&file) == "1");
}
