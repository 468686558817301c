//! A session that shows what the protocol says: error codes as they came, null data, watch events in the order of replies.
//!
//! The crate `zookeeper-client` hides these things, and rightly so for nearly every tool. Who stands in for a program that
//! shows them needs this one: `zkCli.sh` prints a null as `null` and names every code, and adds identities to a session
//! that is open. One task owns the connection; it reconnects for as long as the session lives, sends identities and arms
//! watches again, and fails what is under way when the connection breaks, as Apache's Java library does.

mod connection;
mod task;
mod watches;

use std::time::Duration;

use grange_proto::response::Response;
use grange_proto::watch::WatcherType;
use grange_proto::{DecodeError, ErrorCode, Op, Reader, Request, SessionId};
use tokio::sync::{mpsc, oneshot};

use crate::auth::Auth;
use crate::servers::ServerAddress;

use task::{Command, Task};
use watches::Change;

/// Requests that wait for the task; who sends more waits too.
const REQUESTS_WAITING_MAX: usize = 1024;

/// Events that wait to be taken; the task reads no more from the server until there is room.
const EVENTS_WAITING_MAX: usize = 1024;

/// What a session needs to begin.
#[derive(Debug, Clone)]
pub struct WireOptions {
    /// The servers, at least one; tried in random order.
    pub addresses: Vec<ServerAddress>,
    /// The timeout to ask for.
    pub session_timeout: Duration,
    /// Whether a server that only serves reads will do.
    pub read_only: bool,
    /// The longest reply that is taken, in bytes; a longer one ends the connection.
    pub reply_bytes_max: usize,
}

/// How a session is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireState {
    /// No server has answered yet, or the connection was lost.
    Connecting,
    /// Connected.
    Connected,
    /// Connected to a server that only serves reads.
    ConnectedReadOnly,
    /// The server ended the session.
    Expired,
    /// The server refused an identity, and the session is lost.
    AuthFailed,
    /// Closed by us.
    Closed,
}

impl WireState {
    /// Tells whether the session can still be used.
    pub fn is_alive(self) -> bool {
        matches!(self, WireState::Connecting | WireState::Connected | WireState::ConnectedReadOnly)
    }
}

/// What is told without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireEvent {
    /// The state changed; [`WireState::Connecting`] says that a connection was lost or could not be made.
    State(WireState),
    /// A watch fired.
    Watch {
        /// What happened.
        kind: WatchKind,
        /// To which znode: the path on the server.
        path: String,
    },
}

/// What a watch has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchKind {
    /// The znode was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data was replaced.
    DataChanged,
    /// A child was created or deleted.
    ChildrenChanged,
    /// The watch of its data, or of its existence, was removed at our wish.
    DataWatchRemoved,
    /// The watch of its children was removed at our wish.
    ChildWatchRemoved,
    /// A persistent watch was removed at our wish.
    PersistentWatchRemoved,
}

/// A successful reply.
#[derive(Debug, Clone)]
pub struct WireReply {
    op: Op,
    body: Vec<u8>,
}

impl WireReply {
    /// Reads the body.
    pub fn response(&self) -> Result<Response<'_>, DecodeError> {
        Response::decode(self.op, &mut Reader::new(&self.body))
    }
}

/// Why a request has no successful reply: the code of the server, or one that clients make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("error code {0}")]
pub struct WireError(pub i32);

impl From<ErrorCode> for WireError {
    fn from(code: ErrorCode) -> WireError {
        WireError(code.code())
    }
}

impl From<DecodeError> for WireError {
    fn from(_: DecodeError) -> WireError {
        ErrorCode::MarshallingError.into()
    }
}

/// A session. It lives until [`WireSession::close`], or until all its handles are gone.
#[derive(Debug, Clone)]
pub struct WireSession {
    commands: mpsc::Sender<Command>,
}

/// The events of a session, in order: those that came before a reply are here before that reply is.
pub type WireEvents = mpsc::Receiver<WireEvent>;

impl WireSession {
    /// Begins a session; the connection is made meanwhile.
    pub fn start(options: WireOptions) -> (WireSession, WireEvents) {
        let (commands, command_receiver) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (event_sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
        tokio::spawn(Task::new(options, command_receiver, event_sender).run());
        (WireSession { commands }, events)
    }

    /// Sends a request and waits for its reply.
    ///
    /// Errors: the code of the reply; `ConnectionLoss` if there is no connection to be had, or if it was lost before the
    /// reply came; `SessionExpired` once the session has ended.
    pub async fn call(&self, request: &Request<'_>) -> Result<WireReply, WireError> {
        self.send(request).await?.reply().await
    }

    /// Hands a request over; replies come in the order of the requests.
    pub async fn send(&self, request: &Request<'_>) -> Result<WireCall, WireError> {
        self.hand_over(request, Change::of(request)).await
    }

    /// Removes the watches of a znode: at the server, and here.
    ///
    /// `locally_anyway` removes them here even if the server cannot be asked. Errors: `NoWatcher` if there are none.
    pub async fn remove_watches(
        &self,
        path: &str,
        kind: WatcherType,
        locally_anyway: bool,
    ) -> Result<WireReply, WireError> {
        let request = Request::RemoveWatches(path, kind as i32);
        let change = Change::Remove { path: path.to_owned(), kind, locally_anyway };
        self.hand_over(&request, Some(change)).await?.reply().await
    }

    async fn hand_over(&self, request: &Request<'_>, change: Option<Change>) -> Result<WireCall, WireError> {
        let mut body = Vec::new();
        request.encode(&mut body);
        let op = request.op();
        let (answer, receiver) = oneshot::channel();
        let call = Command::Call { op, body, change, answer };
        self.commands.send(call).await.map_err(|_| ErrorCode::SessionExpired)?;
        Ok(WireCall { op, receiver })
    }

    /// Adds an identity, now and after every reconnect. A refusal ends the session, with [`WireState::AuthFailed`].
    pub async fn add_auth(&self, auth: Auth) {
        // A session that has ended needs no identity.
        let _ = self.commands.send(Command::Auth(auth)).await;
    }

    /// Ends the session and waits until the server has confirmed it, for two seconds at most. The last event is
    /// [`WireState::Closed`].
    pub async fn close(&self) {
        let (answer, done) = oneshot::channel();
        if self.commands.send(Command::Close(answer)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Returns the number of the session, [`SessionId::NONE`] before there is one.
    pub async fn id(&self) -> SessionId {
        let (answer, id) = oneshot::channel();
        match self.commands.send(Command::Id(answer)).await {
            Ok(()) => id.await.unwrap_or(SessionId::NONE),
            Err(_) => SessionId::NONE,
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct WireCall {
    op: Op,
    receiver: oneshot::Receiver<Result<Vec<u8>, i32>>,
}

impl WireCall {
    /// Waits for the reply.
    pub async fn reply(self) -> Result<WireReply, WireError> {
        match self.receiver.await {
            Ok(Ok(body)) => Ok(WireReply { op: self.op, body }),
            Ok(Err(code)) => Err(WireError(code)),
            Err(_) => Err(ErrorCode::SessionExpired.into()),
        }
    }
}
