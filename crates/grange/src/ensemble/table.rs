//! The forms of a status: a table for people, an object for programs.

use grange_client::ensemble::{Behind, ServerReport, ServerStatus, Status};
use serde_json::{Value, json};

const HEADS: [&str; 9] = ["SERVER", "ROLE", "MODE", "ZXID", "BEHIND", "CONNS", "LATENCY MS", "VERSION", "ADDRESS"];
/// Stands where nothing is known.
const NOTHING: &str = "-";
/// The most characters of a version that are shown.
const VERSION_CHARS_MAX: usize = 30;

/// Returns the lines of the table. Text in it came from servers.
pub(super) fn lines(status: &Status) -> Vec<String> {
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(status.servers.iter().map(|server| row(status, server)));
    let mut widths = [0; HEADS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; HEADS.len()]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(status: &Status, server: &ServerStatus) -> [String; HEADS.len()] {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let report = server.answer.as_ref().ok();
    let mode = report.map_or("unreachable", |report| report.mode.name());
    let behind = status.behind(server).map(|behind| match behind {
        Behind::Transactions(count) => count.to_string(),
        Behind::Epoch => "epoch".to_owned(),
    });
    let address = match &server.answer {
        Ok(_) => server.address.to_string(),
        Err(why) => format!("{}: {why}", server.address),
    };
    [
        or_nothing(server.id.map(|id| id.to_string())),
        or_nothing(server.role.map(|role| role.name().to_owned())),
        mode.to_owned(),
        or_nothing(report.and_then(|report| report.zxid).map(|zxid| zxid.to_string())),
        or_nothing(behind),
        or_nothing(report.and_then(|report| report.connections).map(|count| count.to_string())),
        or_nothing(report.and_then(|report| report.latency_ms).map(|ms| format!("{ms:.1}"))),
        or_nothing(report.and_then(version)),
        address,
    ]
}

/// Returns the version without the commit that Apache's servers add, and never more than fits.
fn version(report: &ServerReport) -> Option<String> {
    let version = report.version.as_deref()?;
    let number = version.split('-').next().filter(|_| !version.contains("-grange-"));
    Some(number.unwrap_or(version).chars().take(VERSION_CHARS_MAX).collect())
}

/// Returns the same facts as JSON; what is not known is null.
pub(super) fn object(status: &Status) -> Value {
    let servers: Vec<Value> = status.servers.iter().map(|server| server_object(status, server)).collect();
    json!({
        "health": match status.health() {
            grange_client::ensemble::Health::Good => "good",
            grange_client::ensemble::Health::Missing => "missing",
            grange_client::ensemble::Health::NoQuorum => "noQuorum",
        },
        "leader": status.leader().map(|leader| leader.address.to_string()),
        "membersKnown": status.members_unknown.is_none(),
        "servers": servers,
    })
}

fn server_object(status: &Status, server: &ServerStatus) -> Value {
    let report = server.answer.as_ref().ok();
    let behind = status.behind(server);
    json!({
        "server": server.id,
        "role": server.role.map(|role| role.name()),
        "address": server.address.to_string(),
        "mode": report.map(|report| report.mode.name()),
        "error": server.answer.as_ref().err(),
        "zxid": report.and_then(|report| report.zxid).map(|zxid| zxid.to_string()),
        "behind": match behind {
            Some(Behind::Transactions(count)) => Some(count),
            _ => None,
        },
        "behindEpoch": behind == Some(Behind::Epoch),
        "connections": report.and_then(|report| report.connections),
        "latencyMs": report.and_then(|report| report.latency_ms),
        "version": report.and_then(|report| report.version.clone()),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use grange_client::ServerAddress;
    use grange_client::ensemble::Mode;
    use grange_proto::{Role, Zxid};

    use super::*;

    fn server(id: u8, role: Role, answer: Result<(Mode, i64), &str>) -> ServerStatus {
        let report = |(mode, zxid)| ServerReport {
            mode,
            version: Some("3.9.0-grange-0.1.0".to_owned()),
            zxid: Some(Zxid(zxid)),
            connections: Some(12),
            latency_ms: Some(0.357),
        };
        ServerStatus {
            id: Some(id),
            role: Some(role),
            address: ServerAddress { host: format!("zk{id}"), port: 2181 },
            answer: answer.map(report).map_err(str::to_owned),
        }
    }

    fn example() -> Status {
        let servers = vec![
            server(1, Role::Participant, Ok((Mode::Follower, 0x1_0000_0f3a))),
            server(2, Role::Participant, Ok((Mode::Leader, 0x1_0000_0f3c))),
            server(3, Role::Participant, Err("connection refused")),
            server(14, Role::Observer, Ok((Mode::Observer, 0x8))),
        ];
        Status { servers, members_unknown: None }
    }

    #[test]
    fn a_status_is_a_table() {
        expect![[r#"
            SERVER  ROLE         MODE         ZXID         BEHIND  CONNS  LATENCY MS  VERSION             ADDRESS
            1       participant  follower     0x100000f3a  2       12     0.4         3.9.0-grange-0.1.0  zk1:2181
            2       participant  leader       0x100000f3c  -       12     0.4         3.9.0-grange-0.1.0  zk2:2181
            3       participant  unreachable  -            -       -      -           -                   zk3:2181: connection refused
            14      observer     observer     0x8          epoch   12     0.4         3.9.0-grange-0.1.0  zk14:2181"#]]
        .assert_eq(&lines(&example()).join("\n"));
    }

    #[test]
    fn a_version_is_a_number() {
        for (version, shown) in [
            ("3.8.0-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f", "3.8.0"),
            ("3.9.0-grange-0.1.0", "3.9.0-grange-0.1.0"),
            ("3.4.14", "3.4.14"),
        ] {
            let report = ServerReport {
                mode: Mode::Leader,
                version: Some(version.to_owned()),
                zxid: None,
                connections: None,
                latency_ms: None,
            };
            assert_eq!(super::version(&report).as_deref(), Some(shown));
        }
    }

    #[test]
    fn a_status_is_an_object() {
        let object = object(&example());
        assert_eq!(object["health"], "missing");
        assert_eq!(object["leader"], "zk2:2181");
        assert_eq!(object["servers"][0]["behind"], 2);
        assert_eq!(object["servers"][2]["error"], "connection refused");
        assert_eq!(object["servers"][3]["behindEpoch"], true);
    }
}
