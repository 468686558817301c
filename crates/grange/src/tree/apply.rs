//! `grange tree apply`.

use anyhow::anyhow;
use clap::Args;
use grange_client::ClientError;
use grange_client::declared::{self, Applied, ApplyError, Plan, PlanOptions};

use super::confirm::Confirmation;
use super::print::{Report, print, print_before_it_is_done};
use super::session::Session;
use super::{FileArgs, Output, read};
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::harmless_line;

/// Print what is to change, and change it
///
/// Asks on a terminal, unless there is --yes. A second run changes nothing. Exit status: 0 done, 1 somebody changed
/// the tree meanwhile or the answer was no, 2 wrong usage or file, 3 failure.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Delete what FILE does not name below its topmost znodes
    #[arg(long)]
    prune: bool,
    /// Permit ACLs that leave the caller without admin
    #[arg(long)]
    allow_lockout: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

pub(super) async fn run(
    cx: &Context,
    connection: ConnectionArgs,
    form: Output,
    args: ApplyArgs,
) -> Result<(), CommandError> {
    let declared = read(&args.file.source())?;
    let session = Session::open(connection, &declared).await?;
    let options = PlanOptions { prunes: args.prune, allows_lockout: args.allow_lockout };
    let result = match session.plan(&declared, options, false).await {
        Ok(plan) => carry_out(cx, form, &session, &plan, &args.confirmation).await,
        Err(error) => Err(error),
    };
    grange_client::close(session.client).await;
    result
}

/// Prints a plan, asks, and does it.
pub(super) async fn carry_out(
    cx: &Context,
    form: Output,
    session: &Session,
    plan: &Plan,
    confirmation: &Confirmation,
) -> Result<(), CommandError> {
    // JSON is one object, with what was done.
    if form == Output::Text {
        print_before_it_is_done(cx, plan)?;
    }
    let mut applied = Applied::default();
    let result = match permitted(cx, plan, confirmation) {
        Ok(()) => declared::apply(&session.client, plan, &mut applied).await.map_err(|error| failed(error, applied)),
        Err(error) => Err(error),
    };
    let printed = match form {
        Output::Json => print(cx, form, &Report { plan, names_unnamed: false, applied: Some(applied) }),
        Output::Text if result.is_ok() && !plan.is_empty() => super::print::print_applied(cx, applied),
        Output::Text => Ok(()),
    };
    result.and(printed)
}

fn permitted(cx: &Context, plan: &Plan, confirmation: &Confirmation) -> Result<(), CommandError> {
    refuse_obstacles(plan)?;
    if plan.is_empty() { Ok(()) } else { confirmation.permits(cx, plan) }
}

/// Ends a command whose plan cannot be carried out.
pub(super) fn refuse_obstacles(plan: &Plan) -> Result<(), CommandError> {
    let Some(first) = plan.obstacles.first() else { return Ok(()) };
    let others = match plan.obstacles.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let place = first.location.as_ref().map(|location| format!("{location}: ")).unwrap_or_default();
    let error = anyhow!("{place}{}: {}{others}: nothing was done", harmless_line(&first.path), first.why);
    let error = CommandError::failure(error);
    Err(match &first.why {
        declared::Why::Lockout => error.hint("if that is meant: --allow-lockout"),
        declared::Why::NoParent(_) => error.hint("declare the parent, or write parents = true (makepath=true) there"),
        declared::Why::Unreadable | declared::Why::HiddenAcl | declared::Why::NoIdentity => {
            error.hint("say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password")
        }
        _ => error,
    })
}

/// Ends a command that could not carry out all of a plan.
pub(super) fn failed(error: ApplyError, applied: Applied) -> CommandError {
    let done = super::print::applied_line(applied);
    let error = match error {
        ApplyError::Changed { path, what } => {
            let error = anyhow!("{}: {what} since the plan was made", harmless_line(&path));
            CommandError::negative(error).hint("nothing of theirs was overwritten; for a new plan: grange tree plan")
        }
        ApplyError::Refused { path, source } => {
            let hint = match source {
                ClientError::NoAuth => {
                    Some("say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password")
                }
                ClientError::Unimplemented => Some("znodes with a TTL need extendedTypesEnabled=true at the server"),
                ClientError::InvalidAcl => Some("the server knows no such scheme, or no such identity in it"),
                _ => None,
            };
            let error = CommandError::failure(source).context(harmless_line(&path));
            hint.into_iter().fold(error, CommandError::hint)
        }
        ApplyError::Lost { path, source } => CommandError::failure(source)
            .context(format!("the connection was lost at {}", harmless_line(&path)))
            .hint("whether the last changes were made is not known; the same command does what is left")
            .hint("a server also closes the connection when a request is larger than its jute.maxbuffer (1 MiB)"),
    };
    error.hint(format!("done before: {done}"))
}
