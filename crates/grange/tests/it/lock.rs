//! Commands that run while something is held: what they see, how they end, and what is left when they are killed.

use std::time::{Duration, Instant};

use crate::running::{Ours, Running, on};
use crate::server::{Apache, Server};

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the contenders of a lock call themselves this.
fn stand(server: &dyn Server, subcommand: &[&str], ids: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = on(server, &[subcommand, &["--list", "--json"]].concat()).json();
        let found: Vec<_> = listed["contenders"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        if found == ids {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} instead of {ids:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_command_knows_what_it_holds_and_its_status_is_passed_on() {
    let server = Ours::start();
    for subcommand in
        [&["lock", "/l"][..], &["lock", "/l", "--shared"], &["semaphore", "/s", "-n", "1"], &["elect", "/e"]]
    {
        let script = "echo $GRANGE_LOCK_PATH $GRANGE_LOCK_ZNODE $GRANGE_LOCK_TOKEN; exit 7";
        let outcome = on(&server, &[subcommand, &["--", "sh", "-c", script]].concat());
        assert_eq!(outcome.status, Some(7), "{outcome}");
        let said = String::from_utf8(outcome.stdout).unwrap();
        let [path, znode, token] = said.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{said}") };
        assert_eq!(path, subcommand[1]);
        assert!(znode.starts_with(&format!("{path}/")), "{znode}");
        assert!(token.parse::<i64>().unwrap() > 0);
        stand(&server, subcommand, &[]);
    }
    assert_eq!(on(&server, &["lock", "/l", "--", "sh", "-c", "kill -9 $$"]).status, Some(137));
    assert_eq!(on(&server, &["lock", "/l", "--", "/nonexistent"]).status, Some(127));
    assert_eq!(on(&server, &["lock", "/l", "--", "/"]).status, Some(126));
}

#[test]
fn who_does_not_get_it_is_told_who_has_it() {
    let server = Ours::start();
    let mut holder = Running::start(&server, &["lock", "/l", "--id", "the holder", "--", "sh", "-c", "echo; sleep 60"]);
    holder.line();
    let refused = on(&server, &["lock", "/l", "--wait", "0", "--", "true"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.starts_with("error: /l is not free: the holder holds it\n"), "{refused}");
    assert_eq!(on(&server, &["lock", "/l", "--wait", "0.1", "-E", "42", "--", "true"]).status, Some(42));
    let listed = on(&server, &["lock", "/l", "--list"]);
    let line = String::from_utf8(listed.stdout).unwrap();
    assert!(line.lines().nth(1).unwrap().starts_with("holds  exclusive  "), "{line}");
    holder.signal("TERM");
    assert_eq!(holder.end().status, Some(143));
    assert_eq!(on(&server, &["lock", "/l", "--wait", "20", "--", "true"]).status, Some(0));
    let disagreed = on(&server, &["semaphore", "/s", "-n", "2", "--", "true"]);
    assert_eq!(disagreed.status, Some(0));
    assert_eq!(on(&server, &["semaphore", "/s", "-n", "3", "--", "true"]).status, Some(2));
}

#[test]
fn signals_are_passed_on_and_end_the_wait() {
    let server = Ours::start();
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit 5' TERM; echo; while :; do sleep 0.05; done";
    let mut holder = Running::start(&server, &["lock", "/l", "--id", "a", "--", "sh", "-c", script]);
    holder.line();
    let waiting = Running::start(&server, &["lock", "/l", "--id", "b", "--", "true"]);
    stand(&server, &["lock", "/l"], &["a", "b"]);
    waiting.signal("TERM");
    assert_eq!(waiting.end().status, Some(143));
    let listed = on(&server, &["lock", "/l", "--list", "--json"]).json();
    assert_eq!(listed["contenders"].as_array().unwrap().len(), 1, "it has left the line: {listed}");
    holder.signal("USR1");
    assert_eq!(holder.line(), "usr1");
    holder.signal("TERM");
    assert_eq!(holder.line(), "term");
    assert_eq!(holder.end().status, Some(5));
}

#[test]
fn a_lost_lock_ends_the_command_and_what_it_started() {
    let server = Ours::start();
    // It does not mind SIGTERM, and neither does what it starts.
    let script = "trap '' TERM; echo $GRANGE_LOCK_ZNODE; sleep 60 & sleep 60; wait";
    let mut holder = Running::start(&server, &["lock", "/l", "--grace", "0.2", "--", "sh", "-c", script]);
    let znode = holder.line();
    assert_eq!(on(&server, &["shell", "delete", &znode]).status, Some(0));
    // The pipe ends only if all of them have ended.
    assert_eq!(holder.line(), "");
    let outcome = holder.end();
    assert_eq!(outcome.status, Some(3));
    assert!(outcome.stderr.contains("/l was lost while CMD ran: somebody deleted its znode"), "{outcome}");
}

/// A holder that is killed: its command ends at once, and the next one's begins when the session has ended.
fn kill(server: &(dyn Server + Sync)) {
    let subcommands = [&["lock", "/l"][..], &["semaphore", "/s", "-n", "1"], &["elect", "/e"]];
    std::thread::scope(|scope| {
        for subcommand in subcommands {
            scope.spawn(move || kill_holder_of(server, subcommand));
        }
    });
}

fn kill_holder_of(server: &dyn Server, subcommand: &[&str]) {
    let start = |id: &str| {
        let flags = ["--session-timeout", "4", "--id", id, "--", "sh", "-c", "echo $$; exec sleep 60"];
        Running::start(server, &[subcommand, &flags].concat())
    };
    let mut holder = start("a");
    let pid = holder.line();
    let mut next = start("b");
    stand(server, subcommand, &["a", "b"]);
    holder.signal("KILL");
    assert_eq!(holder.line(), "", "the command has ended");
    assert_eq!(holder.end().status, None);
    assert_ne!(next.line(), pid);
    next.signal("TERM");
    assert_eq!(next.end().status, Some(143));
}

#[test]
fn a_killed_holder_takes_its_command_along() {
    kill(&Ours::start());
}

#[test]
fn a_killed_holder_takes_its_command_along_on_apache() {
    if let Some(server) = Apache::start() {
        kill(&server);
    }
}

#[test]
fn an_elected_command_is_started_again() {
    let server = Ours::start();
    let script = "echo $GRANGE_LOCK_TOKEN; exit 9";
    let mut leader = Running::start(&server, &["elect", "/e", "--repeat", "--", "sh", "-c", script]);
    let tokens: Vec<i64> = (0..2).map(|_| leader.line().parse().unwrap()).collect();
    assert!(tokens[0] < tokens[1], "{tokens:?}");
    leader.signal("TERM");
    let outcome = leader.end();
    assert!(matches!(outcome.status, Some(9 | 143)), "{outcome}");
}
