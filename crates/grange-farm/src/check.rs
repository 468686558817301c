//! Whether enough hosts of a farm are running: the rule of ZkFarmer's `check`.
//!
//! The farm's property `size` says how many hosts there should be, `running_filter` which of those that are there run. What
//! is missing is failing; at `max` failing hosts all is lost, at `warn` somebody should look.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use grange_client::{Client, ZnodePath};
use serde_json::Value;

use crate::COMMON;
use crate::fields::{self, FieldsError};
use crate::filter::{Filter, FilterError};
use crate::hosts::Host;
use crate::hosts::{self, ReadError};
use crate::properties::{FieldPath, Properties, PropertiesError};
use crate::view::FarmView;

/// A number of hosts, or a part of the farm's size.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    text: String,
    amount: Amount,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Hosts(u32),
    Percent(f64),
}

/// Why text is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of hosts such as 2, or a part of the farm such as 10%")]
pub struct LimitError;

impl Limit {
    /// Returns how many hosts it is in a farm of this size.
    pub fn hosts(&self, size: u32) -> f64 {
        match self.amount {
            Amount::Hosts(hosts) => f64::from(hosts),
            Amount::Percent(percent) => f64::from(size) * percent / 100.0,
        }
    }
}

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Limit, LimitError> {
        let amount = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().filter(is_amount).map(Amount::Percent),
            None => text.trim().parse().ok().map(Amount::Hosts),
        };
        Ok(Limit { text: text.to_owned(), amount: amount.ok_or(LimitError)? })
    }
}

fn is_amount(number: &f64) -> bool {
    number.is_finite() && *number >= 0.0
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// By what a farm is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// From so many failing hosts on it is critical.
    pub max: Limit,
    /// From so many on it is a warning; 0 means never.
    pub warn: Option<Limit>,
    /// Which hosts run, instead of the farm's `running_filter`.
    pub filter: Option<Filter>,
}

/// How many hosts there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many there should be.
    pub size: u32,
    /// How many of them run.
    pub running: u32,
}

/// How a farm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Few enough hosts fail.
    Ok,
    /// Somebody should look.
    Warning,
    /// Too many hosts fail.
    Critical,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "OK",
            Status::Warning => "WARNING",
            Status::Critical => "CRITICAL",
        })
    }
}

/// What [`judge`] finds. Its text is the line that Nagios shows, as ZkFarmer writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How the farm is.
    pub status: Status,
    /// How many hosts there are.
    pub count: Count,
    /// How many are missing or do not run; below 0 if there are more than there should be.
    pub failing: i64,
    /// What was allowed.
    pub max: Limit,
    /// What was worth a warning.
    pub warn: Option<Limit>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { status, count: Count { size, running }, failing, max, .. } = self;
        write!(f, "{status}: {running}/{size} nodes running, {failing} nodes failing, max allowed {max}")
    }
}

/// Judges by numbers alone.
pub fn judge(count: Count, rules: &Rules) -> Verdict {
    let failing = f64::from(count.size) - f64::from(count.running);
    let warn_at = rules.warn.as_ref().map(|warn| warn.hosts(count.size)).filter(|hosts| *hosts > 0.0);
    let status = if failing >= rules.max.hosts(count.size) {
        Status::Critical
    } else if warn_at.is_some_and(|hosts| failing >= hosts) {
        Status::Warning
    } else {
        Status::Ok
    };
    let failing = i64::from(count.size) - i64::from(count.running);
    Verdict { status, count, failing, max: rules.max.clone(), warn: rules.warn.clone() }
}

