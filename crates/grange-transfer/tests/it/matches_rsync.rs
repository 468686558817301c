//! The result of a run is the result of `rsync -aHAX --delete --numeric-ids`.

use std::fs;
use std::path::Path;

use crate::harness::{excluding, grange_whole, rsync, with_delete};
use crate::hostile;
use crate::manifest::{assert_equal, manifest};

#[test]
fn hostile_tree_first_and_second_run_with_1_2_and_8_workers() {
    let temp = tempfile::tempdir().unwrap();
    let (source, reference) = (temp.path().join("source"), temp.path().join("reference"));
    hostile::make(&source);
    rsync(&source, &reference, &["--delete"]);
    let expected = manifest(&reference);
    assert_equal(&manifest(&source), &expected, "rsync itself");
    let counts = [1, 2, 8];
    let destination = |workers: usize| temp.path().join(format!("destination{workers}"));
    for workers in counts {
        grange_whole(&source, &destination(workers), with_delete(), workers);
        assert_equal(&expected, &manifest(&destination(workers)), &format!("first run, {workers} workers"));
        let again = grange_whole(&source, &destination(workers), with_delete(), workers).figures;
        assert_eq!((again.transferred, again.created, again.linked), (0, 0, 0), "{again:?}");
        assert_eq!((again.attributes, again.deleted, again.movers_started), (0, 0, 0), "{again:?}");
        assert_eq!(again.compared, again.matched, "{again:?}");
        assert_eq!(again.compared, again.discovered, "{again:?}");
    }
    hostile::change(&source);
    rsync(&source, &reference, &["--delete"]);
    // The source is the stricter reference: rsync leaves names linked that are no longer linked there.
    let expected = manifest(&source);
    for workers in counts {
        grange_whole(&source, &destination(workers), with_delete(), workers);
        assert_equal(&expected, &manifest(&destination(workers)), &format!("second run, {workers} workers"));
    }
    let mut links_kept_by_rsync = manifest(&reference);
    links_kept_by_rsync.retain(|path, line| expected.get(path) != Some(line));
    let all_linked = links_kept_by_rsync.keys().all(|path| path.starts_with("links"));
    assert!(all_linked, "rsync differs from the source in more than links: {links_kept_by_rsync:?}");
}

fn small_trees(temp: &Path) {
    for (path, contents) in [("s/keep.o", "1"), ("s/a.o", "2"), ("s/x/b.o", "3"), ("s/x/c", "4"), ("s/cache/z", "5")] {
        let path = temp.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    for side in ["ours", "theirs"] {
        for path in ["old.o", "x/old.o", "x/gone", "cache/old", "only/here.o", "only/y", "never"] {
            let path = temp.join(side).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "old").unwrap();
        }
    }
}

#[test]
fn excluded_entries_are_neither_copied_nor_deleted() {
    for patterns in [
        &["*.o"][..],
        &["/cache"],
        &["cache/"],
        &["+ keep.o", "*.o"],
        &["x/*.o", "only/***"],
        &["**/c"],
        &["/x/**"],
        &["[k-n]*"],
        &["*"],
    ] {
        let temp = tempfile::tempdir().unwrap();
        small_trees(temp.path());
        let excludes: Vec<String> = patterns.iter().map(|pattern| format!("--exclude={pattern}")).collect();
        let mut arguments = vec!["--delete"];
        arguments.extend(excludes.iter().map(String::as_str));
        rsync(&temp.path().join("s"), &temp.path().join("theirs"), &arguments);
        grange_whole(&temp.path().join("s"), &temp.path().join("ours"), excluding(patterns), 2);
        let (theirs, ours) = (manifest(&temp.path().join("theirs")), manifest(&temp.path().join("ours")));
        let names = |manifest: &crate::manifest::Manifest| manifest.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&theirs), names(&ours), "{patterns:?}");
    }
}

#[test]
fn without_delete_nothing_is_removed() {
    let temp = tempfile::tempdir().unwrap();
    small_trees(temp.path());
    rsync(&temp.path().join("s"), &temp.path().join("theirs"), &[]);
    let summary = grange_whole(&temp.path().join("s"), &temp.path().join("ours"), Default::default(), 2);
    assert_eq!(summary.figures.deleted, 0);
    for path in ["old.o", "x/gone", "only/here.o", "only/y", "never"] {
        assert_eq!(fs::read(temp.path().join("ours").join(path)).unwrap(), b"old", "{path}");
    }
    assert_eq!(fs::read(temp.path().join("ours/a.o")).unwrap(), b"2");
}
