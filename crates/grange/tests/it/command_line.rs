//! Exit statuses and messages that do not depend on a server.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use expect_test::expect;

use crate::program::{grange, run};

#[test]
fn wrong_usage_is_told_from_failure() {
    assert_eq!(run(grange().arg("shel"), b"").status, Some(2));
    assert_eq!(run(grange().args(["shell", "ls", "a"]), b"").status, Some(2));
    assert_eq!(run(grange().args(["--log-level", "a=b=c", "completions", "bash"]), b"").status, Some(2));
    expect![[r#"
        ! error: --servers is wrong: 'a:b' does not end with a port from 1 to 65535; an IPv6 address is written [address]:port
        exit 2
    "#]]
    .assert_eq(&run(grange().args(["shell", "--servers", "a:b", "ls"]), b"").to_string());
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let outcome = run(grange().args(["shell", "ls"]).env("GRANGE_SERVERS", &address), b"");
    assert_eq!(outcome.status, Some(3));
    assert!(outcome.stderr.contains(&format!("({address}: connection refused)")), "{outcome}");
    assert!(outcome.stderr.contains("hint: name the servers with --servers"), "{outcome}");
}

#[test]
fn credentials_that_others_can_read_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("auth");
    std::fs::write(&path, "digest:user:secret").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let outcome = run(grange().args(["shell", "ls", "--auth-file"]).arg(&path), b"");
    assert_eq!(outcome.status, Some(2));
    assert!(outcome.stderr.contains("has mode 0644"), "{outcome}");
    assert!(!outcome.stderr.contains("secret"), "{outcome}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = grange().arg("man").stdout(Stdio::from(OwnedFd::from(writer))).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = run(grange().args(["completions", shell]), b"");
        assert!(outcome.status == Some(0) && outcome.stdout.len() > 1000, "{shell}: {outcome}");
    }
    let directory = tempfile::tempdir().unwrap();
    let outcome = run(grange().args(["man", "--directory"]).arg(directory.path()), b"");
    assert_eq!(outcome.to_string(), "");
    let page = std::fs::read_to_string(directory.path().join("grange-shell-ls.1")).unwrap();
    assert!(page.contains("List the children of a znode"), "{page}");
}
