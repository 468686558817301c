//! Configuration as a directory: what is read, and how little is written.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use grange_farm::Properties;
use grange_farm::conf::{ConfError, Format, Read, Written, claim, read, write};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) fn properties(value: Value) -> Properties {
    Properties::try_from(value).unwrap()
}

/// A directory with a configuration, in one with other things.
struct Conf(TempDir);

impl Conf {
    fn new(fields: Value) -> Conf {
        let temp = tempfile::tempdir().unwrap();
        let conf = Conf(temp);
        fs::create_dir(conf.root()).unwrap();
        conf.write(fields, None);
        conf
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("conf")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self) -> Read {
        read(Format::Dir, &self.root()).unwrap()
    }

    fn fields(&self) -> Value {
        let read = self.read();
        assert_eq!(read.problems, []);
        read.properties.into()
    }

    fn write(&self, fields: Value, seen: Option<&Read>) -> Written {
        write(Format::Dir, &self.root(), &properties(fields), seen).unwrap()
    }

    fn problems(&self) -> Vec<String> {
        self.read().problems.iter().map(ToString::to_string).collect()
    }

    fn names(&self) -> Vec<String> {
        names(&self.root())
    }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn left_alone(written: &Written) -> Vec<String> {
    written.left_alone.iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_is_a_string_and_a_directory_an_object() {
    let conf = Conf::new(json!({}));
    conf.put("hostname", "db-01.example.com\n");
    conf.put("enabled", "  1\t\n\n");
    conf.put("mysql/replication_delay", "0");
    conf.put("empty", "");
    conf.put("two lines", "a\n b\n");
    conf.put(".hidden", "x");
    conf.put(".git/config", "x");
    fs::create_dir(conf.path("none")).unwrap();
    assert_eq!(
        conf.fields(),
        json!({
            "hostname": "db-01.example.com", "enabled": "1", "mysql": {"replication_delay": "0"}, "empty": "",
            "two lines": "a\n b", "none": {},
        })
    );
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_read() {
    let conf = Conf::new(json!({"ok": "1", "o": {"ok": "2"}}));
    conf.put("latin", b"caf\xe9");
    conf.put("o/latin", b"\xff");
    conf.put("large", vec![b'x'; (1 << 20) + 1]);
    conf.put("just", vec![b'x'; 1 << 20]);
    fs::write(conf.root().join(std::ffi::OsString::from_vec(b"n\xffme".to_vec())), "").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, conf.path("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = UnixListener::bind(conf.path("socket")).unwrap();
    symlink("/dev/zero", conf.path("device")).unwrap();
    symlink("nowhere", conf.path("dangling")).unwrap();
    symlink("self", conf.path("self")).unwrap();
    symlink("..", conf.path("o/up")).unwrap();
    symlink("nowhere", conf.path("\u{1b}[31m\u{202e}")).unwrap();
    let mut expected = vec![
        "\\u{1b}[31m\\u{202e}: it is a link to nothing",
        "dangling: it is a link to nothing",
        "device: it is a device",
        "fifo: it is a FIFO",
        "large: it has more than 1 MiB",
        "latin: it is not UTF-8",
        "n\u{fffd}me: its name is not UTF-8",
        "o/latin: it is not UTF-8",
        "o/up: it leads back to a directory that it is in",
        "self: Too many levels of symbolic links (os error 40)",
        "socket: it is a socket",
    ];
    let mut found = conf.problems();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let fields = conf.read().properties;
    assert_eq!(fields.fields()["just"].as_str().unwrap().len(), 1 << 20);
    assert_eq!((&fields.fields()["ok"], &fields.fields()["o"]), (&json!("1"), &json!({"ok": "2"})));
}

#[test]
fn links_are_followed() {
    let conf = Conf::new(json!({"o": {"a": "1"}}));
    fs::write(conf.outside("file"), "2").unwrap();
    symlink(conf.outside("file"), conf.path("link")).unwrap();
    symlink("o", conf.path("again")).unwrap();
    assert_eq!(conf.fields(), json!({"o": {"a": "1"}, "link": "2", "again": {"a": "1"}}));
}

#[test]
fn what_is_missing_or_no_directory_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let error = read(Format::Dir, &temp.path().join("conf")).unwrap_err();
    assert!(matches!(error, ConfError::Missing { .. }), "{error}");
    let file = temp.path().join("file");
    fs::write(&file, "{}").unwrap();
    for error in [
        read(Format::Dir, &file).unwrap_err(),
        write(Format::Dir, &file, &Properties::default(), None).unwrap_err(),
        read(Format::Json, temp.path()).unwrap_err(),
    ] {
        assert!(matches!(error, ConfError::FileType { .. }), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"{}");
}

#[test]
fn only_what_differs_is_written() {
    let fields = json!({"a": "1", "b": {"c": "2", "d": 3}, "e": true});
    let conf = Conf::new(fields.clone());
    fs::write(conf.path("a"), " 1\n").unwrap();
    let inode = |name: &str| fs::metadata(conf.path(name)).unwrap().ino();
    let before = [inode("a"), inode("b"), inode("b/c"), inode("e")];
    assert_eq!(conf.write(fields, None), Written::default());
    assert!(conf.write(json!({"a": "1", "b": {"c": "2", "d": 4}, "e": "true"}), None).changed);
    assert_eq!([inode("a"), inode("b"), inode("b/c"), inode("e")], before);
    assert_eq!(fs::read(conf.path("a")).unwrap(), b" 1\n");
    assert_eq!(fs::read(conf.path("b/d")).unwrap(), b"4");
}

#[test]
fn a_value_turns_from_file_to_directory_and_back() {
    let conf = Conf::new(json!({"a": "1", "b": {"c": {"d": "2"}}}));
    for fields in [
        json!({"a": {"x": {"y": "1"}}, "b": "2"}),
        json!({"a": "1", "b": {"c": "2"}}),
        json!({"a": {}, "b": {}}),
        json!({}),
        json!({"a": {"x": ""}}),
    ] {
        let seen = conf.read();
        assert!(conf.write(fields.clone(), Some(&seen)).changed);
        assert_eq!(conf.fields(), fields);
    }
    assert_eq!(conf.names(), ["a"]);
}

#[test]
fn hidden_files_are_left_alone_also_where_their_directory_goes() {
    let conf = Conf::new(json!({"a": {"b": "1", "o": {"x": "1"}}}));
    conf.put(".git/config", "x");
    conf.put("a/o/.keep", "y");
    let seen = conf.read();
    let written = conf.write(json!({"a": "text"}), Some(&seen));
    assert_eq!(left_alone(&written), ["a: hidden files in it were kept as .a.kept-1"]);
    assert_eq!(conf.fields(), json!({"a": "text"}));
    assert_eq!(fs::read(conf.path(".a.kept-1/o/.keep")).unwrap(), b"y");
    assert!(!conf.path(".a.kept-1/b").exists() && !conf.path(".a.kept-1/o/x").exists());
    assert_eq!(fs::read(conf.path(".git/config")).unwrap(), b"x");
}

#[test]
fn what_could_not_be_read_is_left_alone_until_it_gets_a_value() {
    let conf = Conf::new(json!({"ok": "1", "o": {"x": "1"}}));
    conf.put("latin", b"\xff");
    conf.put("o/latin", b"\xfe");
    symlink("nowhere", conf.path("dangling")).unwrap();
    let seen = conf.read();
    assert_eq!(left_alone(&conf.write(json!({"ok": "2"}), Some(&seen))), [""; 0]);
    assert_eq!(conf.names(), ["dangling", "latin", "o", "ok"]);
    assert_eq!(fs::read(conf.path("o/latin")).unwrap(), b"\xfe");
    assert!(!conf.path("o/x").exists());
    let seen = conf.read();
    let written = conf.write(json!({"latin": "é", "dangling": {"y": "1"}, "o": "text"}), Some(&seen));
    assert_eq!(left_alone(&written), ["o: o/latin in it could not be read"]);
    assert_eq!(Value::from(conf.read().properties), json!({"latin": "é", "dangling": {"y": "1"}, "o": {}}));
}

#[test]
fn what_was_changed_since_it_was_read_is_left_alone_and_told() {
    let conf = Conf::new(json!({"a": "1", "b": "1", "c": "1", "o": {"x": "1"}, "p": {"x": "1"}, "gone": "1"}));
    let seen = conf.read();
    conf.put("a", "edited");
    conf.put("c", "edited");
    conf.put("new", "made");
    conf.put("o/new", "made");
    conf.put("p/new", "made");
    fs::remove_file(conf.path("gone")).unwrap();
    let written = conf.write(json!({"a": "2", "b": "2", "new": "x", "p": "text", "gone": "2"}), Some(&seen));
    assert_eq!(
        left_alone(&written),
        [
            "a: it was changed meanwhile",
            "gone: it was changed meanwhile",
            "new: it was changed meanwhile",
            "p: it was changed meanwhile",
            "c: it was changed meanwhile",
            "o: it was changed meanwhile",
        ]
    );
    assert_eq!(
        conf.fields(),
        json!({
            "a": "edited", "b": "2", "c": "edited", "new": "made", "o": {"new": "made", "x": "1"},
            "p": {"new": "made", "x": "1"},
        })
    );
    // Who owns the directory does not ask.
    conf.write(json!({"a": "3"}), None);
    assert_eq!(conf.fields(), json!({"a": "3"}));
}

/// A directory in which nobody may do anything, not even root; false where that cannot be.
fn freeze(directory: &Path, is_frozen: bool) -> bool {
    let change = if is_frozen { "+i" } else { "-i" };
    std::process::Command::new("chattr").arg(change).arg(directory).output().is_ok_and(|done| done.status.success())
}

#[test]
fn what_was_written_before_an_error_is_told() {
    let conf = Conf::new(json!({"a": "1", "z": {"x": "1"}}));
    if !freeze(&conf.path("z"), true) {
        eprintln!("skipped: directories cannot be made immutable here");
        return;
    }
    let seen = conf.read();
    let write = |a: &str| {
        let wanted = properties(json!({"a": a, "z": {"x": "2"}}));
        write(Format::Dir, &conf.root(), &wanted, Some(&seen)).unwrap_err()
    };
    let (untouched, partly) = (write("1"), write("2"));
    assert!(freeze(&conf.path("z"), false));
    assert!(!untouched.is_partial(), "{untouched}");
    assert!(partly.is_partial(), "{partly}");
    assert_eq!(conf.fields(), json!({"a": "2", "z": {"x": "1"}}));
}

#[test]
fn a_directory_that_vanished_is_not_made_again_by_who_had_seen_it() {
    let conf = Conf::new(json!({"a": "1"}));
    let seen = conf.read();
    fs::remove_dir_all(conf.root()).unwrap();
    let error = write(Format::Dir, &conf.root(), &Properties::default(), Some(&seen)).unwrap_err();
    assert!(matches!(error, ConfError::Changed { .. }), "{error}");
    assert!(conf.write(json!({"a": "1"}), Some(&Read::default())).changed);
    assert_eq!(conf.fields(), json!({"a": "1"}));
}

#[test]
fn permissions_are_kept() {
    let conf = Conf::new(json!({"a": "1", "b": "1"}));
    fs::set_permissions(conf.path("a"), fs::Permissions::from_mode(0o640)).unwrap();
    conf.write(json!({"a": "2", "b": "2"}), None);
    let mode = |name: &str| fs::metadata(conf.path(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("a"), 0o640);
    fs::write(conf.outside("usual"), "").unwrap();
    assert_eq!(mode("b"), fs::metadata(conf.outside("usual")).unwrap().mode() & 0o7777);
}

#[test]
fn nothing_is_written_through_links() {
    let conf = Conf::new(json!({}));
    fs::write(conf.outside("file"), "1").unwrap();
    fs::create_dir(conf.outside("folder")).unwrap();
    fs::write(conf.outside("folder/x"), "1").unwrap();
    for (link, target) in [("file", "file"), ("folder", "folder"), ("gone", "folder"), ("text", "folder")] {
        symlink(conf.outside(target), conf.path(link)).unwrap();
    }
    symlink(conf.outside("folder"), conf.path("same")).unwrap();
    let fields = json!({"file": "2", "folder": {"x": "2", "y": "2"}, "text": "2", "same": {"x": "1"}});
    let seen = conf.read();
    assert_eq!(left_alone(&conf.write(fields.clone(), Some(&seen))), [""; 0]);
    assert_eq!(conf.fields(), fields);
    assert_eq!(fs::read(conf.outside("file")).unwrap(), b"1");
    assert_eq!(names(&conf.outside("folder")), ["x"]);
    assert_eq!(fs::read(conf.outside("folder/x")).unwrap(), b"1");
    assert!(conf.path("same").is_symlink() && !conf.path("file").is_symlink());
}

#[test]
fn names_never_lead_out_of_the_directory() {
    let conf = Conf::new(json!({"a": "1"}));
    let fields = json!({"a": "1", "../out": "x", "..": {"out": "x"}, "/tmp/out": "x", ".hidden": "x", "": "x"});
    let written = conf.write(fields, None);
    assert!(!written.changed);
    assert_eq!(written.left_alone.len(), 5);
    assert_eq!(names(conf.0.path()), ["conf"]);
    assert_eq!(conf.names(), ["a"]);
}

#[test]
fn leftovers_of_a_killed_writer_go_with_the_next_write() {
    let conf = Conf::new(json!({"a": "1", "o": {}}));
    conf.put(".grange-9999999-1", "half");
    conf.put(".grange-9999999-2/x", "half");
    conf.put("o/.grange-9999999-3", "half");
    conf.write(json!({"a": "2", "o": {}}), None);
    assert_eq!(conf.names(), ["a", "o"]);
    assert_eq!(names(&conf.path("o")), [""; 0]);
}

#[test]
fn an_export_takes_over_only_what_is_its_own() {
    let hosts = properties(json!({"db-1": {"a": "1"}}));
    let conf = Conf::new(json!({"db-1": {"a": "0"}, "10.0.0.1": {"a": "1"}, "::1": {}}));
    for (name, is_folder) in [("passwd", false), ("home", true), ("10.0.0.2", false)] {
        let path = conf.path(name);
        if is_folder {
            fs::create_dir(&path).unwrap()
        } else {
            fs::write(&path, "").unwrap()
        }
        let error = claim(&conf.root(), &hosts).unwrap_err();
        assert_eq!(error.to_string(), format!("{} holds {name}, which is no host of an export", conf.root().display()));
        assert!(error.hint().is_some());
        if is_folder { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
    conf.put(".profile", "x");
    claim(&conf.root(), &hosts).unwrap();
    write(Format::Dir, &conf.root(), &hosts, None).unwrap();
    assert_eq!(conf.fields(), json!({"db-1": {"a": "1"}}));
    // From now on it is the export's.
    conf.put("old-host/a", "1");
    claim(&conf.root(), &hosts).unwrap();
    assert_eq!(names(&conf.root()), [".grange-export", ".profile", "db-1", "old-host"]);
    claim(&conf.outside("new"), &hosts).unwrap();
    assert_eq!(names(&conf.outside("new")), [".grange-export"]);
    assert!(claim(&conf.outside("no/parent"), &hosts).is_err());
}

#[test]
fn rights_of_the_owner_are_not_given_to_contents_of_others() {
    let conf = Conf::new(json!({"a": "1"}));
    fs::set_permissions(conf.path("a"), fs::Permissions::from_mode(0o6755)).unwrap();
    conf.write(json!({"a": "2"}), None);
    assert_eq!(fs::metadata(conf.path("a")).unwrap().mode() & 0o7777, 0o755);
}
