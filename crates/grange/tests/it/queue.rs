//! `grange queue`, `barrier`, `counter` and `watch` on each kind of server.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Outcome, grange, run};
use crate::server::{Apache, GrangeServer, Server};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn queues_and_the_like_work_on_apache() {
    if let Some(server) = Apache::start() {
        scenario(&server);
    }
}

#[test]
fn queues_and_the_like_work_on_grange() {
    let directory = tempfile::tempdir().unwrap();
    scenario(&GrangeServer::start(&["--data", directory.path().join("data").to_str().unwrap()]));
}

struct Tools<'a> {
    server: &'a dyn Server,
}

impl Tools<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = grange();
        command.env("GRANGE_SERVERS", self.server.servers()).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments), b"")
    }

    /// Compares all that a command prints, and its exit status.
    fn check(&self, arguments: &[&str], expected: &str) {
        assert_eq!(self.run(arguments).to_string(), expected, "{arguments:?}");
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn until(&self, arguments: &[&str], stdout: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.run(arguments).stdout != stdout.as_bytes() {
            assert!(Instant::now() < deadline, "{arguments:?} does not print {stdout:?}");
        }
    }
}

fn scenario(server: &dyn Server) {
    let tools = Tools { server };
    items_go_in_and_out(&tools);
    a_worker_runs_a_command_per_item(&tools);
    a_worker_ends_when_it_is_told(&tools);
    barriers_hold(&tools);
    counters_count(&tools);
    changes_are_told(&tools);
}

fn items_go_in_and_out(tools: &Tools<'_>) {
    tools.check(&["queue", "get", "/q", "--wait", "0"], "! error: there is no item in /q\nexit 1\n");
    tools.check(&["queue", "put", "/q", "second", "--json"], "{\"path\":\"/q\",\"put\":1}\n");
    tools.check(&["queue", "put", "/q", "--priority", "1", "first"], "");
    let lines = run(&mut tools.command(&["queue", "put", "/q", "--priority", "200", "-0", "--json"]), b"a\nb\0c");
    assert_eq!(lines.to_string(), "{\"path\":\"/q\",\"put\":2}\n");
    tools.check(&["queue", "len", "/q", "--json"], "{\"items\":4,\"path\":\"/q\",\"taken\":0}\n");
    tools.check(&["queue", "get", "/q"], "first");
    let got = tools.run(&["queue", "get", "/q", "--json"]).json();
    assert_eq!((got["data"].as_str(), got["path"].as_str()), (Some("second"), Some("/q")));
    tools.check(&["queue", "len", "/q"], "2\n");
    assert_eq!(tools.run(&["queue", "put", "/q", "--priority", "1000", "x"]).status, Some(2));
    tools.check(&["queue", "put", "--plain", "/plain", "a"], "");
    tools.check(&["queue", "get", "--plain", "/plain"], "a");
    tools.check(&["queue", "len", "--plain", "/plain"], "0\n");
}

fn a_worker_runs_a_command_per_item(tools: &Tools<'_>) {
    let work = |path: &str, script: &str| {
        tools.run(&["queue", "work", path, "--until-empty", "--attempts", "2", "--", "sh", "-c", script])
    };
    tools.check(&["queue", "put", "/w", "a"], "");
    let outcome = work("/w", "read -r item; echo \"$item $GRANGE_QUEUE $GRANGE_ATTEMPT\"");
    assert_eq!(outcome.to_string(), "a /w 1\n");
    tools.check(&["queue", "put", "/w", "poison"], "");
    let outcome = work("/w", "echo attempt $GRANGE_ATTEMPT; exit 3");
    assert_eq!((outcome.stdout.as_slice(), outcome.status), (&b"attempt 1\nattempt 2\n"[..], Some(1)), "{outcome}");
    assert!(outcome.stderr.contains("1 items were moved to /w/failed after 2 attempts each"), "{outcome}");
    tools.check(&["queue", "len", "/w"], "0\n");
    tools.check(&["queue", "get", "/w/failed"], "poison");
    tools.check(&["queue", "put", "/w", "a"], "");
    let outcome = tools.run(&["queue", "work", "/w", "--once", "--", "/no/such/program"]);
    assert!(outcome.status == Some(2) && outcome.stderr.contains("cannot run /no/such/program"), "{outcome}");
    tools.check(&["queue", "get", "/w"], "a");
}

