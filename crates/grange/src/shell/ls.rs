//! `grange shell ls`.

use clap::Args;
use grange_proto::ZnodePath;
use serde_json::json;

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::walk::Walk;
use crate::shell::{Form, Session, path, stat_form};

/// List the children of a znode, one name per line
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Print the znode's stat too
    #[arg(short = 's', conflicts_with = "recursive")]
    stat: bool,
    /// Print the paths of the znode and of everything below it
    #[arg(short = 'R')]
    recursive: bool,
    /// The znode
    #[arg(value_parser = path::parse, default_value = "/")]
    path: ZnodePath,
}

pub(super) async fn run(session: &mut Session<'_>, args: &LsArgs) -> Result<(), CommandError> {
    if args.recursive { list_below(session, &args.path).await } else { list(session, args).await }
}

async fn list(session: &mut Session<'_>, args: &LsArgs) -> Result<(), CommandError> {
    let path = args.path.as_str();
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

async fn list_below(session: &mut Session<'_>, root: &ZnodePath) -> Result<(), CommandError> {
    let mut walk = Walk::new(session.client, root.as_str());
    while let Some(path) = walk.next().await? {
        match session.form {
            Form::Text => session.out.line(&path)?,
            Form::Json => session.out.json(&json!({ "path": path }))?,
        }
    }
    Ok(())
}
