//! `grange shell` on each kind of server: one scenario, the same words.

use std::process::Command;

use expect_test::{Expect, expect};

use crate::program::{Outcome, grange, run};
use crate::server::{Apache, GrangeServer, Server};

#[test]
fn commands_work_on_apache() {
    if let Some(server) = Apache::start() {
        scenario(&server);
    }
}

#[test]
fn commands_work_on_grange() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("zoo.cfg");
    let data = directory.path().join("data");
    std::fs::write(&config, format!("dataDir={}\nextendedTypesEnabled=true\n", data.display())).unwrap();
    scenario(&GrangeServer::start(&["--config", config.to_str().unwrap()]));
}

struct Shell<'a> {
    server: &'a dyn Server,
}

impl Shell<'_> {
    fn command(&self, arguments: &str) -> Command {
        let mut command = grange();
        command.env("GRANGE_SERVERS", self.server.servers()).arg("shell").args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> Outcome {
        self.run_with(arguments, b"")
    }

    fn run_with(&self, arguments: &str, input: &[u8]) -> Outcome {
        run(&mut self.command(arguments), input)
    }

    /// Runs a command on a terminal of its own, with `input` typed; returns what the terminal shows.
    fn run_on_terminal(&self, arguments: &str, input: &[u8]) -> String {
        let line = format!("{} shell {arguments}", env!("CARGO_BIN_EXE_grange"));
        let mut command = Command::new("script");
        command.env("GRANGE_SERVERS", self.server.servers()).args(["-qec", &line, "/dev/null"]);
        String::from_utf8(run(&mut command, input).stdout).unwrap().replace("\r\n", "\n")
    }

    /// Runs commands, one per line, and compares all that they print.
    fn check(&self, commands: &str, expected: &Expect) {
        let mut found = String::new();
        for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            found += &format!("> {line}\n{}", self.run(line));
        }
        expected.assert_eq(&steady(&found));
    }
}

/// Replaces what differs from run to run: dates, transaction numbers, sessions.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    for line in text.lines() {
        match line.split_once(" = ") {
            Some((name @ ("ctime" | "mtime"), _)) => steady += &format!("{name} = DATE\n"),
            Some((name @ ("cZxid" | "mZxid" | "pZxid"), value)) if value.starts_with("0x") => {
                steady += &format!("{name} = ZXID\n");
            }
            _ => steady += &format!("{line}\n"),
        }
    }
    steady
}

fn scenario(server: &dyn Server) {
    let shell = Shell { server };
    znodes_are_made_and_read(&shell);
    a_negative_answer_is_told_from_a_failure(&shell);
    data_goes_through_unchanged(&shell);
    modes_of_creation(&shell);
    a_subtree_is_listed_and_deleted(&shell);
    json_is_for_machines(&shell);
    access_needs_the_right_identity(&shell);
    a_chroot_is_the_root(&shell);
    a_terminal_is_safe(&shell);
}

