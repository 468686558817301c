//! The thread that keeps a connection to one other server: dials, says hello, then helps to send.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use grange_proto::ServerSpec;
use mio::{Events, Interest, Poll, Token, Waker};

use super::channel::Channel;
use super::hello::{self, Hello, HelloError, Identity, Purpose};
use super::outgoing::Outgoing;
use super::quiet::Quiet;
use super::{CONNECT_TIME_MAX, HELLO_TIME_MAX, KEEP_ALIVE, PEER_SILENCE_MAX, Shared};

const WAKE: Token = Token(0);
const SOCKET: Token = Token(1);
/// The pause after the first failure; it doubles up to the most.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The others' end of a dialler.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) server_id: u8,
    state: Mutex<State>,
    waker: Arc<Waker>,
}

#[derive(Debug)]
struct State {
    addresses: Vec<Address>,
    hurry: bool,
    stopped: bool,
}

/// Where a server listens to members; names are looked up anew for each attempt.
pub(super) type Address = (String, u16);

/// Returns where a server listens to members.
pub(super) fn addresses(spec: &ServerSpec) -> Vec<Address> {
    spec.peers.iter().map(|peer| (peer.host.clone(), peer.quorum_port)).collect()
}

impl Dialer {
    /// Prepares a dialler; [`run`] is its thread.
    pub(super) fn new(server_id: u8, addresses: Vec<Address>) -> io::Result<(Arc<Dialer>, Poll)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let state = State { addresses, hurry: false, stopped: false };
        Ok((Arc::new(Dialer { server_id, state: Mutex::new(state), waker }), poll))
    }

    /// Changes where the server is looked for; a connection that stands is kept.
    pub(super) fn set_addresses(&self, addresses: Vec<Address>) {
        let mut state = self.lock();
        state.hurry |= state.addresses != addresses;
        state.addresses = addresses;
    }

    pub(super) fn addresses(&self) -> Vec<Address> {
        self.lock().addresses.clone()
    }

    /// Ends a pause between two attempts.
    pub(super) fn hurry(&self) {
        self.lock().hurry = true;
        self.wake();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.wake();
    }

    fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    fn wake(&self) {
        // A poll that is gone has nobody who waits.
        let _ = self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

/// Keeps a connection to the server until the dialler is stopped.
///
/// Errors: the poll failed, which is not the other server's doing.
pub(super) fn run(shared: &Arc<Shared>, dialer: &Arc<Dialer>, mut poll: Poll) -> io::Result<()> {
    let mut events = Events::with_capacity(8);
    let mut quiet = Quiet::default();
    let mut pause = PAUSE_MIN;
    while !dialer.is_stopped() {
        let began = Instant::now();
        match dial(shared, dialer.server_id, &dialer.addresses(), Purpose::Messages) {
            Ok((channel, peer)) => {
                quiet.forget();
                serve(shared, dialer, channel, peer, &mut poll, &mut events)?;
                // Whoever lets in and throws out again is not asked without end either.
                if began.elapsed() > PEER_SILENCE_MAX {
                    pause = PAUSE_MIN;
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if !dialer.is_stopped() && quiet.may_say(&reason) {
                    let at = describe(&dialer.addresses());
                    tracing::warn!(server = dialer.server_id, at, reason, "a server cannot be reached; trying again");
                }
            }
        }
        wait(dialer, jittered(pause), &mut poll, &mut events)?;
        pause = (pause * 2).min(PAUSE_MAX);
        if std::mem::take(&mut dialer.lock().hurry) {
            pause = PAUSE_MIN;
        }
    }
    Ok(())
}

/// Why a server cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0} has no address")]
    Name(String),
    #[error("{0}")]
    Connect(io::Error),
    #[error(transparent)]
    Hello(#[from] HelloError),
}

/// Connects and says hello; returns who is there.
pub(super) fn dial(
    shared: &Shared,
    server_id: u8,
    addresses: &[Address],
    purpose: Purpose,
) -> Result<(Channel, Identity), DialError> {
    let mut failure = DialError::Name(describe(addresses));
    for (host, port) in addresses {
        let found = match (host.as_str(), *port).to_socket_addrs() {
            Ok(found) => found,
            Err(error) => {
                failure = DialError::Connect(error);
                continue;
            }
        };
        for address in found {
            match dial_address(shared, server_id, address, purpose) {
                Ok(reached) => return Ok(reached),
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

fn dial_address(
    shared: &Shared,
    server_id: u8,
    address: SocketAddr,
    purpose: Purpose,
) -> Result<(Channel, Identity), DialError> {
    let socket = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX).map_err(DialError::Connect)?;
    let until = Instant::now() + HELLO_TIME_MAX;
    let mut channel = Channel::dialled(socket, shared.tls.as_ref(), until).map_err(HelloError::Io)?;
    let own = shared.registry.own();
    let hello = Hello { identity: own.clone(), purpose, expects: server_id };
    io::Write::write_all(&mut channel, &hello.encode()).map_err(HelloError::Io)?;
    let peer = hello::read_answer(&mut channel)?;
    if peer.member.server_id != server_id {
        let what = format!("server {} is there instead of server {server_id}", peer.member.server_id);
        return Err(HelloError::Mismatch(what).into());
    }
    own.check(&peer).map_err(HelloError::Mismatch)?;
    Ok((channel, peer))
}

/// Helps to send until the connection breaks.
fn serve(
    shared: &Arc<Shared>,
    dialer: &Arc<Dialer>,
    channel: Channel,
    peer: Identity,
    poll: &mut Poll,
    events: &mut Events,
) -> io::Result<()> {
    let link = Arc::new(Outgoing::new(channel, Arc::clone(&dialer.waker), Arc::clone(&shared.stats))?);
    // Another handle of the same connection: readiness is asked for here, while others write.
    let mut socket = mio::net::TcpStream::from_std(link.socket()?);
    poll.registry().register(&mut socket, SOCKET, Interest::READABLE | Interest::WRITABLE)?;
    if let Some(number) = shared.registry.add_outgoing(peer, &link) {
        let why = keep_sending(dialer, &link, poll, events)?;
        shared.registry.lost(dialer.server_id, number, &why);
    }
    link.close();
    poll.registry().deregister(&mut socket)
}

/// Returns why the connection is of no use any more.
fn keep_sending(dialer: &Dialer, link: &Outgoing, poll: &mut Poll, events: &mut Events) -> io::Result<String> {
    loop {
        poll_once(poll, events, KEEP_ALIVE / 2)?;
        if dialer.is_stopped() || link.is_closed() {
            return Ok("it was closed".to_owned());
        }
        // The other side says nothing on this connection after its answer, so it can only have ended it.
        let ended = |event: &mio::event::Event| event.is_read_closed() || event.is_error();
        if events.iter().any(|event| event.token() == SOCKET && ended(event)) {
            return Ok("the other side closed the connection".to_owned());
        }
        if let Err(error) = link.drain().and_then(|()| link.keep_alive(KEEP_ALIVE)) {
            return Ok(error.to_string());
        }
    }
}

/// Waits before the next attempt, unless somebody hurries.
fn wait(dialer: &Dialer, pause: Duration, poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let state = dialer.lock();
        if left.is_zero() || state.hurry || state.stopped {
            return Ok(());
        }
        drop(state);
        poll_once(poll, events, left)?;
    }
}

fn poll_once(poll: &mut Poll, events: &mut Events, timeout: Duration) -> io::Result<()> {
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result,
    }
}

/// Half to all of the pause, so that servers that start together do not go on together.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    half + half.mul_f64(f64::from(crate::random::small()) / f64::from(u16::MAX))
}

pub(super) fn describe(addresses: &[Address]) -> String {
    addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(", ")
}
