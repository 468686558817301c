//! One way to take any frame apart and to put it together again.

use grange_proto::connect::{ConnectRequest, ConnectResponse};
use grange_proto::request::RequestHeader;
use grange_proto::response::{ReplyHeader, Response};
use grange_proto::watch::WatcherEvent;
use grange_proto::{DecodeError, Op, Reader, Request};

/// What a frame is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ConnectRequest,
    ConnectResponse,
    Request,
    Reply(Op),
    Event,
}

/// Decodes a payload as `kind` and encodes the value again.
pub(crate) fn round_trip(kind: Kind, payload: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let mut reader = Reader::new(payload);
    match kind {
        Kind::ConnectRequest => ConnectRequest::decode(payload)?.encode(&mut out),
        Kind::ConnectResponse => ConnectResponse::decode(payload)?.encode(&mut out),
        Kind::Request => {
            let header = RequestHeader::decode(&mut reader)?;
            header.encode(&mut out);
            let op = Op::from_code(header.op_code).ok_or(DecodeError::Unknown(header.op_code, "operation"))?;
            Request::decode(op, &mut reader)?.encode(&mut out);
        }
        Kind::Reply(op) => {
            let header = ReplyHeader::decode(&mut reader)?;
            header.encode(&mut out);
            if header.err == 0 && !matches!(op, Op::Auth) {
                Response::decode(op, &mut reader)?.encode(&mut out);
            }
        }
        Kind::Event => {
            let header = ReplyHeader::decode(&mut reader)?;
            WatcherEvent::decode(&mut reader)?.encode(header.zxid, &mut out);
        }
    }
    Ok(out)
}