/// Why a farm cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The farm does not say how many hosts there should be.
    #[error("No `size' property found for `{0}' farm")]
    NoSize(ZnodePath),
    /// It says so in a way that is not understood.
    #[error("the property 'size' of {farm} must be a whole number and is {found}")]
    Size {
        /// The farm.
        farm: ZnodePath,
        /// What it is.
        found: Value,
    },
    /// It says which hosts run in a way that is not understood.
    #[error("the property 'running_filter' of {farm} is wrong")]
    Filter {
        /// The farm.
        farm: ZnodePath,
        /// What is wrong.
        #[source]
        source: FilterError,
    },
    /// The same, and it is not even text.
    #[error("the property 'running_filter' of {farm} must be text and is {found}")]
    FilterKind {
        /// The farm.
        farm: ZnodePath,
        /// What it is.
        found: Value,
    },
    /// The data of the farm are no properties.
    #[error("{farm} holds no properties")]
    Data {
        /// The farm.
        farm: ZnodePath,
        /// What is wrong with them.
        #[source]
        source: PropertiesError,
    },
    /// The farm's own properties cannot be read.
    #[error(transparent)]
    Farm(#[from] FieldsError),
    /// Its hosts cannot be read.
    #[error(transparent)]
    Hosts(#[from] ReadError),
}

/// Reads a farm and judges it. One that does not exist has no hosts and should have none.
pub async fn check(client: &Client, farm: &ZnodePath, rules: &Rules) -> Result<Verdict, CheckError> {
    let properties = match fields::get(client, farm).await {
        Ok(properties) => properties,
        Err(FieldsError::NoZnode(_)) => return Ok(judge(Count::default(), rules)),
        Err(error) => return Err(error.into()),
    };
    let size = size(farm, &properties)?;
    let filter = filter(farm, &properties, rules)?;
    let running = match filter.is_empty() {
        // Being there is enough.
        true => hosts::names(client, farm).await?.iter().filter(|name| *name != COMMON).count(),
        false => running(&hosts::read(client, farm).await?, &filter).count(),
    };
    Ok(judge(Count { size, running: saturated(running) }, rules))
}

/// Judges a farm that is followed.
pub fn check_view(view: &FarmView, rules: &Rules) -> Result<Verdict, CheckError> {
    if !view.exists() {
        return Ok(judge(Count::default(), rules));
    }
    let farm = view.farm();
    let properties = view.properties().map_err(|source| CheckError::Data { farm: farm.clone(), source })?;
    let size = size(farm, &properties)?;
    let running = running(view.hosts(), &filter(farm, &properties, rules)?).count();
    Ok(judge(Count { size, running: saturated(running) }, rules))
}

/// Tells whether a child of a farm is a host that runs: an unreadable one runs if all do.
pub fn is_running(name: &str, host: &Host, filter: &Filter) -> bool {
    name != COMMON && (filter.is_empty() || host.as_ref().is_ok_and(|host| filter.matches(host)))
}

/// Returns by what it is known which hosts run: the rules' filter, else that of the farm.
pub fn filter(farm: &ZnodePath, properties: &Properties, rules: &Rules) -> Result<Filter, CheckError> {
    if let Some(filter) = &rules.filter {
        return Ok(filter.clone());
    }
    match properties.get(&field("running_filter")) {
        None => Ok(Filter::default()),
        Some(Value::String(text)) => text.parse().map_err(|source| CheckError::Filter { farm: farm.clone(), source }),
        Some(found) => Err(CheckError::FilterKind { farm: farm.clone(), found: found.clone() }),
    }
}

fn running<'a>(hosts: &'a BTreeMap<String, Host>, filter: &'a Filter) -> impl Iterator<Item = &'a String> {
    hosts.iter().filter(|(name, host)| is_running(name, host, filter)).map(|(name, _)| name)
}

/// Returns how many hosts a farm says that there should be.
pub fn size(farm: &ZnodePath, properties: &Properties) -> Result<u32, CheckError> {
    let found = properties.get(&field("size")).ok_or_else(|| CheckError::NoSize(farm.clone()))?;
    let size = match found {
        Value::Number(number) => whole(&number.to_string()),
        Value::String(text) => whole(text.trim()),
        _ => None,
    };
    size.ok_or_else(|| CheckError::Size { farm: farm.clone(), found: found.clone() })
}

/// Reads a whole number, also one that was written with a point.
fn whole(text: &str) -> Option<u32> {
    let digits = text.split_once('.').filter(|(_, zeros)| zeros.bytes().all(|byte| byte == b'0'));
    digits.map_or(text, |(digits, _)| digits).parse().ok()
}

fn field(name: &str) -> FieldPath {
    name.parse().expect("it has one name, which is not empty")
}

/// A farm has far fewer hosts than this type can count.
fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(max: &str, warn: &str) -> Rules {
        Rules { max: max.parse().unwrap(), warn: (!warn.is_empty()).then(|| warn.parse().unwrap()), filter: None }
    }

    fn farm() -> ZnodePath {
        "/farm".parse().unwrap()
    }

    fn properties(value: Value) -> Properties {
        Properties::try_from(value).unwrap()
    }

    /// Source: what ZkFarmer 1.1's `check` returns for these numbers.
    #[test]
    fn farms_are_judged_as_zkfarmer_does() {
        for (running, size, max, warn, status) in [
            (16, 17, "10%", "", Status::Ok),
            (15, 17, "10%", "", Status::Critical),
            (9, 10, "10%", "", Status::Critical),
            (10, 10, "10%", "", Status::Ok),
            (10, 10, "0", "", Status::Critical),
            (10, 10, "0%", "", Status::Critical),
            (10, 10, "1", "", Status::Ok),
            (9, 10, "1", "", Status::Critical),
            (9, 10, "2", "1", Status::Warning),
            (9, 10, "2", "0", Status::Ok),
            (10, 10, "2", "0", Status::Ok),
            (9, 10, "2", "0%", Status::Ok),
            (9, 10, "50%", "10%", Status::Warning),
            (8, 10, "50%", "20.5%", Status::Ok),
            (5, 10, "50%", "10%", Status::Critical),
            (9, 10, "1", "2", Status::Critical),
            (0, 0, "10%", "", Status::Critical),
            (0, 0, "1", "50%", Status::Ok),
            (11, 10, "10%", "", Status::Ok),
            (11, 10, "0", "", Status::Ok),
            (997, 1000, "0.3%", "", Status::Critical),
            (998, 1000, "0.3%", "0.2%", Status::Warning),
        ] {
            let verdict = judge(Count { size, running }, &rules(max, warn));
            assert_eq!(verdict.status, status, "{verdict}, warning at {warn:?}");
        }
    }

    #[test]
    fn the_line_is_that_of_zkfarmer() {
        let line = |running, size, max| judge(Count { size, running }, &rules(max, "")).to_string();
        assert_eq!(line(16, 17, "10%"), "OK: 16/17 nodes running, 1 nodes failing, max allowed 10%");
        assert_eq!(line(0, 0, "2"), "OK: 0/0 nodes running, 0 nodes failing, max allowed 2");
        assert_eq!(line(18, 17, "0"), "OK: 18/17 nodes running, -1 nodes failing, max allowed 0");
    }

    #[test]
    fn limits_are_numbers_or_parts() {
        for text in ["", "%", "x", "-1", "-1%", "1.5", "nan%", "inf%", "1e999%", "10%%", "4294967296"] {
            assert_eq!(text.parse::<Limit>(), Err(LimitError), "{text}");
        }
        for (text, hosts) in [("3", 3.0), (" 3 ", 3.0), ("2.5%", 5.0), ("100%", 200.0), ("0", 0.0)] {
            assert_eq!(text.parse::<Limit>().unwrap().hosts(200).to_string(), hosts.to_string(), "{text}");
        }
    }

    #[test]
    fn a_size_may_be_text() {
        for (value, expected) in
            [(json!(17), 17), (json!("17"), 17), (json!(" 17\n"), 17), (json!(17.0), 17), (json!(0), 0)]
        {
            assert_eq!(size(&farm(), &properties(json!({"size": value}))).unwrap(), expected);
        }
        for value in [json!("x"), json!(-1), json!(1.5), json!([]), json!(true), json!(1e300), json!("")] {
            let found = size(&farm(), &properties(json!({"size": value})));
            assert!(matches!(found, Err(CheckError::Size { .. })), "{value}");
        }
        for missing in [json!({}), json!({"size": null})] {
            let error = size(&farm(), &properties(missing)).unwrap_err();
            assert_eq!(error.to_string(), "No `size' property found for `/farm' farm");
        }
    }

    #[test]
    fn hosts_run_that_the_filter_means() {
        let hosts: BTreeMap<String, Host> =
            [("a", json!({"enabled": "1"})), ("b", json!({"enabled": "0"})), (COMMON, json!({"enabled": "1"}))]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Ok(properties(value))))
                .chain([("c".to_owned(), Err(std::sync::Arc::new(Properties::decode(b"{").unwrap_err())))])
                .collect();
        for (filter, expected) in [("", &["a", "b", "c"][..]), ("enabled=1", &["a"]), ("!maintenance", &["a", "b"])] {
            let filter = filter.parse().unwrap();
            assert_eq!(running(&hosts, &filter).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_filter_comes_from_the_rules_or_the_farm() {
        let plain = rules("1", "");
        let of_farm = |value| filter(&farm(), &properties(value), &plain);
        assert_eq!(of_farm(json!({"running_filter": "a=1"})).unwrap().to_string(), "a=1");
        assert!(of_farm(json!({"running_filter": ""})).unwrap().is_empty());
        assert!(of_farm(json!({})).unwrap().is_empty());
        assert!(matches!(of_farm(json!({"running_filter": 1})), Err(CheckError::FilterKind { .. })));
        assert!(matches!(of_farm(json!({"running_filter": "a>>1"})), Err(CheckError::Filter { .. })));
        let own = Rules { filter: Some("b=2".parse().unwrap()), ..plain };
        let broken = properties(json!({"running_filter": "a>>1"}));
        assert_eq!(filter(&farm(), &broken, &own).unwrap().to_string(), "b=2");
    }
}
