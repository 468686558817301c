//! `grange lock`.

use clap::Args;
use grange_client::ZnodePath;
use grange_client::recipes::ReadWriteLock;

use crate::context::Context;
use crate::error::CommandError;
use crate::hold::{HoldArgs, Holder, LayoutArg, Wanted};

/// Run a command while holding a lock, one at a time on any number of machines
///
/// CMD finds GRANGE_LOCK_PATH, GRANGE_LOCK_ZNODE and GRANGE_LOCK_TOKEN in its environment; the token grows from holder to
/// holder. If the lock is lost (no contact with the ensemble for three fifths of the session timeout, or somebody deleted
/// its znode), CMD and its process group get SIGTERM, and SIGKILL after --grace. Python's kazoo and Java's Curator may
/// contend for the same lock.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: that of CMD, or 128+N if signal N ended it; 1 (or -E) if the lock was not obtained \
                        in time, 2 wrong usage, 3 failure (the lock was lost, there is no session), 126 or 127 if CMD \
                        cannot be run."
)]
pub(crate) struct LockArgs {
    /// The znode whose children stand in line; made if it is missing
    path: ZnodePath,
    /// Hold it together with others that say so, and with nobody else
    #[arg(long)]
    shared: bool,
    /// Whose names the znodes get
    #[arg(long, value_name = "LIBRARY", value_enum, default_value_t = LayoutArg::Kazoo)]
    layout: LayoutArg,
    #[command(flatten)]
    hold: HoldArgs,
}

pub(crate) async fn run(cx: &Context, args: LockArgs) -> Result<(), CommandError> {
    let LockArgs { path, shared, layout, hold } = args;
    let holder = Holder {
        cx,
        args: &hold,
        path: &path,
        wanted: |client: &_, id: &_| {
            let lock = ReadWriteLock::new(client, path.clone(), id).with_layout(layout.into());
            Wanted::Lock(if shared { lock.read() } else { lock.write() })
        },
    };
    holder.run().await
}
