//! Putting back what a run of `exec` on this host has left set, because it was killed or the machine died.

use grange_client::Client;
use grange_client::ZnodePath;
use tracing::{info, warn};

use crate::exec::{ExecError, Orphans, Place, Record, Settled, UndoLog, Whose};
use crate::sessions::with_causes;

/// Returns the records of runs that have ended without putting the host's fields back.
pub(super) async fn orphans(client: &Client, farm: &ZnodePath, host: &str) -> Vec<Record> {
    let Some(log) = log(client, farm, host) else { return Vec::new() };
    log.orphans().await.unwrap_or_else(|error| {
        warn!(error = %with_causes(&error), "what runs of exec have left set is not put back");
        Vec::new()
    })
}

/// Puts back, for as long as the session lasts, what such runs leave set in the host's znode.
pub(super) async fn tend(client: Client, farm: ZnodePath, host: String) {
    let Some(log) = log(&client, &farm, &host) else { return };
    match settle_all(log).await {
        Err(error) if error.is_session_end() => {}
        Err(error) => {
            warn!(error = %with_causes(&error), "what runs of exec leave set is put back by the next run only")
        }
        Ok(never) => match never {},
    }
}

async fn settle_all(log: UndoLog) -> Result<std::convert::Infallible, ExecError> {
    let mut orphans = Orphans::open(log.clone()).await?;
    loop {
        let record = orphans.next().await?;
        if let Settled::Restored(applied) = log.settle(record.path(), Whose::Orphaned).await?
            && !applied.restored.is_empty()
        {
            info!(record = %record.path(), "fields that a run of exec had left set are put back");
        }
    }
}

/// Returns the host's records; nothing is beside the root, if that is the farm.
fn log(client: &Client, farm: &ZnodePath, host: &str) -> Option<UndoLog> {
    UndoLog::new(client, &Place::of(farm).ok()?, host).ok()
}
