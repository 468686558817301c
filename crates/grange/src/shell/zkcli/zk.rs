//! The session behind zkCli: paths below the chroot, events printed as they come, errors in zkCli's words.

use std::collections::VecDeque;
use std::time::Duration;

use grange_client::Servers;
use grange_client::wire::{
    WatchKind, WireCall, WireError, WireEvent, WireEvents, WireOptions, WireReply, WireSession, WireState,
};
use grange_proto::request::Watchable;
use grange_proto::response::Response;
use grange_proto::watch::WatcherType;
use grange_proto::{ErrorCode, Request};
use tokio::time::timeout;

use super::failure::Failure;
use super::printer::Printer;
use crate::error::CommandError;

/// How many znodes of a walk are asked for their children at once; bounds the replies held in memory.
const LOOKAHEAD: usize = 64;

/// The session.
pub(super) struct Zk {
    session: WireSession,
    events: WireEvents,
    state: WireState,
    /// Empty, or a path.
    chroot: String,
    /// Whether events are printed.
    pub(super) prints_watches: bool,
    pub(super) printer: Printer,
}

/// What every session of a run has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionSettings {
    pub(super) timeout: Duration,
    pub(super) read_only: bool,
    pub(super) reply_bytes_max: usize,
}

impl Zk {
    pub(super) fn start(servers: &Servers, settings: SessionSettings, printer: Printer) -> Zk {
        let (session, events) = start(servers, settings);
        let chroot = chroot_of(servers);
        Zk { session, events, state: WireState::Connecting, chroot, prints_watches: true, printer }
    }

    /// Leaves the session for another one.
    pub(super) async fn restart(&mut self, servers: &Servers, settings: SessionSettings) -> Result<(), CommandError> {
        if self.state.is_alive() {
            self.close().await?;
        }
        (self.session, self.events) = start(servers, settings);
        self.chroot = chroot_of(servers);
        self.state = WireState::Connecting;
        Ok(())
    }

    /// Waits until there is a connection; false if that takes too long.
    pub(super) async fn wait_connected(&mut self, patience: Duration) -> Result<bool, CommandError> {
        let connected = async {
            while self.state == WireState::Connecting {
                match self.events.recv().await {
                    Some(event) => self.take_event(event)?,
                    None => break,
                }
            }
            Ok(matches!(self.state, WireState::Connected | WireState::ConnectedReadOnly))
        };
        timeout(patience, connected).await.unwrap_or(Ok(false))
    }

    /// Ends the session.
    pub(super) async fn close(&mut self) -> Result<(), CommandError> {
        self.session.close().await;
        while let Some(event) = self.events.recv().await {
            self.take_event(event)?;
        }
        Ok(())
    }

    /// Tells whether commands make sense.
    pub(super) fn is_alive(&self) -> bool {
        self.state.is_alive()
    }

