//! Large trees: out and in again, killed half-way, and a second time.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use super::{Site, Started};
use crate::program::run;
use crate::server::{Apache, Server};

/// How many znodes the tree has that goes out and in again, and how many on Apache's server, which is a slow starter.
const ZNODE_COUNT: usize = 10_000;
const ZNODE_COUNT_APACHE: usize = 2000;

/// How often a command is killed, unless `$GRANGE_TREE_KILLS` says more.
const KILLS: usize = 5;

#[test]
fn a_tree_comes_back_from_grange() {
    comes_back(&Started::new().server, ZNODE_COUNT);
}

#[test]
fn a_tree_comes_back_from_apache() {
    if let Some(server) = Apache::start() {
        comes_back(&server, ZNODE_COUNT_APACHE);
    }
}

/// A tree with every kind of data, name and ACL.
fn declaration(count: usize) -> String {
    let schemes = ["world:anyone:cdrwa", "digest:a:D/InIHSb7yEEbrWz8b9l71RjZJU=:rw", "ip:10.0.0.0/8:r", "auth::cdrwa"];
    let data = ["data = 'text'", "data_base64 = 'AAH/'", "data = ''", "data = \"é\\n\\u0000${x}\"", "data = '$${y}'"];
    let mut text = "[variables]\nx = 'X'\n[znodes.'/t']\n".to_owned();
    for n in 0..count.div_ceil(100) {
        writeln!(text, "[znodes.'/t/d {n} é日']\nacl = ['world:anyone:cdrwa']").unwrap();
    }
    for n in 0..count - count.div_ceil(100) {
        let (data, entry) = (data[n % data.len()], schemes[n % schemes.len()]);
        writeln!(text, "[znodes.'/t/d {} é日/\"{n}\" #']\n{data}\nacl = ['auth::cdrwa', '{entry}']", n / 100).unwrap();
    }
    text
}

fn comes_back(server: &dyn Server, count: usize) {
    let site = Site::new(server);
    site.put("t.toml", &declaration(count));
    let me = |arguments: &str| {
        let outcome = site.run_as("me:mine", arguments);
        assert_eq!(outcome.status, Some(0), "{arguments}: {}", outcome.stderr);
        outcome
    };
    assert_eq!(me("shell create /copy").to_string(), "/copy\n");
    let applied = me("tree apply t.toml").to_string();
    assert!(applied.ends_with(&format!("created {}, changed 0, deleted 0\n", count + 1)), "{}", tail(&applied));
    // Neither changes anything: a session costs so many transactions, and there are no others.
    let of_a_plan = transactions(server, || assert_eq!(me("tree plan t.toml").to_string(), "nothing to do\n"));
    let of_an_apply = transactions(server, || assert_eq!(me("tree apply t.toml").to_string(), "nothing to do\n"));
    assert_eq!(of_a_plan, of_an_apply);
    me("tree export /t --output out.toml");
    let copy = format!("{}/copy", server.servers());
    me(&format!("tree apply out.toml --servers {copy}"));
    me(&format!("tree export /t --servers {copy} --output again.toml"));
    let read = |name: &str| std::fs::read(site.directory.path().join(name)).unwrap();
    assert!(read("out.toml") == read("again.toml"), "the copy differs");
    assert!(read("out.toml").len() > count * 100);
}

fn tail(text: &str) -> &str {
    &text[text.len().saturating_sub(200)..]
}

/// Returns how far the server's transaction number goes up meanwhile.
fn transactions(server: &dyn Server, meanwhile: impl FnOnce()) -> u64 {
    let zxid = || {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(server.servers()).unwrap();
        stream.write_all(b"srvr").unwrap();
        stream.read_to_string(&mut answer).unwrap();
        let zxid = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x")).unwrap();
        u64::from_str_radix(zxid, 16).unwrap()
    };
    let before = zxid();
    meanwhile();
    zxid() - before
}

/// Killed at any moment, the same command does the rest, and there is nothing to clean up.
#[test]
fn what_is_killed_half_way_is_completed() {
    let started = Started::new();
    let site = Site::new(&started.server);
    site.put("t.toml", &declaration(3000));
    let mut seed = u64::from(std::process::id());
    let mut ends = Vec::new();
    let kills = std::env::var("GRANGE_TREE_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    for _ in 0..kills {
        let mut command = site.command("tree apply t.toml");
        command.env("GRANGE_AUTH", "digest:me:mine").stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        // Anything from before it connects until it is done: a plan of this size takes a third of a second here.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(seed >> 33 & 0x3ff));
        let was_done = process.try_wait().unwrap().is_some();
        process.kill().unwrap();
        process.wait().unwrap();
        let plan = run(site.command("tree plan --json t.toml").env("GRANGE_AUTH", "digest:me:mine"), b"").json();
        ends.push((was_done, plan["create"].as_u64().unwrap()));
        assert_eq!((plan["change"].as_u64(), plan["delete"].as_u64()), (Some(0), Some(0)), "{ends:?}");
        if plan["create"] == 0 {
            assert_eq!(site.run_as("me:mine", "shell deleteall /t").status, Some(0));
        }
    }
    let completed = site.run_as("me:mine", "tree apply t.toml");
    assert_eq!(completed.status, Some(0), "{}", completed.stderr);
    assert_eq!(site.run_as("me:mine", "tree diff t.toml").to_string(), "nothing to do\n");
}
