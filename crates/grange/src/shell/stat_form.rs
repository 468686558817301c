//! A stat as zkCli prints it, and as JSON with the same names.

use grange_client::Stat;
use grange_proto::Zxid;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Returns zkCli's eleven lines, with the times of a zone.
pub(super) fn lines(stat: &grange_proto::Stat, zone: &TimeZone) -> [String; 11] {
    [
        format!("cZxid = {}", stat.czxid),
        format!("ctime = {}", date(stat.ctime_ms, zone)),
        format!("mZxid = {}", stat.mzxid),
        format!("mtime = {}", date(stat.mtime_ms, zone)),
        format!("pZxid = {}", stat.pzxid),
        format!("cversion = {}", stat.cversion),
        format!("dataVersion = {}", stat.version),
        format!("aclVersion = {}", stat.aversion),
        format!("ephemeralOwner = {:#x}", stat.ephemeral_owner),
        format!("dataLength = {}", stat.data_length),
        format!("numChildren = {}", stat.num_children),
    ]
}

/// Returns a stat of the client library as the protocol's record.
pub(super) fn record(stat: &Stat) -> grange_proto::Stat {
    grange_proto::Stat {
        czxid: Zxid(stat.czxid),
        mzxid: Zxid(stat.mzxid),
        pzxid: Zxid(stat.pzxid),
        ctime_ms: stat.ctime,
        mtime_ms: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: stat.ephemeral_owner,
        data_length: stat.data_length,
        num_children: stat.num_children,
    }
}

/// Returns the same as an object; numbers of 64 bits are hexadecimal text, because JSON readers round them, and times
/// are milliseconds since 1970.
pub(super) fn object(stat: &Stat) -> Value {
    json!({
        "cZxid": format!("{:#x}", stat.czxid),
        "ctime": stat.ctime,
        "mZxid": format!("{:#x}", stat.mzxid),
        "mtime": stat.mtime,
        "pZxid": format!("{:#x}", stat.pzxid),
        "cversion": stat.cversion,
        "dataVersion": stat.version,
        "aclVersion": stat.aversion,
        "ephemeralOwner": format!("{:#x}", stat.ephemeral_owner),
        "dataLength": stat.data_length,
        "numChildren": stat.num_children,
    })
}

/// Formats milliseconds since 1970 as Java's `Date` does.
fn date(milliseconds: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%a %b %d %H:%M:%S %Z %Y").to_string(),
        Err(_) => format!("{milliseconds} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_in_java() {
        assert_eq!(date(1_551_957_547_123, &TimeZone::UTC), "Thu Mar 07 11:19:07 UTC 2019");
        assert_eq!(date(0, &TimeZone::UTC), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(date(i64::MAX, &TimeZone::UTC), "9223372036854775807 ms");
    }
}
