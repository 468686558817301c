//! Why there is nothing to hold.

use grange_proto::ZnodePath;
use zookeeper_client::Error as ClientError;

/// Why a lock, a lease or the lead was not obtained, or not given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The time that was given is over.
    #[error("{0} was not obtained in time")]
    Timeout(ZnodePath),
    /// The znode that stood in line was deleted by somebody else.
    #[error("somebody deleted the znode {0}, which stood in line")]
    Removed(String),
    /// The holders of a semaphore do not agree on how many there may be.
    #[error("{path} was made for {stored} leases, and {asked} were asked for")]
    LeaseCount {
        /// The semaphore.
        path: ZnodePath,
        /// What is stored there.
        stored: u32,
        /// What this one wants.
        asked: u32,
    },
    /// The server refused a request, or the session has ended.
    #[error("{doing} {path}")]
    Request {
        /// What was being done, such as "cannot stand in line at".
        doing: &'static str,
        /// Where.
        path: String,
        /// Why it failed.
        #[source]
        source: ClientError,
    },
}

impl LockError {
    /// Tells whether the session has ended: only a new one can go on.
    pub fn is_session_end(&self) -> bool {
        matches!(self, LockError::Request { source, .. } if is_session_end(source))
    }
}

/// Tells whether no request of this session will ever succeed.
pub(crate) fn is_session_end(error: &ClientError) -> bool {
    matches!(error, ClientError::SessionExpired | ClientError::ClientClosed | ClientError::AuthFailed)
}

/// Names what was being done when a request failed.
pub(crate) fn request(doing: &'static str, path: impl ToString) -> impl FnOnce(ClientError) -> LockError {
    let path = path.to_string();
    move |source| LockError::Request { doing, path, source }
}
