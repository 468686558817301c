//! `grange counter`.

use std::str::FromStr;

use anyhow::anyhow;
use clap::Args;
use grange_client::recipes::{Change, Counter, CounterLayout, Number};
use grange_proto::ZnodePath;
use serde_json::{Value, json};

use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;
use crate::recipe_error::failed;

/// Read or change a number that many processes share
#[derive(Debug, Args)]
#[command(
    after_help = "The number is text in the data of the znode, as kazoo's Counter writes it. A change is made once, \
                        whatever happens to the connection.\n\n\
                        Exit status: 0 success, 2 wrong usage, or the znode holds no number, 3 failure."
)]
pub(crate) struct CounterArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Four bytes instead of text, as Curator's SharedCount writes them
    #[arg(long)]
    curator: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The znode; one that is not there counts as 0, and is made by a change
    path: ZnodePath,
    /// +N or -N to add or subtract, =N to set; nothing to read
    #[arg(allow_hyphen_values = true, value_parser = change)]
    change: Option<Change>,
}

fn change(text: &str) -> Result<Change, String> {
    let number = |text: &str| Number::from_str(text).map_err(|error| error.to_string());
    match text.split_at_checked(1) {
        Some(("+", rest)) if !rest.starts_with(['+', '-']) => number(rest).map(Change::Add),
        Some(("-", rest)) if !rest.starts_with(['+', '-']) => number(text).map(Change::Add),
        Some(("=", rest)) => number(rest).map(Change::Set),
        _ => Err("must begin with +, - or =, such as +1, -2.5 or =0".to_owned()),
    }
}

pub(crate) async fn run(cx: &Context, args: CounterArgs) -> Result<(), CommandError> {
    let client = args.connection.connect().await?;
    let layout = if args.curator { CounterLayout::Curator } else { CounterLayout::Text };
    let counter = Counter::new(client.clone(), args.path.clone(), layout);
    let done = async {
        Ok(match args.change {
            None => (None, counter.value().await?),
            Some(change) => {
                let changed = counter.change(change).await?;
                (Some(changed.before), changed.after)
            }
        })
    };
    let result = done.await;
    drop(counter);
    grange_client::close(client).await;
    let (before, value) = result.map_err(failed)?;
    let mut out = Output::new(cx);
    match args.json {
        false => out.line(&value.to_string())?,
        true => {
            let mut object = json!({ "path": args.path.as_str(), "value": number(value)? });
            if let Some(before) = before {
                object["before"] = number(before)?;
            }
            out.json(&object)?;
        }
    }
    out.finish()
}

fn number(number: Number) -> Result<Value, CommandError> {
    let text = number.to_string();
    serde_json::from_str(&text).map_err(|_| CommandError::failure(anyhow!("{text} is no number in JSON")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_does() {
        assert_eq!(change("+5"), Ok(Change::Add(Number::Whole(5))));
        assert_eq!(change("-5"), Ok(Change::Add(Number::Whole(-5))));
        assert_eq!(change("-0.5"), Ok(Change::Add(Number::Fraction(-0.5))));
        assert_eq!(change("=-5"), Ok(Change::Set(Number::Whole(-5))));
        for text in ["5", "", "+", "--5", "+-5", "=x", "é"] {
            assert!(change(text).is_err(), "{text}");
        }
    }
}
