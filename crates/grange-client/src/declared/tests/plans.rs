//! What plans say, and that carrying them out leaves nothing to do.

use std::path::Path;
use std::sync::Arc;

use grange_proto::acl::{Acl, Perms};
use proptest::prelude::*;

use super::model::{Server, Znode};
use crate::auth::Auth;
use crate::declared::acl::{digest_id, parse_entry};
use crate::declared::{
    Action, Caller, Declared, DeclaredData, DeclaredZnode, Kind, Location, Plan, PlanOptions, Why, plan,
};

fn me() -> Caller {
    Caller::of(&Auth::parse_lines("digest:me:secret", "test").unwrap())
}

fn mine() -> Vec<Acl> {
    vec![Acl { perms: Perms::ALL, id: digest_id("me", "secret") }]
}

fn list(entries: &[&str]) -> Vec<Acl> {
    entries.iter().map(|text| parse_entry(text).unwrap()).collect()
}

fn znode(data: DeclaredData, acl: Option<Vec<Acl>>) -> DeclaredZnode {
    let location = Location::new(Arc::from(Path::new("f")), 1);
    DeclaredZnode { data, acl, kind: Kind::Persistent, makes_parents: false, is_sensitive: false, location }
}

fn declared(znodes: Vec<(&str, DeclaredZnode)>) -> Declared {
    let znodes = znodes.into_iter().map(|(path, znode)| (path.to_owned(), znode)).collect();
    Declared { znodes, ..Declared::default() }
}

fn made(server: &Server, declared: &Declared, options: PlanOptions) -> Plan {
    plan(declared, &server.live(declared), &server.caller, options)
}

const PRUNES: PlanOptions = PlanOptions { prunes: true, allows_lockout: false };
const LOCKS_OUT: PlanOptions = PlanOptions { prunes: false, allows_lockout: true };

fn apply(server: &mut Server, plan: &Plan) {
    for step in plan.steps() {
        server.step(&step).unwrap();
    }
}

fn obstacles(plan: &Plan) -> Vec<(&str, String)> {
    plan.obstacles.iter().map(|obstacle| (obstacle.path.as_str(), obstacle.why.to_string())).collect()
}

#[test]
fn data_for_the_creation_is_not_restored() {
    let mut server = Server::new(me());
    let wanted = declared(vec![
        ("/a", znode(DeclaredData::Initially(b"first".to_vec()), None)),
        ("/b", znode(DeclaredData::Exactly(b"always".to_vec()), None)),
    ]);
    let first = made(&server, &wanted, PlanOptions::default());
    apply(&mut server, &first);
    for path in ["/a", "/b"] {
        server.znodes.get_mut(path).unwrap().data = b"other".to_vec();
    }
    let again = made(&server, &wanted, PlanOptions::default());
    assert_eq!(again.changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["/b"]);
}

#[test]
fn a_parent_must_exist_or_be_declared_or_be_asked_for() {
    let server = Server::new(me());
    let mut deep = znode(DeclaredData::Any, Some(mine()));
    let plan = made(&server, &declared(vec![("/a/b/c", deep.clone())]), PlanOptions::default());
    assert_eq!(obstacles(&plan), [("/a/b/c", "its parent /a/b neither exists nor is declared".to_owned())]);
    deep.makes_parents = true;
    let plan = made(&server, &declared(vec![("/a/b/c", deep)]), PlanOptions::default());
    let created: Vec<_> = plan.changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(created, ["/a", "/a/b", "/a/b/c"]);
    assert!(plan.changes.iter().all(|change| matches!(&change.action, Action::Create { acl, .. } if *acl == mine())));
}

#[test]
fn the_caller_is_not_locked_out_unless_he_says_so() {
    let mut server = Server::new(me());
    server.znodes.insert("/a".to_owned(), Znode::new(b"", mine()));
    let wanted = declared(vec![("/a", znode(DeclaredData::Any, Some(list(&["world:anyone:cdrw"]))))]);
    let refused = made(&server, &wanted, PlanOptions::default());
    assert_eq!((refused.changes.len(), refused.obstacles[0].why.clone()), (0, Why::Lockout));
    let permitted = made(&server, &wanted, LOCKS_OUT);
    apply(&mut server, &permitted);
    assert!(made(&server, &wanted, PlanOptions::default()).is_empty());
}

