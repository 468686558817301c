//! A client that speaks the wire format itself: it knows for each request whether it was answered.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use grange_proto::acl::{AclList, put_acls};
use grange_proto::connect::{ConnectRequest, ConnectResponse, PASSWORD_BYTES};
use grange_proto::frame::put_frame;
use grange_proto::request::{Create, SetData, Watchable, put_request};
use grange_proto::response::{ReplyHeader, Response};
use grange_proto::{Acl, Op, Reader, Request, SessionId, Stat, Xid, Zxid};

use crate::server::{GrangeServer, Server};

/// How long a reply may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) password: [u8; PASSWORD_BYTES],
    pub(crate) timeout_ms: i32,
}

/// A reply without its length.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) header: ReplyHeader,
    pub(crate) body: Vec<u8>,
}

/// A znode's data and owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) data: Vec<u8>,
    pub(crate) owner: SessionId,
}

/// A connection with a session.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    next_xid: i32,
    /// The newest transaction in any reply.
    pub(crate) zxid: Zxid,
}

impl Client {
    /// Opens a session.
    pub(crate) fn open(server: &GrangeServer, timeout_ms: i32) -> (Client, Session) {
        let nobody = Session { id: SessionId::NONE, password: [0; PASSWORD_BYTES], timeout_ms };
        let (client, session) = Client::connect(server, nobody, Zxid::ZERO).expect("the server takes connections");
        assert!(session.timeout_ms > 0, "a session is granted: {session:?}");
        (client, session)
    }

    /// Takes a session up again, `None` if the server refuses it. `seen` is the newest transaction the client knows of:
    /// a server that does not know it closes the connection.
    pub(crate) fn attach(server: &GrangeServer, session: Session, seen: Zxid) -> Option<Client> {
        let (client, again) = Client::connect(server, session, seen).expect("the server knows what was acknowledged");
        assert!(again.id == SessionId::NONE || again == session, "{again:?} instead of {session:?}");
        (again == session).then_some(client)
    }

    fn connect(server: &GrangeServer, session: Session, seen: Zxid) -> io::Result<(Client, Session)> {
        let stream = TcpStream::connect(server.servers())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Client { stream, next_xid: 0, zxid: Zxid::ZERO };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: seen,
            timeout_ms: session.timeout_ms,
            session: session.id,
            password: Some(&session.password),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        put_frame(&mut bytes, |out| request.encode(out));
        client.write(&bytes)?;
        let answer = ConnectResponse::decode(&client.frame()?).expect("the first frame answers the handshake");
        Ok((client, Session { id: answer.session, password: answer.password, timeout_ms: answer.timeout_ms }))
    }

    /// Returns a second end of the same connection, to write from one thread and to read from another.
    pub(crate) fn split(&self) -> Client {
        let stream = self.stream.try_clone().expect("a socket has a second descriptor");
        Client { stream, next_xid: self.next_xid, zxid: self.zxid }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads a reply; an error if the connection has ended.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let payload = self.frame()?;
        let mut reader = Reader::new(&payload);
        let header = ReplyHeader::decode(&mut reader).expect("a reply has a header");
        self.zxid = self.zxid.max(header.zxid);
        Ok(Reply { header, body: reader.rest().to_vec() })
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut payload = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length is positive")];
        self.stream.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// Sends a request and waits for its reply.
    pub(crate) fn call(&mut self, request: &Request<'_>) -> Reply {
        self.next_xid += 1;
        self.write(&encoded(self.next_xid, request)).expect("the server reads");
        let reply = self.reply().expect("the server answers");
        assert_eq!(reply.header.xid, Xid(self.next_xid));
        reply
    }

    /// Returns the error code of a create; `flags` are those of a create mode.
    pub(crate) fn create(&mut self, path: &str, data: &[u8], flags: i32) -> i32 {
        with_open_acl(|acl| {
            let create = Create { op: Op::Create, path, data: Some(data), acl, flags, ttl_ms: None };
            self.call(&Request::Create(create)).header.err
        })
    }

    /// Returns the error code of a setData.
    pub(crate) fn set(&mut self, path: &str, data: &[u8]) -> i32 {
        self.call(&Request::SetData(SetData { path, data: Some(data), version: -1 })).header.err
    }

    /// Returns a znode, `None` if there is none.
    pub(crate) fn get(&mut self, path: &str) -> Option<Node> {
        node(&self.call(&Request::GetData(Watchable { path, watch: false })))
    }

    /// Returns the error code of a ping.
    pub(crate) fn ping(&mut self) -> i32 {
        self.send_ping();
        let reply = self.reply().expect("the server answers");
        assert_eq!(reply.header.xid, Xid::PING);
        reply.header.err
    }

    /// Sends a ping and does not wait for its reply.
    pub(crate) fn send_ping(&mut self) {
        self.write(&encoded(Xid::PING.0, &Request::Ping)).expect("the kernel takes so few bytes");
    }

    /// Returns the names of the children of a znode that exists.
    pub(crate) fn children(&mut self, path: &str) -> Vec<String> {
        let reply = self.call(&Request::GetChildren(Watchable { path, watch: false }));
        match Response::decode(Op::GetChildren, &mut Reader::new(&reply.body)) {
            Ok(Response::Texts(names)) => names.to_vec().into_iter().map(str::to_owned).collect(),
            other => panic!("no list of children: {other:?}, {reply:?}"),
        }
    }

    /// Returns all children of a znode, read in one go.
    pub(crate) fn nodes_below(&mut self, path: &str) -> Vec<(String, Node)> {
        let names = self.children(path);
        let requests: Vec<u8> = names
            .iter()
            .flat_map(|name| encoded(1, &Request::GetData(Watchable { path: &format!("{path}/{name}"), watch: false })))
            .collect();
        let mut writer = self.split();
        // Replies are read meanwhile, since the server stops reading when they pile up.
        let writing = std::thread::spawn(move || writer.write(&requests));
        let mut nodes = Vec::new();
        for name in names {
            // It may have expired since it was listed.
            nodes.extend(node(&self.reply().expect("the server answers")).map(|node| (name, node)));
        }
        writing.join().expect("writing does not panic").expect("the server reads");
        nodes
    }
}

fn node(reply: &Reply) -> Option<Node> {
    if reply.header.err != 0 {
        return None;
    }
    match Response::decode(Op::GetData, &mut Reader::new(&reply.body)) {
        Ok(Response::Data(data, Stat { ephemeral_owner, .. })) => {
            Some(Node { data: data.unwrap_or_default().to_vec(), owner: SessionId(ephemeral_owner) })
        }
        other => panic!("not the reply to a getData: {other:?}"),
    }
}

pub(crate) fn encoded(xid: i32, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_request(&mut out, Xid(xid), request);
    out
}

/// Lends an ACL that lets everybody do everything.
pub(crate) fn with_open_acl<R>(f: impl FnOnce(AclList<'_>) -> R) -> R {
    let mut bytes = Vec::new();
    put_acls(&mut bytes, &Acl::open());
    f(AclList::decode(&mut Reader::new(&bytes)).expect("it was just encoded"))
}
