//! `grange shell create`.

use std::time::Duration;

use clap::Args;
use grange_client::{Acls, CreateMode};
use serde_json::json;

use crate::error::CommandError;
use crate::output::harmless_line;
use crate::shell::acl::AclList;
use crate::shell::answer::creation_refused;
use crate::shell::path::PathArg;
use crate::shell::{Form, Session, data, stat_form};

/// Create a znode and print its path
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Append a number that no sibling had before
    #[arg(short = 's')]
    sequential: bool,
    /// Delete it when the session ends, which is when this command ends
    #[arg(short = 'e')]
    ephemeral: bool,
    /// Delete it some time after its last child was deleted
    #[arg(short = 'c', conflicts_with_all = ["sequential", "ephemeral", "ttl_ms"])]
    container: bool,
    /// Delete it when it has no children and was not changed for so many milliseconds
    #[arg(short = 't', value_name = "MS", conflicts_with = "ephemeral")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=TTL_MS_MAX))]
    ttl_ms: Option<u64>,
    /// The znode
    path: PathArg,
    /// Its data; - reads standard input
    #[arg(allow_negative_numbers = true)]
    data: Option<String>,
    /// Its ACL: SCHEME:ID:PERMS[,…] with permissions out of cdrwa [default: world:anyone:cdrwa]
    acl: Option<AclList>,
    #[command(flatten)]
    file: data::FileArgs,
}

/// The longest time to live that the wire format has room for: 40 bits.
const TTL_MS_MAX: u64 = (1 << 40) - 1;

impl CreateArgs {
    fn mode(&self) -> CreateMode {
        match (self.container, self.ephemeral, self.sequential) {
            (true, _, _) => CreateMode::Container,
            (false, true, true) => CreateMode::EphemeralSequential,
            (false, true, false) => CreateMode::Ephemeral,
            (false, false, true) => CreateMode::PersistentSequential,
            (false, false, false) => CreateMode::Persistent,
        }
    }
}

pub(super) async fn run(session: &mut Session<'_>, args: &CreateArgs) -> Result<(), CommandError> {
    let path = match args.sequential {
        true => session.path_prefix(&args.path)?,
        false => session.path(&args.path)?,
    };
    let data = data::read(session, args.data.as_deref(), &args.file)?.unwrap_or_default();
    let acls = match &args.acl {
        Some(AclList(acls)) => Acls::new(acls),
        None => Acls::anyone_all(),
    };
    let mut options = args.mode().with_acls(acls);
    if let Some(ttl_ms) = args.ttl_ms {
        options = options.with_ttl(Duration::from_millis(ttl_ms));
    }
    let created = session.client.create(&path, &data, &options).await;
    let (stat, sequence) = created.map_err(|error| creation_refused(&path, error))?;
    let path = if args.sequential { format!("{path}{sequence}") } else { path };
    if args.ephemeral && !session.is_interactive {
        eprintln!("note: {} is ephemeral and is deleted as this command ends", harmless_line(&path));
    }
    match session.form {
        Form::Text => session.out.line(&path),
        Form::Json => session.out.json(&json!({ "path": path, "stat": stat_form::object(&stat) })),
    }
}
