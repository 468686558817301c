//! What a quota's znodes hold: limits, or what is used.

use std::collections::BTreeMap;

/// Where quotas are kept.
pub(super) const ROOT: &str = "/zookeeper/quota";
/// The znode of the limits.
pub(super) const LIMITS: &str = "zookeeper_limits";
/// The znode of what is used.
pub(super) const STATS: &str = "zookeeper_stats";

/// Znodes; going over it is logged.
pub(super) const COUNT: &str = "count";
/// Bytes of data; going over it is logged.
pub(super) const BYTES: &str = "bytes";
/// Znodes; going over it is refused.
pub(super) const COUNT_HARD: &str = "countHardLimit";
/// Bytes of data; going over it is refused.
pub(super) const BYTES_HARD: &str = "byteHardLimit";

/// Figures by name: `count=1,bytes=2=;byteHardLimit=3;countHardLimit=4`, with -1 for no limit.
///
/// Source: `org.apache.zookeeper.StatsTrack`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Figures(BTreeMap<String, i64>);

impl Figures {
    pub(super) fn new(values: &[(&str, i64)]) -> Figures {
        Figures(values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
    }

    /// No limit at all.
    pub(super) fn unlimited() -> Figures {
        Figures::new(&[(COUNT, -1), (BYTES, -1), (COUNT_HARD, -1), (BYTES_HARD, -1)])
    }

    /// Parses the data of a znode; an error is the text that is no number.
    pub(super) fn parse(data: &[u8]) -> Result<Figures, String> {
        let text = String::from_utf8_lossy(data);
        let mut figures = BTreeMap::new();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let mut parts = pair.split('=');
            let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let value = if value.is_empty() { Ok(-1) } else { value.parse() };
            figures.insert(name.to_owned(), value.map_err(|_| text.clone().into_owned())?);
        }
        Ok(Figures(figures))
    }

    /// Returns a figure, -1 if it is not there.
    pub(super) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(-1)
    }

    pub(super) fn set(&mut self, name: &str, value: i64) {
        self.0.insert(name.to_owned(), value);
    }

    /// Takes over the limits of `other` that are limits.
    pub(super) fn merge(&mut self, other: &Figures) {
        for (name, value) in other.0.iter().filter(|(_, value)| **value > -1) {
            self.0.insert(name.clone(), *value);
        }
    }

    /// Returns the data of a znode.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{COUNT}={},{BYTES}={}", self.get(COUNT), self.get(BYTES));
        let others: Vec<_> = self.0.iter().filter(|(name, _)| !matches!(name.as_str(), COUNT | BYTES)).collect();
        if !others.is_empty() {
            // Old parsers stop at the second equals sign.
            text.push('=');
        }
        for (name, value) in others {
            text += &format!(";{name}={value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_they_are_read() {
        for text in ["count=1,bytes=-1", "count=5,bytes=2=;byteHardLimit=-1;countHardLimit=7"] {
            assert_eq!(Figures::parse(text.as_bytes()).unwrap().text(), text);
        }
        assert_eq!(Figures::parse(b"").unwrap().text(), "count=-1,bytes=-1");
        assert!(Figures::parse(b"count=x").is_err());
    }
}
