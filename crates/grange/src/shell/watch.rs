//! `grange shell watch`.

use anyhow::anyhow;
use clap::Args;
use grange_client::{AddWatchMode, ClientError, EventType, PersistentWatcher, SessionState, WatchedEvent};
use jiff::Timestamp;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::{Form, Session, get};

/// Print changes at and below a znode as they come, until Ctrl-C
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// This znode and its children only
    #[arg(long)]
    only: bool,
    /// Print the new data of a znode that was created or changed
    #[arg(long)]
    data: bool,
    /// End after so many changes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The znode; it need not exist yet [default: /, or where cd went]
    path: Option<PathArg>,
}

pub(super) async fn run(session: &mut Session<'_>, args: &WatchArgs) -> Result<(), CommandError> {
    let path = session.path_or_here(args.path.as_ref())?;
    let mode = if args.only { AddWatchMode::Persistent } else { AddWatchMode::PersistentRecursive };
    let mut watcher = session.client.watch(&path, mode).await.map_err(|error| match error {
        ClientError::Unimplemented => CommandError::failure(anyhow!("the server knows no persistent watches"))
            .hint("they need ZooKeeper 3.6 or newer"),
        error => refused(&path, error),
    })?;
    // Who reads this may act only once it is true that changes will be seen.
    eprintln!("watching {}", crate::output::harmless_line(&path));
    print_changes(session, args, &mut watcher).await
}

async fn print_changes(
    session: &mut Session<'_>,
    args: &WatchArgs,
    watcher: &mut PersistentWatcher,
) -> Result<(), CommandError> {
    let mut left = args.count;
    while left != Some(0) {
        let event = tokio::select! {
            event = watcher.changed() => event,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        if event.event_type == EventType::Session {
            tell_state(event.session_state)?;
            continue;
        }
        print(session, args, &event).await?;
        session.out.flush()?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn tell_state(state: SessionState) -> Result<(), CommandError> {
    match state {
        SessionState::Disconnected => eprintln!("connection lost; trying to get it back"),
        SessionState::SyncConnected | SessionState::ConnectedReadOnly => {
            eprintln!("connected again; several changes of one znode may show as one");
        }
        _ => return Err(CommandError::failure(anyhow!("the session has ended"))),
    }
    Ok(())
}

async fn print(session: &mut Session<'_>, args: &WatchArgs, event: &WatchedEvent) -> Result<(), CommandError> {
    let verb = match event.event_type {
        EventType::NodeCreated => "created",
        EventType::NodeDeleted => "deleted",
        EventType::NodeDataChanged => "changed",
        _ => "children",
    };
    let has_data = args.data && matches!(verb, "created" | "changed");
    // What is read is the newest data, which may be newer than the event, or gone.
    let data = match has_data {
        true => session.client.get_data(&event.path).await.ok().map(|(data, _)| data),
        false => None,
    };
    let now = Timestamp::now();
    if session.form == Form::Json {
        let mut object = match &data {
            Some(data) => get::data_object(&event.path, data),
            None => json!({ "path": event.path }),
        };
        object["event"] = json!(verb);
        object["time"] = json!(now.as_millisecond());
        return session.out.json(&object);
    }
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ");
    session.out.line(&format!("{time} {verb:8} {}", event.path))?;
    match data {
        Some(data) => session.out.text(&String::from_utf8_lossy(&data)),
        None => Ok(()),
    }
}
