//! A client that sends exactly the bytes a test wants, and a server to send them to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use grange_proto::acl::{AclList, put_acls};
use grange_proto::connect::{ConnectRequest, ConnectResponse, PASSWORD_BYTES};
use grange_proto::frame::put_frame;
use grange_proto::request::{Create, SetData, Watchable, put_request};
use grange_proto::response::ReplyHeader;
use grange_proto::{Acl, Op, Reader, Request, SessionId, Xid, Zxid};
use grange_server::config::Key;
use grange_server::{Config, RawConfig, Server};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Settings for a server on a free port with its data in `dir`; `more` are keys and values of a zoo.cfg.
pub(crate) fn config(dir: &Path, more: &[(Key, &str)]) -> Config {
    let mut raw = RawConfig::default();
    raw.set_flag(Key::Listen, "test", "127.0.0.1:0");
    raw.set_flag(Key::DataDir, "test", dir.to_str().unwrap());
    raw.set_flag(Key::TickTime, "test", "50");
    raw.set_flag(Key::MaxSessionTimeout, "test", "60000");
    for (key, value) in more {
        raw.set_flag(*key, "test", *value);
    }
    Config::try_from(raw).unwrap()
}

/// A server for a test that does not care where its data is.
pub(crate) fn start(more: &[(Key, &str)]) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Server::start(config(dir.path(), more)).unwrap(), dir)
}

/// A session as its client knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) password: [u8; PASSWORD_BYTES],
}

/// A reply, or a watch event.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) header: ReplyHeader,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Client {
    stream: TcpStream,
    next_xid: i32,
}

pub(crate) fn connect_request(session: Option<Session>, timeout_ms: i32) -> Vec<u8> {
    let password = session.map_or([0; PASSWORD_BYTES], |session| session.password);
    encoded(&ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms,
        session: session.map_or(SessionId::NONE, |session| session.id),
        password: Some(&password),
        read_only: Some(false),
    })
}

pub(crate) fn encoded(request: &ConnectRequest<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, |out| request.encode(out));
    out
}

pub(crate) fn request(xid: i32, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_request(&mut out, Xid(xid), request);
    out
}

pub(crate) fn set_data<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::SetData(SetData { path, data: Some(data), version: -1 })
}

pub(crate) fn get_data(path: &str) -> Request<'_> {
    Request::GetData(Watchable { path, watch: false })
}

impl Client {
    /// Opens a connection and sends nothing.
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, next_xid: 0 }
    }

    /// Opens a session.
    pub(crate) fn open(address: SocketAddr, timeout_ms: i32) -> (Client, Session) {
        let mut client = Client::connect(address);
        client.send(&connect_request(None, timeout_ms));
        let response = client.connect_response().expect("a session is granted");
        assert!(response.timeout_ms > 0, "{response:?}");
        (client, Session { id: response.session, password: response.password })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads a frame, `None` if the server has closed the connection.
    pub(crate) fn frame(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("nothing came: {error}"),
        }
        let mut payload = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut payload).unwrap();
        Some(payload)
    }

    pub(crate) fn connect_response(&mut self) -> Option<ConnectResponse> {
        self.frame().map(|payload| ConnectResponse::decode(&payload).unwrap())
    }

    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let payload = self.frame()?;
        let mut reader = Reader::new(&payload);
        let header = ReplyHeader::decode(&mut reader).unwrap();
        Some(Reply { header, body: reader.rest().to_vec() })
    }

    /// Sends a request and waits for its reply.
    pub(crate) fn call(&mut self, what: &Request<'_>) -> Reply {
        self.next_xid += 1;
        self.send(&request(self.next_xid, what));
        let reply = self.reply().expect("the connection lives");
        assert_eq!(reply.header.xid, Xid(self.next_xid));
        reply
    }

    /// Creates a znode with the flags of a create mode; returns the error code.
    pub(crate) fn create(&mut self, path: &str, data: &[u8], flags: i32) -> i32 {
        let mut acl = Vec::new();
        put_acls(&mut acl, &Acl::open());
        let acl = AclList::decode(&mut Reader::new(&acl)).unwrap();
        let create = Create { op: Op::Create, path, data: Some(data), acl, flags, ttl_ms: None };
        self.call(&Request::Create(create)).header.err
    }

    /// Returns the data of a znode, `None` if there is none.
    pub(crate) fn get(&mut self, path: &str) -> Option<Vec<u8>> {
        let reply = self.call(&get_data(path));
        (reply.header.err == 0).then(|| Reader::new(&reply.body).buffer().unwrap().unwrap_or_default().to_vec())
    }

    /// Everything up to the end of the connection, as text.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).unwrap();
        text
    }

    pub(crate) fn shut_down(&self, how: Shutdown) {
        self.stream.shutdown(how).unwrap();
    }
}
