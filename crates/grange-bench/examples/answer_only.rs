//! A server that only answers: no tree, no sessions, constant bodies.
//!
//! What the load generator reaches against it is the most that this machine allows, so a figure for a real server
//! that is well below it is the server's own. With `--sync FILE` it writes and syncs the requests of each round
//! before it answers them, as a server that keeps its word must; there is nothing else it does per request.
//!
//! `answer_only [--listen HOST:PORT] [--value-bytes N] [--sync FILE]` prints `listening on HOST:PORT`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use grange_bench::poll::{Interest, Poller};
use grange_proto::connect::{ConnectRequest, ConnectResponse};
use grange_proto::frame::{put_frame, split_frame};
use grange_proto::multi::MultiResult;
use grange_proto::request::RequestHeader;
use grange_proto::response::{Response, TextBody, put_reply};
use grange_proto::{Op, Reader, Request, SessionId, Stat, Xid, Zxid};
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LISTENER: usize = 0;
const INPUT_BYTES: usize = 256 * 1024;
const FRAME_BYTES_MAX: usize = 0xf_ffff;

struct Options {
    listen: SocketAddr,
    value_bytes: usize,
    sync: Option<PathBuf>,
}

struct Client {
    stream: TcpStream,
    has_session: bool,
    /// The session was closed: the connection ends with the last reply.
    closing: bool,
    /// The start of a request whose rest has not arrived.
    cut: Vec<u8>,
    out: Vec<u8>,
}

fn main() -> io::Result<()> {
    let options = options().map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
    allow_all_files()?;
    let listener = TcpListener::bind(options.listen)?;
    listener.set_nonblocking(true)?;
    // Connections inherit it.
    sockopt::set_tcp_nodelay(&listener, true)?;
    println!("listening on {}", listener.local_addr()?);
    serve(&listener, &options)
}

fn options() -> Result<Options, String> {
    let mut options = Options { listen: ([127, 0, 0, 1], 0).into(), value_bytes: 100, sync: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => options.listen = value.parse().map_err(|_| format!("{value:?} is not HOST:PORT"))?,
            "--value-bytes" => options.value_bytes = value.parse().map_err(|_| format!("{value:?} is no size"))?,
            "--sync" => options.sync = Some(value.into()),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

/// Each connection is a file, and the usual limit is 1,024.
fn allow_all_files() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn serve(listener: &TcpListener, options: &Options) -> io::Result<()> {
    let poller = Poller::new()?;
    poller.add(listener, LISTENER, Interest::Read)?;
    let mut log = options.sync.as_ref().map(File::create).transpose()?;
    let value = vec![b'x'; options.value_bytes];
    let (mut clients, mut last_token) = (HashMap::new(), LISTENER);
    let (mut ready, mut input, mut round) = (Vec::new(), vec![0; INPUT_BYTES], Vec::new());
    loop {
        poller.wait(&mut ready, None)?;
        round.clear();
        for each in &ready {
            if each.token == LISTENER {
                while let Some(stream) = accept(listener)? {
                    last_token += 1;
                    poller.add(&stream, last_token, Interest::Read)?;
                    clients.insert(last_token, Client::new(stream));
                }
                continue;
            }
            let Some(client) = clients.get_mut(&each.token) else { continue };
            let read = client.stream.read(&mut input).unwrap_or(0);
            if log.is_some() {
                round.extend_from_slice(&input[..read]);
            }
            if read == 0 || client.answer(&input[..read], &value).is_none() {
                clients.remove(&each.token);
            }
        }
        if let Some(log) = log.as_mut().filter(|_| !round.is_empty()) {
            log.write_all(&round)?;
            log.sync_data()?;
        }
        for each in &ready {
            let Some(client) = clients.get_mut(&each.token) else { continue };
            if client.stream.write_all(&client.out).is_err() || client.closing {
                clients.remove(&each.token);
            } else {
                client.out.clear();
            }
        }
    }
}

/// Takes a connection that waits, if one does.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        Client { stream, has_session: false, closing: false, cut: Vec::new(), out: Vec::new() }
    }

    /// Answers all whole requests; `None` if the connection is to be closed.
    fn answer(&mut self, input: &[u8], value: &[u8]) -> Option<()> {
        if self.cut.is_empty() {
            let rest = self.answer_whole(input, value)?;
            self.cut.extend_from_slice(rest);
            return Some(());
        }
        let mut joined = std::mem::take(&mut self.cut);
        joined.extend_from_slice(input);
        let rest_bytes = self.answer_whole(&joined, value)?.len();
        joined.drain(..joined.len() - rest_bytes);
        self.cut = joined;
        Some(())
    }

    fn answer_whole<'a>(&mut self, mut input: &'a [u8], value: &[u8]) -> Option<&'a [u8]> {
        while let Some((payload, rest)) = split_frame(input, FRAME_BYTES_MAX).ok()? {
            if self.has_session {
                self.answer_request(payload, value)?;
            } else {
                self.answer_connect(payload)?;
            }
            input = rest;
        }
        Some(input)
    }

    fn answer_connect(&mut self, payload: &[u8]) -> Option<()> {
        let request = ConnectRequest::decode(payload).ok()?;
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms: request.timeout_ms,
            session: SessionId(1),
            password: [0; 16],
            read_only: request.read_only,
        };
        put_frame(&mut self.out, |out| response.encode(out));
        self.has_session = true;
        Some(())
    }

    fn answer_request(&mut self, payload: &[u8], value: &[u8]) -> Option<()> {
        let mut reader = Reader::new(payload);
        let header = RequestHeader::decode(&mut reader).ok()?;
        let stat = Stat::default();
        let response = match Op::from_code(header.op_code)? {
            Op::CloseSession => {
                self.closing = true;
                Response::Empty
            }
            Op::SetData | Op::Exists => Response::Stat(stat),
            Op::GetData if is_root(payload) => return self.no_node(header.xid),
            Op::GetData => Response::Data(Some(value), stat),
            Op::Create | Op::Sync => Response::Path(reader.text().ok()?),
            Op::GetChildren => Response::Texts(TextBody::Collected(Vec::new())),
            Op::Multi => {
                let Request::Multi(ops) = Request::decode(Op::Multi, &mut reader).ok()? else { return None };
                Response::Multi(ops.iter().map(|_| MultiResult::Check).collect())
            }
            Op::Delete | Op::Ping => Response::Empty,
            _ => return None,
        };
        put_reply(&mut self.out, header.xid, Zxid(1), Ok(&response));
        Some(())
    }

    /// Lets the load generator find that its root is not there yet.
    fn no_node(&mut self, xid: Xid) -> Option<()> {
        put_reply(&mut self.out, xid, Zxid(1), Err(grange_proto::ErrorCode::NoNode));
        Some(())
    }
}

/// Whether a request is for a znode right below `/`, such as the root of the load generator.
fn is_root(payload: &[u8]) -> bool {
    const PATH_AT: usize = RequestHeader::WIRE_BYTES + 4;
    payload[PATH_AT..].iter().filter(|byte| **byte == b'/').count() == 1
}
