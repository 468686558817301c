//! `grange semaphore`.

use std::num::NonZeroU32;

use clap::Args;
use grange_client::ZnodePath;
use grange_client::recipes::Semaphore;

use crate::context::Context;
use crate::error::CommandError;
use crate::hold::{HoldArgs, Holder, Wanted};

/// Run a command while holding one of N leases: at most N at a time on any number of machines
///
/// CMD finds GRANGE_LOCK_PATH, GRANGE_LOCK_ZNODE and GRANGE_LOCK_TOKEN in its environment. If the lease is lost, CMD and
/// its process group get SIGTERM, and SIGKILL after --grace. Python's kazoo may use the same semaphore.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: that of CMD, or 128+N if signal N ended it; 1 (or -E) if no lease was obtained in \
                        time, 2 wrong usage (others have made the semaphore for another number), 3 failure (the lease \
                        was lost, there is no session), 126 or 127 if CMD cannot be run."
)]
pub(crate) struct SemaphoreArgs {
    /// The znode whose children are leases; made if it is missing. Those who wait stand at PATH-__lock__
    path: ZnodePath,
    /// How many leases there are; all who use the semaphore must say the same
    #[arg(short = 'n', long, value_name = "N", required_unless_present = "list")]
    leases: Option<NonZeroU32>,
    #[command(flatten)]
    hold: HoldArgs,
}

pub(crate) async fn run(cx: &Context, args: SemaphoreArgs) -> Result<(), CommandError> {
    let SemaphoreArgs { path, leases, hold } = args;
    // Who only looks asks for none.
    let leases = leases.unwrap_or(NonZeroU32::MIN);
    let holder = Holder {
        cx,
        args: &hold,
        path: &path,
        wanted: |client: &_, id: &_| Wanted::Lease(Semaphore::new(client, path.clone(), id, leases)),
    };
    holder.run().await
}
