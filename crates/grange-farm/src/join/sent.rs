//! What this host has sent to its znode without having heard that both sides are equal.
//!
//! A request whose answer is lost may have been done, at once or when a server that stood still goes on. What is then found
//! in the znode is this host's own change and none of the farm's: it must not undo what has changed here since.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::properties::Properties;

/// How many are remembered, the latest; more than one takes a session that ends without an answer for each.
const SENT_MAX: usize = 16;

/// The configurations that were sent since both sides were equal, as they were on this host.
#[derive(Debug, Default)]
pub(super) struct Sent(Vec<Properties>);

impl Sent {
    /// Notes one that is about to be sent.
    pub(super) fn note(&mut self, local: Properties) {
        if self.0.last() == Some(&local) {
            return;
        }
        if self.0.len() == SENT_MAX {
            self.0.remove(0);
        }
        self.0.push(local);
    }

    /// Forgets them: both sides are equal.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns what to compare both sides with, after they were `agreed`: the fields of `there` that are as they were sent
    /// have been this host's.
    pub(super) fn base(&self, agreed: &Properties, there: &Properties) -> Properties {
        let base =
            self.0.iter().fold(agreed.fields().clone(), |base, sent| arrived(&base, sent.fields(), there.fields()));
        Properties::from(base)
    }
}

type Object = Map<String, Value>;

fn arrived(base: &Object, sent: &Object, there: &Object) -> Object {
    let names: BTreeSet<&String> = base.keys().chain(there.keys()).collect();
    let mut result = Object::new();
    for name in names {
        let (was, ours, found) = (base.get(name), sent.get(name), there.get(name));
        let value = if ours == found {
            found.cloned()
        } else if let (Some(Value::Object(was)), Some(Value::Object(ours)), Some(Value::Object(found))) =
            (was, ours, found)
        {
            Some(Value::Object(arrived(was, ours, found)))
        } else {
            was.cloned()
        };
        if let Some(value) = value {
            result.insert(name.clone(), value);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(value: Value) -> Properties {
        Properties::try_from(value).unwrap()
    }

    #[track_caller]
    fn check(agreed: Value, sent: &[Value], there: Value, base: Value) {
        let mut noted = Sent::default();
        sent.iter().for_each(|sent| noted.note(properties(sent.clone())));
        assert_eq!(noted.base(&properties(agreed), &properties(there)), properties(base));
    }

    #[test]
    fn what_was_sent_and_is_there_is_no_change_of_the_farms() {
        let agreed = json!({"a": "0", "o": {"x": "0", "y": "0"}, "gone": "0", "r": "0"});
        let sent = json!({"a": "1", "o": {"x": "1", "y": "0"}, "new": "1", "r": "0"});
        // All of it has arrived, and somebody has changed `r` since.
        let there = json!({"a": "1", "o": {"x": "1", "y": "0"}, "new": "1", "r": "9"});
        check(agreed.clone(), std::slice::from_ref(&sent), there, sent.clone());
        // It has not.
        check(agreed.clone(), &[sent], agreed.clone(), agreed);
    }

    #[test]
    fn what_is_there_and_was_not_sent_is() {
        check(
            json!({"a": "0", "o": {"x": "0"}}),
            &[json!({"a": "1", "o": {"x": "1"}})],
            json!({"a": "2", "o": {"x": "2"}}),
            json!({"a": "0", "o": {"x": "0"}}),
        );
    }

    #[test]
    fn any_of_those_that_were_sent_may_have_arrived() {
        let sent = [json!({"a": "1"}), json!({"a": "2"}), json!({})];
        for there in [json!({"a": "1"}), json!({"a": "2"}), json!({})] {
            check(json!({"a": "0"}), &sent, there.clone(), there);
        }
    }
}
