//! `grange ensemble invite`.

use std::time::{Duration, SystemTime};

use clap::Args;
use jiff::Timestamp;

use super::answer::refused;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::output::Output;

/// The longest time an invitation may be valid: 30 days.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Print a token that lets one blank machine join: grange ensemble add
///
/// The token is a secret. It goes to standard output alone, so that it can be piped to the machine.
#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// How long the token is valid: a number and one of s, m, h and d
    #[arg(long = "for", value_name = "TIME", value_parser = lifetime, default_value = "1h")]
    lifetime: Duration,
    /// Take all invitations back instead
    #[arg(long, conflicts_with = "lifetime")]
    revoke_all: bool,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number and one of s, m, h and d, up to 30d, such as 90m".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let lifetime = Duration::from_secs(count.checked_mul(seconds).ok_or_else(wrong)?);
    if lifetime.is_zero() || lifetime > LIFETIME_MAX { Err(wrong()) } else { Ok(lifetime) }
}

/// Returns the seconds since 1970.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns a time in UTC for a person.
pub(super) fn time_text(at_s: u64) -> String {
    let at = i64::try_from(at_s).ok().and_then(|at_s| Timestamp::from_second(at_s).ok()).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

pub(super) async fn run(cx: &Context, args: &InviteArgs) -> Result<(), CommandError> {
    let ensemble = super::connect(&args.connection).await?;
    if args.revoke_all {
        let revoked = ensemble.revoke_invitations().await;
        ensemble.close().await;
        let mut out = Output::new(cx);
        out.line(&match revoked.map_err(refused)? {
            1 => "1 invitation is revoked".to_owned(),
            count => format!("{count} invitations are revoked"),
        })?;
        return out.finish();
    }
    let invited = ensemble.invite(now_s(), args.lifetime).await;
    ensemble.close().await;
    let invitation = invited.map_err(refused)?;
    let mut out = Output::new(cx);
    out.line(&invitation.encode())?;
    out.finish()?;
    eprintln!("the token is a secret; it lets one machine join until {}", time_text(invitation.expires_s));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(lifetime("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(lifetime("30d"), Ok(LIFETIME_MAX));
        for wrong in ["", "h", "1", "0s", "31d", "1.5h", "-1h", "1é", "99999999999999999999d"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_shown_in_utc() {
        assert_eq!(time_text(1_795_177_211), "2026-11-20 12:20:11 UTC");
    }
}
