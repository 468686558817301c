//! What is said when the members are not changed: the reason, and what to type or look at next.

use anyhow::anyhow;
use grange_client::ensemble::{ChangeError, JoinError};

use crate::connection::no_session;
use crate::error::CommandError;
use crate::output::harmless_line;

/// Ends a command that asked for a change.
pub(super) fn refused(error: ChangeError) -> CommandError {
    match &error {
        ChangeError::NoServer { .. } | ChangeError::Votes(_) | ChangeError::Observes(_) => {
            CommandError::negative(error)
        }
        ChangeError::Disabled => CommandError::failure(error)
            .hint("write reconfigEnabled=true into the zoo.cfg of every server, and restart them one by one"),
        ChangeError::Denied => CommandError::failure(error).hint(
            "say who you are with --auth-file FILE or $GRANGE_AUTH: the super identity, or one with WRITE (for \
                   invite ADMIN too) in the ACL of /zookeeper/config",
        ),
        ChangeError::Absent => CommandError::failure(error).hint(
            "look at its address and port for members, at firewalls, and at TLS on both sides: grange ensemble status",
        ),
        ChangeError::UnderWay => CommandError::failure(error).hint("wait for it, then again: grange ensemble status"),
        ChangeError::Changed => CommandError::failure(error).hint("look at them, then again: grange ensemble status"),
        ChangeError::Alone => CommandError::failure(error)
            .hint("a server that others can join has lines server.N, or one line and standaloneEnabled=false"),
        ChangeError::Refused => CommandError::failure(error)
            .hint("Apache's servers cannot hand over by command; others may want two participants to be left"),
        ChangeError::TooFew(_) => {
            CommandError::failure(error).hint("add another participant first: grange ensemble invite")
        }
        ChangeError::NoHeir => CommandError::failure(error).hint("look who is there: grange ensemble status"),
        ChangeError::Members(_) => failed_with_text(error),
        ChangeError::Client(_) => {
            CommandError::failure(error).hint("whether the change was made is not known: grange ensemble status")
        }
    }
}

/// Ends a command that wanted to join.
pub(super) fn not_joined(error: JoinError) -> CommandError {
    match error {
        JoinError::Change(error @ ChangeError::Denied) => CommandError::failure(error)
            .hint("the invitation was used or revoked; for another one: grange ensemble invite"),
        JoinError::Change(ChangeError::Absent) => {
            CommandError::failure(anyhow!("the others cannot connect to this server, so it is not added")).hint(
                "look at its port for members, --address, firewalls, and TLS on both sides (--settings); then the \
                       same command goes on",
            )
        }
        JoinError::Change(error) => refused(error),
        JoinError::Connect(error) => no_session(error),
        JoinError::Taken(..) => failed_with_text(error).hint("leave --id out, or choose another number"),
        JoinError::SameAddress(..) => {
            failed_with_text(error).hint("name another port with --peer-port, or another --address")
        }
        JoinError::Address(..) => CommandError::failure(error).hint("say it: --address HOST"),
        JoinError::Full => CommandError::failure(error),
    }
}

/// A failure whose text holds a part of what a server sent.
fn failed_with_text(error: impl Into<anyhow::Error>) -> CommandError {
    CommandError::failure(anyhow!(harmless_line(&format!("{:#}", error.into()))))
}
