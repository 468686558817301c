//! `grange farm watch`.

use std::num::NonZero;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use grange_farm::events::{FarmEvent, Teller};
use grange_farm::{FarmChange, FieldChange, Properties, leaves, text_of};
use grange_proto::ZnodePath;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::filters::FilterArgs;
use super::follow::Follower;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::{Output, harmless_line};

/// Print which hosts join and leave a farm, and what changes, as it happens
#[derive(Debug, Args)]
#[command(
    after_help = "Lines: joined, left or changed, a host, and its fields or what changed in one; unreadable, if \
                        a host's data are no properties, and readable, if they are again; farm, for the farm itself. The \
                        line 'watching FARM' on standard error says that nothing is missed from then on, also over an \
                        outage or a lost session. A host that comes back before anybody saw it missing has not left. With --filters one that comes to be meant joins, and one that is meant no longer leaves.\n\n\
                        Exit status: 0 success, 1 the wait is over without a change, 2 wrong usage, 3 failure."
)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    meant: FilterArgs,
    /// Print one JSON object per change, with the time
    #[arg(long)]
    json: bool,
    /// Begin with the hosts that are there, as if they joined now
    #[arg(long)]
    initial: bool,
    /// End after so many changes; fields that changed at once are one
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<NonZero<u64>>,
    /// End when nothing has changed for so long, in seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<NonZero<u32>>,
    /// The farm; it may come later
    znode: ZnodePath,
}

pub(super) async fn run(cx: &Context, connection: &ConnectionArgs, args: &WatchArgs) -> Result<(), CommandError> {
    let mut follower = Follower::open(connection.options()?, args.znode.clone()).await?;
    let told = follow(cx, args, &mut follower).await;
    follower.close().await;
    told
}

async fn follow(cx: &Context, args: &WatchArgs, follower: &mut Follower) -> Result<(), CommandError> {
    let mut teller = Teller::new(args.meant.filters.clone());
    let (mut count, mut is_first) = (0, true);
    let wait = args.wait.map_or(Duration::MAX, |wait| Duration::from_secs(u64::from(wait.get())));
    loop {
        let Ok(change) = timeout(wait, next(follower, &mut teller)).await else {
            return Err(CommandError::negative(anyhow!("nothing has changed in time")));
        };
        let Some(event) = change? else {
            is_first = false;
            // Whoever waits for this line misses nothing that happens after it.
            eprintln!("watching {}", harmless_line(args.znode.as_str()));
            continue;
        };
        if is_first && !args.initial {
            continue;
        }
        let mut out = Output::new(cx);
        match args.json {
            true => out.json(&object(&event))?,
            // A value with a line break is not to pass for another event.
            false => lines(&event).iter().try_for_each(|line| out.line(&harmless_line(line)))?,
        }
        out.finish()?;
        count += 1;
        if args.count.is_some_and(|most| count >= most.get()) {
            return Ok(());
        }
    }
}

/// Returns the next event; `None` when all that was there at the beginning has been told.
async fn next(follower: &mut Follower, teller: &mut Teller) -> Result<Option<FarmEvent>, CommandError> {
    loop {
        let change = follower.next().await?;
        if change == FarmChange::Ready {
            return Ok(None);
        }
        if let Some(event) = teller.learn(&change, &follower.view) {
            return Ok(Some(event));
        }
    }
}

/// An event in lines for people.
pub(super) fn lines(event: &FarmEvent) -> Vec<String> {
    let with = |word: &str, host: &str, rest: &str| format!("{word} {host} {rest}").trim_end().to_owned();
    match event {
        FarmEvent::Joined { host, properties } => vec![with("joined", host, &shown(properties))],
        FarmEvent::Left { host, properties } => {
            vec![with("left", host, &properties.as_ref().map(shown).unwrap_or_default())]
        }
        FarmEvent::Changed { host, fields } => {
            fields.iter().map(|field| format!("changed {host} {}", described(field))).collect()
        }
        FarmEvent::Unreadable { host, why } => vec![with("unreadable", host, why)],
        FarmEvent::Readable { host, properties } => vec![with("readable", host, &shown(properties))],
        FarmEvent::FarmCreated { properties } => vec![with("farm", "created", &shown(properties))],
        FarmEvent::FarmChanged { fields } => fields.iter().map(|field| format!("farm {}", described(field))).collect(),
        FarmEvent::FarmUnreadable { why } => vec![with("farm", "unreadable", why)],
        FarmEvent::FarmDeleted => vec!["farm deleted".to_owned()],
    }
}

