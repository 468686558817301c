//! Commands that run behind a barrier, after a change or for an item: signals, exit statuses, and what is left when
//! `grange` is killed. Those that run under a lock are in `lock.rs`.

use std::time::{Duration, Instant};

use crate::running::{Ours, Running, on};
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(30);

/// Says what it was sent; ends on SIGTERM.
const LISTENER: &str =
    "trap 'echo usr1' USR1; trap 'echo term; exit 5' TERM; echo inside; while :; do sleep 0.05; done";

/// Waits until a barrier has so many members, and its `ready` is there or not.
fn stand(server: &dyn Server, path: &str, members: usize, is_ready: bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let names = names(server, path);
        let ready = usize::from(names.contains(&"ready".to_owned()));
        if names.len() - ready == members && (ready == 1) == is_ready {
            return;
        }
        assert!(Instant::now() < deadline, "{names:?} instead of {members} and ready: {is_ready}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn names(server: &dyn Server, path: &str) -> Vec<String> {
    let listed = on(server, &["shell", "ls", path]);
    String::from_utf8(listed.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_status_of_a_command_behind_a_barrier_is_passed_on() {
    let server = Ours::start();
    let status =
        |command: &[&str]| on(&server, &[&["barrier", "enter", "/b", "-n", "1", "--"], command].concat()).status;
    assert_eq!(status(&["true"]), Some(0));
    assert_eq!(status(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status(&["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(status(&["/nonexistent"]), Some(127));
    assert_eq!(status(&["/"]), Some(126));
    assert_eq!(names(&server, "/b"), [""; 0], "all have left");
}

#[test]
fn a_command_behind_a_barrier_gets_signals_and_the_barrier_is_left() {
    let server = Ours::start();
    let enter = ["barrier", "enter", "/b", "-n", "2", "--", "sh", "-c"];
    let mut first = Running::start(&server, &[&enter[..], &[LISTENER]].concat());
    stand(&server, "/b", 1, false);
    let mut second = Running::start(&server, &[&enter[..], &[LISTENER]].concat());
    assert_eq!((first.line(), second.line()), ("inside".into(), "inside".into()));
    first.signal("USR1");
    assert_eq!(first.line(), "usr1");
    first.signal("TERM");
    assert_eq!(first.line(), "term");
    // Though the second one is inside.
    assert_eq!(first.end().status, Some(5));
    stand(&server, "/b", 1, false);
    second.signal("KILL");
    assert_eq!(second.line(), "", "the command has ended");
    assert_eq!(second.end().status, None);
}

#[test]
fn a_signal_ends_the_wait_at_a_barrier_before_and_after() {
    let server = Ours::start();
    let early = Running::start(&server, &["barrier", "enter", "/b", "-n", "2", "--", "true"]);
    stand(&server, "/b", 1, false);
    early.signal("TERM");
    assert_eq!(early.end().to_string(), "exit 143\n");
    assert_eq!(names(&server, "/b"), [""; 0], "it has left");
    let mut busy = Running::start(&server, &["barrier", "enter", "/b", "-n", "2", "--", "sh", "-c", LISTENER]);
    stand(&server, "/b", 1, false);
    let quick = Running::start(&server, &["barrier", "enter", "/b", "-n", "2", "--", "true"]);
    assert_eq!(busy.line(), "inside");
    // The quick one is done, and waits for the other.
    stand_left(&server, "/b");
    quick.signal("TERM");
    assert_eq!(quick.end().status, Some(143));
    stand(&server, "/b", 1, false);
    busy.signal("TERM");
    assert_eq!(busy.end().status, Some(5));
    assert_eq!(names(&server, "/b"), [""; 0], "all have left");
}

/// Waits until a member has begun to leave.
fn stand_left(server: &dyn Server, path: &str) {
    let deadline = Instant::now() + PATIENCE;
    while names(server, path).contains(&"ready".to_owned()) {
        assert!(Instant::now() < deadline, "nobody leaves");
    }
}

#[test]
fn a_member_that_counts_no_longer_is_told() {
    let server = Ours::configured("tickTime=100\nminSessionTimeout=500\n");
    let directory = tempfile::tempdir().unwrap();
    for (is_deleted, message, status) in [
        (true, "/b: somebody deleted its znode; CMD goes on, but the others no longer wait for its end", 0),
        (false, "/b: the session has ended; CMD goes on, but the others no longer wait for its end", 3),
    ] {
        let file = directory.path().join(status.to_string());
        let script = format!("echo inside; until [ -e {} ]; do sleep 0.05; done; echo done", file.display());
        let enter = ["barrier", "enter", "/b", "-n", "1", "--session-timeout", "1", "--", "sh", "-c", &script];
        let mut member = Running::start(&server, &enter);
        assert_eq!(member.line(), "inside");
        match is_deleted {
            true => {
                let name = names(&server, "/b").into_iter().find(|name| name != "ready").unwrap();
                assert_eq!(on(&server, &["shell", "delete", &format!("/b/{name}")]).status, Some(0));
            }
            false => server.stop(),
        }
        assert_eq!(member.message(), message);
        std::fs::write(&file, "").unwrap();
        assert_eq!(member.line(), "done");
        let outcome = member.end();
        assert_eq!(outcome.status, Some(status), "{outcome}");
    }
}

#[test]
fn a_signal_reaches_a_hook_and_ends_the_watch() {
    let server = Ours::start();
    let script = format!("read change; echo $change; {LISTENER}");
    let mut watch = Running::start(&server, &["watch", "/t", "--", "sh", "-c", &script]);
    assert_eq!(watch.message(), "watching /t");
    assert_eq!(on(&server, &["shell", "create", "/t"]).status, Some(0));
    assert_eq!(watch.line(), "created /t");
    assert_eq!(watch.line(), "inside");
    watch.signal("USR1");
    assert_eq!(watch.line(), "usr1");
    watch.signal("TERM");
    assert_eq!(watch.line(), "term");
    assert_eq!(watch.end().status, Some(143));
    let mut idle = Running::start(&server, &["watch", "/t", "--", "true"]);
    assert_eq!(idle.message(), "watching /t");
    idle.signal("TERM");
    assert_eq!(idle.end().to_string(), "exit 143\n");
    let missing = on(&server, &["watch", "/t", "--initial", "--", "/no/such/program"]);
    assert!(missing.status == Some(2) && missing.stderr.contains("cannot run /no/such/program"), "{missing}");
}

#[test]
fn a_hook_runs_again_for_what_has_changed_meanwhile() {
    let server = Ours::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("go");
    let script = format!("cat; echo told; until [ -e {} ]; do sleep 0.05; done; exit 1", file.display());
    let mut watch = Running::start(&server, &["watch", "-r", "/t", "-n", "3", "--", "sh", "-c", &script]);
    assert_eq!(watch.message(), "watching /t");
    assert_eq!(on(&server, &["shell", "create", "/t"]).status, Some(0));
    assert_eq!((watch.line(), watch.line()), ("created /t".into(), "told".into()));
    for path in ["/t/a", "/t/b"] {
        assert_eq!(on(&server, &["shell", "create", path]).status, Some(0));
    }
    std::fs::write(&file, "").unwrap();
    let outcome = watch.end();
    let told = String::from_utf8(outcome.stdout.clone()).unwrap().replace("told\n", "");
    assert_eq!(told, "created /t/a\ncreated /t/b\n");
    assert_eq!(outcome.status, Some(0), "its status ends nothing: {outcome}");
    assert!(outcome.stderr.contains("the command ended with status 1"), "{outcome}");
}

#[test]
fn what_is_killed_takes_its_command_along() {
    let server = Ours::start();
    assert_eq!(on(&server, &["shell", "create", "/t"]).status, Some(0));
    assert_eq!(on(&server, &["queue", "put", "/q", "item"]).status, Some(0));
    for subcommand in
        [&["barrier", "enter", "/b", "-n", "1"][..], &["watch", "/t", "--initial"], &["queue", "work", "/q"]]
    {
        let script = "echo runs; exec sleep 60";
        let mut running = Running::start(&server, &[subcommand, &["--", "sh", "-c", script]].concat());
        assert_eq!(running.line(), "runs");
        running.signal("KILL");
        assert_eq!(running.line(), "", "the command has ended: {subcommand:?}");
        assert_eq!(running.end().status, None);
    }
}
