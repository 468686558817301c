//! A blocking connection for what happens around a measurement: making and deleting znodes.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use grange_proto::acl::{AclList, put_acls};
use grange_proto::frame::put_frame;
use grange_proto::multi::{MultiOp, MultiResult, put_ops};
use grange_proto::request::{Create, PathVersion, RequestHeader, Watchable, put_request};
use grange_proto::response::{ReplyHeader, Response};
use grange_proto::{Acl, ErrorCode, Op, Reader, Request, Xid};

use crate::error::{BenchError, ErrorText};
use crate::handshake::{CONNECT_TIMEOUT, shake_hands};
use crate::layout::{Layout, ROOT_MARK};
use crate::reply::REPLY_BYTES_MAX;

/// Operations in one multi: far below the size of a frame with the paths used here.
const MULTI_OPS_MAX: usize = 500;
/// Multis under way at once.
const MULTIS_IN_FLIGHT: usize = 8;
const ANY_VERSION: i32 = -1;

/// A session that does one thing after the other.
#[derive(Debug)]
pub(crate) struct Control {
    address: SocketAddr,
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
    acl: Vec<u8>,
}

struct Answer {
    err: i32,
    body: Vec<u8>,
}

impl Control {
    /// Connects to `address` and opens a session.
    pub(crate) fn open(address: SocketAddr, session_timeout: Duration) -> Result<Control, BenchError> {
        let connected = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
        let mut stream = connected.map_err(|source| BenchError::Connect { address, source })?;
        shake_hands(&mut stream, address, session_timeout)?;
        let mut acl = Vec::new();
        put_acls(&mut acl, &Acl::open());
        Ok(Control { address, reader: BufReader::with_capacity(1 << 16, stream), out: Vec::new(), acl })
    }

    /// Makes the root; one that an earlier run left behind is deleted first.
    ///
    /// Errors: [`BenchError::NotOurs`] if something else is there.
    pub(crate) fn make_root(&mut self, layout: &Layout) -> Result<(), BenchError> {
        let root = layout.root();
        let answer = self.call(&Request::GetData(Watchable { path: root, watch: false }))?;
        if answer.err == 0 {
            let Response::Data(data, _) = Response::decode(Op::GetData, &mut Reader::new(&answer.body))? else {
                unreachable!("the reply to getData decodes as data");
            };
            if data != Some(ROOT_MARK) {
                return Err(BenchError::NotOurs(root.to_owned()));
            }
            self.delete_all(layout)?;
        }
        let acl = self.acl.clone();
        let create = Request::Create(create(root, ROOT_MARK, open_acl(&acl)));
        match self.call(&create)?.err {
            0 => Ok(()),
            code => Err(tree("create", root, code)),
        }
    }

    /// Creates empty znodes, in multis.
    pub(crate) fn make_all(&mut self, paths: &[String]) -> Result<(), BenchError> {
        let acl = self.acl.clone();
        self.multis("create", paths, |path| MultiOp::Create(create(path, b"", open_acl(&acl))))
    }

    /// Deletes the root, its children and theirs.
    ///
    /// Errors: [`BenchError::Tree`] if something has still deeper children, which are not ours.
    pub(crate) fn delete_all(&mut self, layout: &Layout) -> Result<(), BenchError> {
        let directories = self.children(layout.root())?;
        for directory in &directories {
            let znodes = self.children(directory)?;
            self.delete(&znodes)?;
        }
        self.delete(&directories)?;
        self.delete(&[layout.root().to_owned()])
    }

    fn delete(&mut self, paths: &[String]) -> Result<(), BenchError> {
        self.multis("delete", paths, |path| MultiOp::Delete(PathVersion { path, version: ANY_VERSION }))
    }

    fn children(&mut self, path: &str) -> Result<Vec<String>, BenchError> {
        let answer = self.call(&Request::GetChildren(Watchable { path, watch: false }))?;
        if answer.err != 0 {
            return Err(tree("list", path, answer.err));
        }
        match Response::decode(Op::GetChildren, &mut Reader::new(&answer.body))? {
            Response::Texts(names) => Ok(names.to_vec().into_iter().map(|name| format!("{path}/{name}")).collect()),
            _ => unreachable!("the reply to getChildren decodes as names"),
        }
    }

    fn multis<'p>(
        &mut self,
        what: &'static str,
        paths: &'p [String],
        op: impl Fn(&'p str) -> MultiOp<'p>,
    ) -> Result<(), BenchError> {
        let mut waiting = paths.chunks(MULTI_OPS_MAX);
        let mut under_way = std::collections::VecDeque::new();
        loop {
            while under_way.len() < MULTIS_IN_FLIGHT {
                let Some(chunk) = waiting.next() else { break };
                put_frame(&mut self.out, |out| {
                    RequestHeader { xid: Xid(1), op_code: Op::Multi.code() }.encode(out);
                    put_ops(out, chunk.iter().map(|path| op(path)));
                });
                self.flush()?;
                under_way.push_back(chunk);
            }
            let Some(chunk) = under_way.pop_front() else { return Ok(()) };
            let answer = self.receive()?;
            if answer.err != 0 {
                return Err(tree(what, &chunk[0], answer.err));
            }
            let Response::Multi(results) = Response::decode(Op::Multi, &mut Reader::new(&answer.body))? else {
                unreachable!("the reply to multi decodes as results");
            };
            for (path, result) in chunk.iter().zip(results) {
                match result {
                    MultiResult::Error(code) if code != 0 && code != ErrorCode::RuntimeInconsistency.code() => {
                        return Err(tree(what, path, code));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Closes the session.
    pub(crate) fn close(mut self) -> Result<(), BenchError> {
        self.call(&Request::CloseSession).map(|_| ())
    }

    fn call(&mut self, request: &Request<'_>) -> Result<Answer, BenchError> {
        put_request(&mut self.out, Xid(1), request);
        self.flush()?;
        self.receive()
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let address = self.address;
        let sent = self.reader.get_mut().write_all(&self.out);
        self.out.clear();
        sent.map_err(|source| BenchError::Connect { address, source })
    }

    fn receive(&mut self) -> Result<Answer, BenchError> {
        let address = self.address;
        let lost = |source| BenchError::Connect { address, source };
        let mut length = [0; 4];
        self.reader.read_exact(&mut length).map_err(lost)?;
        let length = i32::from_be_bytes(length);
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= REPLY_BYTES_MAX);
        let bytes = bytes.ok_or(grange_proto::DecodeError::Length(length))?;
        let mut body = Vec::new();
        let limit = u64::try_from(bytes).expect("checked against the most bytes");
        self.reader.by_ref().take(limit).read_to_end(&mut body).map_err(lost)?;
        let header = ReplyHeader::decode(&mut Reader::new(&body))?;
        body.drain(..ReplyHeader::WIRE_BYTES);
        Ok(Answer { err: header.err, body })
    }
}

fn open_acl(acl: &[u8]) -> AclList<'_> {
    AclList::decode(&mut Reader::new(acl)).expect("it was encoded when the connection was opened")
}

fn create<'a>(path: &'a str, data: &'a [u8], acl: AclList<'a>) -> Create<'a> {
    Create { op: Op::Create, path, data: Some(data), acl, flags: 0, ttl_ms: None }
}

fn tree(what: &'static str, path: &str, code: i32) -> BenchError {
    BenchError::Tree { what, path: path.to_owned(), code: ErrorText(code) }
}
