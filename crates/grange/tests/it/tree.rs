//! `grange tree` and `zkinitree` on each kind of server: one scenario, the same words.

mod races;
mod restore;

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};
use tempfile::TempDir;

use crate::program::{Outcome, grange, run};
use crate::server::{Apache, GrangeServer, Server};

#[test]
fn trees_are_declared_on_apache() {
    if let Some(server) = Apache::start() {
        scenario(&server);
    }
}

#[test]
fn trees_are_declared_on_grange() {
    scenario(&Started::new().server);
}

/// A server of ours with a data directory of its own.
struct Started {
    server: GrangeServer,
    _directory: TempDir,
}

impl Started {
    fn new() -> Started {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("zoo.cfg");
        let data = directory.path().join("data");
        fs::write(&config, format!("dataDir={}\nextendedTypesEnabled=true\n", data.display())).unwrap();
        let server = GrangeServer::start(&["--config", config.to_str().unwrap()]);
        Started { server, _directory: directory }
    }
}

/// A directory with declarations, and the ensemble that they are for.
struct Site<'a> {
    server: &'a dyn Server,
    directory: TempDir,
}

impl<'a> Site<'a> {
    fn new(server: &'a dyn Server) -> Site<'a> {
        Site { server, directory: tempfile::tempdir().unwrap() }
    }

    /// Writes a file that only its owner may read.
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = grange();
        command.current_dir(self.directory.path()).env("GRANGE_SERVERS", self.server.servers());
        command.env("APPS_PASSWORD", "apps-secret").args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> Outcome {
        let outcome = run(&mut self.command(arguments), b"");
        let shown = outcome.to_string();
        assert!(!shown.contains("secret"), "a password shows: {shown}");
        outcome
    }

    /// Runs as a digest user.
    fn run_as(&self, user: &str, arguments: &str) -> Outcome {
        run(self.command(arguments).env("GRANGE_AUTH", format!("digest:{user}")), b"")
    }

    /// Runs commands, one per line, and compares all that they print.
    fn check(&self, commands: &str, expected: &Expect) {
        let mut found = String::new();
        for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let outcome = match line.strip_prefix("as ").and_then(|rest| rest.split_once(' ')) {
                Some((user, arguments)) => self.run_as(user, arguments),
                None => self.run(line),
            };
            write!(found, "> {line}\n{outcome}").unwrap();
        }
        expected.assert_eq(&found);
    }
}

fn scenario(server: &dyn Server) {
    let site = Site::new(server);
    a_file_of_zkinitrees_is_planned_applied_and_kept(&site);
    the_program_is_zkinitree_by_name(&site);
    the_toml_form_is_planned_and_applied(&site);
    only_what_is_unnamed_below_the_roots_is_deleted(&site);
    nobody_locks_himself_out_by_mistake(&site);
    a_wrong_file_is_refused_before_anything_is_written(&site);
    programs_read_json(&site);
    people_are_asked(&site);
    nobody_reads_the_plan(&site);
}

const ZKINITREE: &str = "\
[MAIN]
servers=127.0.0.1:1

[root]                 ; the administrator
passwd=root-secret
path=/

[user1]
passwd=user1-secret
[user5]
passwd=user5-secret

[/admin]
r=user5                ; key: letters
rwcd=user1
all=                   ; empty: grants nothing
value=hello

[/admin/tools]
all=user1,user5
";

