//! `--filters`: which hosts of a farm are meant.

use clap::Args;
use grange_farm::Filter;

/// Predicates on hosts.
#[derive(Debug, Default, Args)]
pub(super) struct FilterArgs {
    /// Only hosts for which all of these hold, such as 'enabled=1,mysql.delay<10,!maintenance'
    #[arg(
        short = 'F',
        long,
        visible_alias = "filter",
        value_name = "FILTERS",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) filters: Filter,
}
