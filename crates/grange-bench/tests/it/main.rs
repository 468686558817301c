//! Whole runs against a server in this process that only answers, and misbehaves on demand.

mod answer;

use std::time::{Duration, Instant};

use grange_bench::{Afterwards, BenchError, Extent, Operation, Plan, Report};

use answer::{AnswerServer, Fault};

fn plan(server: &AnswerServer, operation: Operation, extent: Extent) -> Plan {
    Plan {
        servers: vec![server.address()],
        operation,
        connections: 3,
        in_flight: 8,
        threads: 2,
        value_bytes: 10,
        nodes: 2500,
        extent,
        warmup: Duration::ZERO,
        root: "/bench".to_owned(),
        afterwards: Afterwards::Delete,
        rate: None,
        server_pids: Vec::new(),
        session_timeout: Duration::from_secs(30),
        hold: Duration::ZERO,
        source_addresses: 1,
    }
}

fn run(operation: Operation, extent: Extent, fault: Fault) -> (Result<Report, BenchError>, AnswerServer) {
    let server = AnswerServer::start(fault);
    let report = grange_bench::run(&plan(&server, operation, extent));
    (report, server)
}

#[test]
fn every_operation_does_its_count_and_leaves_nothing_behind() {
    let operations = [
        Operation::Set,
        Operation::Get,
        Operation::Create,
        Operation::Exists,
        Operation::Children,
        Operation::Mixed(50),
        Operation::Ephemeral,
        Operation::Watch,
        Operation::Sync,
    ];
    for operation in operations {
        let (report, server) = run(operation, Extent::Count(1001), Fault::None);
        let report = report.unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.operations, report.latency.count), (1001, 1001), "{operation}");
        assert_eq!(server.znodes(), 0, "{operation}");
    }
}

#[test]
fn fill_and_delete_touch_each_znode_once() {
    for operation in [Operation::Fill, Operation::Delete] {
        let (report, server) = run(operation, Extent::Time(Duration::ZERO), Fault::None);
        let report = report.unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.operations, 2500);
        assert_eq!(server.znodes(), 0);
    }
}

#[test]
fn znodes_are_kept_on_demand_and_replaced_by_the_next_run() {
    let server = AnswerServer::start(Fault::None);
    let keep = Plan { afterwards: Afterwards::Keep, ..plan(&server, Operation::Fill, Extent::Count(1)) };
    grange_bench::run(&keep).unwrap();
    assert_eq!(server.znodes(), 2500 + 3 + 1);
    let report = grange_bench::run(&plan(&server, Operation::Get, Extent::Count(10))).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(server.znodes(), 0);
}

#[test]
fn the_znodes_of_others_are_not_touched() {
    let server = AnswerServer::start(Fault::None);
    server.put("/bench", b"payroll");
    let refused = grange_bench::run(&plan(&server, Operation::Get, Extent::Count(10)));
    assert!(matches!(refused, Err(BenchError::NotOurs(_))), "{refused:?}");
    assert_eq!(server.znodes(), 1);
}

#[test]
fn a_watch_fires_for_each_pair() {
    let (report, _server) = run(Operation::Watch, Extent::Count(600), Fault::None);
    assert_eq!(report.unwrap().events, 300);
}

#[test]
fn error_replies_are_counted_and_never_as_operations() {
    let (report, _server) = run(Operation::Get, Extent::Count(300), Fault::ErrorEvery(10));
    let report = report.unwrap();
    assert!(!report.is_clean());
    let errors: Vec<_> = report.errors.iter().map(|error| (error.code, error.name.as_str())).collect();
    assert_eq!(errors, [(-101, "NoNode (-101)")]);
    assert_eq!(report.operations + report.errors[0].count, 300);
}

#[test]
fn lost_connections_are_reported() {
    let (report, _server) = run(Operation::Get, Extent::Count(300), Fault::CloseAfter(10));
    let report = report.unwrap();
    assert_eq!((report.connections_lost, report.operations), (3, 30));
    assert_eq!(report.reasons, ["the server closed the connection"]);
}

#[test]
fn a_reply_to_another_request_is_reported() {
    let (report, _server) = run(Operation::Get, Extent::Count(300), Fault::WrongXidAfter(10));
    let report = report.unwrap();
    assert_eq!(report.connections_lost, 3);
    assert!(report.reasons[0].contains("where xid 11 is due"), "{:?}", report.reasons);
}

#[test]
fn a_value_of_another_size_is_reported() {
    let (report, _server) = run(Operation::Get, Extent::Count(300), Fault::ShortValueAfter(10));
    let report = report.unwrap();
    assert!(report.reasons[0].contains("has 97 bytes instead of 98"), "{:?}", report.reasons);
}

/// A stall of the server counts for every request that was due while it lasted.
#[test]
fn a_fixed_rate_does_not_wait_for_the_server() {
    const STALL: Duration = Duration::from_millis(300);
    let server = AnswerServer::start(Fault::StallOnceAt { request: 50, time: STALL });
    let plan = Plan {
        rate: Some(1000),
        connections: 1,
        threads: 1,
        in_flight: 1,
        ..plan(&server, Operation::Get, Extent::Count(400))
    };
    let started = Instant::now();
    let report = grange_bench::run(&plan).unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(started.elapsed() >= Duration::from_millis(399));
    // One request met the stall, but 300 were due during it: the slowest quarter waited for most of it.
    assert!(report.latency.max_us >= 300e3, "{report}");
    assert!(report.latency.p90_us >= 150e3, "{report}");
}

#[test]
fn a_duration_ends_the_measurement() {
    let (report, _server) = run(Operation::Set, Extent::Time(Duration::from_millis(200)), Fault::None);
    let report = report.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!((0.2..5.0).contains(&report.seconds) && report.operations > 0, "{report}");
}

#[test]
fn sessions_are_opened_held_and_closed() {
    let server = AnswerServer::start(Fault::None);
    let plan = Plan {
        session_timeout: Duration::from_millis(150),
        hold: Duration::from_millis(200),
        source_addresses: 3,
        ..plan(&server, Operation::Sessions, Extent::Count(50))
    };
    let report = grange_bench::run(&plan).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.operations, 50);
    assert!(report.idle.unwrap().pings >= 50, "{report}");
    server.wait_until_closed(50);
}

/// Each connection has a thread at this server, so the answers come in any order.
#[test]
fn sessions_that_are_refused_are_reported_and_the_others_counted() {
    let (report, server) = run(Operation::Sessions, Extent::Count(60), Fault::SessionRefusedEvery(4));
    let report = report.unwrap();
    assert_eq!((report.operations, report.latency.count, report.connections_lost), (45, 45, 15));
    assert_eq!(report.reasons, ["the server refuses the session"]);
    server.wait_until_closed(45);
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let server = AnswerServer::start(Fault::None);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = Plan { servers: vec![nobody], ..plan(&server, Operation::Set, Extent::Count(1)) };
    assert!(matches!(grange_bench::run(&plan), Err(BenchError::Connect { .. })));
}
