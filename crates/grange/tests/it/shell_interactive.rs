//! The interactive shell: on a terminal, and with a script on standard input; and that no command lets a terminal obey
//! what a server sends.

use std::process::Command;

use expect_test::expect;

use crate::client::Client;
use crate::program::{Outcome, grange, run};
use crate::server::{GrangeServer, Server};
use crate::terminal::Terminal;

/// Data that would clear the screen, set the title, and turn the direction of writing.
const EVIL_DATA: &[u8] = b"a\x1b[2J\x1b]0;owned\x07\x9b31m\xe2\x80\xae\xff\r\nb";

/// A name with a blank and a quote, and one that turns the direction of writing, which servers allow.
const ODD_NAME: &str = "it's two";
const EVIL_NAME: &str = "evil\u{202e}gpj";

struct Shell {
    server: GrangeServer,
    folder: tempfile::TempDir,
}

impl Shell {
    fn start() -> Shell {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Shell { server: GrangeServer::start(&["--data", data.to_str().unwrap()]), folder }
    }

    fn prepare(&self, command: &mut Command) {
        command.env("GRANGE_SERVERS", self.server.servers()).env("XDG_STATE_HOME", self.folder.path());
        command.env("TERM", "xterm").env_remove("NO_COLOR").current_dir(self.folder.path());
    }

    /// Runs the shell with a script on standard input.
    fn script(&self, arguments: &[&str], script: &str) -> Outcome {
        let mut command = grange();
        self.prepare(&mut command);
        run(command.arg("shell").args(arguments), script.as_bytes())
    }

    /// Runs a command on a terminal of its own; returns what the terminal gets.
    fn terminal(&self, arguments: &str) -> String {
        self.dialogue(arguments, &[])
    }

    /// Runs a command on a terminal of its own, and types each text once the terminal shows what it waits for.
    fn dialogue(&self, arguments: &str, steps: &[(&str, &str)]) -> String {
        let line = format!("{} shell {arguments}", env!("CARGO_BIN_EXE_grange"));
        let mut command = Command::new("script");
        self.prepare(&mut command);
        let mut terminal = Terminal::start(&mut command, &line);
        for (awaited, typed) in steps {
            terminal.wait_for(awaited);
            terminal.enter(typed);
        }
        terminal.end()
    }
}

