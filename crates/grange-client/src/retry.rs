//! Running a request again after its connection broke: with pauses that grow, and never for ever.
//!
//! The client library sends what is asked while there is no connection as soon as there is one again, and fails only
//! what was on its way when the connection broke. Whether the server did it is then unknown, so only requests that may
//! be done twice belong here: reads, `sync`, a delete that takes "no such znode" for success. A create with a name of
//! its own looks for that name before it tries again.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use zookeeper_client::Error as ClientError;

/// The pause before the second attempt; it doubles with each one, and up to as much again is added at random, so that
/// clients that lost the same server do not come back in step.
const PAUSE_FIRST: Duration = Duration::from_millis(20);

/// The longest pause between two attempts, before the random part.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often a request is sent again. Waiting for a connection costs no attempt, so this is reached only where each
/// connection breaks as soon as the request is sent; the caller then gets the last error.
const RETRIES_MAX: usize = 20;

/// Tells whether a request failed because its connection broke, so that nobody knows whether it was done.
///
/// The client library reports an orderly end as `ConnectionLoss`, and what the operating system said of a broken
/// connection as an error of its own.
pub fn is_connection_loss(error: &ClientError) -> bool {
    matches!(error, ClientError::ConnectionLoss | ClientError::SessionMoved | ClientError::Custom(_))
}

/// Tells whether a request that may be done twice should be sent again.
pub fn is_transient(error: &ClientError) -> bool {
    is_connection_loss(error) || matches!(error, ClientError::Throttled)
}

/// Returns the pauses between attempts.
pub(crate) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(PAUSE_FIRST)
        .with_max_delay(PAUSE_MAX)
        .with_max_times(RETRIES_MAX)
        .with_jitter()
}

/// Runs a request until it has an answer: again after a broken connection, and after the server turned it away for
/// having too much to do.
///
/// `request` must be one that may be done twice. Ends with the session at the latest: an error of the session, such as
/// `SessionExpired`, is returned at once.
pub async fn retry<T, F, R>(request: F) -> Result<T, ClientError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, ClientError>>,
{
    request
        .retry(pauses())
        .sleep(tokio::time::sleep)
        .when(is_transient)
        .notify(|error, pause| debug!(%error, ?pause, "a request is sent again"))
        .await
}

/// Like [`retry`], until `deadline` at most; then `Timeout`, and it stays unknown whether the request was done.
pub async fn retry_until<T, F, R>(deadline: Instant, request: F) -> Result<T, ClientError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, ClientError>>,
{
    timeout_at(deadline, retry(request)).await.unwrap_or(Err(ClientError::Timeout))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Returns how often the request was sent, and what came of it, if it fails with these errors first.
    async fn sent(errors: &[ClientError], deadline: Option<Duration>) -> (usize, Result<(), ClientError>) {
        let count = AtomicUsize::new(0);
        let request = async || {
            let index = count.fetch_add(1, Ordering::Relaxed);
            errors.get(index).map_or(Ok(()), |error| Err(error.clone()))
        };
        let outcome = match deadline {
            Some(deadline) => retry_until(Instant::now() + deadline, request).await,
            None => retry(request).await,
        };
        (count.load(Ordering::Relaxed), outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_sent_again_after_a_broken_connection() {
        let errors = [ClientError::ConnectionLoss, ClientError::Throttled, ClientError::ConnectionLoss];
        assert_eq!(sent(&errors, None).await, (4, Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_not_asked_for_again() {
        for error in [ClientError::NoNode, ClientError::SessionExpired, ClientError::ClientClosed] {
            assert_eq!(sent(std::slice::from_ref(&error), None).await, (1, Err(error)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_bounded() {
        let errors = vec![ClientError::ConnectionLoss; 100];
        assert_eq!(sent(&errors, None).await, (RETRIES_MAX + 1, Err(ClientError::ConnectionLoss)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_the_attempts() {
        let errors = vec![ClientError::ConnectionLoss; 100];
        let (count, outcome) = sent(&errors, Some(Duration::from_secs(1))).await;
        assert_eq!(outcome, Err(ClientError::Timeout));
        assert!((2..10).contains(&count), "{count}");
    }
}
