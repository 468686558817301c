//! Sessions for what runs for months: there will be another one.

use std::error::Error;
use std::time::Duration;

use grange_client::{Client, ConnectError, ConnectOptions, connect};
use tokio::time::sleep;
use tracing::{info, warn};

/// How long to wait between attempts, each of which goes through all servers several times.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens a session, however long the ensemble is away.
///
/// Errors: no session will ever be given to who asks like this, as with wrong credentials.
pub async fn connect_at_last(options: &ConnectOptions) -> Result<Client, ConnectError> {
    let mut is_told = false;
    loop {
        match connect(options).await {
            Ok(client) => {
                if is_told {
                    info!("there is a session again");
                }
                return Ok(client);
            }
            Err(error @ ConnectError::NoServer { .. }) => {
                // Once is enough for an outage.
                if !is_told {
                    warn!("{error}; trying on");
                }
                is_told = true;
            }
            Err(error) => return Err(error),
        }
        sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
    }
}

/// Returns an error with everything that caused it, in one line.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
