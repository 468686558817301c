//! Carrying out a plan, each change on the condition that what it is based on has not changed.

use std::time::Duration;

use crate::declared::live::acl_for_client;
use crate::declared::model::Kind;
use crate::declared::plan::Plan;
use crate::declared::steps::{AclWrite, Create, Step, Write};
use crate::pipeline::pipelined;
use crate::{Acls, Client, ClientError, CreateMode, MultiWriteError, Stat};

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Znodes created.
    pub created: usize,
    /// Znodes changed.
    pub changed: usize,
    /// Znodes deleted.
    pub deleted: usize,
}

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The tree is no more as the plan saw it; nothing of this transaction was written.
    #[error("{path}: {what} since the plan was made")]
    Changed {
        /// The znode.
        path: String,
        /// What somebody did.
        what: &'static str,
    },
    /// The server refused a change.
    #[error("{path}")]
    Refused {
        /// The znode.
        path: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The connection was lost, so whether the last changes were made is not known.
    #[error("the connection was lost at {path}")]
    Lost {
        /// The first znode of the request.
        path: String,
        /// How.
        #[source]
        source: ClientError,
    },
}

/// Carries out a plan. `applied` counts what is done, also when it ends with an error.
pub async fn apply(client: &Client, plan: &Plan, applied: &mut Applied) -> Result<(), ApplyError> {
    debug_assert!(plan.obstacles.is_empty(), "a plan with obstacles is not applied");
    for step in plan.steps() {
        match step {
            Step::Transaction(writes) => commit(client, &writes, applied).await?,
            Step::Create(create) => create_alone(client, &create, applied).await?,
            Step::Acls(writes) => set_acls(client, writes, applied).await?,
        }
    }
    Ok(())
}

async fn commit(client: &Client, writes: &[Write], applied: &mut Applied) -> Result<(), ApplyError> {
    let mut transaction = client.new_multi_writer();
    for write in writes {
        let added = match write {
            Write::Create(create) => {
                create.with_options(|options| transaction.add_create(&create.path, &create.data, options))
            }
            Write::SetData { path, data, version } => transaction.add_set_data(path, data, Some(*version)),
            Write::Delete { path, version } => transaction.add_delete(path, Some(*version)),
        };
        added.map_err(|source| refused(write.path(), source, Meant::of(write)))?;
    }
    match transaction.commit().await {
        Ok(_) => {}
        Err(MultiWriteError::OperationFailed { index, source }) => {
            let write = writes.get(index).unwrap_or(&writes[0]);
            return Err(refused(write.path(), source, Meant::of(write)));
        }
        Err(MultiWriteError::RequestFailed { source }) => {
            return Err(refused(writes[0].path(), source, Meant::of(&writes[0])));
        }
    }
    for write in writes {
        match Meant::of(write) {
            Meant::Create => applied.created += 1,
            Meant::Change => applied.changed += 1,
            Meant::Delete => applied.deleted += 1,
        }
    }
    Ok(())
}

async fn create_alone(client: &Client, create: &Create, applied: &mut Applied) -> Result<(), ApplyError> {
    let created = create.with_options(|options| client.create(&create.path, &create.data, options));
    created.await.map_err(|source| refused(&create.path, source, Meant::Create))?;
    applied.created += 1;
    Ok(())
}

/// Sets ACLs; the first that fails is reported, after all replies have come, so that what was done is known.
async fn set_acls(client: &Client, writes: Vec<AclWrite>, applied: &mut Applied) -> Result<(), ApplyError> {
    let mut first_error = None;
    let done: Result<(), std::convert::Infallible> = pipelined(
        writes.iter(),
        |write| {
            let acl: Vec<_> = write.acl.iter().map(acl_for_client).collect();
            Box::pin(client.set_acl(&write.path, &acl, Some(write.aversion)))
        },
        |write, reply: Result<Stat, ClientError>| {
            match reply {
                Ok(_) if write.is_counted => applied.changed += 1,
                Ok(_) => {}
                Err(error) if first_error.is_none() => first_error = Some(refused(&write.path, error, Meant::Change)),
                Err(_) => {}
            }
            Ok(())
        },
    )
    .await;
    done.unwrap_or_else(|never| match never {});
    first_error.map_or(Ok(()), Err)
}

impl Create {
    fn with_options<R>(&self, use_them: impl FnOnce(&crate::CreateOptions<'_>) -> R) -> R {
        let acl: Vec<_> = self.acl.iter().map(acl_for_client).collect();
        let mode = match self.kind {
            Kind::Persistent | Kind::Ttl(_) => CreateMode::Persistent,
            Kind::Container => CreateMode::Container,
            Kind::Sequential => CreateMode::PersistentSequential,
        };
        let options = mode.with_acls(Acls::new(&acl));
        match self.kind {
            Kind::Ttl(ttl_ms) => use_them(&options.with_ttl(Duration::from_millis(ttl_ms))),
            _ => use_them(&options),
        }
    }
}

/// What a request was to do.
#[derive(Debug, Clone, Copy)]
enum Meant {
    Create,
    Change,
    Delete,
}

impl Meant {
    fn of(write: &Write) -> Meant {
        match write {
            Write::Create(_) => Meant::Create,
            Write::SetData { .. } => Meant::Change,
            Write::Delete { .. } => Meant::Delete,
        }
    }
}

fn refused(path: &str, source: ClientError, meant: Meant) -> ApplyError {
    let path = path.to_owned();
    let what = match (meant, &source) {
        (Meant::Create, ClientError::NodeExists) => "somebody created it",
        (Meant::Create, ClientError::NoNode) => "somebody deleted its parent",
        (_, ClientError::NoNode) => "somebody deleted it",
        (_, ClientError::BadVersion) => "somebody changed it",
        (Meant::Delete, ClientError::NotEmpty) => "somebody created something below it",
        // The library passes on what the system said about a connection as an error of its own.
        (
            _,
            ClientError::ConnectionLoss
            | ClientError::SessionExpired
            | ClientError::ClientClosed
            | ClientError::NoHosts
            | ClientError::Timeout
            | ClientError::Custom(_),
        ) => return ApplyError::Lost { path, source },
        _ => return ApplyError::Refused { path, source },
    };
    ApplyError::Changed { path, what }
}