#[test]
fn a_new_parent_that_shuts_the_caller_out_gets_its_acl_last() {
    let mut server = Server::new(me());
    let foreign = list(&["sasl:other:cdrwa"]);
    let wanted = declared(vec![
        ("/a", znode(DeclaredData::Any, Some(foreign.clone()))),
        ("/a/b", znode(DeclaredData::Any, Some(foreign.clone()))),
    ]);
    assert_eq!(made(&server, &wanted, PlanOptions::default()).obstacles[0].why, Why::Lockout);
    let permitted = made(&server, &wanted, LOCKS_OUT);
    apply(&mut server, &permitted);
    assert_eq!((&server.znodes["/a"].acl, &server.znodes["/a/b"].acl), (&foreign, &foreign));
    let nobody = Server::new(Caller::default());
    assert_eq!(made(&nobody, &wanted, LOCKS_OUT).obstacles[0].why, Why::NobodysChildren);
}

#[test]
fn an_acl_that_other_changes_need_comes_first() {
    let mut server = Server::new(me());
    let admin_only = vec![Acl { perms: Perms::ADMIN, id: digest_id("me", "secret") }];
    for path in ["/a", "/a/old"] {
        server.znodes.insert(path.to_owned(), Znode::new(b"", admin_only.clone()));
    }
    let wanted = declared(vec![
        ("/a", znode(DeclaredData::Exactly(b"new".to_vec()), Some(mine()))),
        ("/a/b", znode(DeclaredData::Any, Some(mine()))),
    ]);
    let plan = made(&server, &wanted, PRUNES);
    apply(&mut server, &plan);
    assert!(made(&server, &wanted, PRUNES).is_empty());
    assert_eq!(server.znodes["/a"].data, b"new");
}

#[test]
fn only_what_is_below_the_roots_is_pruned() {
    let mut server = Server::new(me());
    for path in ["/a", "/a/x", "/a/x/y", "/a/e", "/a/e/f", "/a/k", "/a/k/named", "/ab", "/b", "/b/x"] {
        server.znodes.insert(path.to_owned(), Znode::new(b"", mine()));
    }
    server.znodes.get_mut("/a/e/f").unwrap().is_ephemeral = true;
    let wanted = declared(vec![("/a", znode(DeclaredData::Any, None)), ("/a/k/named", znode(DeclaredData::Any, None))]);
    let looked = made(&server, &wanted, PlanOptions::default());
    assert!(looked.changes.is_empty());
    assert_eq!(looked.unnamed, ["/a/e", "/a/k", "/a/x", "/a/x/y"]);
    let pruned = made(&server, &wanted, PRUNES);
    assert_eq!(pruned.counts(), (0, 0, 2));
    assert_eq!(pruned.unnamed, ["/a/e", "/a/k"]);
    apply(&mut server, &pruned);
    assert!(!server.znodes.contains_key("/a/x") && server.znodes.contains_key("/a/e/f"));
}

#[test]
fn an_ephemeral_znode_is_in_the_way() {
    let mut server = Server::new(me());
    server.znodes.insert("/a".to_owned(), Znode { is_ephemeral: true, ..Znode::new(b"", mine()) });
    let any = || znode(DeclaredData::Any, None);
    let plan = made(&server, &declared(vec![("/a", any()), ("/a/b", any())]), PRUNES);
    assert_eq!(
        plan.obstacles.iter().map(|obstacle| obstacle.why.clone()).collect::<Vec<_>>(),
        [Why::Ephemeral, Why::EphemeralParent("/a".to_owned())]
    );
}

#[test]
fn another_password_is_named_without_its_hash() {
    let mut server = Server::new(me());
    let with = |password| [mine(), vec![Acl { perms: Perms::READ, id: digest_id("bob", password) }]].concat();
    server.znodes.insert("/a".to_owned(), Znode::new(b"", with("old")));
    let wanted = declared(vec![("/a", znode(DeclaredData::Any, Some(with("new"))))]);
    let plan = made(&server, &wanted, PlanOptions::default());
    let Action::Change { acl: Some(acl), .. } = &plan.changes[0].action else { panic!("the ACL changes: {plan:?}") };
    let entries = acl.entries();
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|change| change.entry == "digest:bob:r" && change.is_another_password), "{entries:?}");
}

