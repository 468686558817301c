//! `grange farm top`.

mod feed;
mod screen;
mod state;

use anyhow::anyhow;
use clap::Args;
use grange_farm::FieldPath;
use grange_proto::ZnodePath;
use ratatui::crossterm::event::Event;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::{Duration, interval};

use self::feed::{Update, feed};
use self::screen::{Keys, Screen};
use self::state::{Next, State};
use super::filters::FilterArgs;
use super::follow::Follower;
use crate::command::{Signals, ended_by};
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;

/// How often ages are shown anew.
const TICK: Duration = Duration::from_secs(1);

/// Updates that nobody has shown yet. One that waits holds all that happens meanwhile.
const UPDATES_MAX: usize = 1;

/// Show the hosts of a farm on a terminal, as they are now
///
/// Which of them run is decided by the farm's property `running_filter`. JOINED is how long ago a host's znode was made,
/// CHANGED how long ago its data were written last.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys: q quits; s sorts by the next column, r the other way round; / takes a filter, and the Escape key \
                        leaves it as it was; the arrow keys, Page Up, Page Down, Home and End scroll.\n\n\
                        It goes on over outages and lost sessions, and says so. Exit status: 0 after q, 2 wrong usage, such \
                        as no terminal, 3 failure."
)]
pub(super) struct TopArgs {
    /// Show these fields
    #[arg(long, value_name = "FIELD,FIELD", value_delimiter = ',', default_value = "hostname")]
    fields: Vec<FieldPath>,
    #[command(flatten)]
    meant: FilterArgs,
    /// The farm; it may come later
    znode: ZnodePath,
}

pub(super) async fn run(cx: &Context, connection: &ConnectionArgs, args: TopArgs) -> Result<(), CommandError> {
    if !(cx.is_stdin_terminal && cx.is_stdout_terminal) {
        return Err(CommandError::usage(anyhow!("this needs a terminal"))
            .hint(format!("print what changes: grange farm watch {}", args.znode)));
    }
    let mut signals = Signals::catch().map_err(CommandError::failure)?;
    let mut follower = Follower::open(connection.options()?, args.znode.clone()).await?;
    let (sender, mut updates) = mpsc::channel(UPDATES_MAX);
    let mut state = State::new(args.znode.as_str(), args.fields, args.meant.filters);
    let shown = tokio::select! {
        () = feed(&mut follower, sender) => Ok(()),
        shown = show(&mut state, &mut updates, &mut signals) => shown,
    };
    follower.close().await;
    shown
}

/// Shows what is fed, and obeys keys and signals. However it ends, the terminal is as it was.
async fn show(
    state: &mut State,
    updates: &mut mpsc::Receiver<Update>,
    signals: &mut Signals,
) -> Result<(), CommandError> {
    let mut screen = Screen::open()?;
    let mut keys = Keys::start();
    let mut ticks = interval(TICK);
    loop {
        screen.draw(state)?;
        tokio::select! {
            update = updates.recv() => match update {
                Some(update) => state.learn(update),
                None => return Ok(()),
            },
            event = keys.next() => {
                // A terminal of another size is drawn anew.
                let Event::Key(key) = event? else { continue };
                match state.press(key, screen.page()) {
                    Next::GoOn => {}
                    Next::Quit => return Ok(()),
                    Next::Suspend => screen.suspend()?,
                }
            }
            signal = signals.next() => match signal {
                Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT => return Err(ended_by(signal)),
                Signal::TSTP => screen.suspend()?,
                _ => {}
            },
            _ = ticks.tick() => {}
        }
    }
}
