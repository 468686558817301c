//! The task that owns a session: it connects, sends, receives, and connects again.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use grange_proto::connect::ConnectResponse;
use grange_proto::frame::put_frame;
use grange_proto::request::{Auth as AuthPacket, RequestHeader, put_request};
use grange_proto::response::ReplyHeader;
use grange_proto::watch::{EventType, WatcherEvent};
use grange_proto::{ErrorCode, Op, Reader, Request, SessionId, Xid, Zxid};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::debug;

use crate::auth::Auth;
use crate::wire::connection::{Identity, Receiver, Sender, Wish, open};
use crate::wire::watches::{Change, Watches};
use crate::wire::{REQUESTS_WAITING_MAX, WatchKind, WireEvent, WireOptions, WireState};

/// The pause after all servers were tried in vain.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// The least time that one server is given to answer the handshake.
const SERVER_PATIENCE_MIN: Duration = Duration::from_secs(1);

/// How long the answer to the end of a session is waited for; the server expires the session in any case.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes that wait to be written; no further request is taken meanwhile, and replies are read.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

/// What a handle asks of the task.
#[derive(Debug)]
pub(super) enum Command {
    Call { op: Op, body: Vec<u8>, change: Option<Change>, answer: oneshot::Sender<Result<Vec<u8>, i32>> },
    Auth(Auth),
    Id(oneshot::Sender<SessionId>),
    Close(oneshot::Sender<()>),
}

/// A request that was sent.
struct Pending {
    xid: Xid,
    change: Option<Change>,
    answer: oneshot::Sender<Result<Vec<u8>, i32>>,
}

/// Why a connection, or the attempt to have one, came to an end.
enum End {
    /// It was lost; the session may go on.
    Lost(io::Error),
    /// The session has ended: its last state, and who is to be told that it was closed.
    Session(WireState, Option<oneshot::Sender<()>>),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Lost(error)
    }
}

pub(super) struct Task {
    options: WireOptions,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<WireEvent>,
    identity: Identity,
    last_zxid: Zxid,
    auths: Vec<Auth>,
    watches: Watches,
    next_xid: i32,
    /// What was asked for while there was no connection.
    waiting: VecDeque<Command>,
    pending: VecDeque<Pending>,
    unwritten: Vec<u8>,
}

