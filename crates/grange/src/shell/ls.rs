//! `grange shell ls`.

use clap::Args;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::walk::{Step, Walk};
use crate::shell::{Form, Session, stat_form};

/// List the children of a znode, one name per line
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Print the znode's stat too
    #[arg(short = 's', conflicts_with = "recursive")]
    stat: bool,
    /// Print the paths of the znode and of everything below it
    #[arg(short = 'R')]
    recursive: bool,
    /// The znode [default: /, or where cd went]
    path: Option<PathArg>,
}

pub(super) async fn run(session: &mut Session<'_>, args: &LsArgs) -> Result<(), CommandError> {
    let path = session.path_or_here(args.path.as_ref())?;
    if args.recursive { list_below(session, &path).await } else { list(session, args, &path).await }
}

async fn list(session: &mut Session<'_>, args: &LsArgs, path: &str) -> Result<(), CommandError> {
    let (mut names, stat) = session.client.get_children(path).await.map_err(|error| refused(path, error))?;
    names.sort_unstable();
    if session.form == Form::Json {
        let mut object = json!({ "path": path, "children": names });
        if args.stat {
            object["stat"] = stat_form::object(&stat);
        }
        return session.out.json(&object);
    }
    for name in &names {
        session.out.line(name)?;
    }
    if args.stat {
        session.print_stat(&stat)?;
    }
    Ok(())
}

async fn list_below(session: &mut Session<'_>, root: &str) -> Result<(), CommandError> {
    let mut walk = Walk::new(session.client, root);
    while let Some(Step { path, .. }) = walk.next().await? {
        match session.form {
            Form::Text => session.out.line(&path)?,
            Form::Json => session.out.json(&json!({ "path": path }))?,
        }
    }
    Ok(())
}
