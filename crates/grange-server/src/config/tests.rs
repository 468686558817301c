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
    let ignored: Vec<&str> = config.ignored.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(ignored, ["initLimit", "syncLimit"]);
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
