//! All there is to know about a tree, found out with the standard library and plain paths, independently of the
//! code under test.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};

/// One line for each entry, by relative path; names of one inode carry the first of their paths.
pub(crate) type Manifest = BTreeMap<PathBuf, String>;

/// Looks at everything below `root`, and at `root` itself.
pub(crate) fn manifest(root: &Path) -> Manifest {
    let mut paths = vec![PathBuf::new()];
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        let full = root.join(&path);
        if fs::symlink_metadata(&full).unwrap().is_dir() {
            paths.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        found.push(path);
    }
    found.sort();
    let mut first_names = BTreeMap::new();
    let mut manifest = Manifest::new();
    for path in found {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let first = first_names.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
        let linked = if meta.is_dir() { String::new() } else { format!(" same as {}", first.display()) };
        manifest.insert(path, describe(&full, &meta) + &linked);
    }
    manifest
}

fn describe(full: &Path, meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    let contents = if kind.is_symlink() {
        format!("{:?}", fs::read_link(full).unwrap())
    } else if kind.is_file() {
        let mut hasher = DefaultHasher::new();
        fs::read(full).unwrap().hash(&mut hasher);
        format!("{} bytes {:x}", meta.len(), hasher.finish())
    } else {
        format!("device {}", meta.rdev())
    };
    let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
    format!("{mode:o} {uid}:{gid} {}.{:09} {contents} {:?}", meta.mtime(), meta.mtime_nsec(), xattrs(full))
}

fn xattrs(full: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = llistxattr(full, &mut names[..]).unwrap();
    names.truncate(length);
    let names = names.split(|&b| b == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = lgetxattr(full, name, &mut value[..]).unwrap();
            value.truncate(length);
            (OsString::from_vec(name.to_vec()), value)
        })
        .collect()
}

/// Fails with the entries that differ.
pub(crate) fn assert_equal(expected: &Manifest, found: &Manifest, context: &str) {
    let mut differences = Vec::new();
    for path in expected.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>() {
        let (left, right) = (expected.get(path), found.get(path));
        if left != right {
            let name = path.as_os_str().as_bytes().escape_ascii();
            differences.push(format!("{name}\n  expected {left:?}\n  found    {right:?}"));
        }
    }
    let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{context}: {} entries differ\n{shown}", differences.len());
}
