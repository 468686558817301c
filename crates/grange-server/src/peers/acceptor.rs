//! Connections that other servers dial: who they are, and what arrives on them.

use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use grange_proto::server_spec::PeerAddress;
use grange_replica::Event;

use super::channel::Channel;
use super::frame::FrameReader;
use super::hello::{self, Hello, Identity, Purpose};
use super::quiet::Quiet;
use super::registry::{ConnNumber, Delivery};
use super::{HELLO_TIME_MAX, INBOX_BYTES_MAX, PEER_SILENCE_MAX, STRANGERS_MAX, Shared, dialer, snapshot_in};
use crate::config::Listen;
use crate::net::{BoundPort, ListenError};

/// Servers that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Pause after the system had no file or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a receiver looks whether the replica has caught up.
const CATCH_UP_POLL: Duration = Duration::from_millis(1);

/// Takes the port for members.
///
/// Errors: it is taken, or the name in this server's line is none of this machine's.
pub(crate) fn bind(own: &PeerAddress, listens_on_all: bool) -> Result<TcpListener, ListenError> {
    let address = if listens_on_all {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, own.quorum_port))
    } else {
        let found = (own.host.as_str(), own.quorum_port).to_socket_addrs();
        let refused = |source| ListenError::Name { name: own.host.clone(), source };
        found.map_err(refused)?.next().ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?
    };
    let listener = BoundPort::bind(Listen { address, backlog: BACKLOG })?.listen()?;
    // Threads wait here, not a poll.
    listener.set_nonblocking(false).map_err(|source| ListenError::Refused { address, source })?;
    Ok(listener)
}

/// Accepts until the links stop.
pub(super) fn run(shared: &Arc<Shared>, listener: &TcpListener) {
    let strangers = Arc::new(AtomicUsize::new(0));
    let quiet = Arc::new(Mutex::new(Quiet::default()));
    loop {
        let accepted = listener.accept();
        if shared.registry.is_stopped() {
            return;
        }
        match accepted {
            Ok((socket, address)) => {
                if strangers.load(Ordering::Relaxed) >= STRANGERS_MAX {
                    shared.stats.refused.add(1);
                    complain(&quiet, address, "too many connections have not said who they are");
                    continue;
                }
                let stranger = Stranger::new(&strangers);
                let quiet = Arc::clone(&quiet);
                let spawned = shared.spawn("peer-in", move |shared| {
                    meet(shared, socket, address, stranger, &quiet);
                    Ok(())
                });
                if let Err(error) = spawned {
                    tracing::error!(%error, "no thread can be started for a connection of a server");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a connection of a server cannot be accepted");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Counts a connection as long as nobody knows whose it is.
struct Stranger(Arc<AtomicUsize>);

impl Stranger {
    fn new(count: &Arc<AtomicUsize>) -> Stranger {
        count.fetch_add(1, Ordering::Relaxed);
        Stranger(Arc::clone(count))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn complain(quiet: &Mutex<Quiet>, address: SocketAddr, reason: &str) {
    // The port of a client changes each time; a complaint about its host is enough.
    let said = format!("{}: {reason}", address.ip());
    if quiet.lock().is_ok_and(|mut quiet| quiet.may_say(&said)) {
        tracing::warn!(%address, reason, "a connection to the port for members is refused");
    }
}

/// Finds out who has connected, and serves the connection.
fn meet(shared: &Arc<Shared>, socket: TcpStream, address: SocketAddr, stranger: Stranger, quiet: &Mutex<Quiet>) {
    let until = Instant::now() + HELLO_TIME_MAX;
    let met = Channel::accepted(socket, shared.tls.as_ref(), until)
        .map_err(|error| error.to_string())
        .and_then(|mut channel| welcome(shared, &mut channel).map(|hello| (channel, hello)));
    drop(stranger);
    match met {
        Ok((channel, hello)) => match hello.purpose {
            Purpose::Messages => receive(shared, channel, hello.identity),
            Purpose::Snapshot => snapshot_in::receive(shared, channel, &hello.identity),
        },
        Err(reason) if !shared.registry.is_stopped() => {
            shared.stats.refused.add(1);
            complain(quiet, address, &reason);
        }
        Err(_) => {}
    }
}

/// Hears a hello and answers it.
fn welcome(shared: &Shared, channel: &mut Channel) -> Result<Hello, String> {
    let hello = Hello::read(channel).map_err(|error| error.to_string())?;
    let own = shared.registry.own();
    let (caller, here) = (hello.identity.member.server_id, own.member.server_id);
    let checked = if hello.expects == here {
        own.check(&hello.identity)
    } else {
        Err(format!("server {caller} looks for server {} at the address of server {here}", hello.expects))
    };
    let answer = match &checked {
        Ok(()) => hello::encode_welcome(&own),
        Err(reason) => hello::encode_refusal(reason),
    };
    channel.write_all(&answer).map_err(|error| error.to_string())?;
    checked.map(|()| hello)
}

/// Passes on what arrives until the connection breaks.
fn receive(shared: &Arc<Shared>, mut channel: Channel, peer: Identity) {
    let server_id = peer.member.server_id;
    let Ok(socket) = channel.socket().try_clone() else { return };
    let Some(number) = shared.registry.add_incoming(peer.clone(), socket) else { return };
    // A server that nobody has named yet may become a member; it says itself where it listens.
    if shared.registry.dialer(server_id).is_none()
        && let Err(error) = shared.dial(server_id, dialer::addresses(&peer.member.spec), false)
    {
        shared.registry.lost(server_id, number, &error.to_string());
        return;
    }
    let why = match channel.set_read_timeout(PEER_SILENCE_MAX) {
        Ok(()) => pass_on(shared, &mut channel, &peer, number),
        Err(error) => error.to_string(),
    };
    shared.registry.lost(server_id, number, &why);
}

/// Returns why the connection is of no use any more.
fn pass_on(shared: &Shared, channel: &mut Channel, peer: &Identity, number: ConnNumber) -> String {
    let mut reader = FrameReader::new();
    let mut events = Vec::new();
    loop {
        match reader.fill(channel) {
            Ok(0) => return "the other side closed the connection".to_owned(),
            Ok(bytes) => shared.stats.bytes_received.add(bytes as u64),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return format!("nothing was heard for {} ms", PEER_SILENCE_MAX.as_millis());
            }
            Err(error) => return error.to_string(),
        }
        loop {
            match reader.next() {
                // A frame without bytes only says that the other side is alive.
                Ok(Some(message)) if message.is_empty() => {}
                Ok(Some(message)) => events.push(Event::Peer { from: peer.member.id, message }),
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
        if events.is_empty() {
            continue;
        }
        shared.stats.messages_received.add(events.len() as u64);
        if shared.registry.deliver(peer.member.server_id, number, &mut events) == Delivery::Closed {
            return "it was closed".to_owned();
        }
        while shared.registry.inbox_bytes() > INBOX_BYTES_MAX && !shared.registry.is_stopped() {
            std::thread::sleep(CATCH_UP_POLL);
        }
    }
}
