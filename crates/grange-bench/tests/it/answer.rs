//! A server with just enough of a tree for the load generator: a thread per connection, one lock.

#![expect(clippy::unwrap_used, reason = "a server of tests: its panic is a failed test")]

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use grange_proto::connect::{ConnectRequest, ConnectResponse};
use grange_proto::frame::put_frame;
use grange_proto::multi::{MultiOp, MultiResult};
use grange_proto::request::RequestHeader;
use grange_proto::response::{ReplyHeader, Response, TextBody, put_reply};
use grange_proto::{ErrorCode, Op, Reader, Request, SessionId, Stat, Xid, Zxid};

/// What the server does wrong. Only getData and handshakes go wrong, so that making and deleting znodes works; the
/// counts are those of one connection's getData requests, or of the server's handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    ErrorEvery(u64),
    CloseAfter(u64),
    WrongXidAfter(u64),
    ShortValueAfter(u64),
    StallOnceAt { request: u64, time: Duration },
    SessionRefusedEvery(usize),
}

pub(crate) struct AnswerServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    znodes: Mutex<BTreeMap<String, Vec<u8>>>,
    handshakes: Mutex<usize>,
    sessions_closed: Mutex<usize>,
    closed: Condvar,
}

impl AnswerServer {
    pub(crate) fn start(fault: Fault) -> AnswerServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = AnswerServer { address, shared: Arc::clone(&shared) };
        // The thread ends with the test process; no connection outlives its run.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), Arc::clone(&shared));
                thread::spawn(move || Serving { shared, fault, reads: 0, watched: None }.serve(stream));
            }
        });
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn znodes(&self) -> usize {
        self.shared.znodes.lock().unwrap().len()
    }

    pub(crate) fn put(&self, path: &str, data: &[u8]) {
        self.shared.znodes.lock().unwrap().insert(path.to_owned(), data.to_vec());
    }

    pub(crate) fn wait_until_closed(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut closed = self.shared.sessions_closed.lock().unwrap();
        while *closed < count {
            let left = deadline.checked_duration_since(Instant::now()).expect("the sessions were not closed in time");
            closed = self.shared.closed.wait_timeout(closed, left).unwrap().0;
        }
    }
}

struct Serving {
    shared: Arc<Shared>,
    fault: Fault,
    reads: u64,
    watched: Option<String>,
}

impl Serving {
    /// Serves until the client or a fault closes the connection.
    fn serve(mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let request = read_frame(&mut stream)?;
        let request = ConnectRequest::decode(&request).map_err(io::Error::other)?;
        let accepted = ConnectResponse {
            protocol_version: 0,
            timeout_ms: request.timeout_ms,
            session: SessionId(1),
            password: [0; 16],
            read_only: request.read_only,
        };
        let response = if self.refuses() { ConnectResponse::refused(request.read_only) } else { accepted };
        let mut out = Vec::new();
        put_frame(&mut out, |out| response.encode(out));
        loop {
            stream.write_all(&out)?;
            out.clear();
            let payload = read_frame(&mut stream)?;
            if self.answer(&payload, &mut out).is_none() {
                // Closing with unread requests would reset the connection, and replies would be lost on the way.
                stream.write_all(&out)?;
                stream.shutdown(Shutdown::Write)?;
                return io::copy(&mut stream, &mut io::sink()).map(drop);
            }
        }
    }

    fn refuses(&self) -> bool {
        let mut handshakes = self.shared.handshakes.lock().unwrap();
        *handshakes += 1;
        matches!(self.fault, Fault::SessionRefusedEvery(count) if handshakes.is_multiple_of(count))
    }

