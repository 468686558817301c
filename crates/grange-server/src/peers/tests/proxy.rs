//! A proxy between two members that cuts connections, or lets nothing through any more.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Forwards connections to one address for as long as the process runs.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    sockets: Mutex<Vec<TcpStream>>,
    is_silent: AtomicBool,
    /// Bytes that may still go from the dialler to the other side before everything is cut; 0 for no bound.
    cut_after: AtomicU64,
    cuts: AtomicU64,
    bytes: AtomicU64,
}

impl Proxy {
    pub(super) fn start(target: SocketAddr) -> Proxy {
        let (listener, address) = super::listen();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for dialled in listener.incoming() {
                let (Ok(dialled), Ok(reached)) = (dialled, TcpStream::connect(target)) else { continue };
                let mut sockets = shared.sockets.lock().unwrap();
                for (from, to, is_counted) in [(&dialled, &reached, true), (&reached, &dialled, false)] {
                    sockets.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || forward(&shared, from, to, is_counted));
                }
            }
        });
        Proxy { address, state }
    }

    /// Breaks every connection; new ones are forwarded again.
    pub(super) fn cut(&self) {
        self.state.cut();
    }

    /// Keeps connections open and lets nothing through.
    pub(super) fn set_silent(&self, is_silent: bool) {
        self.state.is_silent.store(is_silent, Ordering::Relaxed);
    }

    /// Breaks every connection once after so many bytes.
    pub(super) fn cut_after(&self, bytes: u64) {
        self.state.cut_after.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn cut_count(&self) -> u64 {
        self.state.cuts.load(Ordering::Relaxed)
    }

    /// Returns how many bytes came to be forwarded, other than those that go back.
    pub(super) fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Relaxed)
    }
}

impl State {
    fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Takes bytes off what may go before the cut; true when that is used up.
    fn count(&self, bytes: u64) -> bool {
        let take = |left: u64| (left > 0).then(|| left.saturating_sub(bytes));
        let before = self.cut_after.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.is_ok_and(|before| before <= bytes)
    }
}

fn forward(state: &State, mut from: TcpStream, mut to: TcpStream, is_counted: bool) {
    let mut buf = [0; 64 << 10];
    loop {
        let bytes = match from.read(&mut buf) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        while state.is_silent.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if is_counted {
            state.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            if state.count(bytes as u64) {
                state.cut();
            }
        }
        if to.write_all(&buf[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
