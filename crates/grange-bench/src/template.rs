//! Requests that are encoded once and then only patched.
//!
//! Encoding a request costs more than the rest of the generator's own work; writing an xid and a few digits over a
//! copy does not.

use grange_proto::acl::{AclList, put_acls};
use grange_proto::request::{Create, PathVersion, SetData, Watchable, put_request};
use grange_proto::{Acl, Op, Reader, Request, Stat, Xid};

use crate::layout::NumberedPath;

const XID_AT: usize = 4;
/// Length of the frame, xid, operation code, length of the path: every request used here starts with its path.
const PATH_AT: usize = 16;
const REPLY_HEADER_BYTES: usize = 16;
const ANY_VERSION: i32 = -1;
const FLAGS_PERSISTENT: i32 = 0;
const FLAGS_EPHEMERAL: i32 = 1;

/// A request with places for its xid and for the number of its znode.
#[derive(Debug, Clone)]
pub struct Template {
    frame: Vec<u8>,
    digits: Vec<usize>,
    reply_bytes: Option<usize>,
}

impl Template {
    /// setData of `value`, whatever the version.
    pub fn set_data(path: &NumberedPath, value: &[u8]) -> Template {
        let request = SetData { path: &path.path, data: Some(value), version: ANY_VERSION };
        Template::new(path, &Request::SetData(request), Some(Stat::WIRE_BYTES))
    }

    /// getData, with or without a watch, of a znode whose data has `value_bytes`.
    pub fn get_data(path: &NumberedPath, watch: Watch, value_bytes: usize) -> Template {
        let request = Watchable { path: &path.path, watch: watch == Watch::Armed };
        Template::new(path, &Request::GetData(request), Some(4 + value_bytes + Stat::WIRE_BYTES))
    }

    /// exists, without a watch.
    pub fn exists(path: &NumberedPath) -> Template {
        let request = Watchable { path: &path.path, watch: false };
        Template::new(path, &Request::Exists(request), Some(Stat::WIRE_BYTES))
    }

    /// getChildren, without a watch; replies have no fixed size.
    pub fn children(path: &NumberedPath) -> Template {
        let request = Watchable { path: &path.path, watch: false };
        Template::new(path, &Request::GetChildren(request), None)
    }

    /// create of a persistent znode.
    pub fn create(path: &NumberedPath, value: &[u8]) -> Template {
        Template::create_with(path, value, FLAGS_PERSISTENT)
    }

    /// create of an ephemeral znode.
    pub fn create_ephemeral(path: &NumberedPath, value: &[u8]) -> Template {
        Template::create_with(path, value, FLAGS_EPHEMERAL)
    }

    fn create_with(path: &NumberedPath, value: &[u8], flags: i32) -> Template {
        let mut acl = Vec::new();
        put_acls(&mut acl, &Acl::open());
        let acl = AclList::decode(&mut Reader::new(&acl)).expect("it was encoded on the line before");
        let request = Create { op: Op::Create, path: &path.path, data: Some(value), acl, flags, ttl_ms: None };
        Template::new(path, &Request::Create(request), Some(4 + path.path.len()))
    }

    /// delete, whatever the version.
    pub fn delete(path: &NumberedPath) -> Template {
        let request = PathVersion { path: &path.path, version: ANY_VERSION };
        Template::new(path, &Request::Delete(request), Some(0))
    }

    /// sync.
    pub fn sync(path: &NumberedPath) -> Template {
        Template::new(path, &Request::Sync(&path.path), Some(4 + path.path.len()))
    }

    fn new(path: &NumberedPath, request: &Request<'_>, body_bytes: Option<usize>) -> Template {
        let mut frame = Vec::new();
        put_request(&mut frame, Xid(0), request);
        debug_assert_eq!(&frame[PATH_AT..PATH_AT + path.path.len()], path.path.as_bytes());
        Template {
            frame,
            digits: path.digits.iter().map(|place| PATH_AT + place).collect(),
            reply_bytes: body_bytes.map(|bytes| bytes + REPLY_HEADER_BYTES),
        }
    }

    /// Appends the request to `out`, as number `xid`, for the znode `number`.
    ///
    /// A number with more digits than the path has places for loses its high ones.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>, xid: Xid, mut number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        frame[XID_AT..XID_AT + 4].copy_from_slice(&xid.0.to_be_bytes());
        for &place in self.digits.iter().rev() {
            frame[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    /// Returns the size of a successful reply's frame without its length, `None` if it varies.
    #[inline]
    pub fn reply_bytes(&self) -> Option<usize> {
        self.reply_bytes
    }

    /// Returns the size of the whole request on the wire.
    pub fn frame_bytes(&self) -> usize {
        self.frame.len()
    }
}

/// Whether a read asks to be told of the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// It does.
    Armed,
    /// It does not.
    None,
}

#[cfg(test)]
mod tests {
    use grange_proto::frame::split_frame;
    use grange_proto::request::RequestHeader;

    use super::*;
    use crate::layout::Layout;

    /// Patches `template` and reads the result back with the codec.
    fn patched(template: &Template, xid: i32, number: u64) -> (RequestHeader, String) {
        let mut out = b"before".to_vec();
        template.append(&mut out, Xid(xid), number);
        let (payload, rest) = split_frame(&out[6..], 10_000).unwrap().unwrap();
        assert!(rest.is_empty());
        let mut reader = Reader::new(payload);
        let header = RequestHeader::decode(&mut reader).unwrap();
        let request = Request::decode(Op::from_code(header.op_code).unwrap(), &mut reader).unwrap();
        assert!(reader.rest().is_empty());
        (header, format!("{request:?}"))
    }

    #[test]
    fn a_patched_template_is_the_encoded_request() {
        let layout = Layout::new("/b");
        let path = layout.preloaded();
        let (header, text) = patched(&Template::set_data(&path, b"v"), 77, 12_345);
        assert_eq!(header, RequestHeader { xid: Xid(77), op_code: 5 });
        assert_eq!(text, r#"SetData(SetData { path: "/b/d000012/n345", data: Some([118]), version: -1 })"#);
        let (header, text) = patched(&Template::delete(&layout.own(3)), -9, 999_999_999);
        assert_eq!(header, RequestHeader { xid: Xid(-9), op_code: 2 });
        assert_eq!(text, r#"Delete(PathVersion { path: "/b/c00003/n999999999", version: -1 })"#);
        let (header, text) = patched(&Template::children(&layout.directories()), 1, 12);
        assert_eq!(header.op_code, 8);
        assert!(text.contains(r#"path: "/b/d000012""#), "{text}");
    }

    #[test]
    fn every_template_decodes() {
        let path = Layout::new("/b").preloaded();
        let templates = [
            (Template::create(&path, b"v"), 1),
            (Template::create_ephemeral(&path, b"v"), 1),
            (Template::get_data(&path, Watch::Armed, 1), 4),
            (Template::exists(&path), 3),
            (Template::sync(&path), 9),
        ];
        for (template, code) in templates {
            let (header, text) = patched(&template, 5, 6);
            assert_eq!(header, RequestHeader { xid: Xid(5), op_code: code });
            assert!(text.contains("/b/d000000/n006"), "{text}");
        }
    }
}
