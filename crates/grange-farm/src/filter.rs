//! Which hosts are meant: predicates on their properties, all of which must hold.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::properties::{FieldPath, Properties, text_of};

/// Predicates with commas between them; without any, every host is meant.
///
/// Shape: `path`, `!path`, or `path OP value` with `=`, `==`, `!=`, `>`, `<`, `>=` or `<=`; blanks around the parts do not
/// count. Source: ZkFarmer's `create_filter`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    predicates: Vec<Predicate>,
    text: String,
}

/// Why text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{predicate}' is not a predicate; write 'field', '!field' or 'field OP value', where OP is one of = == != > < >= <="
)]
pub struct FilterError {
    /// What is wrong.
    pub predicate: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Predicate {
    path: FieldPath,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Present,
    Absent,
    Compares(Operator, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Greater,
    Less,
    AtLeast,
    AtMost,
}

/// Each way to write an operator; those that begin like another one come first.
const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
];

impl Operator {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Operator::Equal => ordering.is_eq(),
            Operator::Unequal => ordering.is_ne(),
            Operator::Greater => ordering.is_gt(),
            Operator::Less => ordering.is_lt(),
            Operator::AtLeast => ordering.is_ge(),
            Operator::AtMost => ordering.is_le(),
        }
    }
}

impl Filter {
    /// Tells whether a host is meant.
    pub fn matches(&self, host: &Properties) -> bool {
        self.predicates.iter().all(|predicate| predicate.holds(host))
    }

    /// Tells whether every host is meant.
    pub fn is_empty(&self) -> bool {
        self.predicates.is_empty()
    }
}

impl Predicate {
    fn parse(text: &str) -> Option<Predicate> {
        let text = text.trim();
        // A '!' in front belongs to the field, and anywhere else to the operator.
        let negated = text.strip_prefix('!');
        let start = text.len() - negated.unwrap_or(text).len();
        let Some(at) = text[start..].find(['=', '!', '>', '<']).map(|at| at + start) else {
            let path = negated.unwrap_or(text).trim().parse().ok()?;
            return Some(Predicate { path, test: if negated.is_some() { Test::Absent } else { Test::Present } });
        };
        if negated.is_some() {
            return None;
        }
        let (path, rest) = text.split_at(at);
        let (operator, value) =
            OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)))?;
        if value.starts_with(['=', '>', '<']) {
            return None;
        }
        Some(Predicate { path: path.trim().parse().ok()?, test: Test::Compares(operator, value.trim().to_owned()) })
    }

    fn holds(&self, host: &Properties) -> bool {
        match (&self.test, host.get(&self.path)) {
            (Test::Present, found) => found.is_some(),
            (Test::Absent, found) => found.is_none(),
            (Test::Compares(..), None) => false,
            (Test::Compares(operator, value), Some(found)) => operator.holds(compare(found, value)),
        }
    }
}

/// Compares as numbers if both sides are whole ones, else as text.
fn compare(found: &Value, value: &str) -> Ordering {
    match (whole(found), value.parse::<i128>()) {
        (Some(found), Ok(value)) => found.cmp(&value),
        _ => text_of(found).as_ref().cmp(value),
    }
}

/// Returns the whole number that a value is, also as text; true is 1 and false 0, as in Python.
fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.to_string().parse().ok(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(is_true) => Some(i128::from(*is_true)),
        _ => None,
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Filter, FilterError> {
        if text.trim().is_empty() {
            return Ok(Filter::default());
        }
        let predicates: Result<_, _> = text
            .split(',')
            .map(|predicate| {
                Predicate::parse(predicate).ok_or_else(|| FilterError { predicate: predicate.trim().to_owned() })
            })
            .collect();
        Ok(Filter { predicates: predicates?, text: text.to_owned() })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(filter: &str, host: &Value) -> bool {
        filter.parse::<Filter>().unwrap().matches(&Properties::try_from(host.clone()).unwrap())
    }

    #[test]
    fn all_predicates_must_hold() {
        let host = json!({"enabled": "1", "weight": "21", "mysql": {"delay": "10"}, "name": "b"});
        for filter in [
            "",
            " ",
            "enabled=1",
            "enabled == 1",
            "enabled=1,weight>20",
            "weight>=21",
            "weight<=21",
            "weight<100",
            "weight!=20",
            "mysql.delay<20",
            "mysql",
            "!maintenance",
            "enabled,!maintenance",
            "name>a",
            "name<=b",
            "enabled=01",
        ] {
            assert!(matches(filter, &host), "{filter}");
        }
        for filter in [
            "enabled=0",
            "enabled=1,weight<20",
            "weight>21",
            "weight>100",
            "mysql.delay>20",
            "!enabled",
            "maintenance",
            "enabled=1,maintenance",
            "missing=1",
            "missing!=1",
            "missing<1",
            "mysql.delay.x=1",
            "name<a",
            "name=B",
        ] {
            assert!(!matches(filter, &host), "{filter}");
        }
    }

    #[test]
    fn values_of_other_kinds_are_compared_too() {
        let host = json!({"number": 9, "yes": true, "none": null, "list": [1, 2], "part": 2.5, "version": "1.10"});
        for filter in ["number<10", "number=9", "yes=1", "yes!=0", "!none", "list", "part=2.5", "version!=1.1"] {
            assert!(matches(filter, &host), "{filter}");
        }
        for filter in ["none", "none!=1", "number=09x"] {
            assert!(!matches(filter, &host), "{filter}");
        }
    }

    #[test]
    fn what_is_no_predicate_is_named() {
        for (filter, predicate) in [
            ("a=1,", ""),
            ("=1", "=1"),
            ("a=1,b>>2", "b>>2"),
            ("!a=1", "!a=1"),
            ("!", "!"),
            ("a..b=1", "a..b=1"),
            ("a!1", "a!1"),
            ("a=>1", "a=>1"),
        ] {
            assert_eq!(filter.parse::<Filter>(), Err(FilterError { predicate: predicate.to_owned() }), "{filter}");
        }
    }
}
