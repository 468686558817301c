//! The rules of server.md §1.4 to §1.14, one script each.

use expect_test::expect;
use grange_proto::{SessionId, Zxid};
use grange_tree::{ChangeKind, EPHEMERALS_PER_STEP_MAX, Identities, Policy, Session};

use crate::model::{chunks, restore};
use crate::script::{Run, check};

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
            multi [create /a/s flags=3 | create /a/s flags=2 op=create2 | set /a x | create /a/b | delete /a/b] -> [/a/s0000000000 | /a/s0000000001 | v1 | /a/b | ok] +/a/s0000000000 +/a/s0000000001 ~/a +/a/b -/a/b
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

#[test]
fn create_asks_in_apaches_order() {
    check(
        "create a; create /; create //x; create /a/; create /nope/x; create /nope/./x; create /nope/x acl=none; \
         create /a flags=9; create /a flags=9 acl=none; create /a flags=-1; create /./x; create /x/..; create /a data=1; \
         create /a acl=none; create /a; create /a/ ; create / flags=2; create /a/ flags=2; create /a// flags=2; create /zookeeper/x; \
         create /b acl=world:x:31; create /b acl=foo:x:31; create /b acl=digest:x:31; create /b acl=digest:a:b:c:31; \
         create /b acl=ip:1.2.3:31; create /b acl=ip:1.2.3.4/33:31; create /b acl=ip:1.2.3.4/8:31; create /d acl=auth::31; \
         create /d acl=super::31; create /d acl=digest:a:b::31; getacl /d; create /x acl=sasl:u:31; create /x acl=x509:CN=a:31; \
         2: open; 2: create /e flags=1; 2: create /e/x; 2: create /e/x flags=2; 2: create /e/..; 2: create /e; 2: create /e/x acl=none; stat /; ls /",
        expect![[r#"
            create a -> BadArguments
            create / -> NodeExists
            create //x -> BadArguments
            create /a/ -> NoNode
            create /nope/x -> NoNode
            create /nope/./x -> NoNode
            create /nope/x acl=none -> InvalidAcl
            create /a flags=9 -> BadArguments
            create /a flags=9 acl=none -> BadArguments
            create /a flags=-1 -> BadArguments
            create /./x -> NoNode
            create /x/.. -> NoNode
            create /a data=1 -> /a +/a
            create /a acl=none -> InvalidAcl
            create /a -> NodeExists
            create /a/ -> BadArguments
            create / flags=2 -> /0000000001 +/0000000001
            create /a/ flags=2 -> /a/0000000000 +/a/0000000000
            create /a// flags=2 -> NoNode
            create /zookeeper/x -> /zookeeper/x +/zookeeper/x
            create /b acl=world:x:31 -> InvalidAcl
            create /b acl=foo:x:31 -> InvalidAcl
            create /b acl=digest:x:31 -> InvalidAcl
            create /b acl=digest:a:b:c:31 -> InvalidAcl
            create /b acl=ip:1.2.3:31 -> InvalidAcl
            create /b acl=ip:1.2.3.4/33:31 -> InvalidAcl
            create /b acl=ip:1.2.3.4/8:31 -> /b +/b
            create /d acl=auth::31 -> InvalidAcl
            create /d acl=super::31 -> InvalidAcl
            create /d acl=digest:a:b::31 -> /d +/d
            getacl /d -> NoAuth
            create /x acl=sasl:u:31 -> InvalidAcl
            create /x acl=x509:CN=a:31 -> InvalidAcl
            2: open -> opened
            2: create /e flags=1 -> /e +/e
            2: create /e/x -> NoChildrenForEphemerals
            2: create /e/x flags=2 -> NoChildrenForEphemerals
            2: create /e/.. -> BadArguments
            2: create /e -> NodeExists
            2: create /e/x acl=none -> InvalidAcl
            stat / -> c=0 m=0 p=35 v=0/4/0 owner=0 bytes=0 kids=6
            ls / -> 0000000001 a b d e zookeeper
        "#]],
    );
}

#[test]
fn delete_asks_in_apaches_order() {
    check(
        "delete a; delete /; delete /zookeeper; delete /zookeeper/quota; delete /zookeeper/config; delete /nope; \
         delete /nope/x; create /a; create /a/b; delete /a; delete /a version=3; delete /a/b version=1; delete //a; \
         delete /a/; delete /a/b/; delete /a/.; delete /a/b version=0; delete /a; stat /; create /p acl=world:anyone:1; \
         delete /p/x; delete /p version=4; delete /p",
        expect![[r#"
            delete a -> BadArguments
            delete / -> BadArguments
            delete /zookeeper -> BadArguments
            delete /zookeeper/quota -> BadArguments
            delete /zookeeper/config -> BadArguments
            delete /nope -> NoNode
            delete /nope/x -> NoNode
            create /a -> /a +/a
            create /a/b -> /a/b +/a/b
            delete /a -> NotEmpty
            delete /a version=3 -> BadVersion
            delete /a/b version=1 -> BadVersion
            delete //a -> NoNode
            delete /a/ -> NoNode
            delete /a/b/ -> NoNode
            delete /a/. -> NoNode
            delete /a/b version=0 -> ok -/a/b
            delete /a -> ok -/a
            stat / -> c=0 m=0 p=19 v=0/1/0 owner=0 bytes=0 kids=1
            create /p acl=world:anyone:1 -> /p +/p
            delete /p/x -> NoAuth
            delete /p version=4 -> BadVersion
            delete /p -> ok -/p
        "#]],
    );
}

#[test]
fn set_data_and_set_acl_ask_in_apaches_order() {
    check(
        "set nope x; set /nope x; set /a/ x; set / x; get /; set / y version=0; set / y version=1; set /zookeeper/config x; \
         create /a; setacl /a none; setacl /nope none; setacl nope none; setacl /a/ none; setacl /nope world:anyone:1; \
         setacl /a world:anyone:31 version=1; setacl /a world:anyone:1 version=0; setacl /a world:anyone:31; set /a x; \
         set /a x version=9; create /a/b; create /a/b acl=none; get /a; getacl /a; stat /a; delete /a; \
         multi [check /a]; multi [check /a version=0]; multi [check /a version=1]; multi [check /nope version=1]; multi [check nope]",
        expect![[r#"
            set nope x -> BadArguments
            set /nope x -> NoNode
            set /a/ x -> BadArguments
            set / x -> v1 ~/
            get / -> x
            set / y version=0 -> BadVersion
            set / y version=1 -> v2 ~/
            set /zookeeper/config x -> NoAuth
            create /a -> /a +/a
            setacl /a none -> InvalidAcl
            setacl /nope none -> InvalidAcl
            setacl nope none -> BadArguments
            setacl /a/ none -> BadArguments
            setacl /nope world:anyone:1 -> NoNode
            setacl /a world:anyone:31 version=1 -> BadVersion
            setacl /a world:anyone:1 version=0 -> a1
            setacl /a world:anyone:31 -> NoAuth
            set /a x -> NoAuth
            set /a x version=9 -> NoAuth
            create /a/b -> NoAuth
            create /a/b acl=none -> InvalidAcl
            get /a -> 
            getacl /a -> world:anyone:1
            stat /a -> c=9 m=9 p=9 v=0/0/1 owner=0 bytes=0 kids=0
            delete /a -> ok -/a
            multi [check /a] -> [NoNode]
            multi [check /a version=0] -> [NoNode]
            multi [check /a version=1] -> [NoNode]
            multi [check /nope version=1] -> [NoNode]
            multi [check nope] -> [BadArguments]
        "#]],
    );
}

#[test]
fn sequence_numbers_count_creations() {
    check(
        "create /q; create /q/s flags=2; create /q/x; create /q/s flags=2; delete /q/x; create /q/ flags=2; \
         create /q/s flags=3; ls /q; stat /q; multi [create /q/m flags=2 | create /q/x | create /q/m flags=3]; \
         multi [create /q/m flags=2 | create /q/x]; create /q/s flags=2; create /q/s flags=2 op=create2",
        expect![[r#"
            create /q -> /q +/q
            create /q/s flags=2 -> /q/s0000000000 +/q/s0000000000
            create /q/x -> /q/x +/q/x
            create /q/s flags=2 -> /q/s0000000002 +/q/s0000000002
            delete /q/x -> ok -/q/x
            create /q/ flags=2 -> /q/0000000003 +/q/0000000003
            create /q/s flags=3 -> /q/s0000000004 +/q/s0000000004
            ls /q -> 0000000003 s0000000000 s0000000002 s0000000004
            stat /q -> c=2 m=2 p=8 v=0/6/0 owner=0 bytes=0 kids=4
            multi [create /q/m flags=2 | create /q/x | create /q/m flags=3] -> [/q/m0000000005 | /q/x | /q/m0000000007] +/q/m0000000005 +/q/x +/q/m0000000007
            multi [create /q/m flags=2 | create /q/x] -> [0 | NodeExists]
            create /q/s flags=2 -> /q/s0000000008 +/q/s0000000008
            create /q/s flags=2 op=create2 -> /q/s0000000009 +/q/s0000000009
        "#]],
    );
}

#[test]
fn null_data_is_not_empty_data() {
    check(
        "create /n data=null; get /n; stat /n; set /n; get /n; set /n null; get /n; stat /n",
        expect![[r#"
        create /n data=null -> /n +/n
        get /n -> null
        stat /n -> c=2 m=2 p=2 v=0/0/0 owner=0 bytes=0 kids=0
        set /n -> v1 ~/n
        get /n -> 
        set /n null -> v2 ~/n
        get /n -> null
        stat /n -> c=2 m=4 p=2 v=2/0/0 owner=0 bytes=0 kids=0
    "#]],
    );
}

#[test]
fn access_is_granted_by_any_bit_to_any_identity() {
    check(
        "auth digest u:p; auth digest v:q; create /own acl=auth::31; getacl /own; create /r acl=digest:u:p:31,world:anyone:1,world:anyone:1; \
         create /w acl=digest:u:p:31,world:anyone:2; create /c acl=digest:u:p:31,world:anyone:12; create /adm acl=digest:u:p:31,world:anyone:16; \
         create /ip acl=ip:127.0.0.1:31; create /ipn acl=ip:127.0.0.0/8:31; create /ipo acl=ip:10.0.0.0/8:31; \
         2: open; 2: auth ip 127.0.0.1; 2: get /own; 2: getacl /own; 2: ls /own; 2: get /r; 2: getacl /r; 2: set /r x; 2: delete /r; 2: create /r/x; \
         2: set /w x; 2: get /w; 2: getacl /w; 2: create /c/x; 2: delete /c/x; 2: get /c; 2: count /c; 2: getacl /adm; 2: setacl /adm world:anyone:31; \
         2: get /adm; 2: get /ip; 2: get /ipn; 2: get /ipo; 2: multi [check /own]; 2: multi [check /r]; 2: create /own/x; 2: delete /own; \
         2: create /x acl=auth::31; 2: auth digest u:p; 2: get /own; 2: getacl /own; 2: getacl /r",
        expect![[r#"
            auth digest u:p -> ok
            auth digest v:q -> ok
            create /own acl=auth::31 -> /own +/own
            getacl /own -> digest:u:p:31,digest:v:q:31
            create /r acl=digest:u:p:31,world:anyone:1,world:anyone:1 -> /r +/r
            create /w acl=digest:u:p:31,world:anyone:2 -> /w +/w
            create /c acl=digest:u:p:31,world:anyone:12 -> /c +/c
            create /adm acl=digest:u:p:31,world:anyone:16 -> /adm +/adm
            create /ip acl=ip:127.0.0.1:31 -> /ip +/ip
            create /ipn acl=ip:127.0.0.0/8:31 -> /ipn +/ipn
            create /ipo acl=ip:10.0.0.0/8:31 -> /ipo +/ipo
            2: open -> opened
            2: auth ip 127.0.0.1 -> ok
            2: get /own -> NoAuth
            2: getacl /own -> NoAuth
            2: ls /own -> NoAuth
            2: get /r -> 
            2: getacl /r -> digest:u:x:31,world:anyone:1
            2: set /r x -> NoAuth
            2: delete /r -> ok -/r
            2: create /r/x -> NoNode
            2: set /w x -> v1 ~/w
            2: get /w -> NoAuth
            2: getacl /w -> NoAuth
            2: create /c/x -> /c/x +/c/x
            2: delete /c/x -> ok -/c/x
            2: get /c -> NoAuth
            2: count /c -> NoAuth
            2: getacl /adm -> digest:u:p:31,world:anyone:16
            2: setacl /adm world:anyone:31 -> a1
            2: get /adm -> 
            2: get /ip -> 
            2: get /ipn -> 
            2: get /ipo -> NoAuth
            2: multi [check /own] -> [NoAuth]
            2: multi [check /r] -> [NoNode]
            2: create /own/x -> NoAuth
            2: delete /own -> ok -/own
            2: create /x acl=auth::31 -> InvalidAcl
            2: auth digest u:p -> ok
            2: get /own -> NoNode
            2: getacl /own -> NoNode
            2: getacl /r -> NoNode
        "#]],
    );
}

#[test]
fn multi_sees_its_own_writes() {
    check(
        "create /a; multi [create /a/b | create /a/b/c | set /a/b 1 | check /a/b version=1 | delete /a/b/c | delete /a/b version=1 | create /a/b]; \
         stat /a; stat /a/b; multi [delete /a/b | delete /a | create /a | set /a z | create /a/e flags=1]; stat /a; get /a; ephemerals; \
         multi [create /a/e/x]; multi [delete /a/e | create /a/e | create /a/e/x]; ephemerals; multi [create bad | create /ok]; multi [create /ok acl=none]; \
         multi [create /k flags=4 op=container | create /k2 op=create2]; multi [delete /nope]; multi [delete /]; multi [set /a x version=5]; \
         multi [create /x flags=9]; multi [create /x | create /x]; multi [create /x/y]; stat /",
        expect![[r#"
            create /a -> /a +/a
            multi [create /a/b | create /a/b/c | set /a/b 1 | check /a/b version=1 | delete /a/b/c | delete /a/b version=1 | create /a/b] -> [/a/b | /a/b/c | v1 | ok | ok | ok | /a/b] +/a/b +/a/b/c ~/a/b -/a/b/c -/a/b +/a/b
            stat /a -> c=2 m=2 p=3 v=0/3/0 owner=0 bytes=0 kids=1
            stat /a/b -> c=3 m=3 p=3 v=0/0/0 owner=0 bytes=0 kids=0
            multi [delete /a/b | delete /a | create /a | set /a z | create /a/e flags=1] -> [ok | ok | /a | v1 | /a/e] -/a/b -/a +/a ~/a +/a/e
            stat /a -> c=4 m=4 p=4 v=1/1/0 owner=0 bytes=1 kids=1
            get /a -> z
            ephemerals -> /a/e
            multi [create /a/e/x] -> [NoChildrenForEphemerals]
            multi [delete /a/e | create /a/e | create /a/e/x] -> [ok | /a/e | /a/e/x] -/a/e +/a/e +/a/e/x
            ephemerals -> 
            multi [create bad | create /ok] -> [BadArguments | RuntimeInconsistency]
            multi [create /ok acl=none] -> [InvalidAcl]
            multi [create /k flags=4 op=container | create /k2 op=create2] -> [/k@9 | /k2] +/k +/k2
            multi [delete /nope] -> [NoNode]
            multi [delete /] -> [BadArguments]
            multi [set /a x version=5] -> [BadVersion]
            multi [create /x flags=9] -> [BadArguments]
            multi [create /x | create /x] -> [0 | NodeExists]
            multi [create /x/y] -> [NoNode]
            stat / -> c=0 m=0 p=9 v=0/4/0 owner=0 bytes=0 kids=4
        "#]],
    );
}

#[test]
fn reads_of_odd_paths_find_nothing() {
    check(
        "create /a; create /a/b; create /a/b/c; get nope; get /nope; get /a/; get //a; exists /a; exists a; exists /a/b/; ls a; ls /a; \
         getacl /nope; count /a; count /a/b; count /nope; count /; ephemerals; create /a/x flags=1; create /ab flags=1; ephemerals /a; \
         ephemerals /; ephemerals /a/; ephemerals a",
        expect![[r#"
            create /a -> /a +/a
            create /a/b -> /a/b +/a/b
            create /a/b/c -> /a/b/c +/a/b/c
            get nope -> NoNode
            get /nope -> NoNode
            get /a/ -> NoNode
            get //a -> NoNode
            exists /a -> v0
            exists a -> NoNode
            exists /a/b/ -> NoNode
            ls a -> NoNode
            ls /a -> b
            getacl /nope -> NoNode
            count /a -> 2
            count /a/b -> 1
            count /nope -> NoNode
            count / -> 6
            ephemerals -> 
            create /a/x flags=1 -> /a/x +/a/x
            create /ab flags=1 -> /ab +/ab
            ephemerals /a -> /a/x /ab
            ephemerals / -> /a/x /ab
            ephemerals /a/ -> /a/x
            ephemerals a -> 
        "#]],
    );
}

#[test]
fn quotas_are_kept_in_znodes() {
    check(
        "quota on; create /a data=xx; create /a/b data=yyy; create /zookeeper/quota/a; \
         create /zookeeper/quota/a/zookeeper_limits data=count=3,bytes=-1; create /zookeeper/quota/a/zookeeper_stats; \
         get /zookeeper/quota/a/zookeeper_stats; create /a/c data=z; get /zookeeper/quota/a/zookeeper_stats; create /a/d; \
         set /a/b 12345; get /zookeeper/quota/a/zookeeper_stats; delete /a/d; get /zookeeper/quota/a/zookeeper_stats; \
         set /zookeeper/quota/a/zookeeper_limits count=3,bytes=-1,countHardLimit=3,byteHardLimit=20; create /a/d; set /a/b 123456789012345678901; \
         set /a/b 12345678901234567; get /zookeeper/quota/a/zookeeper_stats; set /a/b 1 version=7; set /a/b null; get /zookeeper/quota/a/zookeeper_stats; \
         multi [delete /a/c | create /a/c | delete /a/c | delete /nope]; get /zookeeper/quota/a/zookeeper_stats; \
         stat /zookeeper/quota/a/zookeeper_stats; create /ab; delete /zookeeper/quota/a/zookeeper_limits; create /a/q data=qq; \
         get /zookeeper/quota/a/zookeeper_stats; create /zookeeper/quota/zookeeper_limits data=count=1,bytes=1; create /r; create /s",
        expect![[r#"
            quota on -> ok
            create /a data=xx -> /a +/a
            create /a/b data=yyy -> /a/b +/a/b
            create /zookeeper/quota/a -> /zookeeper/quota/a +/zookeeper/quota/a
            create /zookeeper/quota/a/zookeeper_limits data=count=3,bytes=-1 -> /zookeeper/quota/a/zookeeper_limits +/zookeeper/quota/a/zookeeper_limits
            create /zookeeper/quota/a/zookeeper_stats -> /zookeeper/quota/a/zookeeper_stats +/zookeeper/quota/a/zookeeper_stats
            get /zookeeper/quota/a/zookeeper_stats -> count=2,bytes=5
            create /a/c data=z -> /a/c +/a/c
            get /zookeeper/quota/a/zookeeper_stats -> count=3,bytes=6
            create /a/d -> /a/d +/a/d
            set /a/b 12345 -> v1 ~/a/b
            get /zookeeper/quota/a/zookeeper_stats -> count=4,bytes=8
            delete /a/d -> ok -/a/d
            get /zookeeper/quota/a/zookeeper_stats -> count=3,bytes=8
            set /zookeeper/quota/a/zookeeper_limits count=3,bytes=-1,countHardLimit=3,byteHardLimit=20 -> v1 ~/zookeeper/quota/a/zookeeper_limits
            create /a/d -> QuotaExceeded
            set /a/b 123456789012345678901 -> QuotaExceeded
            set /a/b 12345678901234567 -> v2 ~/a/b
            get /zookeeper/quota/a/zookeeper_stats -> count=3,bytes=20
            set /a/b 1 version=7 -> BadVersion
            set /a/b null -> v3 ~/a/b
            get /zookeeper/quota/a/zookeeper_stats -> count=3,bytes=3
            multi [delete /a/c | create /a/c | delete /a/c | delete /nope] -> [0 | 0 | 0 | NoNode]
            get /zookeeper/quota/a/zookeeper_stats -> count=3,bytes=3
            stat /zookeeper/quota/a/zookeeper_stats -> c=6 m=6 p=6 v=0/0/0 owner=0 bytes=15 kids=0
            create /ab -> /ab +/ab
            delete /zookeeper/quota/a/zookeeper_limits -> ok -/zookeeper/quota/a/zookeeper_limits
            create /a/q data=qq -> /a/q +/a/q
            get /zookeeper/quota/a/zookeeper_stats -> count=3,bytes=3
            create /zookeeper/quota/zookeeper_limits data=count=1,bytes=1 -> /zookeeper/quota/zookeeper_limits +/zookeeper/quota/zookeeper_limits
            create /r -> /r +/r
            create /s -> /s +/s
        "#]],
    );
}

#[test]
fn containers_and_times_to_live_end_when_they_are_due() {
    check(
        "create /c flags=4 op=container; create /n flags=4 op=container; create /t flags=5 ttl=50 op=ttl; create /t/x; stat /t; reapable never=500; \
         create /c/x; reapable never=500; delete /c/x; reapable; reap /c; reap /n; delete /t/x; time 1050; reapable; time 1051; reapable; \
         set /t y; reapable; reap /t; time 1102; reapable; reap /t; create /p; reap /p; create /e flags=1; reap /e; reap /nope; reap /; \
         create /x flags=5 ttl=0 op=ttl; create /x flags=5 ttl=-1 op=ttl; create /x flags=5; create /x flags=0 ttl=5 op=ttl; \
         create /x- flags=6 ttl=1099511627775 op=ttl; create /x flags=6 ttl=1099511627776 op=ttl; create /n2 flags=4 op=container; time 9000; reapable; reapable never=500",
        expect![[r#"
            create /c flags=4 op=container -> /c +/c
            create /n flags=4 op=container -> /n +/n
            create /t flags=5 ttl=50 op=ttl -> /t +/t
            create /t/x -> /t/x +/t/x
            stat /t -> c=4 m=4 p=5 v=0/1/0 owner=0 bytes=0 kids=1
            reapable never=500 -> 
            create /c/x -> /c/x +/c/x
            reapable never=500 -> 
            delete /c/x -> ok -/c/x
            reapable -> /c
            reap /c -> ok -/c
            reap /n -> ok -/n
            delete /t/x -> ok -/t/x
            time 1050 -> ok
            reapable -> 
            time 1051 -> ok
            reapable -> /t
            set /t y -> v1 ~/t
            reapable -> 
            reap /t -> BadVersion
            time 1102 -> ok
            reapable -> /t
            reap /t -> ok -/t
            create /p -> /p +/p
            reap /p -> BadVersion
            create /e flags=1 -> /e +/e
            reap /e -> BadVersion
            reap /nope -> NoNode
            reap / -> BadArguments
            create /x flags=5 ttl=0 op=ttl -> BadArguments
            create /x flags=5 ttl=-1 op=ttl -> BadArguments
            create /x flags=5 -> BadArguments
            create /x flags=0 ttl=5 op=ttl -> BadArguments
            create /x- flags=6 ttl=1099511627775 op=ttl -> /x-0000000005 +/x-0000000005
            create /x flags=6 ttl=1099511627776 op=ttl -> BadArguments
            create /n2 flags=4 op=container -> /n2 +/n2
            time 9000 -> ok
            reapable -> 
            reapable never=500 -> /n2
        "#]],
    );
}

#[test]
fn a_session_must_be_open_to_write() {
    check(
        "2: create /x; 2: multi [create /x]; 2: open; 2: open; 0: open; 2: create /x; 2: close; 2: close; 2: set /x y; 2: multi []; 2: open; 2: set /x y",
        expect![[r#"
            2: create /x -> SessionExpired
            2: multi [create /x] -> SessionExpired
            2: open -> opened
            2: open -> BadArguments
            0: open -> BadArguments
            2: create /x -> /x +/x
            2: close -> closed
            2: close -> SessionExpired
            2: set /x y -> SessionExpired
            2: multi [] -> SessionExpired
            2: open -> opened
            2: set /x y -> v1 ~/x
        "#]],
    );
}

#[test]
fn the_form_of_a_result_in_a_multi_follows_the_flags() {
    check(
        "multi [create /a flags=4 | create /b flags=0 op=create2 | create /c flags=0 op=container | create /d flags=4 op=container]; \
         multi [create /e flags=4 op=create2]; multi [create /t flags=5 ttl=9 op=ttl | create /u flags=1]; multi [create /v flags=5]; stat /c; stat /a; \
         multi [create /w flags=0 ttl=5 op=ttl]; multi [create /w flags=5 ttl=0 op=ttl]; multi [create /w flags=5 ttl=-1 op=ttl]; \
         multi [create /w flags=9 ttl=5 op=ttl]; multi [create /w flags=9]; multi [create /w flags=6 op=create2]; \
         multi [create /w flags=6 ttl=1099511627776 op=ttl]; multi [create bad | create /v flags=5]; multi [create /w flags=5 op=container]; \
         multi [create /w flags=4 ttl=5 op=ttl]; create /f flags=4; create /g flags=0 op=container; create /h flags=4 op=create2; create /i flags=1 op=container",
        expect![[r#"
            multi [create /a flags=4 | create /b flags=0 op=create2 | create /c flags=0 op=container | create /d flags=4 op=container] -> [/a@2 | /b | /c | /d@2] +/a +/b +/c +/d
            multi [create /e flags=4 op=create2] -> [/e@3] +/e
            multi [create /t flags=5 ttl=9 op=ttl | create /u flags=1] -> [/t@4 | /u] +/t +/u
            multi [create /v flags=5] -> MarshallingError
            stat /c -> c=2 m=2 p=2 v=0/0/0 owner=0 bytes=0 kids=0
            stat /a -> c=2 m=2 p=2 v=0/0/0 owner=0 bytes=0 kids=0
            multi [create /w flags=0 ttl=5 op=ttl] -> [/w] +/w
            multi [create /w flags=5 ttl=0 op=ttl] -> [BadArguments]
            multi [create /w flags=5 ttl=-1 op=ttl] -> [BadArguments]
            multi [create /w flags=9 ttl=5 op=ttl] -> [BadArguments]
            multi [create /w flags=9] -> [BadArguments]
            multi [create /w flags=6 op=create2] -> MarshallingError
            multi [create /w flags=6 ttl=1099511627776 op=ttl] -> [BadArguments]
            multi [create bad | create /v flags=5] -> [BadArguments | RuntimeInconsistency]
            multi [create /w flags=5 op=container] -> MarshallingError
            multi [create /w flags=4 ttl=5 op=ttl] -> [NodeExists]
            create /f flags=4 -> /f +/f
            create /g flags=0 op=container -> /g +/g
            create /h flags=4 op=create2 -> /h +/h
            create /i flags=1 op=container -> /i +/i
        "#]],
    );
}

/// Checked against Apache 3.8.0: outside a multi the operation decides whether a znode is a container.
#[test]
fn a_container_is_what_create_container_makes() {
    check(
        "create /p flags=4; create /p/x; delete /p/x; create /k flags=1 op=container; stat /k; create /k/x; delete /k/x; \
         create /s flags=3 op=container; reapable; multi [create /m flags=4]; create /m/x; delete /m/x; reapable; \
         create /no flags=5 op=container",
        expect![[r#"
            create /p flags=4 -> /p +/p
            create /p/x -> /p/x +/p/x
            delete /p/x -> ok -/p/x
            create /k flags=1 op=container -> /k +/k
            stat /k -> c=5 m=5 p=5 v=0/0/0 owner=0 bytes=0 kids=0
            create /k/x -> /k/x +/k/x
            delete /k/x -> ok -/k/x
            create /s flags=3 op=container -> /s0000000002 +/s0000000002
            reapable -> /k
            multi [create /m flags=4] -> [/m@9] +/m
            create /m/x -> /m/x +/m/x
            delete /m/x -> ok -/m/x
            reapable -> /k /m
            create /no flags=5 op=container -> BadArguments
        "#]],
    );
}

#[test]
fn a_rich_session_closes_in_steps() {
    let mut run = Run::new();
    run.statement("2: open");
    for n in 0..2 * EPHEMERALS_PER_STEP_MAX + 1 {
        run.statement(&format!("2: create /e{n} flags=1"));
    }
    for (step, left) in [("2: close", EPHEMERALS_PER_STEP_MAX + 1), ("2: end", 1)] {
        assert!(run.statement(step).starts_with("closing -/e"));
        assert_eq!(run.changes.len(), EPHEMERALS_PER_STEP_MAX);
        assert_eq!(run.tree.ephemeral_count(), left);
        assert!(run.tree.session(SessionId(2)).is_some_and(Session::is_closing));
        for late in ["2: create /x", "2: close", "2: move 5"] {
            assert_eq!(run.statement(late), "SessionExpired");
        }
        // A member that starts from a snapshot goes on in the middle.
        run.tree = restore(&chunks(&run.tree.snapshot()));
    }
    assert_eq!(run.statement("2: end"), "closed -/e0");
    assert_eq!((run.tree.session_count(), run.tree.node_count()), (1, 4));
}

/// What a client sent on its old connection must not come after what it sends on its new one.
#[test]
fn a_session_that_moved_is_served_by_its_new_member_only() {
    check(
        "by 1; 2: open; 2: create /a flags=1; 2: move 3; 2: set /a x; 2: close; 2: multi [check /a]; by 3; 2: set /a x; \
         by 1; 2: end; 2: move 1",
        expect![[r#"
            by 1 -> ok
            2: open -> opened
            2: create /a flags=1 -> /a +/a
            2: move 3 -> ok
            2: set /a x -> SessionMoved
            2: close -> SessionMoved
            2: multi [check /a] -> SessionMoved
            by 3 -> ok
            2: set /a x -> v1 ~/a
            by 1 -> ok
            2: end -> closed -/a
            2: move 1 -> SessionExpired
        "#]],
    );
}

#[test]
fn ephemerals_far_from_the_root_go_in_smaller_steps() {
    let mut run = Run::new();
    let mut path = String::new();
    for _ in 0..200 {
        path.push_str("/d");
        run.statement(&format!("create {path}"));
    }
    for n in 0..150 {
        run.statement(&format!("create {path}/e{n} flags=1"));
    }
    assert!(run.statement("close").starts_with("closing"));
    assert!(run.statement("end").starts_with("closed"));
    assert_eq!(run.tree.node_count(), 204);
}

#[test]
fn a_path_may_have_very_many_components() {
    let mut run = Run::new();
    let mut path = String::new();
    for _ in 0..1500 {
        path.push_str("/d");
        assert!(run.statement(&format!("create {path}")).starts_with('/'));
    }
    assert_eq!(run.statement("count /d"), "1499");
    assert_eq!(run.statement(&format!("get {}", "/d".repeat(100_000))), "NoNode");
    run.tree = restore(&chunks(&run.tree.snapshot()));
    assert_eq!(run.statement(&format!("set {path} x")), format!("v1 ~{path}"));
}

#[test]
fn a_refused_request_takes_its_number_too() {
    let mut run = Run::new();
    run.tree.apply_refused(Zxid(7));
    assert_eq!(
        (run.tree.last_zxid(), run.statement("create /a"), run.tree.last_zxid()),
        (Zxid(7), "/a +/a".to_owned(), Zxid(8))
    );
}

#[test]
fn changes_carry_the_acls_that_their_watchers_must_satisfy() {
    let mut run = Run::new();
    run.statement("auth digest u:h");
    run.statement("create /p acl=auth::31");
    let (nobody, policy) = (Identities::new(), Policy::default());
    for statement in ["create /p/x", "multi [set /p y | create /p/z acl=world:anyone:2]", "delete /p/z"] {
        run.statement(statement);
        for change in run.changes.iter() {
            let is_hidden = change.path == "/p" || change.path == "/p/z";
            assert_eq!(run.tree.may_read(change.acl, &nobody, policy), !is_hidden, "{change:?}");
            let is_listed = change.kind != ChangeKind::DataChanged;
            assert_eq!(run.tree.may_read(change.parent_acl, &nobody, policy), !is_listed, "{change:?}");
        }
    }
    assert!(run.tree.may_read(None, &nobody, policy));
}

#[test]
fn soft_quotas_are_counted_and_hard_ones_too_when_they_are_not_enforced() {
    let mut run = Run::new();
    for statement in [
        "create /zookeeper/quota/a",
        "create /zookeeper/quota/a/zookeeper_limits data=count=1,bytes=-1,countHardLimit=1,byteHardLimit=-1",
        "create /zookeeper/quota/a/zookeeper_stats",
        "create /a",
        "create /a/b",
    ] {
        assert!(run.statement(statement).starts_with('/'));
    }
    assert_eq!(run.tree.soft_quota_exceeded_count(), 1);
}