    /// The word for the state in the prompt.
    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            WireState::Connecting => "CONNECTING",
            WireState::Connected => "CONNECTED",
            WireState::ConnectedReadOnly => "CONNECTEDREADONLY",
            WireState::AuthFailed => "AUTH_FAILED",
            WireState::Expired | WireState::Closed => "CLOSED",
        }
    }

    /// Waits for one event and prints it; waits for ever once there are no more.
    pub(super) async fn next_event(&mut self) -> Result<(), CommandError> {
        match self.events.recv().await {
            Some(event) => self.take_event(event),
            None => std::future::pending().await,
        }
    }

    /// Prints the events that have come.
    pub(super) fn take_events(&mut self) -> Result<(), CommandError> {
        while let Ok(event) = self.events.try_recv() {
            self.take_event(event)?;
        }
        Ok(())
    }

    fn take_event(&mut self, event: WireEvent) -> Result<(), CommandError> {
        let (state, kind, path) = match event {
            WireEvent::State(state) => {
                // An attempt that failed is told only once a connection was there before.
                let is_new = state != self.state;
                self.state = state;
                if !is_new {
                    return Ok(());
                }
                (state, "None", None)
            }
            WireEvent::Watch { kind, path } => (self.state, kind_name(kind), Some(self.client_path(path))),
        };
        if !self.prints_watches {
            return Ok(());
        }
        let path = path.as_deref().unwrap_or("null");
        self.printer.line("")?;
        self.printer.line("WATCHER::")?;
        self.printer.line("")?;
        self.printer.line(&format!("WatchedEvent state:{} type:{kind} path:{path}", event_state_name(state)))?;
        self.printer.flush()
    }

    /// Adds an identity to the session.
    pub(super) async fn add_auth(&self, auth: grange_client::Auth) {
        self.session.add_auth(auth).await;
    }

    /// Returns the path on the server.
    pub(super) fn server_path(&self, path: &str) -> String {
        match (self.chroot.as_str(), path) {
            ("", path) => path.to_owned(),
            (chroot, "/") => chroot.to_owned(),
            (chroot, path) => format!("{chroot}{path}"),
        }
    }

    /// Returns the path below the chroot.
    pub(super) fn client_path(&self, path: String) -> String {
        match path.strip_prefix(&self.chroot) {
            Some("") => "/".to_owned(),
            Some(rest) => rest.to_owned(),
            None => path,
        }
    }

    /// Tells whether the root is the root of the server.
    pub(super) fn has_chroot(&self) -> bool {
        !self.chroot.is_empty()
    }

    /// Sends a request and waits for the reply; events that come before it are printed before.
    pub(super) async fn call(&mut self, request: &Request<'_>) -> Result<WireReply, Interrupted> {
        let call = self.session.send(request).await?;
        self.wait(call).await
    }

    async fn wait(&mut self, call: WireCall) -> Result<WireReply, Interrupted> {
        let reply = call.reply();
        tokio::pin!(reply);
        let result = loop {
            tokio::select! {
                result = &mut reply => break result,
                Some(event) = self.events.recv() => self.take_event(event)?,
            }
        };
        self.take_events()?;
        Ok(result?)
    }

    /// Removes the watches of a znode.
    pub(super) async fn remove_watches(
        &mut self,
        path: &str,
        kind: WatcherType,
        locally_anyway: bool,
    ) -> Result<(), Interrupted> {
        let server_path = self.server_path(path);
        let session = self.session.clone();
        let removed = session.remove_watches(&server_path, kind, locally_anyway).await;
        self.take_events()?;
        removed?;
        Ok(())
    }

    /// Visits a subtree in zkCli's order: all children of a znode, then what is below each of them. The root itself is not
    /// visited. `visit` is called with paths as the user writes them.
    ///
    /// `lookahead` is how many znodes are asked at once. A znode that is deleted meanwhile is passed over.
    pub(super) async fn walk(
        &mut self,
        root: &str,
        watch: bool,
        mut visit: impl AsyncFnMut(&mut Zk, &str) -> Result<(), Interrupted>,
        lookahead: Lookahead,
    ) -> Result<(), Interrupted> {
        let ahead = if lookahead == Lookahead::Many { LOOKAHEAD } else { 1 };
        let mut stack = vec![(root.to_owned(), None)];
        while !stack.is_empty() {
            let from = stack.len().saturating_sub(ahead);
            for index in (from..stack.len()).rev() {
                if stack[index].1.is_none() {
                    let path = self.server_path(&stack[index].0);
                    let request = Request::GetChildren(Watchable { path: &path, watch });
                    stack[index].1 = Some(self.session.send(&request).await?);
                }
            }
            let Some((path, Some(call))) = stack.pop() else { break };
            let mut names = match self.wait(call).await {
                Ok(reply) => texts(&reply)?,
                Err(Interrupted::Refused(error)) if error == ErrorCode::NoNode.into() => continue,
                Err(Interrupted::Refused(error)) => return Err(Failure::refused(error, Some(&path)).into()),
                Err(other) => return Err(other),
            };
            names.sort_unstable();
            let children: Vec<String> = names.iter().map(|name| crate::shell::path::child_of(&path, name)).collect();
            for child in &children {
                visit(self, child).await?;
            }
            stack.extend(children.into_iter().rev().map(|child| (child, None)));
        }
        Ok(())
    }

    /// Lists a subtree level by level, parents before children.
    pub(super) async fn list_levels(&mut self, root: &str) -> Result<Vec<String>, Interrupted> {
        let mut tree = vec![root.to_owned()];
        let mut asked = 0;
        let mut calls = VecDeque::new();
        loop {
            while calls.len() < LOOKAHEAD && asked < tree.len() {
                let path = self.server_path(&tree[asked]);
                let request = Request::GetChildren(Watchable { path: &path, watch: false });
                calls.push_back((asked, self.session.send(&request).await?));
                asked += 1;
            }
            let Some((index, call)) = calls.pop_front() else { return Ok(tree) };
            match self.wait(call).await {
                Ok(reply) => {
                    let children: Vec<_> =
                        texts(&reply)?.iter().map(|name| crate::shell::path::child_of(&tree[index], name)).collect();
                    tree.extend(children);
                }
                Err(Interrupted::Refused(error)) if error == ErrorCode::NoNode.into() && index > 0 => {}
                Err(Interrupted::Refused(error)) => return Err(Failure::refused(error, Some(&tree[index])).into()),
                Err(other) => return Err(other),
            }
        }
    }

    /// Hands a request over, to be waited for with [`Zk::settle`].
    pub(super) async fn send(&mut self, request: &Request<'_>) -> Result<WireCall, Interrupted> {
        self.take_events()?;
        Ok(self.session.send(request).await?)
    }

    /// Waits for a request that was sent.
    pub(super) async fn settle(&mut self, call: WireCall) -> Result<WireReply, Interrupted> {
        self.wait(call).await
    }
}