    /// Appends the reply; `None` ends the connection.
    fn answer(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut reader = Reader::new(payload);
        let header = RequestHeader::decode(&mut reader).unwrap();
        let request = Request::decode(Op::from_code(header.op_code).unwrap(), &mut reader).unwrap();
        if let Request::CloseSession = request {
            *self.shared.sessions_closed.lock().unwrap() += 1;
            self.shared.closed.notify_all();
            put_reply(out, header.xid, Zxid(1), Ok(&Response::Empty));
            return None;
        }
        let shared = Arc::clone(&self.shared);
        let mut znodes = shared.znodes.lock().unwrap();
        let response = match request {
            Request::GetData(body) if body.path != "/bench" => {
                drop(znodes);
                return self.get(header.xid, body.path, body.watch, out);
            }
            Request::GetData(body) => {
                znodes.get(body.path).map(|data| Response::Data(Some(data), Stat::default())).ok_or(ErrorCode::NoNode)
            }
            Request::SetData(body) => match znodes.get_mut(body.path) {
                Some(data) => {
                    *data = body.data.unwrap().to_vec();
                    if self.watched.take_if(|path| path == body.path).is_some() {
                        put_event(out);
                    }
                    Ok(Response::Stat(Stat::default()))
                }
                None => Err(ErrorCode::NoNode),
            },
            Request::Create(body) => match znodes.insert(body.path.to_owned(), body.data.unwrap().to_vec()) {
                None => Ok(Response::Path(body.path)),
                Some(_) => Err(ErrorCode::NodeExists),
            },
            Request::Delete(body) => znodes.remove(body.path).map(|_| Response::Empty).ok_or(ErrorCode::NoNode),
            Request::Exists(body) => {
                znodes.get(body.path).map(|_| Response::Stat(Stat::default())).ok_or(ErrorCode::NoNode)
            }
            Request::GetChildren(body) => {
                let prefix = format!("{}/", body.path);
                let below = znodes.range(prefix.clone()..).map_while(|(path, _)| path.strip_prefix(&prefix));
                Ok(Response::Texts(TextBody::Collected(below.filter(|name| !name.contains('/')).collect())))
            }
            Request::Multi(ops) => Ok(Response::Multi(
                ops.iter()
                    .map(|op| match op {
                        MultiOp::Create(body) => match znodes.insert(body.path.to_owned(), Vec::new()) {
                            None => MultiResult::Create(body.path.into()),
                            Some(_) => MultiResult::Error(ErrorCode::NodeExists.code()),
                        },
                        MultiOp::Delete(body) => match znodes.remove(body.path) {
                            Some(_) => MultiResult::Delete,
                            None => MultiResult::Error(ErrorCode::NoNode.code()),
                        },
                        other => panic!("the load generator does not send {other:?}"),
                    })
                    .collect(),
            )),
            Request::Sync(path) => Ok(Response::Path(path)),
            Request::Ping => Ok(Response::Empty),
            other => panic!("the load generator does not send {other:?}"),
        };
        put_reply(out, header.xid, Zxid(1), response.as_ref().map_err(|code| *code));
        Some(())
    }

    fn get(&mut self, xid: Xid, path: &str, watch: bool, out: &mut Vec<u8>) -> Option<()> {
        self.reads += 1;
        if watch {
            self.watched = Some(path.to_owned());
        }
        let znodes = self.shared.znodes.lock().unwrap();
        let mut data = znodes.get(path).map(Vec::as_slice).ok_or(ErrorCode::NoNode);
        let mut answered = xid;
        match self.fault {
            Fault::ErrorEvery(count) if self.reads.is_multiple_of(count) => data = Err(ErrorCode::NoNode),
            Fault::CloseAfter(count) if self.reads > count => return None,
            Fault::WrongXidAfter(count) if self.reads > count => answered = Xid(xid.0 + 1),
            Fault::ShortValueAfter(count) if self.reads > count => data = data.map(|data| &data[1..]),
            Fault::StallOnceAt { request, time } if self.reads == request => thread::sleep(time),
            _ => {}
        }
        let response = data.map(|data| Response::Data(Some(data), Stat::default()));
        put_reply(out, answered, Zxid(1), response.as_ref().map_err(|code| *code));
        Some(())
    }
}

fn put_event(out: &mut Vec<u8>) {
    const EVENT_BYTES: usize = 20;
    put_frame(out, |out| {
        ReplyHeader { xid: Xid::NOTIFICATION, zxid: Zxid(1), err: 0 }.encode(out);
        out.extend_from_slice(&[0; EVENT_BYTES]);
    });
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut payload = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}
