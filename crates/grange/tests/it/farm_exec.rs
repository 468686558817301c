//! `grange farm exec`: what must hold before a command runs, and what is left however it ends.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Outcome, grange, run};
use crate::proxy::Proxy;
use crate::running::{Ours, Running, on};
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(60);

/// Sessions that end a second after their process.
const FAST: &str = "tickTime=200\n";
const SHORT_SESSION: &[&str] = &["--session-timeout", "1"];

/// A server with the farm /db, which should have two hosts and has one, `h`.
struct Site {
    server: Ours,
}

impl Site {
    fn start(host: &Value) -> Site {
        let site = Site { server: Ours::configured(FAST) };
        site.put("/db", &json!({"size": 2}));
        site.put("/db/h", host);
        site
    }

    fn put(&self, path: &str, data: &Value) {
        let outcome = on(&self.server, &["shell", "create", path, &data.to_string()]);
        assert_eq!(outcome.status, Some(0), "{outcome}");
    }

    /// Returns what a host says of itself.
    fn host(&self, name: &str) -> Value {
        on(&self.server, &["shell", "get", &format!("/db/{name}")]).json()
    }

    /// Waits until the host `h` says this, and no record is left.
    fn settled(&self, host: &Value) {
        eventually(|| {
            let (found, records) = (self.host("h"), on(&self.server, &["shell", "ls", "/.db.exec/undo/h"]));
            let records = String::from_utf8(records.stdout).unwrap();
            if found == *host && records.trim().is_empty() { Ok(()) } else { Err(format!("{found}, {records:?}")) }
        });
    }

    /// Waits until no guardian is left.
    fn nobody_watches(&self) {
        let of_ours = format!("GRANGE_SERVERS={}", self.server.servers());
        let has = |process: u32, file: &str, word: &str| {
            let words = std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|found| found == word.as_bytes())
        };
        eventually(|| {
            let is_ours = |process: &u32| has(*process, "cmdline", "guard") && has(*process, "environ", &of_ours);
            processes().find(is_ours).map_or(Ok(()), |guardian| Err(format!("guardian {guardian} is there")))
        });
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        on(&self.server, &[&["farm", "exec", "/db", "--name", "h"], arguments].concat())
    }

    fn start_run(&self, arguments: &[&str]) -> Running {
        Running::start(&self.server, &[&["farm", "exec", "/db", "--name", "h"], arguments].concat())
    }
}

