//! `grange shell tree`.

use clap::Args;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::path::{PathArg, name_of};
use crate::shell::units::{size, znodes};
use crate::shell::walk::{Contents, Denied, Step, Walk, Wanted};
use crate::shell::{Form, Session, stat_form};

/// Draw a subtree, with the size of the data of each znode
#[derive(Debug, Args)]
pub(super) struct TreeArgs {
    /// Go so many levels down and no further
    #[arg(short = 'L', long, value_name = "LEVELS")]
    depth: Option<usize>,
    /// The znode [default: /, or where cd went]
    path: Option<PathArg>,
}

pub(super) async fn run(session: &mut Session<'_>, args: &TreeArgs) -> Result<(), CommandError> {
    let root = session.path_or_here(args.path.as_ref())?;
    let walk = Walk::new(session.client, &root).depth_max(args.depth).denied(Denied::IsTold);
    let mut contents = Contents::new(walk, Wanted::Stat);
    let mut branches = Branches::default();
    let (mut count, mut bytes) = (0, 0);
    while let Some(znode) = contents.next().await? {
        let length = u64::try_from(znode.stat.data_length).unwrap_or(0);
        count += 1;
        bytes += length;
        if session.form == Form::Json {
            let stat = stat_form::object(&znode.stat);
            session.out.json(&json!({ "path": znode.step.path, "depth": znode.step.depth, "stat": stat }))?;
            continue;
        }
        let shown = if znode.step.depth == 0 { &root } else { name_of(&znode.step.path) };
        let mut line = format!("{}{shown}", branches.before(&znode.step));
        if length > 0 {
            line += &format!("  ({})", size(length));
        }
        if znode.stat.ephemeral_owner != 0 {
            line += "  ephemeral";
        }
        if Some(znode.step.depth) == args.depth && znode.stat.num_children > 0 {
            line += &format!("  +{} below", znode.stat.num_children);
        }
        session.out.line(&line)?;
    }
    match session.form {
        Form::Json => Ok(()),
        Form::Text => session.out.line(&format!("{}, {}", znodes(count), size(bytes))),
    }
}

/// The lines in front of names.
#[derive(Debug, Default)]
struct Branches {
    /// For each level below the root, whether the branch ends there.
    ends: Vec<bool>,
}

impl Branches {
    fn before(&mut self, step: &Step) -> String {
        let Some(level) = step.depth.checked_sub(1) else { return String::new() };
        self.ends.truncate(level);
        let mut text: String = self.ends.iter().map(|&is_end| if is_end { "    " } else { "│   " }).collect();
        text.push_str(if step.is_last { "└── " } else { "├── " });
        self.ends.push(step.is_last);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_go_on_until_the_last_sibling() {
        let mut branches = Branches::default();
        let mut before = |depth, is_last| branches.before(&Step { path: String::new(), depth, is_last });
        assert_eq!(before(0, true), "");
        assert_eq!(before(1, false), "├── ");
        assert_eq!(before(2, true), "│   └── ");
        assert_eq!(before(1, true), "└── ");
        assert_eq!(before(2, false), "    ├── ");
        assert_eq!(before(3, true), "    │   └── ");
    }
}