impl Task {
    pub(super) fn new(
        options: WireOptions,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<WireEvent>,
    ) -> Task {
        Task {
            options,
            commands,
            events,
            identity: Identity::NEW,
            last_zxid: Zxid::ZERO,
            auths: Vec::new(),
            watches: Watches::default(),
            next_xid: 0,
            waiting: VecDeque::new(),
            pending: VecDeque::new(),
            unwritten: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let (state, closed) = loop {
            let end = match self.connect().await {
                Ok(connection) => self.serve(connection).await,
                Err(end) => end,
            };
            self.unwritten.clear();
            match end {
                End::Session(state, closed) => break (state, closed),
                End::Lost(error) => {
                    debug!(%error, "no connection");
                    self.fail_all(ErrorCode::ConnectionLoss).await;
                    self.tell(WireEvent::State(WireState::Connecting)).await;
                }
            }
            tokio::select! {
                () = sleep(ROUND_PAUSE) => {}
                () = self.collect() => {}
            }
        };
        let code = if state == WireState::AuthFailed { ErrorCode::AuthFailed } else { ErrorCode::SessionExpired };
        self.commands.close();
        self.fail_all(code).await;
        self.tell(WireEvent::State(state)).await;
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
    }

    /// Tries each server once, from a random one on; requests are collected meanwhile.
    async fn connect(&mut self) -> Result<(Sender, Receiver, ConnectResponse), End> {
        let attempt = connect_any(self.options.clone(), self.wish());
        tokio::pin!(attempt);
        loop {
            tokio::select! {
                connection = &mut attempt => {
                    let connection = connection?;
                    return match connection.2.timeout_ms {
                        ..=0 => Err(End::Session(WireState::Expired, None)),
                        _ => Ok(connection),
                    };
                }
                () = self.collect() => {
                    if let Some(end) = self.asked_to_close() {
                        return Err(end);
                    }
                }
            }
        }
    }

    fn wish(&self) -> Wish {
        Wish {
            identity: self.identity,
            last_zxid_seen: self.last_zxid,
            session_timeout: self.options.session_timeout,
            read_only: self.options.read_only,
            reply_bytes_max: self.options.reply_bytes_max,
        }
    }

    /// Takes one command and keeps it; waits for ever once enough are kept.
    async fn collect(&mut self) {
        if self.waiting.len() >= REQUESTS_WAITING_MAX {
            return std::future::pending().await;
        }
        let command = self.commands.recv().await.unwrap_or_else(|| Command::Close(oneshot::channel().0));
        self.waiting.push_back(command);
    }

    /// Takes what needs no connection out of what waits.
    fn asked_to_close(&mut self) -> Option<End> {
        let mut kept = VecDeque::new();
        let mut end = None;
        for command in std::mem::take(&mut self.waiting) {
            match command {
                Command::Close(answer) => end = Some(End::Session(WireState::Closed, Some(answer))),
                Command::Id(answer) => drop(answer.send(self.identity.id)),
                Command::Auth(auth) => self.auths.push(auth),
                call @ Command::Call { .. } => kept.push_back(call),
            }
        }
        self.waiting = kept;
        end
    }

    /// Fails what was sent and what waits.
    async fn fail_all(&mut self, code: ErrorCode) {
        while self.waiting.len() < REQUESTS_WAITING_MAX {
            let Ok(command) = self.commands.try_recv() else { break };
            self.waiting.push_back(command);
        }
        for pending in std::mem::take(&mut self.pending) {
            self.settle(pending.change, pending.answer, Err(code.code())).await;
        }
        for command in std::mem::take(&mut self.waiting) {
            match command {
                Command::Call { change, answer, .. } => self.settle(change, answer, Err(code.code())).await,
                Command::Auth(auth) => self.auths.push(auth),
                Command::Id(answer) => drop(answer.send(self.identity.id)),
                // Found again by the next attempt to connect, or by nobody if the session has ended.
                close @ Command::Close(_) => self.waiting.push_back(close),
            }
        }
    }

    /// Serves a connection until it ends.
    async fn serve(&mut self, (mut sender, mut receiver, answer): (Sender, Receiver, ConnectResponse)) -> End {
        self.identity = Identity { id: answer.session, password: answer.password };
        self.put_what_comes_first();
        let is_read_only = answer.read_only == Some(true);
        let state = if is_read_only { WireState::ConnectedReadOnly } else { WireState::Connected };
        self.tell(WireEvent::State(state)).await;
        let third = Duration::from_millis(u64::try_from(answer.timeout_ms).unwrap_or(0).max(3) / 3);
        match self.exchange(&mut sender, &mut receiver, third).await {
            Err(End::Session(WireState::Closed, closed)) => {
                let _ = timeout(CLOSE_TIMEOUT, self.say_goodbye(&mut sender, &mut receiver)).await;
                End::Session(WireState::Closed, closed)
            }
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn exchange(
        &mut self,
        sender: &mut Sender,
        receiver: &mut Receiver,
        third: Duration,
    ) -> Result<std::convert::Infallible, End> {
        let mut ticks = interval(third);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let mut heard = Instant::now();
        for command in std::mem::take(&mut self.waiting) {
            self.take_command(command)?;
        }
        loop {
            tokio::select! {
                frame = receiver.frame() => {
                    heard = Instant::now();
                    let frame = frame?.to_vec();
                    self.take_frame(&frame).await?;
                }
                written = sender.stream().write(&self.unwritten), if !self.unwritten.is_empty() => {
                    let written = written?;
                    self.unwritten.drain(..written);
                }
                command = self.commands.recv(), if self.unwritten.len() < UNWRITTEN_BYTES_MAX => match command {
                    Some(command) => self.take_command(command)?,
                    None => return Err(End::Session(WireState::Closed, None)),
                },
                _ = ticks.tick() => {
                    if heard.elapsed() > third * 2 {
                        return Err(End::Lost(io::ErrorKind::TimedOut.into()));
                    }
                    put_request(&mut self.unwritten, Xid::PING, &Request::Ping);
                }
            }
        }
    }

    /// Identities and watches go ahead of every request.
    fn put_what_comes_first(&mut self) {
        for auth in &self.auths {
            put_auth(auth, &mut self.unwritten);
        }
        self.watches.put_requests(self.last_zxid, &mut self.unwritten);
    }

    fn take_command(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Call { op, body, change, answer } => {
                self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
                let xid = Xid(self.next_xid);
                put_frame(&mut self.unwritten, |out| {
                    RequestHeader { xid, op_code: op.code() }.encode(out);
                    out.extend_from_slice(&body);
                });
                self.pending.push_back(Pending { xid, change, answer });
            }
            Command::Auth(auth) => {
                put_auth(&auth, &mut self.unwritten);
                self.auths.push(auth);
            }
            Command::Id(answer) => drop(answer.send(self.identity.id)),
            Command::Close(answer) => return Err(End::Session(WireState::Closed, Some(answer))),
        }
        Ok(())
    }

    async fn take_frame(&mut self, frame: &[u8]) -> Result<(), End> {
        let mut reader = Reader::new(frame);
        let header = ReplyHeader::decode(&mut reader).map_err(io::Error::other)?;
        match header.xid {
            Xid::NOTIFICATION => {
                let event = WatcherEvent::decode(&mut reader).map_err(io::Error::other)?;
                if self.watches.fired(event.event, event.path) {
                    let kind = WatchKind::of(event.event);
                    self.tell(WireEvent::Watch { kind, path: event.path.to_owned() }).await;
                }
                return Ok(());
            }
            Xid::AUTH if header.err != 0 => return Err(End::Session(WireState::AuthFailed, None)),
            Xid::PING | Xid::AUTH | Xid::SET_WATCHES => return Ok(()),
            _ => {}
        }
        self.last_zxid = self.last_zxid.max(header.zxid);
        let Some(pending) = self.pending.pop_front().filter(|pending| pending.xid == header.xid) else {
            return Err(io::Error::other("a reply to no request").into());
        };
        let result = if header.err == 0 { Ok(reader.rest().to_vec()) } else { Err(header.err) };
        self.settle(pending.change, pending.answer, result).await;
        Ok(())
    }

    /// Does what a reply changes about watches, and hands it over; events about that come first.
    async fn settle(
        &mut self,
        change: Option<Change>,
        answer: oneshot::Sender<Result<Vec<u8>, i32>>,
        mut result: Result<Vec<u8>, i32>,
    ) {
        let err = result.as_ref().err().copied().unwrap_or(0);
        match change {
            None => {}
            Some(Change::Add { path, by }) => self.watches.added(path, by, err),
            Some(Change::Remove { path, kind, locally_anyway }) if err == 0 || locally_anyway => {
                let told = self.watches.removed(&path, kind);
                result = if told.is_empty() { Err(ErrorCode::NoWatcher.code()) } else { Ok(Vec::new()) };
                for kind in told {
                    self.tell(WireEvent::Watch { kind, path: path.clone() }).await;
                }
            }
            Some(Change::Remove { .. }) => {}
        }
        // Whoever asked may have gone.
        let _ = answer.send(result);
    }

    /// Closes the session; what was sent before is answered before.
    async fn say_goodbye(&mut self, sender: &mut Sender, receiver: &mut Receiver) -> Result<(), End> {
        let unwritten = std::mem::take(&mut self.unwritten);
        sender.stream().write_all(&unwritten).await?;
        let mut bytes = Vec::new();
        let xid = Xid(self.next_xid.checked_add(1).unwrap_or(1));
        put_request(&mut bytes, xid, &Request::CloseSession);
        sender.stream().write_all(&bytes).await?;
        loop {
            let frame = receiver.frame().await?.to_vec();
            let header = ReplyHeader::decode(&mut Reader::new(&frame)).map_err(io::Error::other)?;
            if header.xid == xid {
                return Ok(());
            }
            self.take_frame(&frame).await?;
        }
    }

    async fn tell(&self, event: WireEvent) {
        // Nobody may care.
        let _ = self.events.send(event).await;
    }
}

async fn connect_any(options: WireOptions, wish: Wish) -> io::Result<(Sender, Receiver, ConnectResponse)> {
    let count = options.addresses.len();
    let patience = SERVER_PATIENCE_MIN.max(options.session_timeout / u32::try_from(count).unwrap_or(u32::MAX).max(1));
    let first = random_below(count);
    let mut failure = io::Error::from(io::ErrorKind::NotConnected);
    for address in options.addresses.iter().cycle().skip(first).take(count) {
        match open(address, &wish, patience).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Spreads clients over the servers; where there is no randomness, all begin with the first.
fn random_below(count: usize) -> usize {
    let mut bytes = [0; 2];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => usize::from(u16::from_be_bytes(bytes)) % count.max(1),
        Err(_) => 0,
    }
}

fn put_auth(auth: &Auth, out: &mut Vec<u8>) {
    let packet = AuthPacket { kind: 0, scheme: Some(auth.scheme().as_bytes()), credentials: Some(auth.credential()) };
    put_request(out, Xid::AUTH, &Request::Auth(packet));
}

impl WatchKind {
    fn of(event: EventType) -> WatchKind {
        match event {
            EventType::NodeCreated => WatchKind::Created,
            EventType::NodeDeleted => WatchKind::Deleted,
            EventType::NodeDataChanged => WatchKind::DataChanged,
            EventType::NodeChildrenChanged => WatchKind::ChildrenChanged,
        }
    }
}
