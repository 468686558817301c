//! `grange elect`.

use std::time::Duration;

use clap::Args;
use grange_client::ZnodePath;
use grange_client::recipes::Election;

use crate::context::Context;
use crate::error::CommandError;
use crate::hold::{HoldArgs, Holder, LayoutArg, Wanted};

/// From the start of one run of CMD to that of the next one at least, so that a command that fails at once does not keep
/// the ensemble busy.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);

/// Run a command on one of many machines: on the next one when that one ends
///
/// CMD finds GRANGE_LOCK_PATH, GRANGE_LOCK_ZNODE and GRANGE_LOCK_TOKEN in its environment; the token grows from leader to
/// leader. If the lead is lost, CMD and its process group get SIGTERM, and SIGKILL after --grace. With --repeat this
/// stands for election again whenever CMD has ended or the lead was lost, until a signal ends it.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: that of CMD, or 128+N if signal N ended it; 1 (or -E) if the lead was not obtained \
                        in time, 2 wrong usage, 3 failure (the lead was lost, there is no session), 126 or 127 if CMD \
                        cannot be run."
)]
pub(crate) struct ElectArgs {
    /// The znode whose children are the candidates; made if it is missing
    path: ZnodePath,
    /// Stand for election again, and run CMD again, until a signal ends this
    #[arg(long, conflicts_with = "list")]
    repeat: bool,
    /// Whose names the znodes get
    #[arg(long, value_name = "LIBRARY", value_enum, default_value_t = LayoutArg::Kazoo)]
    layout: LayoutArg,
    #[command(flatten)]
    hold: HoldArgs,
}

pub(crate) async fn run(cx: &Context, args: ElectArgs) -> Result<(), CommandError> {
    let ElectArgs { path, repeat, layout, hold } = args;
    let holder = Holder {
        cx,
        args: &hold,
        path: &path,
        wanted: |client: &_, id: &_| Wanted::Lead(Election::new(client, path.clone(), id).with_layout(layout.into())),
    };
    if repeat { holder.repeat(REPEAT_PAUSE).await } else { holder.run().await }
}
