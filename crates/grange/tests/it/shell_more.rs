//! The commands of `grange shell` that zkCli does not have, and those for access, quotas and members.

use std::process::Command;

use expect_test::{Expect, expect};

use crate::program::{Outcome, grange, run};
use crate::server::{GrangeServer, Server};

/// Runs lines of arguments against one server.
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

    fn command(&self, arguments: &str) -> Command {
        let mut command = grange();
        command.env("GRANGE_SERVERS", self.server.servers()).current_dir(self.folder.path());
        command.arg("shell").args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> Outcome {
        run(&mut self.command(arguments), b"")
    }

    fn check(&self, commands: &str, expected: &Expect) {
        let mut found = String::new();
        for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            found += &format!("> {line}\n{}", self.run(line));
        }
        expected.assert_eq(&found);
    }

    fn make(&self, paths: &[&str]) {
        for path in paths {
            assert_eq!(self.run(&format!("create {path}")).status, Some(0), "{path}");
        }
    }
}

#[test]
fn a_subtree_is_drawn_and_searched() {
    let shell = Shell::start();
    shell.make(&["/t one", "/t/b", "/t/b/x {\"k\":1}", "/t/b/y needle", "/t/c 12345678901234567890"]);
    assert_eq!(shell.run("create -c /t/box").status, Some(0));
    shell.check(
        "
        tree /t
        tree -L 1 /t
        find /t --name {x,y}
        find /t --regex b/.$ --smaller 7
        find /t --type ephemeral
        find /t --older 1h
        find /t --newer 1h --larger 19 -l
        find /t --larger huge
        grep needle /
        grep -i -l NEEDLE|K /t
        grep nothing /t
        grep ( /t
        get -f json /t/b/x
        get -f yaml /t/b/x
        get -f hex /t/b/y
        get -f json /t/b/y
        getAllChildrenNumber /t
        ",
        &expect![[r#"
            > tree /t
            /t  (3 B)
            ├── b
            │   ├── x  (7 B)
            │   └── y  (6 B)
            ├── box
            └── c  (20 B)
            6 znodes, 36 B
            > tree -L 1 /t
            /t  (3 B)
            ├── b  +2 below
            ├── box
            └── c  (20 B)
            4 znodes, 23 B
            > find /t --name {x,y}
            /t/b/x
            /t/b/y
            > find /t --regex b/.$ --smaller 7
            /t/b/y
            > find /t --type ephemeral
            exit 1
            > find /t --older 1h
            exit 1
            > find /t --newer 1h --larger 19 -l
                  20 B  version 0  persistent  /t/c
            > find /t --larger huge
            ! error: invalid value 'huge' for '--larger <SIZE>': 'huge' is no size, such as 100, 10k or 1MiB
            ! 
            ! For more information, try '--help'.
            exit 2
            > grep needle /
            /t/b/y:needle
            > grep -i -l NEEDLE|K /t
            /t/b/x
            /t/b/y
            > grep nothing /t
            exit 1
            > grep ( /t
            ! error: regex parse error:
            !     (
            !     ^
            ! error: unclosed group
            ! hint: -F takes the pattern as plain text
            exit 2
            > get -f json /t/b/x
            {
              "k": 1
            }
            > get -f yaml /t/b/x
            k: 1
            > get -f hex /t/b/y
            00000000  6e 65 65 64 6c 65                                needle
            > get -f json /t/b/y
            ! error: the data of /t/b/y is no JSON
            ! hint: --format text and --format hex show anything
            exit 3
            > getAllChildrenNumber /t
            5
        "#]],
    );
}

#[test]
fn subtrees_are_copied_and_moved() {
    let shell = Shell::start();
    shell.make(&["/a data", "/a/b", "/a/b/c deep", "/a/d"]);
    assert_eq!(shell.run("setAcl /a/d world:anyone:cdra").status, Some(0));
    shell.check(
        "
        cp /a /a/b/new
        cp /a /
        cp /none /x
        cp /a /no/parent
        cp /a /copy
        getAcl /copy/d
        cp --acl /a /exact
        getAcl /exact/d
        get /exact/b/c
        mv /a /moved
        ls /
        getAcl /moved/d
        ls -R /moved
        mv /moved /copy
        ",
        &expect![[r#"
            > cp /a /a/b/new
            ! error: /a/b/new is inside of /a
            exit 2
            > cp /a /
            ! error: Node already exists: /
            ! hint: to change its data: grange shell set / DATA
            exit 1
            > cp /none /x
            ! error: Node does not exist: /none
            exit 1
            > cp /a /no/parent
            ! error: Node does not exist: /no/parent
            ! hint: its parent must exist first: grange shell create /no
            exit 1
            > cp /a /copy
            ! copied 4 znodes (8 B) to /copy
            > getAcl /copy/d
            world:anyone:cdrwa
            > cp --acl /a /exact
            ! copied 4 znodes (8 B) to /exact
            > getAcl /exact/d
            world:anyone:cdra
            > get /exact/b/c
            deep> mv /a /moved
            ! moved 4 znodes (8 B) to /moved
            > ls /
            copy
            exact
            moved
            zookeeper
            > getAcl /moved/d
            world:anyone:cdra
            > ls -R /moved
            /moved
            /moved/b
            /moved/b/c
            /moved/d
            > mv /moved /copy
            ! error: Node already exists: /copy
            ! hint: to change its data: grange shell set /copy DATA
            exit 1
        "#]],
    );
}

#[test]
fn a_large_subtree_is_moved_step_by_step() {
    let shell = Shell::start();
    shell.make(&["/big", "/big/low"]);
    let lines: String = (0..700).map(|n| format!("{{\"path\":\"/n{n}\",\"data\":\"{n}\"}}\n")).collect();
    let file = format!("{{\"grangeExport\":1}}\n{{\"path\":\"/\",\"data\":\"\"}}\n{lines}{{\"znodes\":701}}\n");
    std::fs::write(shell.folder.path().join("big"), file).unwrap();
    shell.check(
        "
        import big /big/low
        import --overwrite big /big/low
        mv /big /bigger
        ls /
        getAllChildrenNumber /bigger
        get /bigger/low/n699
        ",
        &expect![[r#"
            > import big /big/low
            ! error: Node already exists: /big/low
            ! hint: to change its data: grange shell set /big/low DATA
            ! hint: --overwrite sets the data of what exists
            exit 1
            > import --overwrite big /big/low
            ! created 700 znodes, set 1 znode, at and below /big/low
            > mv /big /bigger
            ! moved 702 znodes (1.9 KiB) to /bigger
            > ls /
            bigger
            zookeeper
            > getAllChildrenNumber /bigger
            701
            > get /bigger/low/n699
            699"#]],
    );
}

#[test]
fn what_is_exported_is_imported() {
    let shell = Shell::start();
    shell.make(&["/e root", "/e/é ü", "/e/two"]);
    assert_eq!(run(&mut shell.command("set /e/two -"), b"\x00\xff").status, Some(0));
    assert_eq!(shell.run("setAcl /e/two world:anyone:cdra").status, Some(0));
    shell.check(
        "
        export --acl /e file
        import file /f
        import file /f
        import --overwrite file /f
        import -n file /g
        getAcl /f/two
        export /f
        export /none other
        ",
        &expect![[r#"
            > export --acl /e file
            ! exported 3 znodes to file
            > import file /f
            ! created 3 znodes, set 0 znodes, at and below /f
            > import file /f
            ! error: Node already exists: /f
            ! hint: to change its data: grange shell set /f DATA
            ! hint: --overwrite sets the data of what exists
            exit 1
            > import --overwrite file /f
            ! error: Insufficient permission : /f/two
            ! hint: say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password
            ! hint: 0 znodes were done
            exit 3
            > import -n file /g
            ! file is whole and has 3 znodes
            > getAcl /f/two
            world:anyone:cdra
            > export /f
            {"grangeExport":1,"root":"/f"}
            {"data":"root","path":"/"}
            {"dataBase64":"AP8=","path":"/two"}
            {"data":"ü","path":"/é"}
            {"znodes":3}
            ! exported 3 znodes
            > export /none other
            ! error: Node does not exist: /none
            exit 1
        "#]],
    );
    let path = shell.folder.path().join("file");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(!shell.folder.path().join("other").exists(), "a failed export leaves nothing behind");
    let whole = std::fs::read_to_string(&path).unwrap();
    for (name, text) in [
        ("cut", whole.rsplit_once("{\"znodes").unwrap().0.to_owned()),
        ("torn", whole[..whole.len() - 5].to_owned()),
        ("odd", whole.replace("\"/two\"", "\"/../two\"")),
        ("other", "{}\n".to_owned()),
    ] {
        std::fs::write(shell.folder.path().join(name), text).unwrap();
    }
    shell.check(
        "
        import cut /g
        import torn /g
        import odd /g
        import other /g
        import missing /g
        stat /g
        ",
        &expect![[r#"
            > import cut /g
            ! error: cut, line 5: it was cut off: the last line, with the number of znodes, is missing
            ! hint: nothing was changed by this line or those behind it
            exit 2
            > import torn /g
            ! error: torn, line 5: it was cut off, or the line is too long
            ! hint: nothing was changed by this line or those behind it
            exit 2
            > import odd /g
            ! error: odd, line 3: a path must not have a component . or ..
            ! hint: nothing was changed by this line or those behind it
            exit 2
            > import other /g
            ! error: other, line 1: it is not what grange shell export writes
            ! hint: nothing was changed by this line or those behind it
            exit 2
            > import missing /g
            ! error: cannot read missing: No such file or directory (os error 2)
            exit 3
            > stat /g
            ! error: Node does not exist: /g
            exit 1
        "#]],
    );
}

#[test]
fn data_is_edited_with_compare_and_set() {
    let shell = Shell::start();
    shell.make(&["/doc before"]);
    let edit = |editor: &str| run(shell.command("edit /doc").env("EDITOR", editor).env_remove("VISUAL"), b"");
    assert_eq!(edit("true").to_string(), "! nothing was changed\n");
    assert_eq!(edit("sh -c 'printf after > \"$1\"' x").to_string(), "");
    assert_eq!(shell.run("get /doc").to_string(), "after");
    assert_eq!(edit("false").status, Some(3));
    // While the editor runs, somebody else sets the data, or makes the znode anew, which then has the same version.
    let other = format!("{} shell --servers {}", env!("CARGO_BIN_EXE_grange"), shell.server.servers());
    let anew = format!("{other} delete /doc; {other} create /doc theirs; {other} set /doc theirs");
    for change in [format!("{other} set /doc theirs"), format!("{anew}; {other} set /doc theirs")] {
        let conflict = edit(&format!("sh -c 'printf mine > \"$1\"; {change}' x"));
        assert_eq!(conflict.status, Some(1), "{change}");
        assert!(conflict.stderr.contains("somebody else has changed /doc meanwhile"), "{conflict}");
        assert_eq!(shell.run("get /doc").to_string(), "theirs");
        let (_, kept) = conflict.stderr.split_once("what was edited is in ").unwrap();
        let kept = std::path::Path::new(kept.trim());
        assert_eq!(std::fs::read(kept).unwrap(), b"mine");
        std::fs::remove_file(kept).unwrap();
    }
}

#[test]
fn access_quotas_and_members() {
    let shell = Shell::start();
    shell.make(&["/q 12345", "/q/child"]);
    shell.check(
        "
        getAcl /q
        setAcl -R /q world:anyone:cdrwa,ip:127.0.0.1:r
        getAcl /q/child
        setAcl -v 5 /q world:anyone:r
        setAcl /q world:anyone
        whoami
        listquota /q
        setquota /q
        setquota -n 1 -B 1000 /q
        listquota /q
        listquota --json /q
        setquota -n 5 /q/child
        delquota -n /q
        delquota /q
        listquota /q
        setquota -n 5 /
        setquota -n 5 /none
        ls /zookeeper/quota
        getEphemerals
        sync
        config
        config -c --json
        reconfig --remove 7
        ",
        &expect![[r#"
            > getAcl /q
            world:anyone:cdrwa
            > setAcl -R /q world:anyone:cdrwa,ip:127.0.0.1:r
            ! set the ACL of 2 znodes
            > getAcl /q/child
            world:anyone:cdrwa
            ip:127.0.0.1:r
            > setAcl -v 5 /q world:anyone:r
            ! error: version No is not valid : /q
            ! hint: somebody changed it; to see its version: grange shell stat /q
            exit 1
            > setAcl /q world:anyone
            ! error: invalid value 'world:anyone' for '<ACL>': 'world:anyone' is not of the form SCHEME:ID:PERMS, such as world:anyone:cdrwa
            ! 
            ! For more information, try '--help'.
            exit 2
            > whoami
            ip:127.0.0.1
            > listquota /q
            ! error: /q has no quota
            exit 1
            > setquota /q
            ! error: the following required arguments were not provided:
            !   -n <COUNT>
            ! 
            ! Usage: grange shell setquota -n <COUNT> <PATH>
            ! 
            ! For more information, try '--help'.
            exit 2
            > setquota -n 1 -B 1000 /q
            ! note: it has 2 znodes already, more than it may have
            > listquota /q
            znodes: 2 used, limit 1, hard limit no limit
            bytes: 5 used, limit no limit, hard limit 1000
            > listquota --json /q
            {"bytes":null,"bytesHard":1000,"count":1,"countHard":null,"path":"/q","used":{"bytes":5,"count":2}}
            > setquota -n 5 /q/child
            ! error: /q has a quota, and quotas cannot be nested
            ! hint: to take it away: grange shell delquota /q
            exit 1
            > delquota -n /q
            > delquota /q
            > listquota /q
            ! error: /q has no quota
            exit 1
            > setquota -n 5 /
            ! error: / cannot have a quota
            exit 2
            > setquota -n 5 /none
            ! error: Node does not exist: /none
            exit 1
            > ls /zookeeper/quota
            > getEphemerals
            > sync
            > config
            > config -c --json
            {"servers":""}
            > reconfig --remove 7
            ! error: reconfig is switched off on the servers
            ! hint: it takes reconfigEnabled=true in their zoo.cfg
            exit 3
        "#]],
    );
}

#[test]
fn changes_are_printed_as_they_come() {
    let shell = Shell::start();
    let mut watch = shell.command("watch --data --count 3 --json /w");
    let mut child = watch.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    assert_eq!(line, "watching /w\n");
    shell.make(&["/w"]);
    assert_eq!(shell.run("set /w data").status, Some(0));
    assert_eq!(shell.run("delete /w").status, Some(0));
    let output = child.wait_with_output().unwrap();
    let events: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["created", "changed", "deleted"]);
}
