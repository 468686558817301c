//! What is told to the screen: the farm as it is, a few times a second at most.

use std::time::Duration;

use grange_farm::check::{self, Limit, Rules};
use grange_farm::events::{FarmEvent, Teller};
use grange_farm::{FarmChange, Filter, Host};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::CommandError;
use crate::farm::follow::{Follower, SESSION_LOST};
use crate::recipe_error::failed;

/// What happens within this time is shown at once.
const GATHERED: Duration = Duration::from_millis(100);

/// How long to wait after an attempt to go on failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A child of the farm.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) host: Host,
    /// When its znode was made, by the server's clock, in milliseconds since 1970.
    pub(super) joined_ms: i64,
    /// When its data were written.
    pub(super) changed_ms: i64,
}

/// The farm itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Summary {
    /// How many hosts there should be.
    pub(super) size: Option<u32>,
    /// Which of them run.
    pub(super) running: Filter,
    /// What is wrong with the farm's own properties.
    pub(super) complaint: Option<String>,
}

/// What the screen is told.
#[derive(Debug)]
pub(super) enum Update {
    /// The farm is like this, after these events.
    Farm { hosts: Vec<Seen>, summary: Summary, events: Vec<FarmEvent> },
    /// It is not known how it is.
    Trouble(String),
}

/// Feeds the screen until it is closed.
pub(super) async fn feed(follower: &mut Follower, screen: mpsc::Sender<Update>) {
    let mut gathering = Gathering { teller: Teller::default(), is_ready: false, events: Vec::new() };
    loop {
        let update = match follow(follower, &mut gathering, &screen).await {
            Ok(()) => snapshot(follower, std::mem::take(&mut gathering.events)),
            Err(error) => Update::Trouble(error.headline()),
        };
        let is_trouble = matches!(update, Update::Trouble(_));
        if screen.send(update).await.is_err() {
            return;
        }
        if is_trouble {
            sleep(RETRY_PAUSE).await;
        }
    }
}

struct Gathering {
    teller: Teller,
    /// What was there at the beginning is no news.
    is_ready: bool,
    events: Vec<FarmEvent>,
}

impl Gathering {
    fn learn(&mut self, change: &FarmChange, follower: &Follower) {
        let event = self.teller.learn(change, &follower.view);
        self.is_ready |= *change == FarmChange::Ready;
        self.events.extend(event.filter(|_| self.is_ready));
    }
}

/// Waits for a change, and takes those that follow it quickly.
async fn follow(
    follower: &mut Follower,
    gathering: &mut Gathering,
    screen: &mpsc::Sender<Update>,
) -> Result<(), CommandError> {
    let first = match follower.view.next().await {
        Ok(change) => change,
        Err(error) if error.is_session_end() => {
            // Told at once, since another session may take a while. Nobody is left to tell if the screen is closed.
            let _ = screen.send(Update::Trouble(SESSION_LOST.to_owned())).await;
            return follower.reopen().await;
        }
        Err(error) => return Err(failed(error)),
    };
    gathering.learn(&first, follower);
    let deadline = Instant::now() + GATHERED;
    // An error comes again.
    while let Ok(Ok(change)) = timeout_at(deadline, follower.view.next()).await {
        gathering.learn(&change, follower);
    }
    Ok(())
}

fn snapshot(follower: &Follower, events: Vec<FarmEvent>) -> Update {
    let view = &follower.view;
    let seen = view.hosts().iter().map(|(name, host)| {
        let stat = view.stat(name);
        Seen {
            name: name.clone(),
            host: host.clone(),
            joined_ms: stat.map_or(0, |stat| stat.ctime),
            changed_ms: stat.map_or(0, |stat| stat.mtime),
        }
    });
    let hosts = seen.collect();
    Update::Farm { hosts, summary: summary(follower), events }
}

fn summary(follower: &Follower) -> Summary {
    let view = &follower.view;
    if !view.exists() {
        return Summary { complaint: Some("there is no such farm".to_owned()), ..Summary::default() };
    }
    let none: Limit = "0".parse().expect("it is a number");
    let rules = Rules { max: none, warn: None, filter: None };
    let properties = match view.properties() {
        Ok(properties) => properties,
        Err(error) => return Summary { complaint: Some(grange_farm::events::explain(&error)), ..Summary::default() },
    };
    let size = check::size(view.farm(), &properties);
    let running = check::filter(view.farm(), &properties, &rules);
    let complaints: Vec<_> = size.as_ref().err().into_iter().chain(running.as_ref().err()).map(described).collect();
    let complaint = (!complaints.is_empty()).then(|| complaints.join("; "));
    Summary { size: size.ok(), running: running.unwrap_or_default(), complaint }
}

fn described(error: &check::CheckError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}
