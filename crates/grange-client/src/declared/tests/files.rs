//! Files as users write them, good and bad.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::declared::acl::entry;
use crate::declared::{Declared, DeclaredData, Form, Kind, ReadError, Source, read};

/// Files in a directory of their own.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let files_on_disk = Files(tempfile::tempdir().unwrap());
        for (name, text) in files {
            files_on_disk.put(name, text, 0o600);
        }
        files_on_disk
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Reads the files `names`, the second and later ones as overlays if the first is TOML.
    fn read(&self, names: &[&str], variables: &[&str]) -> Result<Declared, String> {
        let mut files: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        let overlays = if names[0].ends_with(".toml") { files.split_off(1) } else { Vec::new() };
        let variables = variables.iter().map(|text| (*text).to_owned()).collect();
        let source = Source { files, overlays, variables, form: None };
        let environment = [("PASSWORD", "hidden"), ("PORT", "80"), ("EMPTY", "")];
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        // Where the files are differs from run to run.
        let directory = format!("{}/", self.0.path().display());
        read(&source, &variable).map_err(|error| {
            let text = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            assert!(!text.contains("hidden") && !format!("{error:?}").contains("hidden"), "{text}");
            text.replace(&directory, "")
        })
    }
}

fn toml(text: &str) -> Result<Declared, String> {
    Files::new(&[("f.toml", text)]).read(&["f.toml"], &[])
}

fn zkinitree(text: &str) -> Result<Declared, String> {
    Files::new(&[("f.cfg", text)]).read(&["f.cfg"], &[])
}

fn acl(declared: &Declared, path: &str) -> Vec<String> {
    declared.znodes[path].acl.as_deref().unwrap_or_default().iter().map(entry).collect()
}

const ZKINITREE: &str = "\
[MAIN]
servers=127.0.0.1:2181

[root]                 ; the administrator
passwd=admin
path=/

[user1]                ; any other
passwd=xyz
[user5]
passwd=bla

[/admin]               ; a znode
r=user5                ; key: a set of letters
rwcd=user1
all=                   ; empty: grants nothing
value=hello            ; data

[/admin/both]
all = user1, user5
makepath=true
";

#[test]
fn a_file_of_zkinitrees_is_read_by_its_rules() {
    let declared = zkinitree(ZKINITREE).unwrap();
    assert_eq!(declared.servers.as_ref().unwrap().0, "127.0.0.1:2181");
    assert_eq!(declared.auths[0].credential(), b"root:admin");
    let admin = &declared.znodes["/admin"];
    assert_eq!((&admin.data, admin.kind), (&DeclaredData::Initially(b"hello".to_vec()), Kind::Persistent));
    assert_eq!(
        acl(&declared, "/admin"),
        [
            "digest:root:+aZ1rdWwjvjfybxHYUKuYN+JRgw=:cdrwa",
            "digest:user5:f2hBcBeMWHKQkXHxnPj0+/ZJckE=:r",
            "digest:user1:LHNv5zLBfUQMwJgrHlq/iCfbuGE=:cdrw",
        ]
        .map(str::to_owned)
    );
    assert!(declared.znodes["/admin/both"].makes_parents);
    assert_eq!(acl(&declared, "/admin/both").len(), 3);
    assert_eq!(declared.roots().collect::<Vec<_>>(), ["/admin"]);
    let warnings: Vec<_> = declared.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(warnings, ["what follows ' ;' is taken as a comment, not as a part of value"]);
}

#[test]
fn later_files_of_zkinitrees_win() {
    let files = Files::new(&[
        ("a.cfg", "[root]\npasswd=a\n[u]\npasswd=u\n[/x]\nr=u\nvalue=1\n"),
        ("b.cfg", "[/x]\nvalue=2\n[root]\npasswd=b\n"),
    ]);
    let declared = files.read(&["a.cfg", "b.cfg"], &[]).unwrap();
    assert_eq!(declared.znodes["/x"].data, DeclaredData::Initially(b"2".to_vec()));
    assert_eq!(declared.auths[0].credential(), b"root:b");
    assert_eq!(acl(&declared, "/x").len(), 2);
}

