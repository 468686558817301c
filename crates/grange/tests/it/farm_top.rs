//! `grange farm top` on a terminal.

use std::process::Command;

use crate::program::{grange, run};
use crate::running::{Ours, on};
use crate::server::Server;
use crate::terminal::Terminal;

/// What a terminal obeys: the screen of its own that a program takes and gives back.
const SCREEN_TAKEN: &str = "\u{1b}[?1049h";
const SCREEN_GIVEN_BACK: &str = "\u{1b}[?1049l";

fn put(server: &Ours, path: &str, data: &str) {
    let outcome = on(server, &["shell", "create", path, data]);
    assert_eq!(outcome.status, Some(0), "{outcome}");
}

fn site(settings: &str) -> Ours {
    let server = Ours::configured(settings);
    put(&server, "/farm", r#"{"size": 3, "running_filter": "enabled=1"}"#);
    put(&server, "/farm/10.0.0.1", r#"{"hostname": "db-01", "enabled": "1"}"#);
    put(&server, "/farm/10.0.0.2", r#"{"hostname": "db-02", "enabled": "0"}"#);
    server
}

/// Runs it on a terminal, with the terminal's settings printed before and after it, and its status.
fn top(server: &Ours, arguments: &str) -> Terminal {
    let mut script = Command::new("script");
    script.env("GRANGE_SERVERS", server.servers()).env("GRANGE_CONFIG", "/dev/null").env("TERM", "xterm");
    let program = env!("CARGO_BIN_EXE_grange");
    let line = format!(
        "stty rows 24 cols 100; echo \"before=$(stty -g)\"; sh -c 'echo pid=$$=; exec {program} farm top {arguments}'; \
         echo \"status=$?\"; echo \"after=$(stty -g)\""
    );
    Terminal::start(&mut script, &line)
}

/// Waits for the end, and sees that the terminal is as it was.
fn end(terminal: Terminal, status: u8) -> String {
    let shown = terminal.end();
    let value = |name: &str| {
        let (_, rest) = shown.rsplit_once(name).unwrap_or_else(|| panic!("no {name} in {shown:?}"));
        rest.lines().next().unwrap().to_owned()
    };
    assert_eq!(value("status="), status.to_string(), "{shown:?}");
    assert_eq!(value("before="), value("after="), "{shown:?}");
    assert!(shown.rfind(SCREEN_GIVEN_BACK) > shown.rfind(SCREEN_TAKEN), "{shown:?}");
    assert!(shown.rfind("\u{1b}[?25h") > shown.rfind("\u{1b}[?25l"), "the cursor is hidden: {shown:?}");
    shown
}

#[test]
fn a_farm_is_shown_as_it_is_now() {
    let server = site("");
    put(&server, "/farm/evil\u{202e}gpj", r#"{"hostname": "\u001b]0;owned\u0007\u009b31m"}"#);
    let mut terminal = top(&server, "/farm --fields hostname,enabled");
    terminal.wait_for("db-02");
    terminal.look_away();
    // Words, because the screen is told of what has changed only.
    put(&server, "/farm/10.0.0.3", r#"{"hostname": "db-03", "enabled": "1"}"#);
    terminal.wait_for("db-03");
    terminal.wait_for("joined");
    terminal.enter("/enabled=0\r");
    terminal.wait_for("enabled=0");
    terminal.enter("q");
    let shown = end(terminal, 0);
    assert!(shown.contains("evil\\u{202e}gpj") && shown.contains("\\u{1b}]0;owned\\u{7}\\u{9b}31m"), "{shown:?}");
    assert!(!shown.contains(['\u{202e}', '\u{7}', '\u{9b}']), "{shown:?}");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let server = site("");
    for (signal, status) in [("TERM", 143), ("HUP", 129)] {
        let mut terminal = top(&server, "/farm");
        terminal.wait_for("db-02");
        let process = terminal.shown().split("pid=").nth(1).unwrap().split('=').next().unwrap().to_owned();
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{signal} {process}")).status().unwrap();
        assert!(sent.success());
        end(terminal, status);
    }
}

#[test]
fn it_goes_on_when_the_servers_come_back() {
    let server = site("tickTime=100\n");
    let mut terminal = top(&server, "/farm --session-timeout 1 --connect-timeout 1");
    terminal.wait_for("db-02");
    server.stop();
    terminal.wait_for("lost;");
    server.go_on();
    terminal.look_away();
    put(&server, "/farm/10.0.0.3", r#"{"hostname": "db-03"}"#);
    terminal.wait_for("db-03");
    terminal.enter("\u{3}");
    end(terminal, 0);
}

#[test]
fn it_needs_a_terminal() {
    let outcome = run(grange().args(["farm", "top", "/farm"]), b"");
    let expected = "! error: this needs a terminal\n! hint: print what changes: grange farm watch /farm\nexit 2\n";
    assert_eq!(outcome.to_string(), expected);
}
