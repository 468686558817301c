use std::io::Write;

use expect_test::{Expect, expect};

use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::Builder::new().prefix("zoo").suffix(".cfg").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut raw = RawConfig::default();
    raw.read_file(file.path())?;
    Config::try_from(raw)
}

fn refused(text: &str, expected: &Expect) {
    let message = read(text).unwrap_err().to_string();
    let shown: Vec<&str> =
        message.lines().map(|line| line.split_once(".cfg:").map_or(line, |(_, rest)| rest)).collect();
    expected.assert_eq(&shown.join("\n"));
}

#[test]
fn a_usual_file_is_understood() {
    let config = read(
        "# sample\ntickTime=2000\ninitLimit=10\nsyncLimit 5\ndataDir=/var/lib/\\\n  zookeeper\n\
         clientPort: 2182\nclientPortAddress=127.0.0.1\n4lw.commands.whitelist=ruok, mntr\nzookeeper.skipACL=yes\n",
    )
    .unwrap();
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:2182");
    assert_eq!(config.storage.place, DataPlace::Directory { data: "/var/lib/zookeeper".into(), log: None });
    assert_eq!(config.sessions, SessionConfig { tick_ms: 2000, timeout_ms_min: 4000, timeout_ms_max: 40_000 });
    assert!(config.policy.skip_acl);
    assert_eq!((config.ensemble.init_limit, config.ensemble.sync_limit), (10, 5));
    assert!(config.ensemble.is_alone() && config.ignored.is_empty());
}

#[test]
fn a_port_alone_means_every_address() {
    assert_eq!(read("dataDir=/d\nclientPort=2181").unwrap().listen.address.to_string(), "[::]:2181");
    assert_eq!(read("dataDir=/d").unwrap().listen.address.to_string(), "127.0.0.1:2181");
}

