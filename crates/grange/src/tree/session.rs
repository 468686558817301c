//! A session as the file's own user, and the plan that is made in it.

use anyhow::anyhow;
use grange_client::declared::{Caller, Declared, Live, LiveError, Plan, PlanOptions, plan};
use grange_client::{Client, ClientError};

use crate::connection::{ConnectionArgs, connect};
use crate::error::CommandError;
use crate::output::harmless_line;

/// A session, and what it may do.
pub(super) struct Session {
    pub(super) client: Client,
    caller: Caller,
}

impl Session {
    /// Opens one with the ensemble that the flags, the environment or the file names, as everybody whom they name.
    pub(super) async fn open(mut connection: ConnectionArgs, declared: &Declared) -> Result<Session, CommandError> {
        let is_set = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
        if connection.servers.is_none() && !is_set("GRANGE_SERVERS") && !is_set("ZKHOST") {
            connection.servers = declared.servers.as_ref().map(|(servers, _)| servers.clone());
        }
        let mut options = connection.options()?;
        options.credentials.auths.extend(declared.auths.iter().cloned());
        let caller = Caller::of(&options.credentials.auths);
        let client = connect(&options).await?;
        match caller.ask(&client).await {
            Ok(caller) => Ok(Session { client, caller }),
            Err(error) => {
                grange_client::close(client).await;
                Err(cannot_read(LiveError::Session(error)))
            }
        }
    }

    /// Compares the live tree with the declaration.
    pub(super) async fn plan(
        &self,
        declared: &Declared,
        options: PlanOptions,
        finds_unnamed: bool,
    ) -> Result<Plan, CommandError> {
        let live = Live::read(&self.client, declared, finds_unnamed || options.prunes).await.map_err(cannot_read)?;
        Ok(plan(declared, &live, &self.caller, options))
    }
}

/// Ends a command that could not read the tree.
pub(super) fn cannot_read(error: LiveError) -> CommandError {
    let source = match &error {
        LiveError::Znode { source, .. } | LiveError::Session(source) => source.clone(),
    };
    // Names of znodes come from a server.
    let error = CommandError::failure(anyhow!(harmless_line(&format!("{:#}", anyhow::Error::from(error)))));
    match source {
        ClientError::NoAuth => {
            error.hint("say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password")
        }
        _ => error,
    }
}