fn eventually(mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(found) = check() {
        assert!(Instant::now() < deadline, "{found}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// A server by way of a network that fails when a test says so.
struct Proxied {
    proxy: Proxy,
    // Dropped after the proxy, which runs in it.
    runtime: tokio::runtime::Runtime,
}

impl Proxied {
    fn start(server: &dyn Server) -> Proxied {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let proxy = runtime.block_on(Proxy::start(server.servers().parse().unwrap()));
        Proxied { proxy, runtime }
    }
}

impl Server for Proxied {
    fn servers(&self) -> String {
        self.proxy.address().to_string()
    }
}

/// Returns the process that watches over a run.
fn guardian_of(run: u32) -> u32 {
    let mut found = None;
    eventually(|| {
        found = children(run).into_iter().find(|child| {
            let arguments = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).any(|argument| argument == b"guard")
        });
        found.map(|_| ()).ok_or_else(|| "there is no guardian".to_owned())
    });
    found.unwrap()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn children(parent: u32) -> Vec<u32> {
    processes()
        .filter(|process| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // Behind the name: the state and the parent.
            let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
            after_name.split(' ').nth(1) == Some(parent.to_string().as_str())
        })
        .collect()
}

/// A command that says something and waits.
const WAITS: &[&str] = &["--", "sh", "-c", "echo runs; exec sleep 60"];

#[test]
fn a_command_runs_with_its_fields_set_and_all_is_as_before() {
    let before = json!({
        "n": 7, "f": 2.5, "t": true, "z": null, "l": [1, {"a": null}], "o": {"a": {"b": 1}}, "text": "x", "other": "y"
    });
    let site = Site::start(&before);
    let get = format!("{} farm get /db/h -f json", env!("CARGO_BIN_EXE_grange"));
    let script = format!("{get} | tr -d '\\n '; echo; echo $GRANGE_FARM $GRANGE_HOST $GRANGE_LOCK_PATH; exit 7");
    let fields = ["n", "f", "t", "z", "l", "o.a.b", "text", "new", "deep.er.still"];
    let assignments: Vec<String> = fields.iter().map(|field| format!("{field}=1=1")).collect();
    let mut arguments = vec!["-l", "restart"];
    arguments.extend(assignments.iter().flat_map(|assignment| ["-s", assignment.as_str()]));
    let outcome = site.run(&[&arguments[..], &["--", "sh", "-c", &script]].concat());
    assert_eq!(outcome.status, Some(7), "{outcome}");
    let said = String::from_utf8(outcome.stdout).unwrap();
    let (during, variables) = said.split_once('\n').unwrap();
    let expected = json!({
        "n": "1=1", "f": "1=1", "t": "1=1", "z": "1=1", "l": "1=1", "o": {"a": {"b": "1=1"}}, "text": "1=1",
        "other": "y", "new": "1=1", "deep": {"er": {"still": "1=1"}}
    });
    assert_eq!(serde_json::from_str::<Value>(during).unwrap(), expected);
    assert_eq!(variables, "/db h /.db.exec/locks/restart\n");
    site.settled(&before);
    // The children of the farm are hosts, and nothing else.
    assert_eq!(on(&site.server, &["farm", "ls", "/db"]).stdout, b"h\n");
    for (command, status) in [("/nonexistent", 127), ("/", 126)] {
        assert_eq!(site.run(&["-s", "n=0", "--", command]).status, Some(status));
        site.settled(&before);
    }
}

#[test]
fn what_somebody_else_changes_meanwhile_is_kept() {
    let site = Site::start(&json!({"a": "1", "b": "1", "c": "1"}));
    let set = |field: &str| format!("{} farm set /db/h {field} mine;", env!("CARGO_BIN_EXE_grange"));
    let script = format!("{} {}", set("a"), set("new"));
    let outcome = site.run(&["-s", "a=2", "-s", "b=2", "--", "sh", "-c", &script]);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    assert_eq!(outcome.stderr, "/db: a of h was changed by somebody meanwhile, and is left as it is\n");
    site.settled(&json!({"a": "mine", "b": "1", "c": "1", "new": "mine"}));
    // A host that has left takes its fields along; they are put back when it has come again.
    let script = format!("{} shell delete /db/h", env!("CARGO_BIN_EXE_grange"));
    let outcome = site.run(&["-s", "b=2", "--", "sh", "-c", &script]);
    assert!(outcome.stderr.contains("h is not in the farm any more"), "{outcome}");
    site.put("/db/h", &json!({"b": "2"}));
    assert_eq!(site.run(&["-s", "x=1", "--", "true"]).status, Some(0));
    site.settled(&json!({"b": "1"}));
}

#[test]
fn a_run_that_is_killed_leaves_nothing_behind() {
    let before = json!({"maintenance": 0});
    let site = Site::start(&before);
    let mut run = site.start_run(&[&["-s", "maintenance=1", "-s", "since.when=now"], WAITS].concat());
    assert_eq!(run.line(), "runs");
    assert_eq!(site.host("h"), json!({"maintenance": "1", "since": {"when": "now"}}));
    run.signal("KILL");
    assert_eq!(run.line(), "", "the command has ended");
    // The default session timeout is ten seconds: the guardian does not wait for that.
    site.settled(&before);
    site.nobody_watches();
}

#[test]
fn the_next_run_puts_back_what_a_crash_has_left() {
    let before = json!({"maintenance": "0"});
    let site = Site::start(&before);
    let mut run = site.start_run(&[SHORT_SESSION, &["-s", "maintenance=1"], WAITS].concat());
    assert_eq!(run.line(), "runs");
    // As if the machine had been reset: nobody is left.
    kill("KILL", guardian_of(run.id()));
    run.signal("KILL");
    let mut next = site.start_run(&["-s", "maintenance=2", "--", "sh", "-c", "echo next; exec sleep 60"]);
    assert!(next.message().starts_with("/db: waiting: maintenance of h is set by "), "it says for whom it waits");
    assert_eq!(next.line(), "next");
    let get = on(&site.server, &["farm", "get", "/db/h", "maintenance"]);
    assert_eq!(get.stdout, b"2\n", "{get}");
    next.signal("TERM");
    assert_eq!(next.end().status, Some(143));
    site.settled(&before);
}

#[test]
fn who_stands_still_loses_lock_and_fields_to_the_next() {
    let before = json!({"maintenance": "0"});
    let site = Site::start(&before);
    let flags = [SHORT_SESSION, &["-l", "x", "-s", "maintenance=1"]].concat();
    let mut first = site.start_run(&[&flags[..], WAITS].concat());
    assert_eq!(first.line(), "runs");
    first.signal("STOP");
    let mut second = site.start_run(&[&flags[..], &["--", "sh", "-c", "echo second; exec sleep 60"]].concat());
    assert_eq!(second.line(), "second");
    first.signal("CONT");
    let outcome = first.end();
    assert_eq!(outcome.status, Some(3), "{outcome}");
    assert!(outcome.stderr.contains("was lost while CMD ran: "), "{outcome}");
    assert_eq!(site.host("h")["maintenance"], "1", "the second one's");
    second.signal("TERM");
    assert_eq!(second.end().status, Some(143));
    site.settled(&before);
}

#[test]
fn whoever_takes_lock_or_record_away_ends_the_command() {
    let before = json!({"maintenance": "0"});
    let site = Site::start(&before);
    // It does not mind SIGTERM.
    let script = "trap '' TERM; echo $GRANGE_LOCK_ZNODE; sleep 60 & sleep 60; wait";
    let flags = ["-l", "x", "-s", "maintenance=1", "--grace", "0.2", "--", "sh", "-c", script];
    for takes_lock in [true, false] {
        let mut run = site.start_run(&flags);
        let mut znode = run.line();
        if !takes_lock {
            let records = on(&site.server, &["shell", "ls", "/.db.exec/undo/h"]).stdout;
            znode = format!("/.db.exec/undo/h/{}/alive", String::from_utf8(records).unwrap().trim());
        }
        assert_eq!(on(&site.server, &["shell", "delete", &znode]).status, Some(0));
        let outcome = run.end();
        assert_eq!(outcome.status, Some(3), "{outcome}");
        assert!(outcome.stderr.contains("was lost while CMD ran: somebody deleted its znode"), "{outcome}");
        site.settled(&before);
    }
}

#[test]
fn who_is_cut_off_has_ended_when_the_next_begins() {
    let before = json!({"maintenance": "0"});
    let site = Site::start(&before);
    let cut_off = Proxied::start(&site.server);
    let directory = tempfile::tempdir().unwrap();
    let ended = directory.path().join("ended");
    let flags =
        ["farm", "exec", "/db", "--name", "h", "--session-timeout", "4", "-l", "x", "-s", "maintenance=1", "--"];
    let script = format!("trap 'touch {}; exit 0' TERM; echo runs; while :; do sleep 0.02; done", ended.display());
    let mut first = Running::start(&cut_off, &[&flags[..], &["sh", "-c", &script]].concat());
    assert_eq!(first.line(), "runs");
    cut_off.proxy.refuse();
    let script = format!("test -e {} && echo alone; exec sleep 60", ended.display());
    let mut second = Running::start(&site.server, &[&flags[..], &["sh", "-c", &script]].concat());
    assert_eq!(second.line(), "alone");
    cut_off.proxy.flow();
    let outcome = first.end();
    assert_eq!(outcome.status, Some(3), "{outcome}");
    assert!(outcome.stderr.contains("the ensemble could not be reached"), "{outcome}");
    assert_eq!(site.host("h")["maintenance"], "1", "the second one's");
    second.signal("TERM");
    assert_eq!(second.end().status, Some(143));
    site.settled(&before);
    drop(cut_off.proxy);
    cut_off.runtime.shutdown_background();
}

#[test]
fn without_an_ensemble_a_command_ends_in_time() {
    let before = json!({"maintenance": "0"});
    let site = Site::start(&before);
    let script = "trap 'echo term; exit 0' TERM; echo runs; while :; do sleep 0.05; done";
    let flags = [SHORT_SESSION, &["-l", "x", "-s", "maintenance=1", "--", "sh", "-c", script]].concat();
    let mut run = site.start_run(&flags);
    assert_eq!(run.line(), "runs");
    site.server.stop();
    assert_eq!(run.line(), "term");
    site.server.go_on();
    let outcome = run.end();
    assert_eq!(outcome.status, Some(3), "{outcome}");
    site.settled(&before);
}

#[test]
fn no_more_than_so_many_run_at_a_time() {
    const RUNS: usize = 7;
    let site = Site::start(&json!({}));
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let script = format!("echo + >> {0}; sleep 0.1; echo - >> {0}", log.display());
    std::thread::scope(|scope| {
        for _ in 0..RUNS {
            let (site, script) = (&site, script.as_str());
            scope.spawn(move || {
                let outcome = site.run(&["-l", "x", "-c", "2", "--", "sh", "-c", script]);
                assert_eq!(outcome.status, Some(0), "{outcome}");
            });
        }
    });
    assert_eq!(most_at_a_time(&log), (RUNS, 2));
    let mut holder = site.start_run(&[&["-l", "/any/where", "-c", "2"], WAITS].concat());
    assert_eq!(holder.line(), "runs");
    let disagreed = site.run(&["-l", "/any/where", "-c", "3", "--", "true"]);
    assert_eq!(disagreed.status, Some(2));
    assert!(
        disagreed
            .stderr
            .starts_with("error: /any/where was made for 2 leases, and 3 were asked for\nhint: ask for 2 with -c 2"),
        "{disagreed}"
    );
    assert_eq!(site.run(&["-l", "/any/where", "-c", "2", "--wait", "0", "--", "true"]).status, Some(0));
}

/// Returns how many runs there were, and how many at a time.
fn most_at_a_time(log: &Path) -> (usize, usize) {
    let (mut runs, mut now, mut most) = (0, 0_usize, 0);
    for line in std::fs::read_to_string(log).unwrap().lines() {
        now = if line == "+" { now + 1 } else { now - 1 };
        runs += usize::from(line == "+");
        most = most.max(now);
    }
    (runs, most)
}

#[test]
fn a_command_waits_for_a_healthy_farm_and_keeps_no_lock_meanwhile() {
    let site = Site::start(&json!({}));
    let flags = ["--healthy", "--max-failed", "50%", "-l", "x"];
    let refused = site.run(&[&flags[..], &["--wait", "0", "--", "true"]].concat());
    assert_eq!(refused.status, Some(1));
    let why = "the farm is not healthy: CRITICAL: 1/2 nodes running, 1 nodes failing, max allowed 50%";
    assert_eq!(refused.stderr, format!("error: CMD may not run: {why}\n"));
    let shown = site.run(&[&flags[..], &["--dry-run"]].concat());
    assert_eq!(shown.status, Some(1));
    let lines = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(
        lines,
        format!("yes  it is in the hours 0-24\nyes  /.db.exec/locks/x is free: 0 of 1 hold it\nno   {why}\n")
    );
    let mut waiting = site.start_run(&[&flags[..], WAITS].concat());
    assert_eq!(waiting.message(), format!("/db: waiting: {why}"));
    assert_eq!(site.run(&["-l", "x", "--wait", "20", "--", "true"]).status, Some(0), "the lock is free");
    site.put("/db/second", &json!({}));
    assert_eq!(waiting.line(), "runs");
    waiting.signal("TERM");
    assert_eq!(waiting.end().status, Some(143));
    assert_eq!(site.run(&["--healthy", "--wait", "20", "--", "true"]).status, Some(0));
}

#[test]
fn signals_end_the_wait_or_go_to_the_command() {
    let before = json!({"a": "0"});
    let site = Site::start(&before);
    let script = "trap 'echo usr1' USR1; trap 'exit 5' TERM; echo runs; while :; do sleep 0.05; done";
    let mut run = site.start_run(&["-s", "a=1", "-l", "x", "--", "sh", "-c", script]);
    assert_eq!(run.line(), "runs");
    let mut waiting = site.start_run(&["-s", "a.b=1", "--", "true"]);
    assert!(waiting.message().contains("a of h is set by "), "one is inside the other");
    waiting.signal("INT");
    assert_eq!(waiting.end().status, Some(130));
    run.signal("USR1");
    assert_eq!(run.line(), "usr1");
    run.signal("TERM");
    assert_eq!(run.end().status, Some(5));
    site.settled(&before);
}

#[test]
fn a_command_is_repeated_until_a_signal() {
    let before = json!({"a": "0"});
    let site = Site::start(&before);
    let mut run =
        site.start_run(&["-r", "0.1", "-s", "a=1", "-l", "x", "--", "sh", "-c", "echo $GRANGE_LOCK_TOKEN; exit 9"]);
    let tokens: Vec<i64> = (0..3).map(|_| run.line().parse().unwrap()).collect();
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    run.signal("TERM");
    let outcome = run.end();
    assert!(matches!(outcome.status, Some(9 | 143)), "{outcome}");
    assert!(outcome.stderr.starts_with("/db: CMD ended with status 9\n"), "{outcome}");
    site.settled(&before);
}

#[test]
fn a_host_that_is_not_there_is_waited_for_on_demand() {
    let site = Site::start(&json!({}));
    let flags = ["--name", "late", "-s", "a=1"];
    let refused = on(&site.server, &[&["farm", "exec", "/db"], &flags[..], &["--", "true"]].concat());
    assert_eq!(
        refused.to_string(),
        "! error: CMD may not run: late is not in the farm\n! hint: wait for it with --wait SECONDS\nexit 1\n"
    );
    let arguments =
        [&["farm", "exec", "/db"], &flags[..], &["--wait", "60", "--", "sh", "-c", "echo $GRANGE_HOST"]].concat();
    let mut waiting = Running::start(&site.server, &arguments);
    assert_eq!(waiting.message(), "/db: waiting: late is not in the farm");
    site.put("/db/late", &json!({}));
    assert_eq!(waiting.line(), "late");
    assert_eq!(waiting.end().status, Some(0));
    let no_farm = on(&site.server, &["farm", "exec", "/dbb", "--healthy", "--", "true"]);
    assert_eq!(no_farm.status, Some(1));
    assert!(no_farm.stderr.contains("there is no farm /dbb"), "{no_farm}");
}

#[test]
fn a_command_does_not_start_outside_its_hours() {
    let site = Site::start(&json!({}));
    let hour = jiff::Zoned::now().hour();
    // Two hours from now, so that a change of the hour does not matter.
    let range = format!("{}-{}", (hour + 2) % 24, (hour + 3) % 24);
    let refused = site.run(&["-a", &range, "--wait", "0.1", "-s", "a=1", "--", "true"]);
    assert_eq!(refused.status, Some(1));
    assert!(
        refused.stderr.contains(&format!("CMD may not run: it is not in the hours {range}; they begin at ")),
        "{refused}"
    );
    let now = format!("{hour}-{}", (hour + 2) % 24);
    assert_eq!(site.run(&["-a", &format!("{range},{now}"), "--", "true"]).status, Some(0));
}

#[test]
fn as_zkfarmer_it_has_the_same_flags() {
    let site = Site::start(&json!({}));
    let mut command = grange();
    command.arg0("zkfarmer").env("ZKHOST", site.server.servers());
    command.args(["exec", "/db", "--name", "h", "-l", "x", "-c", "2", "-s", "a=1", "-a", "0-24"]);
    let outcome = run(command.args(["--", "sh", "-c", "echo $GRANGE_LOCK_PATH; exit 7"]), b"");
    assert_eq!(outcome.to_string(), "/.db.exec/locks/x\nexit 7\n");
    site.settled(&json!({}));
}

/// Whenever a run is killed, nothing stays once its guardian, or the next run, has looked.
#[test]
fn a_run_may_be_killed_at_any_moment() {
    const KILLS: u64 = 12;
    let before = json!({"a": {"b": [1]}});
    let site = Site::start(&before);
    for round in 0..KILLS {
        let run = site.start_run(&[SHORT_SESSION, &["-l", "x", "-s", "a.b=1", "-s", "c.d=1", "--", "true"]].concat());
        std::thread::sleep(Duration::from_millis(8 * round));
        // It may have ended by then.
        kill("KILL", run.id());
        drop(run);
    }
    let last = site.run(&["-l", "x", "-s", "a.b=2", "-s", "c=1", "--wait", "60", "--", "true"]);
    assert_eq!(last.status, Some(0), "{last}");
    site.settled(&before);
    site.nobody_watches();
}

#[test]
fn mistakes_are_named() {
    let site = Site::start(&json!({"text": "x"}));
    for (arguments, why) in [
        (&["-a", "8-8"][..], "'8-8' begins where it ends; write 0-24 for the whole day"),
        (&["-s", "a"], "write FIELD=VALUE, such as maintenance=1"),
        (&["-s", "a=1", "-s", "a.b=1"], "--set a and --set a.b are the same field, or one is inside the other"),
        (&["-s", "text.a=1"], "'text' is not an object, so 'text.a' can only be set by giving up what is there"),
        (&["-l", "a/b"], "'a/b' cannot be the name of a znode"),
        (&["-c", "2"], "--lock <LOCK>"),
        (&["-l", "x", "-c", "0"], "--concurrency"),
        (&["--healthy", "--max-failed", "x"], "must be a number of hosts"),
        (&["-r", "1", "--wait", "1"], "cannot be used with"),
    ] {
        let outcome = site.run(&[arguments, &["--", "true"]].concat());
        assert_eq!(outcome.status, Some(2), "{arguments:?}: {outcome}");
        assert!(outcome.stderr.contains(why), "{arguments:?}: {outcome}");
    }
    let root = on(&site.server, &["farm", "exec", "/", "--", "true"]);
    assert_eq!(root.status, Some(2), "{root}");
    site.settled(&json!({"text": "x"}));
}

fn kill(signal: &str, process: u32) {
    let sent = std::process::Command::new("sh").arg("-c").arg(format!("kill -{signal} {process}")).status();
    assert!(sent.unwrap().success());
}
