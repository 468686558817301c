//! What the server says no with, in zkCli's words, with the exit status and advice.

use anyhow::anyhow;
use grange_client::ClientError;
use grange_proto::path::split;

use crate::error::CommandError;
use crate::output::harmless_line;

/// Turns the failure of a request about `path` into the end of the command.
///
/// An answer about the state of the tree is negative; everything else is a failure.
pub(super) fn refused(path: &str, error: ClientError) -> CommandError {
    let shown = harmless_line(path);
    match error {
        ClientError::NoNode => CommandError::negative(anyhow!("Node does not exist: {shown}")),
        ClientError::NodeExists => CommandError::negative(anyhow!("Node already exists: {shown}"))
            .hint(format!("to change its data: grange shell set {shown} DATA")),
        ClientError::NotEmpty => CommandError::negative(anyhow!("Node not empty: {shown}"))
            .hint(format!("to delete it with everything below it: grange shell deleteall {shown}")),
        ClientError::BadVersion => CommandError::negative(anyhow!("version No is not valid : {shown}"))
            .hint(format!("somebody changed it; to see its version: grange shell stat {shown}")),
        ClientError::NoChildrenForEphemerals => {
            CommandError::negative(anyhow!("Ephemerals cannot have children: {shown}"))
        }
        ClientError::NoAuth => CommandError::failure(anyhow!("Insufficient permission : {shown}"))
            .hint("say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password"),
        ClientError::InvalidAcl => CommandError::failure(anyhow!("Acl is not valid : {shown}"))
            .hint("an ACL is SCHEME:ID:PERMS[,…], such as world:anyone:r; auth::cdrwa needs --auth-file"),
        ClientError::QuotaExceeded => CommandError::failure(anyhow!("Quota has exceeded : {shown}")),
        ClientError::Unimplemented => CommandError::failure(anyhow!("KeeperErrorCode = Unimplemented for {shown}"))
            .hint("the server does not know this operation; znodes with a TTL need extendedTypesEnabled=true there"),
        // The library passes on what the system said about a connection as an error of its own.
        ClientError::ConnectionLoss | ClientError::Custom(_) => {
            CommandError::failure(anyhow!("KeeperErrorCode = ConnectionLoss for {shown}"))
                .hint("whether a change was made is not known: look before you repeat it")
                .hint("a server also closes the connection when a request is larger than its jute.maxbuffer (1 MiB)")
        }
        ClientError::BadArguments(why) => CommandError::usage(anyhow!("Arguments are not valid : {shown}: {why}")),
        other => CommandError::failure(other).context(format!("Command failed: {shown}")),
    }
}

/// As [`refused`], for the creation of a znode: what does not exist is its parent.
pub(super) fn creation_refused(path: &str, error: ClientError) -> CommandError {
    let is_no_node = error == ClientError::NoNode;
    let refusal = refused(path, error);
    match split(path) {
        Some((parent, _)) if is_no_node => {
            let parent = harmless_line(parent);
            refusal.hint(format!("its parent must exist first: grange shell create {parent}"))
        }
        _ => refusal,
    }
}