fn a_file_of_zkinitrees_is_planned_applied_and_kept(site: &Site<'_>) {
    site.put("site.cfg", ZKINITREE);
    site.check(
        "
        tree plan site.cfg
        as root:root-secret shell ls /
        tree apply site.cfg
        tree plan site.cfg
        as root:root-secret shell set /admin bye
        tree diff site.cfg
        as user5:user5-secret shell get /admin
        as user5:user5-secret shell set /admin x
        ",
        &expect![[r#"
            > tree plan site.cfg
            + /admin
                data  "hello"
                acl + digest:root:cdrwa
                acl + digest:user1:cdrw
                acl + digest:user5:r
            + /admin/tools
                acl + digest:root:cdrwa
                acl + digest:user1:cdrwa
                acl + digest:user5:cdrwa
            2 to create, 0 to change, 0 to delete
            exit 2
            > as root:root-secret shell ls /
            zookeeper
            > tree apply site.cfg
            + /admin
                data  "hello"
                acl + digest:root:cdrwa
                acl + digest:user1:cdrw
                acl + digest:user5:r
            + /admin/tools
                acl + digest:root:cdrwa
                acl + digest:user1:cdrwa
                acl + digest:user5:cdrwa
            2 to create, 0 to change, 0 to delete
            created 2, changed 0, deleted 0
            > tree plan site.cfg
            nothing to do
            > as root:root-secret shell set /admin bye
            > tree diff site.cfg
            nothing to do
            > as user5:user5-secret shell get /admin
            bye> as user5:user5-secret shell set /admin x
            ! error: Insufficient permission : /admin
            ! hint: say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password
            exit 3
        "#]],
    );
    site.put("other.cfg", &ZKINITREE.replace("user5-secret", "another-secret").replace("all=user1,user5", "r=user1"));
    site.check(
        "
        tree apply other.cfg
        ",
        &expect![[r#"
            > tree apply other.cfg
            ~ /admin
                acl - digest:user5:r  (another password)
                acl + digest:user5:r  (another password)
            ~ /admin/tools
                acl - digest:user1:cdrwa
                acl - digest:user5:cdrwa
                acl + digest:user1:r
            0 to create, 2 to change, 0 to delete
            created 0, changed 2, deleted 0
        "#]],
    );
}

fn the_program_is_zkinitree_by_name(site: &Site<'_>) {
    let link = site.directory.path().join("zkinitree");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_grange"), &link).unwrap();
    let zkinitree = |arguments: &[&str]| {
        let mut command = Command::new(&link);
        run(command.current_dir(site.directory.path()).args(arguments).args(["--servers", &site.server.servers()]), b"")
    };
    site.put("more.cfg", "[/admin/more]\nr=user1\nmakepath=1\n[/elsewhere/deep]\nmakepath=1\n");
    assert_eq!(zkinitree(&["--configfiles=site.cfg,more.cfg"]).to_string(), "");
    let again = zkinitree(&["--info", "--configfiles", "site.cfg,more.cfg"]);
    assert_eq!(again.to_string(), "nothing to do\n");
    let missing = zkinitree(&["--configfiles=none.cfg"]);
    assert_eq!((missing.status, missing.stderr.contains("cannot read none.cfg")), (Some(1), true), "{missing}");
    site.put("wrong.cfg", "[root]\npasswd=root-secret\n[/x]\nr=nobody\n");
    expect![[r#"
        ! error: wrong.cfg:4: there is no user 'nobody': it needs a section [nobody] with a passwd
        exit 1
    "#]]
    .assert_eq(&zkinitree(&["--configfiles=wrong.cfg"]).to_string());
    assert_eq!(zkinitree(&["--configfile=site.cfg"]).status, Some(2));
    site.check(
        "
        as root:root-secret shell ls -R /elsewhere
        as root:root-secret shell deleteall /admin
        as root:root-secret shell deleteall /elsewhere
        ",
        &expect![[r#"
            > as root:root-secret shell ls -R /elsewhere
            /elsewhere
            /elsewhere/deep
            > as root:root-secret shell deleteall /admin
            ! deleted 3 znodes at and below /admin
            > as root:root-secret shell deleteall /elsewhere
            ! deleted 2 znodes at and below /elsewhere
        "#]],
    );
}

const TOML: &str = r#"
[variables]
site = "lab"
[users.apps]
password = { env = "APPS_PASSWORD" }
[users.ops]
password = { file = "ops.key" }
[acls]
open = ["user:ops:cdrwa", "user:apps:rw", "world:anyone:r"]
[znodes."/sites/${site}"]
acl = "open"
parents = true
data = "one"
[znodes."/sites/${site}/token"]
initial_data = "t0ken"
sensitive = true
acl = ["user:apps:rw", "user:ops:cdrwa", "ip:127.0.0.1:r"]
[znodes."/sites/${site}/bytes"]
data_base64 = "AP8="
[znodes."/sites/${site}/locks"]
kind = "container"
[znodes."/sites/${site}/old"]
kind = { ttl_ms = 100000000 }
"#;

fn the_toml_form_is_planned_and_applied(site: &Site<'_>) {
    site.put("ops.key", "ops-secret\n");
    site.put("tree.toml", TOML);
    site.put(
        "next.toml",
        "[znodes.'/sites/${site}']\ndata = 'two'\n[acls]\nopen = ['user:ops:cdrwa', 'world:anyone:r']\n",
    );
    let as_ops = |arguments| site.run_as("ops:ops-secret", arguments).to_string();
    expect![[r#"
        + /sites
            acl + digest:apps:rw
            acl + digest:ops:cdrwa
            acl + world:anyone:r
        + /sites/lab
            data  "one"
            acl + digest:apps:rw
            acl + digest:ops:cdrwa
            acl + world:anyone:r
        + /sites/lab/bytes
            data  (2 bytes that are not text)
            acl + world:anyone:cdrwa
        + /sites/lab/locks  (container)
            acl + world:anyone:cdrwa
        + /sites/lab/old  (time to live 100000000 ms)
            acl + world:anyone:cdrwa
        + /sites/lab/token
            data  (5 bytes, not shown)
            acl + digest:apps:rw
            acl + digest:ops:cdrwa
            acl + ip:127.0.0.1:r
        6 to create, 0 to change, 0 to delete
        created 6, changed 0, deleted 0
    "#]]
    .assert_eq(&as_ops("tree apply tree.toml"));
    assert_eq!(as_ops("tree apply tree.toml"), "nothing to do\n");
    expect![[r#"
        ~ /sites/lab
            data  "one" -> "two"
            acl - digest:apps:rw
        0 to create, 1 to change, 0 to delete
        created 0, changed 1, deleted 0
    "#]]
    .assert_eq(&as_ops("tree apply tree.toml --overlay next.toml"));
    let other_site = as_ops("tree plan tree.toml --var site=prod");
    assert!(
        other_site.contains("+ /sites/prod/token")
            && other_site.ends_with("5 to create, 0 to change, 0 to delete\nexit 2\n"),
        "{other_site}"
    );
}

fn only_what_is_unnamed_below_the_roots_is_deleted(site: &Site<'_>) {
    site.put("roots.toml", "[znodes.'/keep']\n[znodes.'/keep/a']\n[znodes.'/far/below']\nparents = true\n");
    site.check(
        "
        tree apply roots.toml
        shell create /keep/x
        shell create /keep/x/y
        shell create /keep-beside
        shell create /far/other
        tree diff roots.toml
        tree apply roots.toml --prune
        tree apply roots.toml --prune --yes
        tree apply roots.toml --prune --yes 1
        tree apply roots.toml --yes 2
        tree diff roots.toml --prune
        shell ls -R /keep
        tree diff roots.toml --prune --yes 2
        tree diff roots.toml --prune
        shell ls /
        shell ls /far
        shell deleteall /keep
        shell deleteall /keep-beside
        shell deleteall /far
        ",
        &expect![[r#"
            > tree apply roots.toml
            + /far
                acl + world:anyone:cdrwa
            + /far/below
                acl + world:anyone:cdrwa
            + /keep
                acl + world:anyone:cdrwa
            + /keep/a
                acl + world:anyone:cdrwa
            4 to create, 0 to change, 0 to delete
            created 4, changed 0, deleted 0
            > shell create /keep/x
            /keep/x
            > shell create /keep/x/y
            /keep/x/y
            > shell create /keep-beside
            /keep-beside
            > shell create /far/other
            /far/other
            > tree diff roots.toml
            ? /keep/x  (not in the file)
            ? /keep/x/y  (not in the file)
            0 to create, 0 to change, 0 to delete, 2 not in the file
            exit 2
            > tree apply roots.toml --prune
            - /keep/x
            - /keep/x/y
            0 to create, 0 to change, 2 to delete
            ! error: 2 znodes are to be deleted, and nobody said that this is right
            ! hint: look at the plan; then: --yes 2
            exit 2
            > tree apply roots.toml --prune --yes
            - /keep/x
            - /keep/x/y
            0 to create, 0 to change, 2 to delete
            ! error: 2 znodes are to be deleted, and nobody said that this is right
            ! hint: look at the plan; then: --yes 2
            exit 2
            > tree apply roots.toml --prune --yes 1
            - /keep/x
            - /keep/x/y
            0 to create, 0 to change, 2 to delete
            ! error: --yes says 1, and 2 znodes are to be deleted: nothing was done
            exit 1
            > tree apply roots.toml --yes 2
            nothing to do
            > tree diff roots.toml --prune
            - /keep/x
            - /keep/x/y
            0 to create, 0 to change, 2 to delete
            ! error: 2 znodes are to be deleted, and nobody said that this is right
            ! hint: look at the plan; then: --yes 2
            exit 2
            > shell ls -R /keep
            /keep
            /keep/a
            /keep/x
            /keep/x/y
            > tree diff roots.toml --prune --yes 2
            - /keep/x
            - /keep/x/y
            0 to create, 0 to change, 2 to delete
            created 0, changed 0, deleted 2
            > tree diff roots.toml --prune
            nothing to do
            > shell ls /
            far
            keep
            keep-beside
            sites
            zookeeper
            > shell ls /far
            below
            other
            > shell deleteall /keep
            ! deleted 2 znodes at and below /keep
            > shell deleteall /keep-beside
            ! deleted 1 znode at and below /keep-beside
            > shell deleteall /far
            ! deleted 3 znodes at and below /far
        "#]],
    );
    site.put("all.toml", "[znodes.'/']\n");
    let all = site.run_as("ops:ops-secret", "tree plan all.toml --prune").to_string();
    assert!(all.contains("- /sites/lab\n") && !all.contains("zookeeper"), "{all}");
}

fn nobody_locks_himself_out_by_mistake(site: &Site<'_>) {
    site.put("mine.toml", "[znodes.'/mine']\nacl = ['auth::cdrwa']\n");
    site.put("theirs.toml", "[znodes.'/mine']\nacl = ['world:anyone:cdrw']\n");
    site.put(
        "shut.toml",
        "[znodes.'/shut']\nacl = ['sasl:them:cdrwa']\n[znodes.'/shut/below']\nacl = ['sasl:them:cdrwa']\n",
    );
    site.check(
        "
        tree apply mine.toml
        as me:mine-secret tree apply mine.toml
        as me:mine-secret tree apply mine.toml
        as me:mine-secret tree plan theirs.toml
        as me:mine-secret tree apply theirs.toml
        as me:mine-secret tree apply theirs.toml --allow-lockout
        as me:mine-secret tree apply mine.toml
        as me:mine-secret tree apply shut.toml
        ",
        &expect![[r#"
            > tree apply mine.toml
            ! /mine  its ACL has an entry auth, and the caller has no identity that could take its place  (mine.toml:1)
            0 to create, 0 to change, 0 to delete
            ! error: mine.toml:1: /mine: its ACL has an entry auth, and the caller has no identity that could take its place: nothing was done
            ! hint: say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password
            exit 3
            > as me:mine-secret tree apply mine.toml
            + /mine
                acl + digest:me:cdrwa
            1 to create, 0 to change, 0 to delete
            created 1, changed 0, deleted 0
            > as me:mine-secret tree apply mine.toml
            nothing to do
            > as me:mine-secret tree plan theirs.toml
            ! /mine  the caller would be locked out: the ACL would not give admin (a) to who asks  (theirs.toml:1)
            0 to create, 0 to change, 0 to delete
            exit 2
            > as me:mine-secret tree apply theirs.toml
            ! /mine  the caller would be locked out: the ACL would not give admin (a) to who asks  (theirs.toml:1)
            0 to create, 0 to change, 0 to delete
            ! error: theirs.toml:1: /mine: the caller would be locked out: the ACL would not give admin (a) to who asks: nothing was done
            ! hint: if that is meant: --allow-lockout
            exit 3
            > as me:mine-secret tree apply theirs.toml --allow-lockout
            ~ /mine
                acl - digest:me:cdrwa
                acl + world:anyone:cdrw
            0 to create, 1 to change, 0 to delete
            created 0, changed 1, deleted 0
            > as me:mine-secret tree apply mine.toml
            ~ /mine
                acl - world:anyone:cdrw
                acl + digest:me:cdrwa
            0 to create, 1 to change, 0 to delete
            ! error: /mine: not authorized
            ! hint: say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password
            ! hint: done before: created 0, changed 0, deleted 0
            exit 3
            > as me:mine-secret tree apply shut.toml
            + /shut
                acl + sasl:them:cdrwa
            + /shut/below
                acl + sasl:them:cdrwa
            ! /shut  the caller would be locked out: the ACL would not give admin (a) to who asks  (shut.toml:1)
            2 to create, 0 to change, 0 to delete
            ! error: shut.toml:1: /shut: the caller would be locked out: the ACL would not give admin (a) to who asks: nothing was done
            ! hint: if that is meant: --allow-lockout
            exit 3
        "#]],
    );
    assert_eq!(site.run("shell deleteall /mine").status, Some(0));
}

fn a_wrong_file_is_refused_before_anything_is_written(site: &Site<'_>) {
    site.put("wrong.toml", "[znodes.'/wrong']\n[znodes.'/wrong/x']\nacl = ['user:nobody:r']\ncolour = 1\n");
    site.put("orphan.toml", "[znodes.'/wrong']\n[znodes.'/none/x']\n");
    site.check(
        "
        tree apply wrong.toml
        tree plan wrong.toml
        tree apply orphan.toml
        tree plan orphan.toml
        tree apply none.toml
        shell ls /wrong
        ",
        &expect![[r#"
            > tree apply wrong.toml
            ! error: wrong.toml:4: unknown field `colour`, expected one of `data`, `data_base64`, `data_file`, `initial_data`, `acl`, `kind`, `parents`, `sensitive`
            exit 2
            > tree plan wrong.toml
            ! error: wrong.toml:4: unknown field `colour`, expected one of `data`, `data_base64`, `data_file`, `initial_data`, `acl`, `kind`, `parents`, `sensitive`
            exit 3
            > tree apply orphan.toml
            + /wrong
                acl + world:anyone:cdrwa
            ! /none/x  its parent /none neither exists nor is declared  (orphan.toml:2)
            1 to create, 0 to change, 0 to delete
            ! error: orphan.toml:2: /none/x: its parent /none neither exists nor is declared: nothing was done
            ! hint: declare the parent, or write parents = true (makepath=true) there
            exit 3
            > tree plan orphan.toml
            + /wrong
                acl + world:anyone:cdrwa
            ! /none/x  its parent /none neither exists nor is declared  (orphan.toml:2)
            1 to create, 0 to change, 0 to delete
            exit 2
            > tree apply none.toml
            ! error: cannot read none.toml: No such file or directory (os error 2)
            exit 2
            > shell ls /wrong
            ! error: Node does not exist: /wrong
            exit 1
        "#]],
    );
    fs::set_permissions(site.directory.path().join("site.cfg"), Permissions::from_mode(0o644)).unwrap();
    let warned = site.run("tree plan site.cfg");
    assert!(warned.stderr.starts_with("warning: site.cfg:1: mode 0644 gives others access"), "{warned}");
}

fn programs_read_json(site: &Site<'_>) {
    site.put("j.toml", "[znodes.'/j']\ndata_base64 = '/w=='\n[znodes.'/j/k']\ndata = 'é'\nsensitive = true\n");
    site.check(
        "
        tree plan --json j.toml
        tree apply --json j.toml
        tree apply --json j.toml
        shell create /j/x
        shell set /j text
        tree diff --json j.toml
        tree export --json /j/x
        shell deleteall /j
        ",
        &expect![[r##"
            > tree plan --json j.toml
            {"change":0,"changes":[{"acl":{"add":["world:anyone:cdrwa"],"remove":[]},"action":"create","data":{"to":{"base64":"/w=="}},"path":"/j"},{"acl":{"add":["world:anyone:cdrwa"],"remove":[]},"action":"create","data":{"to":{"bytes":2}},"path":"/j/k"}],"create":2,"delete":0,"obstacles":[]}
            exit 2
            > tree apply --json j.toml
            {"applied":{"changed":0,"created":2,"deleted":0},"change":0,"changes":[{"acl":{"add":["world:anyone:cdrwa"],"remove":[]},"action":"create","data":{"to":{"base64":"/w=="}},"path":"/j"},{"acl":{"add":["world:anyone:cdrwa"],"remove":[]},"action":"create","data":{"to":{"bytes":2}},"path":"/j/k"}],"create":2,"delete":0,"obstacles":[]}
            > tree apply --json j.toml
            {"applied":{"changed":0,"created":0,"deleted":0},"change":0,"changes":[],"create":0,"delete":0,"obstacles":[]}
            > shell create /j/x
            /j/x
            > shell set /j text
            > tree diff --json j.toml
            {"change":1,"changes":[{"action":"change","data":{"from":"text","to":{"base64":"/w=="}},"path":"/j"}],"create":0,"delete":0,"obstacles":[],"unnamed":["/j/x"]}
            exit 2
            > tree export --json /j/x
            {"ephemeral":0,"text":"# /j/x and below\n\n[znodes.\"/j/x\"]\ndata = \"\"\nacl = [\"world:anyone:cdrwa\"]\n","znodes":1}
            > shell deleteall /j
            ! deleted 3 znodes at and below /j
        "##]],
    );
}

fn people_are_asked(site: &Site<'_>) {
    let on_terminal = |arguments: &str, input: &[u8]| {
        let line = format!("{} tree {arguments}", env!("CARGO_BIN_EXE_grange"));
        let mut command = Command::new("script");
        command.current_dir(site.directory.path()).env("GRANGE_SERVERS", site.server.servers());
        String::from_utf8(run(command.args(["-qec", &line, "/dev/null"]), input).stdout).unwrap()
    };
    site.put("asked.toml", "[znodes.'/asked']\n");
    let declined = on_terminal("apply asked.toml", b"n\n");
    assert!(declined.contains("Create 1 and change 0? [y/N]") && declined.contains("nothing was done"), "{declined}");
    assert_eq!(site.run("shell stat /asked").status, Some(1));
    assert!(on_terminal("apply asked.toml", b"y\n").contains("created 1, changed 0, deleted 0"));
    assert_eq!(site.run("shell create /asked/x").status, Some(0));
    let declined = on_terminal("apply asked.toml --prune", b"y\n");
    assert!(declined.contains("1 znode is to be deleted. Type the number to go on:"), "{declined}");
    assert_eq!(site.run("shell stat /asked/x").status, Some(0));
    assert!(on_terminal("apply asked.toml --prune", b"1\n").contains("created 0, changed 0, deleted 1"));
    assert!(on_terminal("apply asked.toml --yes", b"").contains("nothing to do"));
    assert_eq!(site.run("shell deleteall /asked").status, Some(0));
}

/// A reader that goes away ends a command, but neither as one that has changed something nor as one that need not.
fn nobody_reads_the_plan(site: &Site<'_>) {
    site.put("unread.toml", "[znodes.'/unread']\n");
    for (command, status) in [("plan", 2), ("diff", 2), ("apply", 3)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = site.command(&format!("tree {command} unread.toml"));
        let output = command.stdout(Stdio::from(OwnedFd::from(writer))).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(site.run("shell stat /unread").status, Some(1));
}