#[test]
fn every_problem_is_reported_with_its_place() {
    refused(
        "clientPort=70000\ntickTime=abc\nminSessionTimeout=60000\nmaxSessionTimeout=40000\nskipACL=maybe\n\
         jute.maxbuffer=0x7fffffff\nDigestAuthenticationProvider.superDigest=root:x\n",
        &expect![[r#"
            1: clientPort is 70000; it must be a number from 0 to 65535
            dataDir is missing: say where data is kept
            6: jute.maxbuffer is 0x7fffffff; it must be a number of bytes from 1024 to 16777216
            2: tickTime is abc; it must be a number from 1 to 3600000
            3: minSessionTimeout is 60000 ms; it must not exceed maxSessionTimeout (40000 ms)
            5: skipACL is maybe; it must be one of true, yes, false, no
            7: DigestAuthenticationProvider.superDigest is not in the form super:HASH"#]],
    );
}

#[test]
fn a_flag_wins_and_is_named_in_messages() {
    let mut raw = RawConfig::default();
    raw.set_flag(Key::DataDir, "--data", "/d");
    raw.set_flag(Key::Listen, "--listen", "nonsense");
    let message = Config::try_from(raw).unwrap_err().to_string();
    assert!(message.starts_with("--listen is nonsense; it must be ADDRESS:PORT"), "{message}");
}

#[test]
fn numbers_of_bytes_take_the_forms_of_java() {
    let bytes = |text: &str| read(&format!("dataDir=/d\njute.maxbuffer={text}")).unwrap().limits.frame_bytes_max;
    assert_eq!((bytes("0xfffff"), bytes("#fffff"), bytes("2048"), bytes("010000")), (0xf_ffff, 0xf_ffff, 2048, 4096));
}

#[test]
fn a_log_segment_holds_the_largest_frames() {
    assert_eq!(read("dataDir=/d").unwrap().storage.segment_bytes, 64 << 20);
    assert_eq!(read("dataDir=/d\npreAllocSize=8192").unwrap().storage.segment_bytes, 8 << 20);
    refused(
        "dataDir=/d\npreAllocSize=100",
        &expect!["2: preAllocSize is 100; it must be a number from 8192 to 1048576"],
    );
    refused(
        "dataDir=/d\npreAllocSize=8192\njute.maxbuffer=16777216",
        &expect!["2: preAllocSize is 8192; with this jute.maxbuffer it must be at least 65536"],
    );
}

#[test]
fn nothing_is_purged_when_the_interval_is_0() {
    assert_eq!(read("dataDir=/d").unwrap().storage.snapshots_kept, Some(3));
    assert_eq!(read("dataDir=/d\nautopurge.purgeInterval=24").unwrap().storage.snapshots_kept, Some(3));
    assert_eq!(read("dataDir=/d\nautopurge.purgeInterval=0").unwrap().storage.snapshots_kept, None);
}

#[test]
fn an_embedded_server_is_out_of_everybodys_way() {
    let config = Config::embedded();
    assert_eq!(
        (config.listen.address.to_string().as_str(), config.storage.place),
        ("127.0.0.1:0", DataPlace::Temporary)
    );
}

/// Reads a file whose data directory has `myid`; `DATA` in the text stands for that directory.
fn read_with_id(id: &str, text: &str) -> Result<Config, ConfigError> {
    let data = tempfile::tempdir().unwrap();
    if !id.is_empty() {
        std::fs::write(data.path().join("myid"), id).unwrap();
    }
    read(&format!("dataDir={}\n{text}", data.path().display()))
}

fn refused_with_id(id: &str, text: &str, expected: &Expect) {
    let message = read_with_id(id, text).unwrap_err().to_string();
    let shown: Vec<String> = message
        .lines()
        .map(|line| match line.split_once(" > ") {
            // A temporary directory has another name each time.
            Some((before, _)) => before.to_owned(),
            None => line.split_once(".cfg:").or(line.split_once("/myid:")).map_or(line, |(_, rest)| rest).to_owned(),
        })
        .collect();
    expected.assert_eq(&shown.join("\n"));
}

const THREE: &str = "server.1=a:2888:3888;2181\nserver.3=c:2888:3888:observer\nserver.2=b:2888:3888\n";

#[test]
fn an_ensemble_is_its_lines_and_a_number() {
    let config = read_with_id("1\n", &format!("{THREE}readonlymode.enabled=true\n")).unwrap();
    let ensemble = &config.ensemble;
    assert_eq!(ensemble.servers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(ensemble.participants().collect::<Vec<_>>(), [1, 2]);
    assert_eq!((ensemble.server_id, ensemble.read_only_mode, ensemble.is_alone()), (1, true, false));
    assert!(config.four_letter.allows(crate::four_letter::Word::Isro), "clients of the read-only mode ask it");
    assert_eq!(config.listen.address.to_string(), "[::]:2181", "the line says where clients connect");
    let config = read_with_id("1", &format!("myid=2\nclientPort=2190\n{THREE}")).unwrap();
    assert_eq!((config.ensemble.server_id, config.listen.address.port()), (2, 2190));
}

#[test]
fn one_line_is_a_server_that_stands_alone_and_keeps_its_number() {
    let config = read_with_id("7", "server.7=a:2888:3888").unwrap();
    assert!(config.ensemble.is_alone());
    assert_eq!(config.ensemble.server_id, 7);
    assert!(!read_with_id("7", "standaloneEnabled=false\nserver.7=a:2888:3888").unwrap().ensemble.is_alone());
    assert_eq!(read("dataDir=/d").unwrap().ensemble.server_id, 0);
    let unused = read_with_id("replace this text", "clientPort=2181").unwrap();
    assert_eq!(unused.ensemble.server_id, 0, "packages install such a file");
}

#[test]
fn every_problem_of_an_ensemble_is_reported_with_its_place() {
    refused_with_id(
        "9",
        "server.1=a:2888\nserver.0=b:1:2\nserver.x=c:1:2\npeerType=leader\nsyncLimit=0\nserver.2=b:1:2\nserver.3=c:1:2",
        &expect![[r#"
            2: server.1 is a:2888: the second port is missing; the form is HOST:PORT:PORT[:participant|:observer][;[ADDRESS:]CLIENTPORT]
            3: server.0 names no server: a number from 1 to 255 must follow the point
            4: server.x names no server: a number from 1 to 255 must follow the point
            5: peerType is leader; it must be participant or observer
            6: syncLimit is 0; it must be a number from 1 to 1000000"#]],
    );
    refused_with_id(
        "",
        THREE,
        &expect!["myid is missing: there are lines server.N, so say which of them this server is: echo 1"],
    );
    refused_with_id("four", THREE, &expect![[r#"1: myid is "four"; it must be a number from 1 to 255"#]]);
    refused_with_id("4", THREE, &expect!["myid is 4, but there is no line server.4; there are 1, 2, 3"]);
    refused_with_id(
        "1",
        &format!("clientPort=2182\n{THREE}server.4=a:2888:3888"),
        &expect![[r#"
        server.4 has the address of server.1 (a:2888)
        2: clientPort is 2182, but the line server.1 says 2181"#]],
    );
    refused_with_id(
        "1",
        "server.1=a:1:2:observer\nserver.2=b:1:2:observer",
        &expect!["server.N has observers only; at least one server must be a participant"],
    );
}

#[test]
fn a_part_that_the_line_contradicts_has_no_effect() {
    let config = read_with_id("1", &format!("{THREE}peerType=observer\n")).unwrap();
    assert_eq!(config.ignored[0].name, "peerType");
    assert!(read_with_id("3", &format!("{THREE}peerType=observer\n")).unwrap().ignored.is_empty());
}

#[test]
fn lines_may_be_in_a_file_of_their_own() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(format!("{THREE}version=100000000\n").as_bytes()).unwrap();
    let path = file.path().display();
    let config = read_with_id("2", &format!("dynamicConfigFile={path}\n")).unwrap();
    assert_eq!(config.ensemble.servers.len(), 3);
    let message = read_with_id("2", &format!("dynamicConfigFile={path}\n{THREE}")).unwrap_err().to_string();
    assert!(message.contains(":2: dynamicConfigFile cannot be combined"), "{message}");
    let message = read_with_id("2", "dynamicConfigFile=/nowhere/dynamic\n").unwrap_err().to_string();
    assert!(message.contains("dynamicConfigFile is no use: cannot read /nowhere/dynamic"), "{message}");
}

#[test]
fn certificates_are_named_by_pem_files() {
    let pem = "ssl.quorum.keyStore.location=/k.pem\nssl.quorum.trustStore.location=/ca.pem\n";
    let config = read_with_id("1", &format!("{THREE}sslQuorum=true\n{pem}")).unwrap();
    let files = TlsFiles { key_store: "/k.pem".into(), trust_store: "/ca.pem".into() };
    assert_eq!(config.ensemble.tls, Some(files));
    assert_eq!(read_with_id("1", &format!("{THREE}{pem}")).unwrap().ensemble.tls, None);
    refused_with_id(
        "1",
        &format!("sslQuorum=true\nssl.quorum.keyStore.location=/k.jks\n{THREE}"),
        &expect![[r#"
        3: ssl.quorum.keyStore.location is /k.jks; only PEM files can be read, with this server's key and certificate
        ssl.quorum.trustStore.location is missing: with sslQuorum it names a PEM file with the certificates of the authorities"#]],
    );
}