#[test]
fn what_would_be_gone_at_once_is_left_out_with_a_warning() {
    let declared = zkinitree("[root]\npasswd=a\n[/x]\nephemeral=1\n[/n-]\nsequence=1\n").unwrap();
    assert_eq!(declared.znodes.len(), 1);
    assert_eq!(declared.znodes["/n-"].kind, Kind::Sequential);
    assert!(declared.warnings[0].to_string().contains("f.cfg:3: an ephemeral znode"));
}

#[test]
fn each_mistake_in_a_file_of_zkinitrees_has_its_line() {
    for (text, message) in [
        (
            "[/x]\nr=u\n",
            "f.cfg:1: there is no section [root] with a passwd, the administrator's\nf.cfg:2: there is no user 'u': it needs a section [u] with a passwd",
        ),
        ("[root]\npath=/\n", "f.cfg:1: the user root has no passwd"),
        ("[root]\npasswd=\n", "f.cfg:2: the passwd of root is empty"),
        (
            "[root]\npasswd=hidden\n[/x]\nrx=root\n",
            "f.cfg:4: rx: 'x' is none of the permissions r, w, c, d and a; other keys are all, value, makepath, sequence, ephemeral",
        ),
        ("[root]\npasswd=a\n[/x/]\n", "f.cfg:3: '/x/' is no path of a znode: a path must not end with /"),
        ("[root]\npasswd=a\n[/x]\n[/x]\n", "f.cfg:4: the section [/x] is in this file twice, first at f.cfg:3"),
        ("[root]\npasswd=hidden\npasswd=b\n", "f.cfg:3: the key passwd is in this section twice, first at f.cfg:2"),
        (
            "[root]\npasswd=a\n[DEFAULT]\nx=1\n",
            "f.cfg:3: a section [DEFAULT] would be in every other section; it is not supported",
        ),
        ("[root]\npasswd=a\n[u:v]\npasswd=hidden\n", "f.cfg:3: the name of a user has no colon and no comma"),
        ("[root]\npasswd=a\n[/x]\nmakepath=maybe\n", "f.cfg:4: makepath is true or false"),
        (
            "[root]\npasswd=a\n[/n]\nsequence=1\n[/n/x]\n",
            "f.cfg:5: the znode above this one gets a number, so nothing can be declared below it",
        ),
        ("[root]\npasswd=%(hidden)s\n", "f.cfg:2: %(…)s is not supported; a plain % is written %%"),
    ] {
        let found = zkinitree(text).map(|declared| declared.znodes).unwrap_err();
        assert_eq!(found.replace(&found[..found.find("f.cfg:").unwrap()], ""), message, "{text}");
    }
}

const TOML: &str = r#"
servers = "zk1,zk2"
[variables]
site = "lab"
port = { env = "PORT", default = "1" }
rack = { env = "NOWHERE", default = "r1" }
[users.apps]
password = { env = "PASSWORD" }
[users.ops]
password = { file = "ops.secret" }
[users.old]
digest = "D/InIHSb7yEEbrWz8b9l71RjZJU="
[acls]
open = ["world:anyone:r", "user:apps:rw"]
[znodes."/${site}"]
acl = "open"
data = "${port} ${rack} $${site}"
[znodes."/${site}/bytes"]
data_base64 = "AP8="
acl = ["ip:10.0.0.0/8:r", "x509:CN=${site}:r", "sasl:a@B:r", "auth::cdrwa", "user:old:a", "user:ops:d"]
kind = "container"
sensitive = true
[znodes."/${site}/file"]
data_file = "content"
kind = { ttl_ms = 1000 }
parents = true
[znodes."/${site}/first"]
initial_data = "x"
[znodes."/any"]
"#;

fn toml_files() -> Files {
    Files::new(&[("f.toml", TOML), ("ops.secret", "hidden too\n"), ("content", "bytes\n")])
}

