//! Quotas: limits and counts that live in znodes of their own below `/zookeeper/quota`.
//!
//! A quota on `/a/b` is the znode `/zookeeper/quota/a/b/zookeeper_limits`; `zookeeper_stats` beside it is kept up to
//! date by every write at or below `/a/b`. Only the longest path with limits counts. The root has none.
//! Source: `DataTree.createNode`, `ZooKeeperServer.checkQuota`, `StatsTrack`.

use std::collections::BTreeMap;
use std::fmt;

use grange_proto::ErrorCode;
use grange_proto::request::SetData;

use crate::store::{Place, Store};
use crate::tree::{Tree, WriteContext};

/// The znode below which quotas live.
pub(crate) const QUOTA_PATH: &str = "/zookeeper/quota";
const LIMITS_NAME: &str = "zookeeper_limits";
const STATS_NAME: &str = "zookeeper_stats";

/// What a znode of limits or counts says: `count=N,bytes=M`, then `=;name=value` for what came later.
///
/// The odd `=` hides the later fields from parsers that know only the first two.
#[derive(Debug, PartialEq, Eq, Default)]
struct QuotaText {
    fields: BTreeMap<String, i64>,
}

impl QuotaText {
    /// Reads a text; what is not a field of a name and a number is passed over.
    fn parse(data: &[u8]) -> QuotaText {
        let text = String::from_utf8_lossy(data);
        let fields = text.split([',', ';']).filter_map(|field| {
            let (name, value) = field.split_once('=')?;
            Some((name.to_owned(), value.trim_end_matches('=').parse().ok()?))
        });
        QuotaText { fields: fields.collect() }
    }

    fn of(count: i64, bytes: i64) -> QuotaText {
        QuotaText { fields: BTreeMap::from([("count".to_owned(), count), ("bytes".to_owned(), bytes)]) }
    }

    /// Returns a field; -1 stands for one that is not set.
    fn get(&self, name: &str) -> i64 {
        self.fields.get(name).copied().unwrap_or(-1)
    }

    fn count(&self) -> i64 {
        self.get("count")
    }

    fn bytes(&self) -> i64 {
        self.get("bytes")
    }
}

impl fmt::Display for QuotaText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count(), self.bytes())?;
        let mut separator = "=;";
        for (name, value) in self.fields.iter().filter(|(name, _)| !matches!(name.as_str(), "count" | "bytes")) {
            write!(f, "{separator}{name}={value}")?;
            separator = ";";
        }
        Ok(())
    }
}

/// A write as a quota sees it.
#[derive(Debug, Clone, Copy)]
struct Growth {
    count: i64,
    bytes: i64,
}

/// Lengths are below a frame's.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Store {
    /// Finds the quota that a path is under: the znode whose children are limits and counts.
    fn find_quota(&self, path: &str) -> Option<Place> {
        if self.totals.quota_count == 0 {
            return None;
        }
        let mut place = self.find(QUOTA_PATH)?;
        let mut found = None;
        for name in path.strip_prefix('/')?.split('/') {
            let Some(child) = self.child(place, name.as_bytes()) else { break };
            place = child;
            if self.child(place, LIMITS_NAME.as_bytes()).is_some() {
                found = Some(place);
            }
        }
        found
    }

    fn quota_text(&self, place: Place) -> QuotaText {
        QuotaText::parse(self.node(place.key).data().unwrap_or_default())
    }

    /// Adds to the counts of the quota that a path is under.
    fn count(&mut self, path: &str, growth: Growth) {
        let Some(stats) = self.find_quota(path).and_then(|quota| self.child(quota, STATS_NAME.as_bytes())) else {
            return;
        };
        let mut text = self.quota_text(stats);
        text.fields.insert("count".to_owned(), text.count().wrapping_add(growth.count));
        text.fields.insert("bytes".to_owned(), text.bytes().wrapping_add(growth.bytes));
        self.set_data_silently(stats, text.to_string().as_bytes());
    }

    /// Counts what is at and below `path` into the new znode of counts at `stats_path`.
    fn count_afresh(&mut self, path: &str, stats_path: &str) {
        let (mut count, mut bytes) = (0, 0);
        if let Some(place) = self.find(path) {
            let below = self.descendants(place.key).map(|key| self.node(key).data_bytes());
            for data_bytes in below.chain([self.node(place.key).data_bytes()]) {
                count += 1;
                bytes += signed(data_bytes);
            }
        }
        if let Some(stats) = self.find(stats_path) {
            self.set_data_silently(stats, QuotaText::of(count, bytes).to_string().as_bytes());
        }
    }

    /// Returns the number of znodes that hold limits, counted anew.
    pub(crate) fn count_quotas(&self) -> usize {
        let quota = self.find(QUOTA_PATH).map(|place| self.descendants(place.key));
        quota.into_iter().flatten().filter(|key| self.node(*key).name() == LIMITS_NAME.as_bytes()).count()
    }
}