/// How many znodes a walk asks ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookahead {
    /// What a visit changes shows in the rest of the walk.
    None,
    /// As many as keep the server busy.
    Many,
}

fn start(servers: &Servers, settings: SessionSettings) -> (WireSession, WireEvents) {
    WireSession::start(WireOptions {
        addresses: servers.addresses().to_vec(),
        session_timeout: settings.timeout,
        read_only: settings.read_only,
        reply_bytes_max: settings.reply_bytes_max,
    })
}

fn chroot_of(servers: &Servers) -> String {
    servers.chroot().map(|path| path.as_str().to_owned()).unwrap_or_default()
}

/// Returns the names in a reply.
pub(super) fn texts(reply: &WireReply) -> Result<Vec<String>, WireError> {
    match reply.response()? {
        Response::Texts(texts) | Response::TextsStat(texts, _) => {
            Ok(texts.to_vec().into_iter().map(str::to_owned).collect())
        }
        _ => Err(ErrorCode::MarshallingError.into()),
    }
}

/// Why a command does not go on.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// The server said no; the command knows which path is meant.
    Refused(WireError),
    /// The command failed, in these words.
    Failed(Failure),
    /// The run ends: nobody reads what is printed.
    Run(CommandError),
}

impl From<WireError> for Interrupted {
    fn from(error: WireError) -> Interrupted {
        Interrupted::Refused(error)
    }
}

impl From<grange_proto::DecodeError> for Interrupted {
    fn from(error: grange_proto::DecodeError) -> Interrupted {
        Interrupted::Refused(error.into())
    }
}

impl From<Failure> for Interrupted {
    fn from(failure: Failure) -> Interrupted {
        Interrupted::Failed(failure)
    }
}

impl From<CommandError> for Interrupted {
    fn from(error: CommandError) -> Interrupted {
        Interrupted::Run(error)
    }
}

impl Interrupted {
    /// Names the path that a refusal is about.
    pub(super) fn about(self, path: &str) -> Interrupted {
        match self {
            Interrupted::Refused(error) => Interrupted::Failed(Failure::refused(error, Some(path))),
            other => other,
        }
    }

    /// Returns true if the server said this.
    pub(super) fn is(&self, code: ErrorCode) -> bool {
        matches!(self, Interrupted::Refused(error) if error.0 == code.code())
    }
}

fn event_state_name(state: WireState) -> &'static str {
    match state {
        WireState::Connecting => "Disconnected",
        WireState::Connected => "SyncConnected",
        WireState::ConnectedReadOnly => "ConnectedReadOnly",
        WireState::Expired => "Expired",
        WireState::AuthFailed => "AuthFailed",
        WireState::Closed => "Closed",
    }
}

fn kind_name(kind: WatchKind) -> &'static str {
    match kind {
        WatchKind::Created => "NodeCreated",
        WatchKind::Deleted => "NodeDeleted",
        WatchKind::DataChanged => "NodeDataChanged",
        WatchKind::ChildrenChanged => "NodeChildrenChanged",
        WatchKind::DataWatchRemoved => "DataWatchRemoved",
        WatchKind::ChildWatchRemoved => "ChildWatchRemoved",
        WatchKind::PersistentWatchRemoved => "PersistentWatchRemoved",
    }
}
