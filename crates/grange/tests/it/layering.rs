//! The arrows between the crates, the purity of the core, and what every file of the repository must keep to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates each crate may use: arrows point down only.
const ARROWS: &[(&str, &[&str])] = &[
    ("grange-proto", &[]),
    ("grange-tree", &["grange-proto"]),
    ("grange-replica", &["grange-proto", "grange-tree"]),
    ("grange-server", &["grange-proto", "grange-tree", "grange-replica"]),
    ("grange-client", &["grange-proto"]),
    ("grange-farm", &["grange-client", "grange-proto"]),
    ("grange-transfer", &["grange-client", "grange-proto"]),
    ("grange-bench", &["grange-proto"]),
    // The server for its storage only: torn writes must hit the code that ships.
    ("grange-sim", &["grange-proto", "grange-tree", "grange-replica", "grange-server"]),
    ("grange", &["grange-proto", "grange-server", "grange-client", "grange-farm", "grange-transfer", "grange-bench"]),
];

/// Crates that decide and never act: given the same input, they return the same output.
const PURE: &[&str] = &["grange-proto", "grange-tree", "grange-replica"];

/// Crates by which a pure crate would get at sockets, files, clocks or threads. What `raft` brings along is not asked:
/// only direct dependencies can be called.
const IMPURE: &[&str] =
    &["tokio", "async-io", "mio", "polling", "rustix", "libc", "nix", "socket2", "rand", "getrandom", "tracing", "log"];

/// The longest file; a longer one has two owners.
const FILE_LINES_MAX: usize = 1000;

/// Where only a developer's own machine has files.
const MACHINE_PATHS: &[&str] = &["/home/", "/Users/"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate is two levels deep").to_owned()
}

/// Returns the direct dependencies of each of our crates by kind: `normal`, `dev` and `build`.
fn dependencies() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let mut found: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("there are packages") {
        let of_package = found.entry(text(&package["name"]).expect("a package has a name")).or_default();
        for dependency in package["dependencies"].as_array().expect("a package lists dependencies") {
            let kind = text(&dependency["kind"]).unwrap_or_else(|| "normal".to_owned());
            let name = text(&dependency["name"]).expect("a dependency has a name");
            of_package.entry(kind).or_default().insert(name);
        }
    }
    found
}

#[test]
fn arrows_point_down_only() {
    let dependencies = dependencies();
    for (package, by_kind) in &dependencies {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == package) else {
            panic!("{package} has no line in ARROWS: which arrow does it forbid?");
        };
        let used = by_kind.get("normal").into_iter().flatten().filter(|name| dependencies.contains_key(*name));
        let forbidden: Vec<_> = used.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(forbidden.is_empty(), "{package} must not depend on {forbidden:?}");
    }
}

#[test]
fn the_core_is_pure() {
    let dependencies = dependencies();
    for package in PURE {
        let normal = dependencies[*package].get("normal").into_iter().flatten();
        let impure: Vec<_> = normal.filter(|name| IMPURE.contains(&name.as_str())).collect();
        assert!(impure.is_empty(), "{package} must not depend on {impure:?}");
    }
}

/// Returns the files of the repository that people read and write.
fn texts() -> Vec<(PathBuf, String)> {
    let root = repository();
    let mut texts = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of the repository can be read") {
            let entry = entry.expect("an entry can be read");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() && !matches!(name.as_ref(), "target" | ".git" | "__pycache__" | "corpus") {
                directories.push(path);
            } else if kind.is_file() && !matches!(name.as_ref(), "Cargo.lock" | ".git") {
                // What is not text is a recorded frame.
                if let Ok(text) = std::fs::read_to_string(&path) {
                    let path = path.strip_prefix(&root).expect("the walk stays below the root").to_owned();
                    texts.push((path, text));
                }
            }
        }
    }
    assert!(texts.len() > 50, "the walk misses files: {}", texts.len());
    texts
}

#[test]
fn no_source_file_is_too_long() {
    for (path, text) in texts() {
        let is_source = matches!(path.extension().and_then(|extension| extension.to_str()), Some("rs" | "py" | "sh"));
        let lines = text.lines().count();
        assert!(!is_source || lines <= FILE_LINES_MAX, "{} has {lines} lines: split it", path.display());
    }
}

#[test]
fn nothing_names_a_developers_machine() {
    for (path, text) in texts() {
        if path.ends_with("tests/it/layering.rs") {
            continue;
        }
        let named = MACHINE_PATHS.iter().find(|machine_path| text.contains(**machine_path));
        assert!(named.is_none(), "{} names {named:?}", path.display());
    }
}
