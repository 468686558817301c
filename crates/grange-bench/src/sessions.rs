//! Opens many sessions as quickly as possible, then keeps them idle.
//!
//! Each connection costs the generator five system calls and as few segments as TCP allows. Connecting is a blocking
//! call: on loopback it returns at once, and one event less per session is worth more than overlap; the handshakes do
//! overlap. Answers are read in the order of the connections, so that most are there when they are looked for and none
//! needs a poll; a server that answers in another order has its later answers counted when the earlier ones are there.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use grange_proto::Xid;
use grange_proto::request::{Request, put_request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, sockopt};

use crate::error::BenchError;
use crate::handshake::{ANSWER_BYTES, CONNECT_TIMEOUT, accepted, request};
use crate::plan::{Extent, Plan};
use crate::poll::{Interest, Poller, Ready};
use crate::process::{ProcessCost, allow_files};
use crate::reply::ReplyScanner;
use crate::report::{IdleCost, Measured};
use crate::tally::Tally;

/// How long a server may leave the oldest handshake unanswered.
const SILENCE_MAX: Timespec = Timespec { tv_sec: CONNECT_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
/// Sessions that are closed with one look at the answers.
const CLOSE_BATCH: usize = 256;

struct Session {
    stream: TcpStream,
    scanner: ReplyScanner,
}

/// One thread's sessions.
struct Opener<'a> {
    plan: &'a Plan,
    poller: Poller,
    /// `None` once lost.
    sessions: Vec<Option<Session>>,
    tally: Tally,
    timeout: Duration,
}

/// Opens the sessions, holds them, closes them.
pub(crate) fn run(plan: &Plan) -> Result<Measured, BenchError> {
    let Extent::Count(count) = plan.extent else {
        return Err(BenchError::Plan("the operation sessions needs a count".to_owned()));
    };
    allow_files(usize::try_from(count).unwrap_or(usize::MAX - 64))?;
    let cost = || ProcessCost::of_all(&plan.server_pids);
    let (server_before, own_before, start) = (cost()?, ProcessCost::own_cpu(), Instant::now());
    let mut openers = each_thread((0..plan.threads).collect(), |thread| {
        let mut opener = Opener::new(plan)?;
        opener.open(thread, plan.share(count, thread))?;
        Ok(opener)
    })?;
    let (elapsed, own_cpu) = (start.elapsed(), ProcessCost::own_cpu() - own_before);
    let server_after = cost()?;
    let mut idle = None;
    if plan.hold > Duration::ZERO {
        let started = Instant::now();
        let held = each_thread(openers, |mut opener| {
            let pings = opener.hold(plan.hold)?;
            Ok((opener, pings))
        })?;
        let (held, pings): (Vec<_>, Vec<u64>) = held.into_iter().unzip();
        openers = held;
        let spent = cost()?.zip(server_after).map(|(now, before)| now.cpu.saturating_sub(before.cpu).as_secs_f64());
        idle = Some(IdleCost {
            seconds: started.elapsed().as_secs_f64(),
            pings: pings.iter().sum(),
            server_cpu_seconds: spent,
        });
    }
    let mut tally = Tally::default();
    each_thread(openers, |opener| Ok(opener.close()))?.iter().for_each(|each| tally.add(each));
    let completed_in_time = tally.completed;
    Ok(Measured { tally, completed_in_time, elapsed, own_cpu, server: server_before.zip(server_after), idle })
}

/// Does the same on a thread for each item.
fn each_thread<T: Send, R: Send>(
    items: Vec<T>,
    act: impl Fn(T) -> Result<R, BenchError> + Sync,
) -> Result<Vec<R>, BenchError> {
    let act = &act;
    std::thread::scope(|scope| {
        let started: Vec<_> = items.into_iter().map(|item| scope.spawn(move || act(item))).collect();
        started.into_iter().map(|thread| thread.join().expect("a thread of load does not panic")).collect()
    })
}

fn waiting(source: io::Error) -> BenchError {
    BenchError::System { what: "wait for sockets", source }
}

