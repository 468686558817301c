//! Whoever does not belong to the ensemble is not let in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::super::hello::{self, Hello, HelloError, Purpose};
use super::*;
use crate::config::TlsFiles;

fn hello_of(server_id: u8, expects: u8) -> Hello {
    let member = Member { id: MemberId(7), server_id, spec: "h:1:2".parse().unwrap() };
    let identity = Identity { member, run: 1, cluster_id: None, is_blank: true };
    Hello { identity, purpose: Purpose::Messages, expects }
}

fn answer_to(address: SocketAddr, bytes: &[u8]) -> Result<Identity, HelloError> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    hello::read_answer(&mut stream)
}

#[test]
fn strangers_are_refused_and_counted() {
    let (listener, address) = listen();
    let fake = FakeConfig::new(1, &listener, &[(1, address)]).start();
    let refusal = |bytes: &[u8]| match answer_to(address, bytes) {
        Err(HelloError::Refused(why)) => why,
        Err(HelloError::Io(_)) => "closed".to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "closed");
    let mut long = hello_of(2, 1).encode();
    long[10..12].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(refusal(&long), "closed", "nobody waits for 64 KiB");
    assert_eq!(refusal(&hello_of(2, 3).encode()), "server 2 looks for server 3 at the address of server 1");
    assert_eq!(refusal(&hello_of(1, 1).encode()), "another server has the number 1 too");
    let mut copied = hello_of(2, 1);
    copied.identity.member.id = MemberId(0x101);
    assert!(refusal(&copied.encode()).starts_with("server 2 has a copy of the data directory of server 1"));
    // It says nothing at all.
    let mut silent = TcpStream::connect(address).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0, "its time is up");
    fake.wait_for("refused", |stats| stats.refused.get(), 6);
    assert!(fake.inbox.is_empty());
    assert!(answer_to(address, &hello_of(2, 1).encode()).is_ok());
}

#[test]
fn servers_of_two_ensembles_never_talk() {
    let ((listen_a, at_a), (listen_b, at_b)) = (listen(), listen());
    let servers = [(1, at_a), (2, at_b)];
    let member_of = |id, config| FakeConfig { cluster_id: Some([id; 16]), is_blank: false, ..config };
    let a = member_of(1, FakeConfig::new(1, &listen_a, &servers)).start();
    let b = member_of(2, FakeConfig::new(2, &listen_b, &servers)).start();
    a.wait_for("refused", |stats| stats.refused.get(), 2);
    b.wait_for("refused", |stats| stats.refused.get(), 2);
    assert!(a.inbox.is_empty() && b.inbox.is_empty());
}

#[test]
fn a_new_server_leaves_the_others_when_it_joins_one_ensemble() {
    let ((listen_a, at_a), (listen_b, at_b)) = (listen(), listen());
    let servers = [(1, at_a), (2, at_b)];
    let config = FakeConfig::new(1, &listen_a, &servers);
    let a = FakeConfig { cluster_id: Some([1; 16]), is_blank: false, ..config }.start();
    let b = FakeConfig::new(2, &listen_b, &servers).start();
    a.until("up 102 blank");
    b.until("up 101");
    b.peers.has_data();
    b.peers.set_cluster_id([2; 16]);
    a.until("down 102");
    b.until("down 101");
    a.wait_for("refused", |stats| stats.refused.get(), 2);
}

/// Writes a key, its certificate and the certificate of the authority.
fn certified(dir: &Path, name: &str, authority: &(KeyPair, CertificateParams)) -> TlsFiles {
    let (authority_key, authority_params) = authority;
    let authority_certificate = authority_params.self_signed(authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([format!("{name}.example")]).unwrap();
    let certificate = params.signed_by(&key, &Issuer::from_params(authority_params, authority_key)).unwrap();
    let files =
        TlsFiles { key_store: dir.join(format!("{name}.pem")), trust_store: dir.join(format!("{name}-ca.pem")) };
    std::fs::write(&files.key_store, key.serialize_pem() + &certificate.pem()).unwrap();
    std::fs::write(&files.trust_store, authority_certificate.pem()).unwrap();
    files
}

fn authority() -> (KeyPair, CertificateParams) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (KeyPair::generate().unwrap(), params)
}

#[test]
fn members_with_certificates_of_one_authority_are_linked() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority();
    let ((listen_a, at_a), (listen_b, at_b)) = (listen(), listen());
    let servers = [(1, at_a), (2, at_b)];
    let tls = |name| Some(TlsContext::load(&certified(dir.path(), name, &authority)).unwrap());
    let a = FakeConfig { tls: tls("a"), ..FakeConfig::new(1, &listen_a, &servers) }.start();
    let b = FakeConfig { tls: tls("b"), ..FakeConfig::new(2, &listen_b, &servers) }.start();
    a.until("up 102 blank");
    b.until("up 101 blank");
    for number in 0..100 {
        a.send(0x102, format!("message {number}").as_bytes());
    }
    let large = vec![3; 10 << 20];
    a.send(0x102, &large);
    let mut expected: Vec<String> = (0..100).map(|number| format!("101: message {number}")).collect();
    expected.push(format!("101: {} bytes", large.len()));
    assert_eq!(b.until(expected.last().unwrap()), expected);
    // An idle link stays.
    b.wait_for("bytes_received", |stats| stats.bytes_received.get(), b.stats.bytes_received.get() + 40);
    assert!(b.inbox.is_empty() && a.inbox.is_empty());
}

#[test]
fn without_the_right_certificate_nobody_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (authority(), authority());
    let ((listen_a, at_a), (listen_b, at_b), (listen_c, at_c)) = (listen(), listen(), listen());
    let servers = [(1, at_a), (2, at_b), (3, at_c)];
    let right_files = certified(dir.path(), "a", &right);
    let mut wrong_files = certified(dir.path(), "b", &wrong);
    // It trusts the right authority, but has no certificate of it.
    wrong_files.trust_store.clone_from(&right_files.trust_store);
    let tls = |files| Some(TlsContext::load(files).unwrap());
    let a = FakeConfig { tls: tls(&right_files), ..FakeConfig::new(1, &listen_a, &servers) }.start();
    let b = FakeConfig { tls: tls(&wrong_files), ..FakeConfig::new(2, &listen_b, &servers) }.start();
    let c = FakeConfig::new(3, &listen_c, &servers).start();
    // Two of b and two of c.
    a.wait_for("refused", |stats| stats.refused.get(), 4);
    for fake in [&a, &b, &c] {
        assert!(fake.inbox.is_empty(), "server {} is linked", fake.server_id);
    }
}

#[test]
fn files_that_are_no_use_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = certified(dir.path(), "a", &authority());
    let other = certified(dir.path(), "b", &authority());
    let message = |files: &TlsFiles| TlsContext::load(files).unwrap_err().to_string();
    let swapped = TlsFiles { key_store: files.trust_store.clone(), trust_store: files.trust_store.clone() };
    assert!(message(&swapped).starts_with("there is no private key without a password in "), "{}", message(&swapped));
    let missing = TlsFiles { key_store: dir.path().join("none.pem"), ..files.clone() };
    assert!(message(&missing).starts_with("cannot read certificates from "), "{}", message(&missing));
    let mixed = std::fs::read_to_string(&files.key_store).unwrap().split("-----BEGIN CERT").next().unwrap().to_owned()
        + &std::fs::read_to_string(&other.trust_store).unwrap();
    std::fs::write(&other.key_store, mixed).unwrap();
    let mixed = TlsFiles { key_store: other.key_store, ..files };
    assert!(message(&mixed).starts_with("the key and certificate in "), "{}", message(&mixed));
}
