//! A file that follows a farm, and when it does not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// Returns how many servers a file for HAProxy has.
fn servers(path: &Path) -> usize {
    read(path).lines().filter(|line| line.trim_start().starts_with("server ")).count()
}

#[test]
fn hosts_that_have_no_form_in_the_file_are_gone_from_it() {
    let fixture = Fixture::new();
    let (file, form) = (fixture.path("farm.cfg"), ["-f", "haproxy"]);
    for name in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        fixture.host(name, r#"{"port": 80}"#);
    }
    // It is no host, whatever it has.
    fixture.host("common", r#"{"address": "10.0.0.9", "port": 80}"#);
    assert_eq!(fixture.once(&file, &form).status, Some(0));
    assert_eq!(servers(&file), 4);
    for name in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        fixture.shell(&["set", &format!("/farm/{name}"), r#"{"prt": 80}"#]);
    }
    let held = fixture.once(&file, &form);
    assert_eq!(held.status, Some(1), "{held}");
    assert!(held.stderr.contains("3 of 3 hosts are gone"), "{held}");
    assert_eq!(servers(&file), 4);
}

#[test]
fn a_file_that_no_export_has_noted_counts_as_well() {
    let fixture = Fixture::new();
    fixture.host("a", "{}");
    let file = fixture.path("farm.json");
    // As ZkFarmer left it.
    let before = r#"{"a": {}, "b": {}, "c": {}}"#;
    fs::write(&file, before).unwrap();
    let held = fixture.once(&file, &[]);
    assert_eq!(held.status, Some(1), "{held}");
    assert!(held.stderr.contains("2 of 3 hosts are gone"), "{held}");
    assert_eq!(read(&file), before);
}

#[test]
fn what_goes_in_several_runs_counts_together() {
    let fixture = Fixture::new();
    let file = fixture.path("farm.yaml");
    for name in ["a", "b", "c", "d"] {
        fixture.host(name, "{}");
    }
    assert_eq!(fixture.once(&file, &[]).status, Some(0));
    fixture.shell(&["delete", "/farm/a"]);
    fixture.shell(&["delete", "/farm/b"]);
    assert_eq!(fixture.once(&file, &[]).status, Some(0));
    fixture.shell(&["delete", "/farm/c"]);
    let held = fixture.once(&file, &[]);
    assert_eq!(held.status, Some(1), "{held}");
    assert!(held.stderr.contains("3 of 4 hosts are gone"), "{held}");
    // Nobody notes anything without a limit, and then nothing old is left.
    assert_eq!(fixture.once(&file, &["--max-drop", "100"]).status, Some(0));
    assert_eq!(fixture.once(&file, &[]).status, Some(0));
}

#[test]
fn force_is_about_every_limit() {
    let fixture = Fixture::new();
    fixture.host("a", "{}");
    let file = fixture.path("farm.json");
    let few = fixture.once(&file, &["--min-hosts", "2"]);
    assert_eq!(few.status, Some(1), "{few}");
    assert!(!file.exists());
    assert_eq!(fixture.once(&file, &["--min-hosts", "2", "--force"]).status, Some(0));
    assert_eq!(json_of(&file), json!({"a": {}}));
    fixture.shell(&["deleteall", "/farm"]);
    let gone = fixture.once(&file, &[]);
    assert_eq!(gone.status, Some(1), "{gone}");
    assert!(gone.stderr.contains("there is no such farm") && gone.stderr.contains("--force"), "{gone}");
    assert_eq!(fixture.once(&file, &["--force"]).status, Some(0));
    assert_eq!(json_of(&file), json!({}));
}

#[test]
fn a_host_that_may_not_be_read_is_left_out() {
    let fixture = Fixture::new();
    fixture.host("a", r#"{"x": "1"}"#);
    fixture.shell(&["create", "/farm/secret", "{}", "world:anyone:cdwa"]);
    let file = fixture.path("farm.json");
    let mut exported = fixture.export(&file, &["--settle", "0"]);
    eventually("the others are there", || json_of(&file) == json!({"a": {"x": "1"}}));
    let said = std::iter::from_fn(|| Some(exported.message())).find(|line| line.contains("left out")).unwrap();
    assert!(said.contains("/farm/secret: "), "{said}");
    fixture.shell(&["create", "/farm/later", "{}", "world:anyone:cdwa"]);
    fixture.host("b", "{}");
    eventually("and are followed", || json_of(&file).get("b").is_some());
    fixture.shell(&["setAcl", "/farm/secret", "world:anyone:cdrwa"]);
    fixture.shell(&["set", "/farm/secret", r#"{"x": "2"}"#]);
    eventually("it comes when it may be read and has changed", || json_of(&file)["secret"]["x"] == "2");
}

#[test]
fn the_last_change_before_the_end_is_followed_by_a_run() {
    let fixture = Fixture::new();
    fixture.host("a", "{}");
    let (file, log, hold) = (fixture.path("farm.json"), fixture.path("log"), fixture.path("hold"));
    fs::write(&hold, "").unwrap();
    let command = format!(
        "n=$(wc -c < {file}); echo begin $n >> {log}; while test -e {hold}; do sleep 0.05; done; echo end $n >> {log}",
        file = file.display(),
        log = log.display(),
        hold = hold.display(),
    );
    let exported = fixture.export(&file, &["--settle", "0", "-c", &command]);
    eventually("the command runs", || read(&log).lines().count() == 1);
    fixture.host("b", "{}");
    eventually("there is another file meanwhile", || json_of(&file).get("b").is_some());
    exported.signal("TERM");
    fs::remove_file(&hold).unwrap();
    let ended = exported.end();
    assert_eq!(ended.status, Some(0), "{ended}");
    let length = read(&file).len();
    let log = read(&log);
    let runs: Vec<_> = log.lines().collect();
    assert_eq!(runs.len(), 4, "each run has come to its end: {log}");
    assert_eq!(runs[2..], [format!("begin {length}"), format!("end {length}")]);
}

#[test]
fn the_command_is_run_by_the_next_start_if_this_one_is_killed() {
    let fixture = Fixture::new();
    fixture.host("a", "{}");
    let (file, log, hold) = (fixture.path("farm.json"), fixture.path("log"), fixture.path("hold"));
    let command = format!("echo run >> {}; while test -e {}; do sleep 0.05; done", log.display(), hold.display());
    let runs = || read(&log).lines().count();
    let mark = fixture.path(".farm.json.grange-due");
    for (number, signals) in [&["KILL"][..], &["TERM", "TERM"]].into_iter().enumerate() {
        fs::write(&hold, "").unwrap();
        fixture.shell(&["set", "/farm/a", &format!(r#"{{"n": {number}}}"#)]);
        let exported = fixture.export(&file, &["--settle", "0", "-c", &command]);
        eventually("the command runs", || runs() == 2 * number + 1);
        for signal in signals {
            exported.signal(signal);
        }
        exported.end();
        fs::remove_file(&hold).unwrap();
        let exported = fixture.export(&file, &["--settle", "0", "-c", &command]);
        eventually("the command was run again, without a change", || runs() == 2 * number + 2 && !mark.exists());
        exported.signal("TERM");
        assert_eq!(exported.end().status, Some(0));
        assert_eq!(fixture.once(&file, &["-c", &command]).status, Some(0));
        assert_eq!(runs(), 2 * number + 2, "it has been run for that");
    }
    // For cron.
    fs::write(&mark, "").unwrap();
    assert_eq!(fixture.once(&file, &[]).status, Some(0));
    assert!(mark.exists(), "who has no command has not run it");
    assert_eq!(fixture.once(&file, &["-c", &command]).status, Some(0));
    assert!(runs() == 5 && !mark.exists());
}

#[test]
fn times_have_bounds() {
    let fixture = Fixture::new();
    let file = fixture.path("farm.json");
    for option in ["--settle", "--max-wait", "--drop-window"] {
        let refused = fixture.once(&file, &[option, &u64::MAX.to_string()]);
        assert_eq!(refused.status, Some(2), "{option}: {refused}");
    }
}

#[test]
fn systemd_is_told_where_it_is() {
    let fixture = Fixture::new();
    fixture.host("a", "{}");
    let (file, address) = (fixture.path("farm.json"), fixture.path("notify"));
    let socket = UnixDatagram::bind(&address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = crate::program::grange();
    command.env("GRANGE_SERVERS", fixture.server.servers()).args(["farm", "export", "/farm"]).arg(&file);
    let mut exported = command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "200000").spawn().unwrap();
    let told = |what: &str| {
        let mut buffer = [0; 4096];
        loop {
            let Ok(length) = socket.recv(&mut buffer) else { return false };
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == what) {
                return true;
            }
        }
    };
    let is_told = [
        told(&format!("STATUS={} has 1 hosts", file.display())) && told("READY=1"),
        // Again and again.
        told("WATCHDOG=1") && told("WATCHDOG=1"),
        std::process::Command::new("sh").args(["-c", &format!("kill {}", exported.id())]).status().unwrap().success()
            && told("STOPPING=1"),
    ];
    let _ = exported.kill();
    exported.wait().unwrap();
    assert_eq!(is_told, [true; 3]);
    assert_eq!(json_of(&file), json!({"a": {}}));
}

#[test]
fn nothing_is_accepted_that_nobody_can_have_seen() {
    let fixture = Fixture::new();
    fixture.host("a", "{}");
    let (file, status) = (fixture.path("farm.json"), fixture.path("status"));
    let more = ["--session-timeout", "2", "--status-file", status.to_str().unwrap()];
    let mut exported = fixture.export(&file, &more);
    eventually("the file is there", || json_of(&file) == json!({"a": {}}));
    fixture.server.stop();
    eventually("it says that there is no session", || json_of(&status)["state"] == "disconnected");
    exported.signal("USR1");
    fixture.server.go_on();
    let said = std::iter::from_fn(|| Some(exported.message())).find(|line| line.contains("SIGUSR1")).unwrap();
    assert!(said.contains("does not count"), "{said}");
    eventually("it goes on", || json_of(&status)["state"] == "ok");
    fixture.shell(&["delete", "/farm/a"]);
    eventually("the limits are as before", || json_of(&status)["state"] == "held");
    assert_eq!(json_of(&file), json!({"a": {}}));
}