fn znodes_are_made_and_read(shell: &Shell) {
    shell.check(
        "
        create /a hello
        create /a/b -5
        create /a/c
        ls /a
        ls -s /a/b
        get /a/b
        set /a bye
        set -s -v 1 /a again
        stat /a
        delete -v 0 /a/b
        delete /a/c
        delete -v -1 /a
        ls /
        ",
        &expect![[r#"
            > create /a hello
            /a
            > create /a/b -5
            /a/b
            > create /a/c
            /a/c
            > ls /a
            b
            c
            > ls -s /a/b
            cZxid = ZXID
            ctime = DATE
            mZxid = ZXID
            mtime = DATE
            pZxid = ZXID
            cversion = 0
            dataVersion = 0
            aclVersion = 0
            ephemeralOwner = 0x0
            dataLength = 2
            numChildren = 0
            > get /a/b
            -5> set /a bye
            > set -s -v 1 /a again
            cZxid = ZXID
            ctime = DATE
            mZxid = ZXID
            mtime = DATE
            pZxid = ZXID
            cversion = 2
            dataVersion = 2
            aclVersion = 0
            ephemeralOwner = 0x0
            dataLength = 5
            numChildren = 2
            > stat /a
            cZxid = ZXID
            ctime = DATE
            mZxid = ZXID
            mtime = DATE
            pZxid = ZXID
            cversion = 2
            dataVersion = 2
            aclVersion = 0
            ephemeralOwner = 0x0
            dataLength = 5
            numChildren = 2
            > delete -v 0 /a/b
            > delete /a/c
            > delete -v -1 /a
            > ls /
            zookeeper
        "#]],
    );
}

fn a_negative_answer_is_told_from_a_failure(shell: &Shell) {
    shell.check(
        "
        create /n
        create /n
        create /x/y
        get /x
        ls -R /x
        stat /x
        set /x data
        delete /x
        deleteall /x
        set -v 7 /n data
        create /n/child
        delete /n
        deleteall /
        set /n
        create relative
        create /n/
        deleteall /n
        ",
        &expect![[r#"
            > create /n
            /n
            > create /n
            ! error: Node already exists: /n
            ! hint: to change its data: grange shell set /n DATA
            exit 1
            > create /x/y
            ! error: Node does not exist: /x/y
            ! hint: its parent must exist first: grange shell create /x
            exit 1
            > get /x
            ! error: Node does not exist: /x
            exit 1
            > ls -R /x
            ! error: Node does not exist: /x
            exit 1
            > stat /x
            ! error: Node does not exist: /x
            exit 1
            > set /x data
            ! error: Node does not exist: /x
            exit 1
            > delete /x
            ! error: Node does not exist: /x
            exit 1
            > deleteall /x
            ! error: Node does not exist: /x
            exit 1
            > set -v 7 /n data
            ! error: version No is not valid : /n
            ! hint: somebody changed it; to see its version: grange shell stat /n
            exit 1
            > create /n/child
            /n/child
            > delete /n
            ! error: Node not empty: /n
            ! hint: to delete it with everything below it: grange shell deleteall /n
            exit 1
            > deleteall /
            ! error: deleteall / would delete everything there is
            ! hint: name the znodes; to see them: grange shell ls /
            exit 2
            > set /n
            ! error: there is no data to set
            ! hint: give it as an argument, as - for standard input, or with --file; '' empties the znode
            exit 2
            > create relative
            ! error: invalid value 'relative' for '<PATH>': Path must start with / character
            ! 
            ! For more information, try '--help'.
            exit 2
            > create /n/
            ! error: /n/: Path must not end with / character
            exit 2
            > deleteall /n
            ! deleted 2 znodes at and below /n
        "#]],
    );
}

fn data_goes_through_unchanged(shell: &Shell) {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert_eq!(shell.run_with("create /bytes -", &bytes).to_string(), "/bytes\n");
    assert!(shell.run("get /bytes").stdout == bytes, "data is changed on its way");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"\x1b[2J\n\xff").unwrap();
    assert_eq!(shell.run(&format!("set /bytes --file {}", file.path().display())).to_string(), "");
    assert_eq!(shell.run("get /bytes").stdout, b"\x1b[2J\n\xff");
    shell.check(
        "
        set /bytes text --file /nothing
        set /bytes --file /nothing
        get --json /bytes
        delete /bytes
        ",
        &expect![[r#"
            > set /bytes text --file /nothing
            ! error: the data is given twice: as an argument and with --file
            exit 2
            > set /bytes --file /nothing
            ! error: cannot open /nothing: No such file or directory (os error 2)
            exit 3
            > get --json /bytes
            {"dataBase64":"G1sySgr/","path":"/bytes"}
            > delete /bytes
        "#]],
    );
    let too_much = vec![0; 2 << 20];
    let outcome = shell.run_with("create /big -", &too_much);
    assert_eq!(outcome.status, Some(3));
    assert!(outcome.stderr.contains("jute.maxbuffer"), "{outcome}");
    assert_eq!(shell.run("stat /big").status, Some(1));
}

fn modes_of_creation(shell: &Shell) {
    shell.check(
        "
        create /modes
        create -s /modes/n-
        create -s /modes/ data
        create -e /modes/gone
        create -e -s /modes/gone-
        create -c /modes/container
        create -t 100000 /modes/ttl
        create -t 0 /modes/none
        create -c -e /modes/none
        ls /modes
        deleteall /modes
        ",
        &expect![[r#"
            > create /modes
            /modes
            > create -s /modes/n-
            /modes/n-0000000000
            > create -s /modes/ data
            /modes/0000000001
            > create -e /modes/gone
            /modes/gone
            ! note: /modes/gone is ephemeral and is deleted as this command ends
            > create -e -s /modes/gone-
            /modes/gone-0000000003
            ! note: /modes/gone-0000000003 is ephemeral and is deleted as this command ends
            > create -c /modes/container
            /modes/container
            > create -t 100000 /modes/ttl
            /modes/ttl
            > create -t 0 /modes/none
            ! error: invalid value '0' for '-t <MS>': 0 is not in 1..=1099511627775
            ! 
            ! For more information, try '--help'.
            exit 2
            > create -c -e /modes/none
            ! error: the argument '-c' cannot be used with '-e'
            ! 
            ! Usage: grange shell create -c <PATH> [DATA] [ACL]
            ! 
            ! For more information, try '--help'.
            exit 2
            > ls /modes
            0000000001
            container
            n-0000000000
            ttl
            > deleteall /modes
            ! deleted 5 znodes at and below /modes
        "#]],
    );
}

fn a_subtree_is_listed_and_deleted(shell: &Shell) {
    for path in ["/t", "/t/z", "/t/a", "/t/a/2", "/t/a/1", "/t/a/1/x", "/t-beside"] {
        assert_eq!(shell.run(&format!("create {path}")).status, Some(0));
    }
    shell.check(
        "
        ls -R /t
        deleteall -b 2 /t
        ls /
        deleteall --json /t-beside
        ",
        &expect![[r#"
            > ls -R /t
            /t
            /t/a
            /t/a/1
            /t/a/1/x
            /t/a/2
            /t/z
            > deleteall -b 2 /t
            ! deleted 6 znodes at and below /t
            > ls /
            t-beside
            zookeeper
            > deleteall --json /t-beside
            {"deleted":1,"path":"/t-beside"}
        "#]],
    );
}

fn json_is_for_machines(shell: &Shell) {
    shell.check(
        "
        create /j é
        ls --json /
        ls --json -R /j
        get --json /j
        delete --json /j
        ",
        &expect![[r#"
            > create /j é
            /j
            > ls --json /
            {"children":["j","zookeeper"],"path":"/"}
            > ls --json -R /j
            {"path":"/j"}
            > get --json /j
            {"data":"é","path":"/j"}
            > delete --json /j
            {"deleted":1,"path":"/j"}
        "#]],
    );
    let created = shell.run("create --json /j data").stdout;
    let created: serde_json::Value = serde_json::from_slice(&created).unwrap();
    let stat = shell.run("stat --json /j").stdout;
    let stat: serde_json::Value = serde_json::from_slice(&stat).unwrap();
    assert_eq!(created, stat);
    assert_eq!(stat["stat"]["dataLength"], 4);
    assert_eq!(stat["stat"]["ephemeralOwner"], "0x0");
    assert!(stat["stat"]["ctime"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!(shell.run("delete /j").status, Some(0));
}

fn access_needs_the_right_identity(shell: &Shell) {
    let as_owner = |arguments: &str| run(shell.command(arguments).env("GRANGE_AUTH", "digest:owner:secret"), b"");
    assert_eq!(as_owner("create /mine data auth::cdrwa").to_string(), "/mine\n");
    assert_eq!(as_owner("get /mine").to_string(), "data");
    shell.check(
        "
        get /mine
        create /x data auth::r
        create /x data world:anyone
        ",
        &expect![[r#"
            > get /mine
            ! error: Insufficient permission : /mine
            ! hint: say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password
            exit 3
            > create /x data auth::r
            ! error: Acl is not valid : /x
            ! hint: an ACL is SCHEME:ID:PERMS[,…], such as world:anyone:r; auth::cdrwa needs --auth-file
            exit 3
            > create /x data world:anyone
            ! error: invalid value 'world:anyone' for '[ACL]': 'world:anyone' is not of the form SCHEME:ID:PERMS, such as world:anyone:cdrwa
            ! 
            ! For more information, try '--help'.
            exit 2
        "#]],
    );
    assert_eq!(as_owner("delete /mine").to_string(), "");
}

fn a_chroot_is_the_root(shell: &Shell) {
    assert_eq!(shell.run("create /below").status, Some(0));
    let servers = format!("{}/below", shell.server.servers());
    let below = |arguments: &str| run(shell.command(arguments).args(["--servers", &servers]), b"").to_string();
    assert_eq!(below("create /child"), "/child\n");
    assert_eq!(below("create -s /child/n"), "/child/n0000000000\n");
    assert_eq!(below("ls -R /"), "/\n/child\n/child/n0000000000\n");
    assert_eq!(shell.run("ls -R /below").to_string(), "/below\n/below/child\n/below/child/n0000000000\n");
    assert_eq!(shell.run("deleteall /below").status, Some(0));
}

fn a_terminal_is_safe(shell: &Shell) {
    assert_eq!(shell.run_with("create /evil -", b"\x1b[2Jclear\n\xff\x07").status, Some(0));
    assert_eq!(shell.run_on_terminal("get /evil", b""), "\\u{1b}[2Jclear\n\\xff\\u{7}\n");
    let declined = shell.run_on_terminal("deleteall /evil", b"n\n");
    assert!(declined.contains("Delete 1 znode at and below /evil? [y/N] "), "{declined:?}");
    assert!(declined.contains("error: nothing was deleted"), "{declined:?}");
    assert_eq!(shell.run("stat /evil").status, Some(0));
    let accepted = shell.run_on_terminal("deleteall /evil", b"y\n");
    assert!(accepted.contains("deleted 1 znode at and below /evil"), "{accepted:?}");
    assert_eq!(shell.run("stat /evil").status, Some(1));
}