#[test]
fn the_toml_form_has_everything() {
    let declared = toml_files().read(&["f.toml"], &[]).unwrap();
    let znode = |path: &str| &declared.znodes[path];
    assert_eq!(znode("/lab").data, DeclaredData::Exactly(b"80 r1 ${site}".to_vec()));
    assert_eq!(znode("/lab/bytes").data, DeclaredData::Exactly(vec![0, 255]));
    assert_eq!(znode("/lab/file").data, DeclaredData::Exactly(b"bytes\n".to_vec()));
    assert_eq!(znode("/lab/first").data, DeclaredData::Initially(b"x".to_vec()));
    assert_eq!((&znode("/any").data, znode("/any").acl.is_none()), (&DeclaredData::Any, true));
    assert_eq!((znode("/lab/bytes").kind, znode("/lab/file").kind), (Kind::Container, Kind::Ttl(1000)));
    assert!(znode("/lab/bytes").is_sensitive && znode("/lab/file").makes_parents);
    let expected =
        ["ip:10.0.0.0/8:r", "x509:CN=lab:r", "sasl:a@B:r", "auth::cdrwa", "digest:old:D/InIHSb7yEEbrWz8b9l71RjZJU=:a"];
    assert_eq!(acl(&declared, "/lab/bytes")[..5], expected.map(str::to_owned));
    assert!(acl(&declared, "/lab/bytes")[5].starts_with("digest:ops:"));
    assert_eq!(declared.znodes["/lab/bytes"].location.to_string().rsplit_once('/').unwrap().1, "f.toml:18");
    assert_eq!(declared.roots().collect::<Vec<_>>(), ["/any", "/lab"]);
}

#[test]
fn the_command_line_wins_over_overlays_and_those_over_the_file() {
    let files = toml_files();
    let overlay = "[variables]\nsite='prod'\nrack='r9'\n[acls]\nopen=['world:anyone:r']\n[znodes.\"/${site}/first\"]\nacl='open'\n";
    files.put("o.toml", overlay, 0o600);
    let declared = files.read(&["f.toml", "o.toml"], &["rack=r7"]).unwrap();
    assert_eq!(declared.znodes["/prod"].data, DeclaredData::Exactly(b"80 r7 ${site}".to_vec()));
    assert_eq!(acl(&declared, "/prod"), ["world:anyone:r"]);
    let first = &declared.znodes["/prod/first"];
    assert_eq!((&first.data, acl(&declared, "/prod/first").len()), (&DeclaredData::Initially(b"x".to_vec()), 1));
}

#[test]
fn each_mistake_in_a_toml_file_has_its_line() {
    for (text, message) in [
        ("\nx = 1\n", "f.toml:2: unknown field `x`"),
        ("[znodes.'/x']\ndate = 1\n", "f.toml:2: unknown field `date`"),
        ("[users.a]\npasword = 'hidden'\n", "f.toml:2: unknown field `pasword`"),
        ("[users.a]\npassword = 'hidden'\n", "f.toml:1: a password is not written into this file"),
        ("[users.a]\npassword = { env = 'NOWHERE' }\n", "f.toml:1: the environment has no variable NOWHERE"),
        ("[users.a]\npassword = { env = 'EMPTY' }\n", "f.toml:1: the environment has no variable EMPTY"),
        ("[users.a]\npassword = { file = 'none' }\n", "f.toml:1: cannot read none: no such file"),
        ("[users.a]\ndigest = 'hidden'\n", "f.toml:1: digest is the base64 of 20 bytes"),
        ("[users.'a:b']\npassword = { env = 'PASSWORD' }\n", "f.toml:1: the name of a user"),
        ("[users.a]\n", "f.toml:1: a user has password"),
        ("[users.a]\npassword = 'hidden\n", "f.toml:2: "),
        ("[znodes.'/x']\n[znodes.'/x']\n", "f.toml:2: duplicate key"),
        (
            "[variables]\na='x'\n[znodes.'/x']\n[znodes.'/${a}']\n",
            "f.toml:3: '/x' is declared twice, first at f.toml:4",
        ),
        ("[znodes.'x']\n", "f.toml:1: 'x' is no path of a znode: a path must start with /"),
        ("[znodes.'/a/../b']\n", "f.toml:1: '/a/../b' is no path of a znode"),
        ("[znodes.'/${a}']\n", "f.toml:1: there is no variable a"),
        ("[variables]\n'a b' = 'x'\n", "f.toml:2: 'a b': a name is made of"),
        ("[variables]\na = 1\n", "f.toml:2: a variable is a text"),
        ("[variables]\na = { env = 'NOWHERE' }\n", "f.toml:2: the environment has no variable NOWHERE"),
        ("[znodes.'/x']\n\nacl = ['user:bob:r']\n", "f.toml:3: there is no user 'bob' in [users]"),
        ("[znodes.'/x']\nacl = ['world:anyone:rz']\n", "f.toml:2: 'z' is none of the permissions"),
        ("[znodes.'/x']\nacl = ['digest:hidden:r']\n", "f.toml:2: an identity of digest"),
        ("[znodes.'/x']\nacl = 'open'\n", "f.toml:2: there is no list 'open' in [acls]"),
        ("[znodes.'/x']\nacl = []\n", "f.toml:2: an ACL has at least one entry"),
        ("[znodes.'/x']\nacl = 7\n", "f.toml:2: an ACL is a list of entries or the name of one of [acls]"),
        ("[acls]\na = ['user:r']\n", "f.toml:2: a user's entry is user:NAME:PERMS"),
        ("[znodes.'/x']\nkind = 'ephemeral'\n", "f.toml:2: a kind is"),
        ("[znodes.'/x']\nkind = { ttl_ms = 0 }\n", "f.toml:2: ttl_ms is from 1"),
        ("[znodes.'/x']\ndata = 'a'\ndata_base64 = ''\n", "f.toml:1: a znode has one of"),
        ("[znodes.'/x']\ndata_base64 = 'a'\n", "f.toml:1: data_base64 is not base64"),
        ("[znodes.'/x']\ndata_file = 'none'\n", "f.toml:1: cannot read none: no such file"),
        ("[znodes.'/x']\ndata = 7\n", "f.toml:1: data is text"),
        ("a = \n", "f.toml:1: "),
        ("users = 'hidden'\n", "f.toml:1: invalid type: string, expected a map"),
        ("[users]\na = 'hidden'\n", "f.toml:2: invalid type: string, expected struct RawUser"),
    ] {
        let found = toml(text).map(|declared| declared.znodes).unwrap_err();
        assert!(found.starts_with(message), "{text}\nfound    {found}\nexpected {message}");
    }
}