impl<'a> Opener<'a> {
    fn new(plan: &'a Plan) -> Result<Opener<'a>, BenchError> {
        let poller = Poller::new().map_err(waiting)?;
        Ok(Opener { plan, poller, sessions: Vec::new(), tally: Tally::default(), timeout: plan.session_timeout })
    }

    /// Opens `count` sessions with at most `in_flight` handshakes under way.
    fn open(&mut self, thread: usize, count: u64) -> Result<(), BenchError> {
        let hello = request(self.plan.session_timeout);
        let count = usize::try_from(count).expect("checked against the open files");
        let mut began = Vec::with_capacity(count);
        for answered in 0..count {
            while began.len() < count && began.len() - answered < self.plan.in_flight {
                let number = began.len() * self.plan.threads + thread;
                let address = self.plan.servers[number % self.plan.servers.len()];
                let source =
                    (self.plan.source_addresses > 1).then(|| source_address(number, self.plan.source_addresses));
                began.push(Instant::now());
                let stream = connect(address, source, &hello);
                let stream = stream.map_err(|source| BenchError::Connect { address, source })?;
                self.sessions.push(Some(Session { stream, scanner: ReplyScanner::default() }));
            }
            if !self.finish_handshake(answered, began[answered]).map_err(waiting)? {
                self.tally.failures.lost(format!("{} handshakes without an answer", began.len() - answered));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits for the answer to a handshake; `false` if none comes.
    fn finish_handshake(&mut self, token: usize, began: Instant) -> io::Result<bool> {
        let Some(session) = &mut self.sessions[token] else { return Ok(true) };
        match receive_answer(&mut session.stream) {
            Ok(None) => return Ok(false),
            Ok(Some(answer)) => match accepted(&answer) {
                Ok(timeout) => {
                    self.timeout = self.timeout.min(timeout);
                    self.tally.completed += 1;
                    self.tally.latencies.record(began.elapsed(), 1);
                }
                Err(reason) => self.lose(token, reason),
            },
            Err(error) => self.lose(token, error.to_string()),
        }
        Ok(true)
    }

    fn lose(&mut self, token: usize, reason: String) {
        self.sessions[token] = None;
        self.tally.failures.lost(reason);
    }

    /// Keeps the sessions alive for `time`; returns how many pings were answered.
    fn hold(&mut self, time: Duration) -> Result<u64, BenchError> {
        let end = Instant::now() + time;
        for (token, session) in self.sessions.iter().enumerate() {
            if let Some(session) = session {
                self.poller.add(&session.stream, token, Interest::Read).map_err(waiting)?;
            }
        }
        let mut ping = Vec::new();
        put_request(&mut ping, Xid::PING, &Request::Ping);
        let between = self.timeout / 3;
        let mut due: VecDeque<(Instant, usize)> = self.evenly(between).collect();
        let (mut ready, mut input, mut pings) = (Vec::new(), vec![0; 1 << 16], 0);
        loop {
            let now = Instant::now();
            while let Some(&(at, token)) = due.front().filter(|(at, _)| *at <= now) {
                due.pop_front();
                due.push_back((at + between, token));
                let Some(session) = &mut self.sessions[token] else { continue };
                if let Err(error) = session.stream.write_all(&ping) {
                    self.lose(token, error.to_string());
                }
            }
            if now >= end {
                return Ok(pings);
            }
            let wake_at = due.front().map_or(end, |(at, _)| end.min(*at));
            self.poller.wait(&mut ready, Some(wake_at - now)).map_err(waiting)?;
            for Ready { token, .. } in ready.drain(..) {
                pings += self.read_pings(token, &mut input);
            }
        }
    }

    /// Spreads the sessions' pings over the time between two of the same session.
    fn evenly(&self, between: Duration) -> impl Iterator<Item = (Instant, usize)> + use<> {
        let (start, count) = (Instant::now(), u32::try_from(self.sessions.len()).unwrap_or(u32::MAX).max(1));
        (0..count).zip(0..self.sessions.len()).map(move |(nth, token)| (start + between * nth / count, token))
    }

    fn read_pings(&mut self, token: usize, input: &mut [u8]) -> u64 {
        let Some(session) = &mut self.sessions[token] else { return 0 };
        let mut pings = 0;
        let read = match session.stream.read(input) {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(count) => {
                let count_ping = |reply: crate::reply::Reply| pings += u64::from(reply.xid == Xid::PING);
                session.scanner.scan(&input[..count], count_ping).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = read {
            self.lose(token, reason);
        }
        pings
    }

    /// Closes the sessions and returns what was counted.
    fn close(self) -> Tally {
        let mut goodbye = Vec::new();
        put_request(&mut goodbye, Xid(1), &Request::CloseSession);
        let mut open: Vec<Session> = self.sessions.into_iter().flatten().collect();
        for batch in open.chunks_mut(CLOSE_BATCH) {
            // What the server makes of a goodbye is not part of the measurement.
            for session in batch.iter_mut() {
                let _ = session.stream.write_all(&goodbye);
            }
            for session in batch {
                let _ = session.stream.set_read_timeout(Some(CONNECT_TIMEOUT));
                while matches!(session.stream.read(&mut [0; 256]), Ok(1..)) {}
            }
        }
        self.tally
    }
}

/// The loopback address from which connection `number` comes.
fn source_address(number: usize, addresses: u8) -> Ipv4Addr {
    let nth = u8::try_from(number % usize::from(addresses)).expect("a remainder of a u8");
    Ipv4Addr::new(127, 0, 0, nth.saturating_add(1))
}

/// Connects and sends `hello`.
fn connect(address: SocketAddr, source: Option<Ipv4Addr>, hello: &[u8]) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The connection's last acknowledgement then waits for `hello`, which is sent at once: a segment less.
    sockopt::set_tcp_quickack(&socket, false)?;
    if let Some(source) = source {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    }
    rustix::net::connect(&socket, &address)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(hello)?;
    Ok(stream)
}

/// Reads the answer to a handshake; `None` if it does not come in time.
fn receive_answer(stream: &mut TcpStream) -> io::Result<Option<[u8; ANSWER_BYTES]>> {
    let mut answer = [0; ANSWER_BYTES];
    let read = match recv(&*stream, &mut answer, RecvFlags::DONTWAIT) {
        Err(rustix::io::Errno::AGAIN) => {
            if poll(&mut [PollFd::new(&*stream, PollFlags::IN)], Some(&SILENCE_MAX))? == 0 {
                return Ok(None);
            }
            0
        }
        received => received?.1,
    };
    // It is one small segment: it is either there as a whole or the server has closed the connection.
    stream.read_exact(&mut answer[read..])?;
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_take_turns() {
        let addresses: Vec<_> = (0..4).map(|number| source_address(number, 3).to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]);
    }
}
