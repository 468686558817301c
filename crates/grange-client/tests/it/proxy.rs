//! A connection that breaks when a test says so: in the middle of a request, before its reply, or for good.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::PATIENCE;

/// The longest frame that a test sends or receives.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Operation codes of the protocol that a test sets a trap for.
pub(crate) mod op {
    pub(crate) const CREATE: &[i32] = &[1, 15, 19, 21];
    pub(crate) const DELETE: &[i32] = &[2];
    pub(crate) const LIST: &[i32] = &[8, 12];
    pub(crate) const MULTI: &[i32] = &[14];
}

/// When the connection of a request breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server never sees the request.
    BeforeRequest,
    /// The server has done it, and the client never learns what came of it.
    BeforeReply,
}

/// A request that costs the connection.
#[derive(Debug, Clone)]
struct Trap {
    operations: &'static [i32],
    /// What one of its paths contains.
    path_part: String,
    moment: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Flows,
    /// Connections stay open and nothing arrives.
    Held,
    /// There are no connections.
    Refused,
}

#[derive(Debug)]
struct Control {
    upstream: Mutex<SocketAddr>,
    trap: Mutex<Option<Trap>>,
    /// How many traps have sprung.
    sprung: watch::Sender<u32>,
    traffic: watch::Sender<Traffic>,
    /// Counts the times that all connections were cut.
    cuts: watch::Sender<u32>,
}

/// The proxy; ends with the value.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = Arc::new(Control {
            upstream: Mutex::new(upstream),
            trap: Mutex::new(None),
            sprung: watch::Sender::new(0),
            traffic: watch::Sender::new(Traffic::Flows),
            cuts: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&control)));
        Proxy { address, control, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the connection of the next request of one of `operations` with `path_part` in its path.
    pub(crate) fn break_at(&self, moment: Moment, operations: &'static [i32], path_part: &str) {
        *self.control.trap.lock().unwrap() = Some(Trap { operations, path_part: path_part.to_owned(), moment });
    }

    /// Waits until so many traps have sprung in all.
    pub(crate) async fn sprung(&self, count: u32) {
        let mut sprung = self.control.sprung.subscribe();
        timeout(PATIENCE, sprung.wait_for(|sprung| *sprung >= count)).await.expect("no such request came").unwrap();
    }

    /// Breaks every connection; new ones are welcome.
    pub(crate) fn cut(&self) {
        self.control.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets nothing through, with connections that look alive.
    pub(crate) fn hold(&self) {
        self.control.traffic.send_replace(Traffic::Held);
    }

    /// Breaks every connection and refuses new ones.
    pub(crate) fn refuse(&self) {
        self.control.traffic.send_replace(Traffic::Refused);
        self.cut();
    }

    /// Takes new connections to another server.
    pub(crate) fn redirect(&self, upstream: SocketAddr) {
        *self.control.upstream.lock().unwrap() = upstream;
    }

    /// Ends [`Proxy::hold`] and [`Proxy::refuse`].
    pub(crate) fn flow(&self) {
        self.control.traffic.send_replace(Traffic::Flows);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.refuse();
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(client, Arc::clone(&control)));
    }
}

/// Serves one connection until one side ends it, or a trap or a cut does.
async fn serve(client: TcpStream, control: Arc<Control>) {
    let mut cuts = control.cuts.subscribe();
    cuts.mark_unchanged();
    if *control.traffic.borrow() == Traffic::Refused {
        return;
    }
    let upstream = *control.upstream.lock().unwrap();
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (client_reader, client_writer) = client.into_split();
    let (server_reader, server_writer) = server.into_split();
    // The request whose reply is the end.
    let last = Arc::new(Mutex::new(None));
    tokio::select! {
        () = requests(client_reader, server_writer, &control, &last) => {}
        () = replies(server_reader, client_writer, &control, &last) => {}
        _ = cuts.changed() => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, control: &Control, last: &Mutex<Option<i32>>) {
    let mut is_handshake = true;
    while let Some(frame) = read_frame(&mut from).await {
        open(control).await;
        if !is_handshake && let Some(moment) = control.springs(&frame) {
            if moment == Moment::BeforeRequest {
                control.sprung.send_modify(|sprung| *sprung += 1);
                return;
            }
            *last.lock().unwrap() = Some(number(&frame, 4));
        }
        is_handshake = false;
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, control: &Control, last: &Mutex<Option<i32>>) {
    let mut is_handshake = true;
    while let Some(frame) = read_frame(&mut from).await {
        open(control).await;
        if !is_handshake && *last.lock().unwrap() == Some(number(&frame, 4)) {
            control.sprung.send_modify(|sprung| *sprung += 1);
            return;
        }
        is_handshake = false;
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

impl Control {
    /// Takes the trap if this request springs it.
    fn springs(&self, frame: &[u8]) -> Option<Moment> {
        let mut trap = self.trap.lock().unwrap();
        let is_it = trap.as_ref().is_some_and(|trap| {
            let is_there = || frame.windows(trap.path_part.len()).any(|bytes| bytes == trap.path_part.as_bytes());
            trap.operations.contains(&number(frame, 8)) && is_there()
        });
        if is_it { trap.take().map(|trap| trap.moment) } else { None }
    }
}

/// Waits until something may get through.
async fn open(control: &Control) {
    let mut traffic = control.traffic.subscribe();
    // The sender lives as long as the connection.
    let _ = traffic.wait_for(|traffic| *traffic == Traffic::Flows).await;
}

/// Reads a frame, its length included.
async fn read_frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await.ok()?).unwrap();
    assert!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
    let mut frame = vec![0; 4 + length];
    frame[..4].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}

fn number(frame: &[u8], at: usize) -> i32 {
    frame.get(at..at + 4).map_or(0, |bytes| i32::from_be_bytes(bytes.try_into().unwrap()))
}