#[test]
fn every_mistake_is_reported_at_once() {
    let found = toml("[variables]\na=1\n[users.b]\n[znodes.'/x']\nacl=['user:c:r']\n").unwrap_err();
    assert_eq!(found.lines().count(), 3, "{found}");
}

#[test]
fn secrets_that_others_may_read_are_refused_or_warned_about() {
    let files = toml_files();
    files.put("ops.secret", "hidden", 0o640);
    let found = files.read(&["f.toml"], &[]).unwrap_err();
    assert_eq!(found, "f.toml:9: ops.secret has mode 0640, and only its owner may have access to it");
    files.put("ops.secret", "hidden", 0o600);
    files.put("f.toml", TOML, 0o644);
    let warnings = files.read(&["f.toml"], &[]).unwrap().warnings;
    assert!(warnings[0].message.contains("mode 0644 gives others access to the hashes of passwords"), "{warnings:?}");
    files.put("f.cfg", ZKINITREE, 0o604);
    let warnings = files.read(&["f.cfg"], &[]).unwrap().warnings;
    assert!(warnings[0].message.contains("mode 0604 gives others access to the passwords"), "{warnings:?}");
}

#[test]
fn the_form_shows_in_the_name_or_in_the_text() {
    let files = Files::new(&[("a", ZKINITREE), ("b", "[znodes.'/x']\n"), ("c", "x")]);
    assert!(files.read(&["a"], &[]).unwrap().znodes.contains_key("/admin"));
    assert!(files.read(&["b"], &[]).unwrap().znodes.contains_key("/x"));
    let source = Source { files: vec![files.path("b")], form: Some(Form::Zkinitree), ..Source::default() };
    assert!(matches!(read(&source, &|_| None), Err(ReadError::Problems(_))));
    assert!(files.read(&["a"], &["a=b"]).unwrap_err().contains("belong to the TOML form"));
    assert!(files.read(&["b"], &["=b"]).unwrap_err().contains("is not of the form NAME=VALUE"));
    assert_eq!(files.read(&["none"], &[]).unwrap_err(), "cannot read none: No such file or directory (os error 2)");
}

#[test]
fn bytes_that_are_not_utf_8_have_their_line() {
    let files = Files::new(&[]);
    fs::write(files.path("f.toml"), b"# a\n\xff").unwrap();
    assert_eq!(files.read(&["f.toml"], &[]).unwrap_err(), "f.toml:2: this line is not UTF-8");
}