/// Lists in most of which the caller has admin.
fn any_acl() -> impl Strategy<Value = Vec<Acl>> {
    let caller = prop_oneof![
        3 => Just(mine()),
        1 => (0..32).prop_map(|perms| vec![Acl { perms: Perms(perms | Perms::ADMIN.0), id: digest_id("me", "secret") }]),
        1 => Just(Vec::new()),
    ];
    let other = prop_oneof![
        Just(Vec::new()),
        (1..32).prop_map(|perms| vec![Acl { perms: Perms(perms), ..list(&["sasl:x:r"])[0].clone() }])
    ];
    (caller, other)
        .prop_map(|(caller, other)| [caller, other].concat())
        .prop_filter("servers refuse an empty list", |acl| !acl.is_empty())
}

fn any_data() -> impl Strategy<Value = DeclaredData> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..3);
    prop_oneof![
        Just(DeclaredData::Any),
        bytes().prop_map(DeclaredData::Initially),
        bytes().prop_map(DeclaredData::Exactly),
    ]
}

fn any_path() -> impl Strategy<Value = String> {
    "/[ab-]{1,2}(/[ab-]{1,2}){0,2}"
}

fn any_declared() -> impl Strategy<Value = Declared> {
    let any_znode = (any_data(), proptest::option::of(any_acl()), proptest::bool::weighted(0.9))
        .prop_map(|(data, acl, makes_parents)| DeclaredZnode { makes_parents, ..znode(data, acl) });
    let znodes = proptest::collection::btree_map(any_path(), any_znode, 0..8);
    znodes.prop_map(|znodes| Declared { znodes, ..Declared::default() })
}

/// A tree in which the caller may at least change every ACL.
fn any_server() -> impl Strategy<Value = Server> {
    let znodes = proptest::collection::vec((any_path(), any::<bool>()), 0..8);
    znodes.prop_map(|paths| {
        let mut server = Server::new(me());
        for (path, is_open) in paths {
            let acl = if is_open { Acl::open() } else { mine() };
            let above: Vec<_> = crate::declared::model::ancestors(&path).map(str::to_owned).collect();
            for path in above.into_iter().chain([path]) {
                server.znodes.entry(path).or_insert_with(|| Znode::new(b"live", acl.clone()));
            }
        }
        server
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_global_rejects: 10_000, ..ProptestConfig::default() })]

    /// Carried out to its end, a plan leaves nothing to do; ended between any two steps, the next one does the rest.
    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do(
        declared in any_declared(),
        server in any_server(),
        prunes: bool,
        killed_after in 0..6usize,
    ) {
        let options = PlanOptions { prunes, allows_lockout: true };
        let mut server = server;
        let plan = made(&server, &declared, options);
        prop_assume!(plan.obstacles.is_empty());
        let steps = plan.steps();
        for step in steps.iter().take(killed_after) {
            // Not everything is permitted to everybody; what is, must happen in an order in which it works.
            let done = server.step(step);
            prop_assert!(done.as_ref().map_or_else(|error| error.starts_with("no "), |()| true), "{done:?}");
            prop_assume!(done.is_ok());
        }
        let rest = made(&server, &declared, options);
        prop_assert!(rest.obstacles.is_empty(), "{:?}", rest.obstacles);
        for step in rest.steps() {
            let done = server.step(&step);
            prop_assert!(done.as_ref().map_or_else(|error| error.starts_with("no "), |()| true), "{done:?}");
            prop_assume!(done.is_ok());
        }
        let nothing = made(&server, &declared, options);
        prop_assert!(nothing.is_empty(), "{:?}", nothing);
    }

    /// Without `--prune` nothing goes, and with it nothing outside of the roots, and nothing that is declared.
    #[test]
    fn deletions_stay_within_their_bounds(declared in any_declared(), server in any_server()) {
        prop_assert_eq!(made(&server, &declared, PlanOptions::default()).counts().2, 0);
        let pruned = made(&server, &declared, PlanOptions { prunes: true, allows_lockout: true });
        for change in pruned.changes.iter().filter(|change| matches!(change.action, Action::Delete { .. })) {
            prop_assert!(!declared.znodes.contains_key(&change.path));
            prop_assert!(declared.roots().any(|root| crate::declared::model::is_below(&change.path, root)));
        }
    }
}