#[test]
fn a_script_is_run_line_by_line() {
    let shell = Shell::start();
    let outcome = shell.script(
        &[],
        "# a comment\n\ncreate /a 'two words'\ncd /a\npwd\ncreate b\nls\nget .\nget --json ../a\ncreate -e eph\n\
         getEphemerals\nls nope\nfrobnicate\nset . -\n'open\ndeleteall .\ncd\nls\nhelp pwd\nquit\nls /nope\n",
    );
    expect![[r#"
        /a
        /a
        /a/b
        b
        two words
        {"data":"two words","path":"/a"}
        /a/eph
        /a/eph
        zookeeper
        Print where one is

        Usage: pwd [OPTIONS]

        Options:
              --json  Print JSON
          -h, --help  Print help
        ! error: line 12: Node does not exist: /a/nope
        ! error: line 13: unrecognized subcommand 'frobnicate'; Usage: COMMAND [ARGUMENTS]
        ! error: line 14: commands come from standard input, so data cannot
        ! hint: read it from a file: --file FILE
        ! error: line 15: a quote is not closed
        ! deleted 3 znodes at and below /a
    "#]]
    .assert_eq(&outcome.to_string());
    let last = shell.script(&[], "ls /\nls /nope");
    assert_eq!(last.status, Some(1), "{last}");
    let early = shell.script(&["-e"], "ls /nope\ncreate /never\n");
    assert_eq!(early.status, Some(1), "{early}");
    assert!(early.stderr.contains("line 1: Node does not exist: /nope"), "{early}");
    assert!(!shell.script(&[], "ls /").to_string().contains("never"));
}

#[test]
fn a_session_is_closed_and_opened_and_has_identities() {
    let shell = Shell::start();
    let outcome = shell.script(
        &[],
        "create -e /eph\nclose\nls /\nconnect\nls /\naddauth digest bob:secret\ncreate /mine data auth::cdrwa\nget /mine\n\
         connect\nget /mine\nconnect 127.0.0.1:0\n",
    );
    expect![[r#"
        /eph
        zookeeper
        /mine
        data
        data
        ! error: line 3: there is no session
        ! hint: to open one: connect
        ! error: line 11: '127.0.0.1:0' does not end with a port from 1 to 65535; an IPv6 address is written [address]:port
        exit 2
    "#]].assert_eq(&outcome.to_string());
}

#[test]
fn a_terminal_has_a_prompt_a_history_and_completion() {
    let shell = Shell::start();
    assert_eq!(shell.script(&[], "create /apps\ncreate /apps/web\n").status, Some(0));
    let steps = [
        (" /> ", "cd /ap\t"),
        ("/apps", "/w\t"),
        ("/apps/web", "\n"),
        ("/apps/web> ", "pwd\n"),
        ("/apps/web> ", "addauth digest bob:secret\n"),
        ("/apps/web> ", " get /\n"),
        ("/apps/web> ", "create -e \x03"),
        ("/apps/web> ", "quit\n"),
    ];
    let shown = shell.dialogue("--color never", &steps);
    assert!(shown.contains("/apps/web> "), "{shown:?}");
    assert!(shown.lines().any(|line| line.trim() == "/apps/web"), "{shown:?}");
    let history = shell.folder.path().join("grange/history");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&history).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let history = std::fs::read_to_string(history).unwrap();
    assert!(history.contains("cd /apps/web") && history.contains("pwd"), "{history:?}");
    assert!(!history.contains("secret") && !history.contains("get /"), "{history:?}");
}

#[test]
fn nothing_that_a_server_sends_is_obeyed() {
    let shell = Shell::start();
    let (mut client, _) = Client::open(&shell.server, 10_000);
    for path in ["/bad", &format!("/bad/{ODD_NAME}"), &format!("/bad/{EVIL_NAME}")] {
        assert_eq!(client.create(path, EVIL_DATA, 0), 0, "{path}");
    }
    let evil = format!("/bad/{EVIL_NAME}");
    for command in [
        "ls /bad".to_owned(),
        "ls -R /bad".to_owned(),
        "tree /bad".to_owned(),
        "find /bad -l".to_owned(),
        "grep b /bad".to_owned(),
        "grep . /bad --json".to_owned(),
        "ls /bad --json".to_owned(),
        format!("get {evil}"),
        format!("get {evil} --json"),
        format!("get -f text {evil}"),
        format!("get -f hex {evil}"),
        format!("get -f raw {evil}"),
        format!("stat {evil}"),
        format!("create {evil}"),
        format!("delete -v 9 {evil}"),
        format!("set -v 9 {evil} x"),
        format!("get {evil}/none"),
        format!("getAcl {evil}"),
        format!("cp {evil} {evil}"),
        "export /bad".to_owned(),
        format!("deleteall {evil} </dev/null"),
    ] {
        assert_harmless(&shell.terminal(&format!("--color never {command}")), &command);
    }
    assert_eq!(client.create(&evil, EVIL_DATA, 0), 0);
    // Completion lists the harmless name and not the other; a prompt shows where one is.
    let cd = format!("cd {evil}\n");
    let steps =
        [(" /> ", "ls /bad/\t"), ("two", "\x03"), (" /> ", cd.as_str()), ("gpj> ", "pwd\n"), ("gpj> ", "quit\n")];
    let shown = shell.dialogue("--color never", &steps);
    assert!(shown.contains("/bad/evil\\u{202e}gpj> "), "{shown:?}");
}

/// Nothing but text and line breaks, and none of the characters that deceive.
fn assert_harmless(shown: &str, command: &str) {
    let deceives = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}' || c == '\u{fffd}';
    let bad = shown.chars().find(|&c| deceives(c));
    assert_eq!(bad, None, "{command}: {shown:?}");
}

#[test]
fn zkcli_is_harmless_on_a_terminal_too() {
    let shell = Shell::start();
    let (mut client, _) = Client::open(&shell.server, 10_000);
    assert_eq!(client.create(&format!("/{EVIL_NAME}"), EVIL_DATA, 0), 0);
    let link = shell.folder.path().join("zkCli.sh");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_grange"), &link).unwrap();
    for command in ["ls /".to_owned(), "ls -R /".to_owned(), format!("get /{EVIL_NAME}"), format!("get /{EVIL_NAME}/x")]
    {
        let line = format!("{} -server {} {command}", link.display(), shell.server.servers());
        let outcome = run(Command::new("script").args(["-qec", &line, "/dev/null"]), b"");
        let shown = String::from_utf8_lossy(&outcome.stdout).replace("\r\n", "\n");
        let shown = shown.replace('\u{fffd}', "");
        assert_harmless(&shown, &command);
        assert!(shown.contains("Connecting to"), "{shown:?}");
    }
}