fn a_worker_ends_when_it_is_told(tools: &Tools<'_>) {
    for (signals, left) in [(1, "0\n"), (2, "1\n")] {
        tools.check(&["queue", "put", "/s", "a"], "");
        let script = "cat >/dev/null; echo begun; sleep 1";
        let mut worker = tools.start(&["queue", "work", "/s", "--grace", "5", "--", "sh", "-c", script]);
        let mut line = String::new();
        BufReader::new(worker.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        for _ in 0..signals {
            let sent = Command::new("kill").arg(worker.id().to_string()).status().unwrap();
            assert!(sent.success());
            // Two that come at once are one.
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(worker.wait().unwrap().code(), Some(0));
        tools.until(&["queue", "len", "/s"], left);
    }
    tools.check(&["queue", "get", "/s"], "a");
}

fn barriers_hold(tools: &Tools<'_>) {
    tools.check(&["barrier", "wait", "/b"], "");
    tools.check(&["barrier", "create", "/b"], "");
    tools.check(&["barrier", "wait", "/b", "--wait", "0.1"], "! error: the barrier /b still stands\nexit 1\n");
    let mut waiter = tools.start(&["barrier", "wait", "/b"]);
    tools.check(&["barrier", "remove", "/b"], "");
    assert_eq!(waiter.wait().unwrap().code(), Some(0));
    tools.check(&["barrier", "remove", "/b"], "! error: there is no barrier /b\nexit 1\n");
    tools.check(
        &["barrier", "enter", "/d", "-n", "2", "--wait", "0.1"],
        "! error: fewer than 2 have come to /d\nexit 1\n",
    );
    let mut first = tools.start(&["barrier", "enter", "/d", "-n", "2"]);
    tools.check(&["barrier", "enter", "/d", "-n", "2"], "");
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

fn counters_count(tools: &Tools<'_>) {
    tools.check(&["counter", "/c"], "0\n");
    tools.check(&["counter", "/c", "+2"], "2\n");
    tools.check(&["counter", "/c", "-5", "--json"], "{\"before\":2,\"path\":\"/c\",\"value\":-3}\n");
    tools.check(&["counter", "/c", "=0.5"], "0.5\n");
    assert_eq!(tools.run(&["counter", "/c", "5"]).status, Some(2));
    assert_eq!(tools.run(&["counter", "/c", "--curator"]).status, Some(2));
}

fn changes_are_told(tools: &Tools<'_>) {
    for (flags, expected) in
        [(&["-r"][..], "created /t/a\nchanged /t/a\ndeleted /t/a\n"), (&[], "created /t/a\ndeleted /t/a\n")]
    {
        tools.check(&["shell", "create", "/t"], "/t\n");
        let count = expected.lines().count().to_string();
        let mut watch = tools.start(&[&["watch", "/t", "-n", &count], flags].concat());
        let mut errors = BufReader::new(watch.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert_eq!(line, "watching /t\n");
        let mut lines = BufReader::new(watch.stdout.take().unwrap());
        let mut told = String::new();
        for change in [&["create", "/t/a"][..], &["set", "/t/a", "x"], &["delete", "/t/a"]] {
            assert_eq!(tools.run(&[&["shell"], change].concat()).status, Some(0));
            // The next change is not to be told as one with this one.
            if change[0] == "create" || (change[0] == "set" && expected.contains("changed")) {
                lines.read_line(&mut told).unwrap();
            }
        }
        lines.read_to_string(&mut told).unwrap();
        assert_eq!((told.as_str(), watch.wait().unwrap().code()), (expected, Some(0)));
        tools.check(&["shell", "delete", "/t"], "");
    }
    tools.check(&["watch", "/t", "--wait", "1"], "! watching /t\n! error: nothing has changed in time\nexit 1\n");
    let mut hook = tools.start(&["watch", "/t", "-n", "1", "--", "sh", "-c", "echo \"$GRANGE_PATH: $(cat)\""]);
    let mut line = String::new();
    BufReader::new(hook.stderr.take().unwrap()).read_line(&mut line).unwrap();
    tools.check(&["shell", "create", "/t"], "/t\n");
    let mut told = String::new();
    hook.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((told.as_str(), hook.wait().unwrap().code()), ("/t: created /t\n", Some(0)));
}
