//! Two thousand hosts at once, and what that costs whoever follows them and the server.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use grange_client::{ConnectOptions, ServerAddress, Servers};
use grange_farm::Filter;
use grange_farm::conf::{Format, LineOptions, Target};
use grange_farm::export::{Decision, Exporter, Exporting, Form, Limits, Settle};
use grange_farm::join::{Direction, Health, Joining, join};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::server::{Fixture, Kind, LONG_SESSION, PATIENCE};

const HOSTS: usize = 2_000;
const SETTLE: Duration = Duration::from_millis(200);

fn options(address: SocketAddr) -> ConnectOptions {
    let server = ServerAddress { host: address.ip().to_string(), port: address.port() };
    let mut options = ConnectOptions::new(Servers::of(vec![server]).unwrap());
    options.session_timeout = LONG_SESSION;
    options.connect_timeout = PATIENCE;
    options
}

/// Asks the server how often it has done what.
fn counts(address: SocketAddr) -> BTreeMap<String, u64> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"mntr").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let figures = text.lines().filter_map(|line| line.strip_prefix("zk_op_count_")?.split_once('\t'));
    figures.map(|(op, count)| (op.to_owned(), count.parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_joins_costs_one_read_and_a_file_is_written_once_per_settle_time() {
    let fixture = Fixture::new(Kind::Grange).unwrap();
    let root = tempfile::tempdir().unwrap();
    let farm: grange_client::ZnodePath = fixture.path.parse().unwrap();
    let exporting = Exporting {
        farm: farm.clone(),
        path: root.path().join("farm.json"),
        form: Form::Target(Target::Conf(Format::Json), LineOptions::new("farm").unwrap()),
        filter: Filter::default(),
        limits: Limits { hosts_min: 0, drop_percent_max: 100.0, window: Duration::ZERO },
        settle: Settle::new(SETTLE, SETTLE),
    };
    let mut exporter = Exporter::open(fixture.client().await, exporting).await.unwrap();
    let conf = root.path().join("host.json");
    fs::write(&conf, r#"{"enabled": "1"}"#).unwrap();

    let (stop, stopped) = watch::channel(false);
    let (_well, health) = watch::channel(Health::Well);
    let mut hosts = JoinSet::new();
    for index in 0..HOSTS {
        let joining = Joining {
            due: None,
            farm: farm.clone(),
            name: Some(format!("h{index:04}")),
            path: conf.clone(),
            format: Format::Json,
            direction: Direction::ToFarm,
            hostname: None,
            health_field: None,
        };
        let (events, mut told) = mpsc::channel(16);
        hosts.spawn(async move { while told.recv().await.is_some() {} });
        let (options, health, stopped) = (options(fixture.address), health.clone(), stopped.clone());
        hosts.spawn(async move { join(joining, options, health, events, stopped).await.unwrap() });
    }

    let mut written = Vec::new();
    let everybody = async {
        loop {
            let Decision::Install(prepared) = exporter.next().await.unwrap() else { continue };
            let hosts = prepared.hosts;
            exporter.install(prepared).unwrap();
            written.push(Instant::now());
            if hosts == HOSTS {
                return;
            }
        }
    };
    timeout(4 * PATIENCE, everybody).await.expect("everybody joins in time");
    // The first one comes at once.
    assert!(written.len() > 1);
    for pair in written[1..].windows(2) {
        assert!(pair[1] - pair[0] >= SETTLE, "{written:?}");
    }
    let (reads, counts) = (exporter.reads(), counts(fixture.address));
    let count = |op: &str| counts.get(op).copied().unwrap_or_default();
    // Each host that came, and each change of the farm's own size, was read once.
    let changes = u64::try_from(HOSTS).unwrap() + count("setData");
    assert!(reads.data <= changes + 3, "{reads:?} for {changes} changes, {counts:?}");
    assert!(reads.lists <= 3, "{reads:?}");
    let lists = count("getChildren") + count("getChildren2");
    assert!(lists <= 3, "nobody lists the farm: {counts:?}");

    stop.send(true).unwrap();
    while let Some(ended) = hosts.join_next().await {
        ended.unwrap();
    }
}
