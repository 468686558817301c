//! A tree with everything that has broken a copier, and its second state.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};

use crate::harness::shell;

/// Entries of the directory that is larger than one piece of work.
const WIDE: usize = 50_000;

fn name(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn write(path: PathBuf, contents: impl AsRef<[u8]>) {
    fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn set_mtime(path: &Path, nanoseconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 0) + Duration::from_nanos(nanoseconds);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn set_acl(path: &Path, entries: &str) {
    shell("setfacl", &[OsStr::new("-m"), OsStr::new(entries), path.as_os_str()]);
}

fn make_node(path: &Path, node: FileType, number: u64) {
    mknodat(CWD, path, node, Mode::from_raw_mode(0o640), number).unwrap();
}

/// Makes the first state of the tree in `root`, which does not exist.
pub(crate) fn make(root: &Path) {
    fs::create_dir(root).unwrap();
    names(&root.join("names"));
    links(&root.join("links"));
    special(&root.join("special"));
    attributes(&root.join("attributes"));
    shapes(root);
    set_mode(root, 0o751);
    set_mtime(root, 123_456_789);
}

fn names(root: &Path) {
    fs::create_dir(root).unwrap();
    let long = [b'L'; 255];
    let odd: [&[u8]; 16] = [
        b"a space",
        b" leading",
        b"trailing ",
        b"new\nline",
        b"-rf",
        b"--delete",
        b"#comment",
        b";semicolon",
        b"*",
        b"[a-z]?",
        b"\xff\xfe bytes",
        b"\\back\\slash",
        b"$(touch x)",
        b"'quote\"",
        b"host:path",
        &long,
    ];
    for odd in odd {
        write(root.join(name(odd)), odd);
        let directory = root.join(name(&[b"d", &odd[..odd.len().min(254)]].concat()));
        fs::create_dir(&directory).unwrap();
        write(directory.join(name(odd)), "inside");
    }
    fs::create_dir(root.join("#directory")).unwrap();
    write(root.join("#directory/-n"), "x");
    write(root.join("\u{1b}[31mred"), "x");
}

fn links(root: &Path) {
    fs::create_dir_all(root.join("deep/er")).unwrap();
    write(root.join("one"), "linked three times");
    fs::hard_link(root.join("one"), root.join("deep/two")).unwrap();
    fs::hard_link(root.join("one"), root.join("deep/er/three")).unwrap();
    write(root.join("a"), "twins");
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    write(root.join("outside"), "a name of it lies outside of the source");
    fs::hard_link(root.join("outside"), root.with_file_name("outside-name")).unwrap();
    fs::rename(root.with_file_name("outside-name"), root.parent().unwrap().with_extension("outside")).unwrap();
    symlink("one", root.join("good")).unwrap();
    symlink("/nonexistent/\u{e9}", root.join("dangling")).unwrap();
    symlink("deep", root.join("to-directory")).unwrap();
    symlink("new\nline", root.join("changes")).unwrap();
    fs::hard_link(root.join("dangling"), root.join("linked-link")).unwrap();
    lchown(root.join("good"), Some(1234), Some(2345)).unwrap();
    for number in 0..40 {
        let directory = root.join(format!("spread{number}"));
        fs::create_dir(&directory).unwrap();
        write(directory.join("own"), format!("{number}"));
        fs::hard_link(root.join("a"), directory.join("shared")).unwrap();
    }
}

fn special(root: &Path) {
    fs::create_dir(root).unwrap();
    make_node(&root.join("fifo"), FileType::Fifo, 0);
    make_node(&root.join("char"), FileType::CharacterDevice, makedev(1, 3));
    make_node(&root.join("block"), FileType::BlockDevice, makedev(7, 200));
    fs::hard_link(root.join("fifo"), root.join("fifo-again")).unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    make_node(&root.join("becomes-file"), FileType::Fifo, 0);
}

fn attributes(root: &Path) {
    fs::create_dir(root).unwrap();
    for (number, mode) in [0o4755, 0o2755, 0o6711, 0o1644, 0o000, 0o444, 0o777].into_iter().enumerate() {
        let path = root.join(format!("mode{number}"));
        write(path.clone(), "x");
        chown(&path, Some(1000), Some(1000)).unwrap();
        set_mode(&path, mode);
        let directory = root.join(format!("directory{number}"));
        fs::create_dir(&directory).unwrap();
        write(directory.join("inside"), "x");
        set_mode(&directory, mode);
    }
    for (number, key) in ["user.note", "trusted.note", "security.note"].into_iter().enumerate() {
        let path = root.join(format!("xattr{number}"));
        write(path.clone(), "x");
        lsetxattr(&path, key, b"va\0lue", XattrFlags::empty()).unwrap();
        lsetxattr(&path, "user.big", &[7; 3000], XattrFlags::empty()).unwrap();
    }
    let capable = root.join("capable");
    write(capable.clone(), "x");
    chown(&capable, Some(1000), Some(1000)).unwrap();
    let net_bind: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    lsetxattr(&capable, "security.capability", &net_bind, XattrFlags::empty()).unwrap();
    write(root.join("acl"), "x");
    set_acl(&root.join("acl"), "u:1234:rw,g:2345:r,m:rw");
    fs::create_dir(root.join("inheriting")).unwrap();
    set_acl(&root.join("inheriting"), "u:99:rx,d:u:1234:rwx,d:g::r");
    write(root.join("inheriting/plain"), "x");
    fs::create_dir(root.join("inheriting/child")).unwrap();
    shell("setfacl", &[OsStr::new("-b"), root.join("inheriting/plain").as_os_str()]);
    shell("setfacl", &[OsStr::new("-b"), root.join("inheriting/child").as_os_str()]);
    lsetxattr(root.join("inheriting"), "user.on-directory", b"1", XattrFlags::empty()).unwrap();
    symlink("x", root.join("link-with-xattr")).unwrap();
    lsetxattr(root.join("link-with-xattr"), "trusted.note", b"on a link", XattrFlags::empty()).unwrap();
}

fn shapes(root: &Path) {
    fs::create_dir_all(root.join("empty/inner")).unwrap();
    set_mtime(&root.join("empty/inner"), 1);
    let mut sparse = File::create(root.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(64 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
    write(root.join("empty-file"), "");
    write(root.join("several-blocks"), vec![b'z'; 300_000]);
    let wide = root.join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..WIDE {
        write(wide.join(format!("{number}")), if number % 100 == 0 { "x" } else { "" });
    }
    set_mtime(&wide, 999_999_999);
    let mut chain = root.join("chain");
    for depth in 0..200 {
        chain.push(format!("c{depth}"));
    }
    fs::create_dir_all(&chain).unwrap();
    write(chain.join("bottom"), "reached");
    for path in ["file-to-directory", "file-to-link", "touched", "rewritten", "chmodded"] {
        write(root.join(path), path);
    }
    fs::create_dir_all(root.join("directory-to-file/full/of")).unwrap();
    write(root.join("directory-to-file/full/of/things"), "x");
    fs::create_dir_all(root.join("directory-to-link")).unwrap();
    write(root.join("directory-to-link/x"), "x");
    symlink("empty", root.join("link-to-directory")).unwrap();
    symlink("empty-file", root.join("link-to-file")).unwrap();
    fs::create_dir_all(root.join("goes/with/everything")).unwrap();
    write(root.join("goes/with/everything/inside"), "x");
    write(root.join("goes-too"), "x");
}

/// Turns the first state into the second.
pub(crate) fn change(root: &Path) {
    let remake_as_directory = |path: &str| {
        fs::remove_file(root.join(path)).unwrap();
        fs::create_dir(root.join(path)).unwrap();
        write(root.join(path).join("inside"), "x");
    };
    remake_as_directory("file-to-directory");
    remake_as_directory("link-to-directory");
    for path in ["directory-to-file", "directory-to-link"] {
        fs::remove_dir_all(root.join(path)).unwrap();
    }
    write(root.join("directory-to-file"), "now a file");
    symlink("chain", root.join("directory-to-link")).unwrap();
    fs::remove_file(root.join("file-to-link")).unwrap();
    symlink("wide", root.join("file-to-link")).unwrap();
    fs::remove_file(root.join("link-to-file")).unwrap();
    write(root.join("link-to-file"), "now a file");
    fs::remove_file(root.join("special/becomes-file")).unwrap();
    write(root.join("special/becomes-file"), "now a file");
    fs::remove_file(root.join("special/char")).unwrap();
    make_node(&root.join("special/char"), FileType::CharacterDevice, makedev(1, 5));
    fs::remove_dir_all(root.join("goes")).unwrap();
    fs::remove_file(root.join("goes-too")).unwrap();
    set_mtime(&root.join("touched"), 5);
    write(root.join("rewritten"), "REWRITTEN");
    set_mode(&root.join("chmodded"), 0o4711);
    chown(root.join("chmodded"), Some(55), Some(66)).unwrap();
    set_mode(&root.join("chmodded"), 0o4711);
    change_links(&root.join("links"));
    change_attributes(&root.join("attributes"));
    for number in (0..WIDE).step_by(1000) {
        fs::remove_file(root.join(format!("wide/{number}"))).unwrap();
        write(root.join(format!("wide/new{number}")), "new");
        write(root.join(format!("wide/{}", number + 1)), "changed");
    }
    let long = [b'L'; 255];
    write(root.join("names").join(name(&long)), "changed, and the name has no room for a suffix");
    fs::remove_file(root.join("names").join(name(b"new\nline"))).unwrap();
    set_mode(root, 0o755);
}

fn change_links(root: &Path) {
    // The group is split, another is joined, a third changes its contents.
    fs::remove_file(root.join("deep/two")).unwrap();
    write(root.join("deep/two"), "linked three times");
    fs::hard_link(root.join("deep/two"), root.join("deep/two-again")).unwrap();
    fs::remove_file(root.join("spread3/own")).unwrap();
    fs::hard_link(root.join("spread4/own"), root.join("spread3/own")).unwrap();
    write(root.join("a"), "twins changed");
    fs::remove_file(root.join("changes")).unwrap();
    symlink("new\rline", root.join("changes")).unwrap();
    // One name leaves its group and looks exactly as before.
    let time = fs::metadata(root.join("spread9/shared")).unwrap().modified().unwrap();
    fs::remove_file(root.join("spread9/shared")).unwrap();
    write(root.join("spread9/shared"), "twins changed");
    File::open(root.join("spread9/shared")).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn change_attributes(root: &Path) {
    set_mode(&root.join("mode0"), 0o755);
    set_mode(&root.join("directory2"), 0o2770);
    lsetxattr(root.join("xattr0"), "user.note", b"other", XattrFlags::empty()).unwrap();
    lsetxattr(root.join("xattr1"), "user.new", b"", XattrFlags::empty()).unwrap();
    rustix::fs::lremovexattr(root.join("xattr2"), "user.big").unwrap();
    shell("setfacl", &[OsStr::new("-b"), root.join("acl").as_os_str()]);
    set_acl(&root.join("mode5"), "u:7:rwx");
    write(root.join("inheriting/later"), "x");
    shell("setfacl", &[OsStr::new("-k"), root.join("inheriting").as_os_str()]);
    chown(root.join("capable"), Some(1001), Some(1001)).unwrap();
}
