//! `--wait`: how long a command waits for what it needs.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

/// How long to wait.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// How long to wait, in seconds; 0 does not wait [default: for ever]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
}

/// The longest wait that has an end, in seconds: a year.
const WAIT_SECONDS_MAX: f64 = 366.0 * 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=WAIT_SECONDS_MAX).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("must be a number of seconds, 0 or more, up to a year".to_owned()),
    }
}

impl WaitArgs {
    /// Returns when the wait ends; `None` if it does not.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wait.map(|wait| Instant::now() + wait)
    }
}
