//! A host and its configuration, whatever happens to either of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{Ours, Running, on};

const PATIENCE: Duration = Duration::from_secs(60);

/// A session timeout that is waited for.
const SHORT: &str = "2";

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server, and a directory for a host's configuration.
struct Fixture {
    server: Ours,
    root: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { server: Ours::start(), root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn conf(&self) -> PathBuf {
        let conf = self.path("conf");
        fs::create_dir_all(&conf).unwrap();
        conf
    }

    /// Starts `join` as the host `h` and returns when it is in the farm.
    fn join(&self, conf: &Path, more: &[&str]) -> Running {
        let joined = self.start(&["join", "--name", "h"], conf, more);
        eventually("the host is in the farm", || self.host("h").is_some());
        joined
    }

    fn start(&self, subcommand: &[&str], conf: &Path, more: &[&str]) -> Running {
        Running::start(&self.server, &[&["farm"], subcommand, more, &["/farm", conf.to_str().unwrap()]].concat())
    }

    fn host(&self, name: &str) -> Option<Value> {
        let got = on(&self.server, &["shell", "get", &format!("/farm/{name}")]);
        (got.status == Some(0)).then(|| serde_json::from_slice(&got.stdout).unwrap_or(Value::Null))
    }

    fn has(&self, field: &str, value: &Value) -> bool {
        self.host("h").is_some_and(|host| host[field] == *value)
    }

    fn set(&self, field: &str, value: &str) {
        let set = on(&self.server, &["farm", "set", "/farm/h", field, value]);
        assert_eq!(set.status, Some(0), "{set}");
    }

    fn stat(&self, what: &str) -> String {
        let stat = on(&self.server, &["shell", "stat", "/farm/h"]);
        let text = String::from_utf8(stat.stdout).unwrap();
        text.lines().find(|line| line.starts_with(what)).unwrap_or_default().to_owned()
    }

    fn owner(&self) -> String {
        self.stat("ephemeralOwner")
    }

    /// Writes as somebody does who has read the znode when it had this version; false if it has another one now.
    fn writes_over(&self, version: &str) -> bool {
        let (_, version) = version.split_once(" = ").unwrap();
        on(&self.server, &["shell", "set", "-v", version, "/farm/h", r#"{"n": "stale"}"#]).status == Some(0)
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn changes_go_both_ways_and_the_host_leaves_in_order() {
    let fixture = Fixture::new();
    let conf = fixture.conf();
    fs::create_dir(conf.join("mysql")).unwrap();
    fs::write(conf.join("enabled"), "0\n").unwrap();
    fs::write(conf.join("mysql/delay"), "7").unwrap();
    let log = fixture.path("log");
    let command = format!("echo $GRANGE_FARM $GRANGE_HOST $(cat $GRANGE_CONF/enabled) >> {}", log.display());
    let joined = fixture.join(&conf, &["--changed-cmd", &command]);
    let host = fixture.host("h").unwrap();
    assert_eq!((&host["enabled"], &host["mysql"]["delay"]), (&json!("0"), &json!("7")));
    assert_eq!(host["hostname"], json!(read(&conf.join("hostname"))));
    assert_ne!(host["hostname"], json!(""));
    eventually("the size is raised", || on(&fixture.server, &["shell", "get", "/farm"]).stdout == b"{\"size\":1}");

    fs::write(conf.join("enabled"), "1\n").unwrap();
    eventually("a local change is in the farm", || fixture.has("enabled", &json!("1")));
    fixture.set("enabled", "2");
    eventually("a change of the farm is in the file", || read(&conf.join("enabled")).trim() == "2");
    eventually("the command was run for it", || read(&log).ends_with("/farm h 2\n"));
    fixture.set("mysql", "text");
    eventually("a directory becomes a file", || read(&conf.join("mysql")) == "text");
    fs::remove_file(conf.join("mysql")).unwrap();
    eventually("a removed file is a removed field", || fixture.host("h").unwrap().get("mysql").is_none());

    joined.signal("TERM");
    let ended = joined.end();
    assert_eq!(ended.status, Some(0), "{ended}");
    assert!(fixture.host("h").is_none(), "it has left at once");
}

#[test]
fn a_fast_restart_replaces_what_the_old_session_has_left() {
    let fixture = Fixture::new();
    let conf = fixture.path("conf.json");
    fs::write(&conf, "{\"enabled\": \"1\"}").unwrap();
    let first = fixture.join(&conf, &["--session-timeout", SHORT]);
    let old = fixture.owner();
    let marker =
        fixture.start(&["join", "--name", "marker"], &fixture.path("marker.json"), &["--session-timeout", SHORT]);
    eventually("the other host is there", || fixture.host("marker").is_some());
    let mut seen = Running::start(&fixture.server, &["farm", "watch", "/farm"]);
    seen.message();
    first.signal("KILL");
    let _second = fixture.join(&conf, &["--session-timeout", "30"]);
    eventually("the znode belongs to the new session", || !["", &old].contains(&&*fixture.owner()));
    // Its session expires later than the first one's.
    marker.signal("KILL");
    let told = std::iter::from_fn(|| Some(seen.line())).find(|line| !line.starts_with("farm ")).unwrap();
    assert!(told.starts_with("left marker"), "nobody has seen the host leave: {told}");
    assert!(fixture.has("enabled", &json!("1")));
}

#[test]
fn a_host_that_stood_still_is_back_with_what_changed_meanwhile() {
    let fixture = Fixture::new();
    let conf = fixture.conf();
    fs::write(conf.join("enabled"), "1").unwrap();
    let joined = fixture.join(&conf, &["--session-timeout", SHORT]);
    let version = fixture.stat("dataVersion");
    joined.signal("STOP");
    eventually("its session expires", || fixture.host("h").is_none());
    fs::write(conf.join("enabled"), "2").unwrap();
    joined.signal("CONT");
    eventually("it is back", || fixture.has("enabled", &json!("2")));
    assert!(!fixture.writes_over(&version), "who has read the old znode has not read this one");
}

#[test]
fn whoever_has_read_the_znode_before_a_restart_cannot_overwrite_the_new_one() {
    let fixture = Fixture::new();
    let conf = fixture.path("conf.json");
    let mut joined: Option<Running> = None;
    for number in 0..20 {
        let seen = joined.as_ref().map(|_| (fixture.owner(), fixture.stat("dataVersion")));
        if let Some(joined) = joined.take() {
            joined.signal("KILL");
            joined.end();
        }
        let n = json!(number.to_string());
        fs::write(&conf, json!({ "n": n }).to_string()).unwrap();
        joined = Some(fixture.start(&["join", "--name", "h"], &conf, &["--session-timeout", "30"]));
        eventually("it has registered", || fixture.has("n", &n));
        if let Some((owner, version)) = seen {
            assert_ne!(fixture.owner(), owner);
            assert!(
                !fixture.writes_over(&version),
                "restart {number}: {version} of the old znode is one of the new one"
            );
        }
        assert!(fixture.has("n", &n));
    }
}

#[test]
fn both_sides_may_change_while_they_are_apart() {
    let fixture = Fixture::new();
    let conf = fixture.path("conf.json");
    fs::write(&conf, r#"{"both": "0", "here": "0", "there": "0", "count": 7}"#).unwrap();
    let mut joined = fixture.join(&conf, &["--session-timeout", "40"]);
    joined.signal("STOP");
    fixture.set("both", "there");
    fixture.set("there", "1");
    fs::write(&conf, r#"{"both": "here", "here": "1", "there": "0", "count": 7}"#).unwrap();
    joined.signal("CONT");
    eventually("the local change is there", || fixture.has("here", &json!("1")));
    eventually("this host is right about itself", || fixture.has("both", &json!("here")));
    eventually("the other change is here", || read(&conf).contains("\"there\": \"1\""));
    assert!(fixture.has("there", &json!("1")) && fixture.has("count", &json!(7)));
    let said = std::iter::from_fn(|| Some(joined.message())).find(|line| line.contains("both sides")).unwrap();
    assert!(said.contains("both") && !said.contains("count"), "{said}");
}

/// Waits until a host has lost its session, which it says.
fn lose_session(host: &mut Running) {
    while !host.message().contains("in another session") {}
}

#[test]
fn a_host_is_not_displaced_by_itself() {
    let fixture = Fixture::new();
    let conf = fixture.conf();
    let mut joined = fixture.join(&conf, &["--session-timeout", SHORT]);
    joined.signal("STOP");
    fixture.set("there", "1");
    fixture.server.stop();
    joined.signal("CONT");
    lose_session(&mut joined);
    fixture.server.go_on();
    // It writes this as soon as it has taken its znode over, and notices its own file before its own znode.
    eventually("what the farm has changed is here", || read(&conf.join("there")) == "1");
    fs::write(conf.join("here"), "1").unwrap();
    eventually("a later change is there", || fixture.has("here", &json!("1")));
    joined.signal("TERM");
    let ended = joined.end();
    assert!(ended.stderr.contains("an earlier session was replaced"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("another process"), "{}", ended.stderr);
}

#[test]
fn configuration_that_cannot_be_read_changes_nothing() {
    let fixture = Fixture::new();
    let conf = fixture.path("conf.json");
    fs::write(&conf, r#"{"a": "1", "hostname": "x"}"#).unwrap();
    let _joined = fixture.join(&conf, &[]);
    for (index, broken) in
        [Some(&b"{\"a\": "[..]), None, Some(b""), Some(b"\xff\xfe"), Some(b"[1]")].into_iter().enumerate()
    {
        match broken {
            Some(bytes) => fs::write(&conf, bytes).unwrap(),
            None => fs::remove_file(&conf).unwrap(),
        }
        // What the farm changes meanwhile waits, and is not lost.
        fixture.set("b", &index.to_string());
        assert!(fixture.has("a", &json!(index.max(1).to_string())), "{broken:?}");
        assert_eq!(fs::read(&conf).ok().as_deref(), broken, "it is left as it is");
        let mut mended = json!({"a": (index + 1).to_string(), "hostname": "x"});
        if index > 0 {
            mended["b"] = json!((index - 1).to_string());
        }
        fs::write(&conf, mended.to_string()).unwrap();
        eventually("it can be read again", || fixture.has("a", &json!((index + 1).to_string())));
        eventually("both are here", || read(&conf).contains(&format!("\"b\": \"{index}\"")));
    }
}

#[test]
fn a_file_of_the_directory_that_cannot_be_read_keeps_its_field() {
    let fixture = Fixture::new();
    let conf = fixture.conf();
    fs::write(conf.join("name"), "1").unwrap();
    let _joined = fixture.join(&conf, &[]);
    fs::write(conf.join("name"), b"\xff\xfe").unwrap();
    fs::write(conf.join("other"), "1").unwrap();
    eventually("the others are followed", || fixture.has("other", &json!("1")));
    assert!(fixture.has("name", &json!("1")));
    fixture.set("other", "2");
    eventually("both ways", || read(&conf.join("other")) == "2");
    assert_eq!(fs::read(conf.join("name")).unwrap(), b"\xff\xfe");
}

#[test]
fn what_the_farm_holds_cannot_leave_the_directory() {
    let fixture = Fixture::new();
    let conf = fixture.conf();
    let _joined = fixture.join(&conf, &[]);
    let before = fixture.host("h").unwrap()["hostname"].clone();
    let hostile = json!({"../escaped": "x", "/tmp/escaped": "x", "..": {"escaped": "x"}, ".hidden": "x", "": "x",
        "nul\u{0}": "x", "ok": "1", "hostname": before});
    let set = on(&fixture.server, &["shell", "set", "/farm/h", &hostile.to_string()]);
    assert_eq!(set.status, Some(0), "{set}");
    eventually("what can be a file is one", || read(&conf.join("ok")) == "1");
    let mut names: Vec<_> = fs::read_dir(&conf).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["hostname", "ok"]);
    assert_eq!(fs::read_dir(fixture.root.path()).unwrap().count(), 1);
    // And what cannot stays in the farm.
    fs::write(conf.join("ok"), "2").unwrap();
    eventually("a change goes the other way", || fixture.has("ok", &json!("2")));
    assert!(fixture.has("../escaped", &json!("x")));
}

#[test]
fn the_farm_is_right_about_what_all_share() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.path("one.json"), fixture.path("two.yaml"));
    fs::write(&one, r#"{"a": "1"}"#).unwrap();
    fs::write(&two, "a: '2'\n").unwrap();
    let first = fixture.start(&["join", "--common"], &one, &[]);
    eventually("the first one makes it", || fixture.host("common") == Some(json!({"a": "1"})));
    let _second = fixture.start(&["join", "-c"], &two, &[]);
    eventually("the second one takes it", || read(&two).trim() == "a: \"1\"" || read(&two).trim() == "a: '1'");
    fs::write(&two, "a: '3'\n").unwrap();
    eventually("a change reaches all", || read(&one).contains("\"3\""));
    first.signal("TERM");
    assert_eq!(first.end().status, Some(0));
    assert_eq!(fixture.host("common"), Some(json!({"a": "3"})), "it stays");
    let size = on(&fixture.server, &["shell", "get", "/farm"]).stdout;
    assert_eq!(size, b"", "it counts as no host");
}

#[test]
fn import_goes_one_way() {
    let fixture = Fixture::new();
    let conf = fixture.path("conf.json");
    fs::write(&conf, r#"{"a": "1"}"#).unwrap();
    let _imported = fixture.start(&["import", "--name", "h"], &conf, &[]);
    eventually("it is in the farm", || fixture.host("h") == Some(json!({"a": "1"})));
    fixture.set("a", "2");
    let other = fixture.path("other");
    let _told = fixture.start(&["import", "--name", "other"], &other, &["-f", "json"]);
    eventually("another host comes", || fixture.host("other").is_some());
    assert!(fixture.has("a", &json!("2")), "what others write stays");
    fs::write(&conf, r#"{"a": "1", "b": "1"}"#).unwrap();
    eventually("a local change is in the farm", || fixture.host("h") == Some(json!({"a": "1", "b": "1"})));
    assert_eq!(read(&conf), r#"{"a": "1", "b": "1"}"#);
}

#[test]
fn one_name_belongs_to_one_process() {
    let fixture = Fixture::new();
    let (one, two, status) = (fixture.path("one.json"), fixture.path("two.json"), fixture.path("status"));
    fs::write(&one, r#"{"a": "one"}"#).unwrap();
    fs::write(&two, r#"{"a": "two"}"#).unwrap();
    let _first = fixture.join(&one, &["--status-file", status.to_str().unwrap()]);
    let second = fixture.start(&["join", "--name", "h"], &two, &[]);
    eventually("the newer one has it", || fixture.has("a", &json!("two")));
    eventually("the older one says so", || read(&status).contains("displaced"));
    assert!(read(&one).contains("one"), "and keeps its configuration");
    second.signal("TERM");
    assert_eq!(second.end().status, Some(0));
    eventually("the older one has it again", || fixture.has("a", &json!("one")));
    assert_eq!(on(&fixture.server, &["shell", "delete", "/farm/h"]).status, Some(0));
    eventually("a znode that somebody deletes comes back", || fixture.has("a", &json!("one")));
}

#[test]
fn an_unwell_host_leaves_or_says_so() {
    let fixture = Fixture::new();
    let (conf, well) = (fixture.path("conf.json"), fixture.path("well"));
    fs::write(&conf, r#"{"a": "1"}"#).unwrap();
    let check = format!("test -e {}", well.display());
    let health = ["--health-cmd", &check, "--interval", "0.1", "--rise", "1", "--fall", "1"];
    let leaving = fixture.start(&["join", "--name", "h"], &conf, &health);
    fs::write(&well, "").unwrap();
    eventually("a host that is well comes", || fixture.has("a", &json!("1")));
    fs::remove_file(&well).unwrap();
    eventually("one that is not leaves", || fixture.host("h").is_none());
    fs::write(&well, "").unwrap();
    eventually("and comes back", || fixture.has("a", &json!("1")));
    leaving.signal("TERM");
    assert_eq!(leaving.end().status, Some(0));

    let _staying = fixture.join(&conf, &[&health[..], &["--health-field", "healthy"]].concat());
    eventually("it is well", || fixture.has("healthy", &json!("1")));
    fs::remove_file(&well).unwrap();
    eventually("it says that it is not", || fixture.has("healthy", &json!("0")));
    fixture.set("a", "2");
    eventually("it goes on", || read(&conf).contains("\"2\""));
    assert!(!read(&conf).contains("healthy"), "that is not in the configuration");
}

#[test]
fn what_a_run_has_left_set_is_put_back_after_the_host_died() {
    let fixture = Fixture::new();
    let conf = fixture.conf();
    fs::write(conf.join("maintenance"), "0").unwrap();
    let joined = fixture.join(&conf, &["--session-timeout", SHORT]);
    let ready = fixture.path("ready");
    let command = format!("touch {}; sleep 60", ready.display());
    let arguments = ["farm", "exec", "--session-timeout", SHORT, "--name", "h", "-s", "maintenance=1", "/farm"];
    let run = Running::start(&fixture.server, &[&arguments[..], &["--", "sh", "-c", &command]].concat());
    eventually("it runs", || ready.exists());
    eventually("the field is set here too", || read(&conf.join("maintenance")) == "1");
    // The machine dies: the host first, then the run and whoever watches over it.
    joined.signal("KILL");
    eventually("the host is gone", || fixture.host("h").is_none());
    run.signal("KILL");
    eventually("the run's session has expired", || {
        let listed = on(&fixture.server, &["shell", "ls", "-R", "/.farm.exec/undo/h"]);
        listed.status == Some(0) && !String::from_utf8_lossy(&listed.stdout).contains("alive")
    });
    assert_eq!(read(&conf.join("maintenance")), "1");
    let _joined = fixture.join(&conf, &[]);
    eventually("the configuration is as before", || read(&conf.join("maintenance")) == "0");
    eventually("and the znode", || fixture.has("maintenance", &json!("0")));
    eventually("the record is gone", || {
        String::from_utf8_lossy(&on(&fixture.server, &["shell", "ls", "/.farm.exec/undo/h"]).stdout).trim().is_empty()
    });
}

#[test]
fn a_host_leaves_at_once_though_its_command_runs() {
    let fixture = Fixture::new();
    let (conf, log, hold) = (fixture.path("conf.json"), fixture.path("log"), fixture.path("hold"));
    fs::write(&conf, r#"{"a": "1"}"#).unwrap();
    fs::write(&hold, "").unwrap();
    let (at, end) = (hold.display(), log.display());
    let command = format!("echo begin >> {end}; while test -e {at}; do sleep 0.05; done; echo end >> {end}");
    let joined = fixture.join(&conf, &["--changed-cmd", &command]);
    eventually("the command runs", || read(&log) == "begin\n");
    joined.signal("TERM");
    eventually("the host has left", || fixture.host("h").is_none());
    assert_eq!(read(&log), "begin\n");
    fs::remove_file(&hold).unwrap();
    let ended = joined.end();
    assert_eq!(ended.status, Some(0), "{ended}");
    assert_eq!(read(&log), "begin\nend\n");
}

#[test]
fn a_command_that_was_killed_is_run_at_the_next_start() {
    let fixture = Fixture::new();
    let (conf, log, hold) = (fixture.path("conf.json"), fixture.path("log"), fixture.path("hold"));
    fs::write(&conf, r#"{"a": "1"}"#).unwrap();
    fs::write(&hold, "").unwrap();
    let command = format!("echo run >> {}; while test -e {}; do sleep 0.05; done", log.display(), hold.display());
    let joined = fixture.join(&conf, &["--changed-cmd", &command]);
    eventually("the command runs", || read(&log) == "run\n");
    joined.signal("KILL");
    joined.end();
    fs::remove_file(&hold).unwrap();
    let joined = fixture.join(&conf, &["--changed-cmd", &command]);
    let mark = fixture.path(".conf.json.grange-due");
    eventually("it is run again, though nothing changes", || read(&log) == "run\nrun\n" && !mark.exists());
    joined.signal("TERM");
    assert_eq!(joined.end().status, Some(0));
}

#[test]
fn a_fast_restart_is_not_seen_while_health_is_not_known() {
    let fixture = Fixture::new();
    let (conf, answer) = (fixture.path("conf.json"), fixture.path("answer"));
    fs::write(&conf, r#"{"a": "1"}"#).unwrap();
    let first = fixture.join(&conf, &["--session-timeout", "30"]);
    let old = fixture.owner();
    first.signal("KILL");
    let asked = fixture.path("asked");
    let check = format!("touch {}; while ! test -e {}; do sleep 0.05; done", asked.display(), answer.display());
    let mut seen = Running::start(&fixture.server, &["farm", "watch", "/farm"]);
    seen.message();
    let health = ["--health-cmd", &check, "--interval", "60", "--fall", "1", "--health-field", "healthy"];
    let second = fixture.start(&["join", "--name", "h"], &conf, &health[..6]);
    eventually("it is asked how it is", || asked.exists());
    // Another host comes after whatever the second one has done so far.
    let _marker = fixture.start(&["join", "--name", "marker"], &fixture.path("marker.json"), &[]);
    let told = std::iter::from_fn(|| Some(seen.line())).find(|line| line.contains("marker")).unwrap();
    assert!(told.starts_with("joined marker"), "{told}");
    assert_eq!(fixture.owner(), old, "nothing is done before the answer");
    fs::write(&answer, "").unwrap();
    eventually("it is replaced after the answer", || !["", &old].contains(&&*fixture.owner()));
    second.signal("TERM");
    assert_eq!(second.end().status, Some(0));
    let told = std::iter::from_fn(|| Some(seen.line())).find(|line| line.contains(" h")).unwrap();
    assert!(told.starts_with("left h") || told.starts_with("changed h"), "{told}");
}

#[test]
fn a_configuration_that_is_lost_comes_back_from_the_farm() {
    let fixture = Fixture::new();
    let conf = fixture.conf();
    fs::write(conf.join("weight"), "7").unwrap();
    let first = fixture.join(&conf, &["--session-timeout", "30"]);
    let old = fixture.owner();
    eventually("all is there", || fixture.has("weight", &json!("7")));
    first.signal("KILL");
    // Nothing is mounted there yet.
    fs::remove_dir_all(&conf).unwrap();
    fs::create_dir(&conf).unwrap();
    let mut second = fixture.join(&conf, &["--session-timeout", "30"]);
    eventually("the znode belongs to the new session", || !["", &old].contains(&&*fixture.owner()));
    assert!(fixture.has("weight", &json!("7")));
    eventually("it is here again", || read(&conf.join("weight")) == "7");
    // And a directory that loses everything at once says nothing.
    fs::create_dir(fixture.path("empty")).unwrap();
    fs::rename(&conf, fixture.path("old")).unwrap();
    fs::rename(fixture.path("empty"), &conf).unwrap();
    let said = std::iter::from_fn(|| Some(second.message())).find(|line| line.contains("it is empty")).unwrap();
    assert!(said.contains("counts as unchanged"), "{said}");
    assert!(fixture.has("weight", &json!("7")));
    fs::write(conf.join("weight"), "8").unwrap();
    eventually("what is there again counts", || fixture.has("weight", &json!("8")));
}

#[test]
fn a_host_that_cannot_register_says_so() {
    let fixture = Fixture::new();
    let (conf, status) = (fixture.path("conf.json"), fixture.path("status"));
    fs::write(&conf, "{").unwrap();
    let _joined = fixture.start(&["join", "--name", "h", "--status-file", status.to_str().unwrap()], &conf, &[]);
    eventually("it says why it is not in the farm", || read(&status).contains("failed"));
    assert!(fixture.host("h").is_none());
    fs::write(&conf, r#"{"a": "1"}"#).unwrap();
    eventually("and comes", || fixture.has("a", &json!("1")));
    eventually("and says that", || read(&status).contains("ok"));
    let huge = json!({ "a": "x".repeat(1_100_000) });
    fs::write(&conf, huge.to_string()).unwrap();
    eventually("one that is too large is not sent, which is told", || read(&status).contains("too large"));
    assert!(fixture.has("a", &json!("1")));
}

#[test]
fn what_is_no_object_is_replaced_where_it_is_the_hosts_own() {
    let fixture = Fixture::new();
    let (conf, common, status) = (fixture.path("conf.json"), fixture.path("common.json"), fixture.path("status"));
    fs::write(&conf, r#"{"a": "1"}"#).unwrap();
    fs::write(&common, r#"{"c": "1"}"#).unwrap();
    let _joined = fixture.join(&conf, &[]);
    let shared = ["--status-file", status.to_str().unwrap()];
    let _shared = fixture.start(&["join", "--common"], &common, &shared);
    eventually("what all share is there", || fixture.host("common") == Some(json!({"c": "1"})));
    let put = |name: &str, data: &str| {
        let set = on(&fixture.server, &["shell", "set", &format!("/farm/{name}"), data]);
        assert_eq!(set.status, Some(0), "{set}");
    };
    for broken in ["{", "[1]", "\u{fe}"] {
        put("h", broken);
        eventually("it is replaced by what the host says", || fixture.has("a", &json!("1")));
        put("common", broken);
        eventually("it is told", || read(&status).contains("holds no properties"));
        fs::write(&common, r#"{"c": "2"}"#).unwrap();
        fixture.set("a", "1");
        let got = on(&fixture.server, &["shell", "get", "/farm/common"]).stdout;
        assert_eq!(String::from_utf8_lossy(&got).trim_end(), broken, "what all share is left alone");
        assert_eq!(read(&common), r#"{"c": "2"}"#);
        put("common", r#"{"c": "1"}"#);
        eventually("and goes on with the next object", || read(&status).contains("registered"));
        eventually("with what the other side changed", || fixture.host("common") == Some(json!({"c": "2"})));
        fs::write(&common, r#"{"c": "1"}"#).unwrap();
        eventually("both ways", || fixture.host("common") == Some(json!({"c": "1"})));
    }
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let fixture = Fixture::new();
    let conf = fixture.conf();
    for (arguments, why) in [
        (vec!["join", "/farm", "conf.ini"], "does not tell its format"),
        (vec!["join", "farm", "conf.json"], "'farm'"),
        (vec!["join", "-f", "xml", "/farm", "conf"], "xml"),
        (vec!["join", "--name", "a/b", "/farm", "conf.json"], "name of a znode"),
        (vec!["join", "--name", "common", "/farm", "conf.json"], "--common"),
        (vec!["join", "-f", "json", "/farm", conf.to_str().unwrap()], "is a directory"),
        (vec!["join", "--health-field", "x", "/farm", "conf.json"], "--health-cmd"),
    ] {
        let outcome = on(&fixture.server, &[&["farm"], &arguments[..]].concat());
        assert_eq!(outcome.status, Some(2), "{arguments:?}: {outcome}");
        assert!(outcome.stderr.contains(why), "{arguments:?}: {outcome}");
    }
}
