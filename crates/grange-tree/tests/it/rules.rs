//! The rules of server.md §1.4 to §1.14, one script each.

use expect_test::expect;

use crate::script::check;

#[test]
fn a_new_server_has_apaches_znodes() {
    check(
        "ls /; ls /zookeeper; stat /; stat /zookeeper; stat /zookeeper/config; getacl /zookeeper/config; count /",
        expect![[r#"
            ls / -> zookeeper
            ls /zookeeper -> config quota
            stat / -> c=0 m=0 p=0 v=0/-1/0 owner=0 bytes=0 kids=1
            stat /zookeeper -> c=0 m=0 p=0 v=0/-2/0 owner=0 bytes=0 kids=2
            stat /zookeeper/config -> c=0 m=0 p=0 v=0/0/-1 owner=0 bytes=0 kids=0
            getacl /zookeeper/config -> world:anyone:1
            count / -> 3
        "#]],
    );
}

#[test]
fn stats_change_as_in_the_table() {
    check(
        "create /a data=xy; stat /a; create /a/b; stat /a; set /a xyz; stat /a; delete /a/b; stat /a; stat /",
        expect![[r#"
            create /a data=xy -> /a +/a
            stat /a -> c=2 m=2 p=2 v=0/0/0 owner=0 bytes=2 kids=0
            create /a/b -> /a/b +/a/b
            stat /a -> c=2 m=2 p=3 v=0/1/0 owner=0 bytes=2 kids=1
            set /a xyz -> v1 ~/a
            stat /a -> c=2 m=4 p=3 v=1/1/0 owner=0 bytes=3 kids=1
            delete /a/b -> ok -/a/b
            stat /a -> c=2 m=4 p=5 v=1/2/0 owner=0 bytes=3 kids=0
            stat / -> c=0 m=0 p=2 v=0/0/0 owner=0 bytes=0 kids=2
        "#]],
    );
}

#[test]
fn multi_is_all_or_nothing() {
    check(
        "create /a; multi [create /a/b | check /a version=7 | delete /a]; stat /a; multi [create /a/s flags=3 | create /a/s flags=2 op=create2 | set /a x | delete /a version=0 | create /zz]; ls /a; multi [create /a/s flags=3 | create /a/s flags=2 op=create2 | set /a x | create /a/b | delete /a/b]; ls /a; stat /a",
        expect![[r#"
            create /a -> /a +/a
            multi [create /a/b | check /a version=7 | delete /a] -> [0 | BadVersion | RuntimeInconsistency]
            stat /a -> c=2 m=2 p=2 v=0/0/0 owner=0 bytes=0 kids=0
            multi [create /a/s flags=3 | create /a/s flags=2 op=create2 | set /a x | delete /a version=0 | create /zz] -> [0 | 0 | 0 | BadVersion | RuntimeInconsistency]
            ls /a -> 
            multi [create /a/s flags=3 | create /a/s flags=2 op=create2 | set /a x | create /a/b | delete /a/b] -> [/a/s0000000000 | /a/s0000000001@5 | v1 | /a/b | ok] +/a/s0000000000 +/a/s0000000001 ~/a +/a/b -/a/b
            ls /a -> s0000000000 s0000000001
            stat /a -> c=2 m=5 p=5 v=1/4/0 owner=0 bytes=1 kids=2
        "#]],
    );
}

#[test]
fn ephemerals_go_with_their_session() {
    check(
        "2: open; 2: create /e flags=1; 2: create /f flags=1; 2: create /e/x; 2: ephemerals; 2: close; ls /; 2: create /x; stat /",
        expect![[r#"
            2: open -> opened
            2: create /e flags=1 -> /e +/e
            2: create /f flags=1 -> /f +/f
            2: create /e/x -> NoChildrenForEphemerals
            2: ephemerals -> /e /f
            2: close -> closed -/f -/e
            ls / -> zookeeper
            2: create /x -> SessionExpired
            stat / -> c=0 m=0 p=6 v=0/3/0 owner=0 bytes=0 kids=1
        "#]],
    );
}