fn shown(properties: &Properties) -> String {
    let fields: Vec<_> =
        leaves(properties).into_iter().map(|(field, value)| format!("{field}={}", text_of(value))).collect();
    fields.join(", ")
}

fn described(change: &FieldChange) -> String {
    let field = &change.field;
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("{field}: {} -> {}", text_of(before), text_of(after)),
        (None, Some(after)) => format!("{field}: added {}", text_of(after)),
        (Some(before), None) => format!("{field}: removed {}", text_of(before)),
        (None, None) => field.clone(),
    }
}

fn object(event: &FarmEvent) -> Value {
    let mut object = match event {
        FarmEvent::Joined { host, properties } => {
            json!({ "event": "joined", "host": host, "properties": properties.fields() })
        }
        FarmEvent::Left { host, properties } => {
            json!({ "event": "left", "host": host, "properties": properties.as_ref().map(Properties::fields) })
        }
        FarmEvent::Changed { host, fields } => json!({ "event": "changed", "host": host, "changes": changes(fields) }),
        FarmEvent::Unreadable { host, why } => json!({ "event": "unreadable", "host": host, "error": why }),
        FarmEvent::Readable { host, properties } => {
            json!({ "event": "readable", "host": host, "properties": properties.fields() })
        }
        FarmEvent::FarmCreated { properties } => json!({ "event": "farmCreated", "properties": properties.fields() }),
        FarmEvent::FarmChanged { fields } => json!({ "event": "farmChanged", "changes": changes(fields) }),
        FarmEvent::FarmUnreadable { why } => json!({ "event": "farmUnreadable", "error": why }),
        FarmEvent::FarmDeleted => json!({ "event": "farmDeleted" }),
    };
    let now = jiff::Timestamp::now().round(jiff::Unit::Millisecond);
    object["time"] = now.unwrap_or_else(|_| jiff::Timestamp::now()).to_string().into();
    object
}

/// A field that was not there has no `before`, one that is not there has no `after`.
fn changes(fields: &[FieldChange]) -> Vec<Value> {
    let told = |change: &FieldChange| {
        let mut object = json!({ "field": change.field });
        if let Some(before) = &change.before {
            object["before"] = before.clone();
        }
        if let Some(after) = &change.after {
            object["after"] = after.clone();
        }
        object
    };
    fields.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(value: Value) -> Properties {
        Properties::try_from(value).unwrap()
    }

    #[test]
    fn an_event_is_a_line_per_field() {
        let fields = grange_farm::difference(
            &properties(json!({"enabled": "0", "role": "slave", "mysql": {"delay": 1}})),
            &properties(json!({"enabled": "1", "mysql": {"delay": 2, "new": true}})),
        );
        assert_eq!(
            lines(&FarmEvent::Changed { host: "10.0.0.1".to_owned(), fields }),
            [
                "changed 10.0.0.1 enabled: 0 -> 1",
                "changed 10.0.0.1 mysql.delay: 1 -> 2",
                "changed 10.0.0.1 mysql.new: added true",
                "changed 10.0.0.1 role: removed slave",
            ]
        );
        let joined =
            FarmEvent::Joined { host: "a".to_owned(), properties: properties(json!({"b": {"c": 1}, "d": "e"})) };
        assert_eq!(lines(&joined), ["joined a b.c=1, d=e"]);
        assert_eq!(lines(&FarmEvent::Left { host: "a".to_owned(), properties: None }), ["left a"]);
    }

    #[test]
    fn an_event_is_one_object() {
        let fields = grange_farm::difference(&properties(json!({"a": null})), &properties(json!({"b": 1})));
        let mut event = object(&FarmEvent::Changed { host: "h".to_owned(), fields });
        assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
        event["time"] = Value::Null;
        let changes = json!([{"field": "a", "before": null}, {"field": "b", "after": 1}]);
        assert_eq!(event, json!({"event": "changed", "host": "h", "changes": changes, "time": null}));
    }
}
