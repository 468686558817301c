//! What the failure of a recipe means to whoever typed the command.

use grange_client::ClientError;
use grange_client::recipes::RecipeError;

use crate::error::CommandError;

/// Turns the failure of a recipe into the end of the command.
pub(crate) fn failed(error: RecipeError) -> CommandError {
    let hint = match &error {
        RecipeError::Request { source: ClientError::NoAuth, .. } => {
            Some("say who you are with --auth-file FILE or $GRANGE_AUTH, such as digest:user:password")
        }
        RecipeError::Unknown { .. } => {
            Some("look before you repeat it; a longer --session-timeout bridges longer outages")
        }
        RecipeError::TooLarge { .. } => Some("servers refuse requests above their jute.maxbuffer (1 MiB)"),
        RecipeError::NotHeld { .. } => Some("it may have been done by somebody else meanwhile"),
        error if error.is_session_end() => Some("a longer --session-timeout bridges longer outages"),
        _ => None,
    };
    let is_usage = matches!(error, RecipeError::Number { .. } | RecipeError::TooLarge { .. });
    let failure = if is_usage { CommandError::usage(error) } else { CommandError::failure(error) };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