/// Splits the path of a znode of limits or counts into the path it is about and its name.
fn split_quota_path(path: &str) -> Option<(&str, &str)> {
    let (about, name) = path.strip_prefix(QUOTA_PATH)?.rsplit_once('/')?;
    (about.is_empty() || about.starts_with('/')).then_some((about, name))
}

impl Tree {
    pub(crate) fn check_quota_of_create(
        &mut self,
        cx: &WriteContext<'_>,
        path: &str,
        data: Option<&[u8]>,
    ) -> Result<(), ErrorCode> {
        self.check_quota(cx, path, Growth { count: 1, bytes: signed(data.map_or(0, <[u8]>::len)) })
    }

    pub(crate) fn check_quota_of_set(
        &mut self,
        cx: &WriteContext<'_>,
        request: &SetData<'_>,
        bytes_before: usize,
    ) -> Result<(), ErrorCode> {
        self.check_quota(cx, request.path, growth_of_set(request, bytes_before))
    }

    #[inline]
    fn check_quota(&mut self, cx: &WriteContext<'_>, path: &str, growth: Growth) -> Result<(), ErrorCode> {
        if self.store.totals.quota_count == 0 {
            return Ok(());
        }
        let Some(quota) = self.store.find_quota(path) else { return Ok(()) };
        let children = [LIMITS_NAME, STATS_NAME].map(|name| self.store.child(quota, name.as_bytes()));
        let [Some(limits), Some(stats)] = children.map(|place| place.map(|place| self.store.quota_text(place))) else {
            return Ok(());
        };
        let checks = [
            (growth.count, stats.count(), limits.count(), limits.get("countHardLimit")),
            (growth.bytes, stats.bytes(), limits.bytes(), limits.get("byteHardLimit")),
        ];
        for (grown, now, soft, hard) in checks {
            let limit = if hard > -1 { hard } else { soft };
            if grown == 0 || limit <= -1 || now.saturating_add(grown) <= limit {
                continue;
            }
            if hard > -1 && cx.policy.enforce_quota {
                return Err(ErrorCode::QuotaExceeded);
            }
            self.soft_quota_exceeded_count += 1;
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn count_created(&mut self, path: &str, data: Option<&[u8]>) {
        match split_quota_path(path) {
            Some((_, LIMITS_NAME)) => self.store.totals.quota_count += 1,
            Some((about, STATS_NAME)) => self.store.count_afresh(about, path),
            _ => {}
        }
        if self.store.totals.quota_count > 0 {
            self.store.count(path, Growth { count: 1, bytes: signed(data.map_or(0, <[u8]>::len)) });
        }
    }

    pub(crate) fn count_deleted(&mut self, path: &str, data_bytes: usize) {
        if let Some((_, LIMITS_NAME)) = split_quota_path(path) {
            self.store.totals.quota_count -= 1;
        }
        self.store.count(path, Growth { count: -1, bytes: -signed(data_bytes) });
    }

    pub(crate) fn count_set(&mut self, request: &SetData<'_>, bytes_before: usize) {
        let growth = growth_of_set(request, bytes_before);
        self.store.count(request.path, growth);
    }
}

fn growth_of_set(request: &SetData<'_>, bytes_before: usize) -> Growth {
    Growth { count: 0, bytes: signed(request.data.map_or(0, <[u8]>::len)) - signed(bytes_before) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// server.md §1.13.
    #[test]
    fn texts_are_apaches() {
        let text = "count=5,bytes=-1=;byteHardLimit=7;countHardLimit=9";
        let parsed = QuotaText::parse(text.as_bytes());
        assert_eq!((parsed.count(), parsed.bytes(), parsed.get("countHardLimit")), (5, -1, 9));
        assert_eq!(parsed.to_string(), text);
        assert_eq!(QuotaText::parse(b"").to_string(), "count=-1,bytes=-1");
        assert_eq!(QuotaText::parse(b"what=is,this\xff").count(), -1);
    }
}
