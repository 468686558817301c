//! multi and multiRead: several operations in one frame.
//!
//! Request: `{i32 type, bool done = false, i32 err = -1}` and an operation's body, repeated; then `{-1, true, -1}`.
//! Reply: the same headers with `err` filled in, each with the body of its result.

use crate::body::{Create, PathVersion, SetData, Watchable};
use crate::error::ErrorCode;
use crate::op::Op;
use crate::stat::Stat;
use crate::wire::{DecodeError, Reader, TextBody, TextList, put_buffer, put_i32, put_text};

const END_TYPE: i32 = -1;
const ERROR_TYPE: i32 = -1;
const NO_ERROR_YET: i32 = -1;

/// One operation of a multi or multiRead.
#[derive(Debug, Clone, Copy)]
pub enum MultiOp<'a> {
    /// create, create2, createContainer, createTTL.
    Create(Create<'a>),
    /// delete.
    Delete(PathVersion<'a>),
    /// setData.
    SetData(SetData<'a>),
    /// check.
    Check(PathVersion<'a>),
    /// getData; the wish for a watch is dropped.
    GetData(Watchable<'a>),
    /// getChildren; the wish for a watch is dropped.
    GetChildren(Watchable<'a>),
}

impl<'a> MultiOp<'a> {
    /// Returns the code of the operation.
    pub fn op(&self) -> Op {
        match self {
            MultiOp::Create(create) => create.op,
            MultiOp::Delete(_) => Op::Delete,
            MultiOp::SetData(_) => Op::SetData,
            MultiOp::Check(_) => Op::Check,
            MultiOp::GetData(_) => Op::GetData,
            MultiOp::GetChildren(_) => Op::GetChildren,
        }
    }

    /// Returns the path of the znode it is about, without the number of a sequential one.
    pub fn path(&self) -> &'a str {
        match self {
            MultiOp::Create(body) => body.path,
            MultiOp::Delete(body) | MultiOp::Check(body) => body.path,
            MultiOp::SetData(body) => body.path,
            MultiOp::GetData(body) | MultiOp::GetChildren(body) => body.path,
        }
    }

    /// Returns true for the two that belong into a multiRead.
    pub fn is_read(&self) -> bool {
        matches!(self, MultiOp::GetData(_) | MultiOp::GetChildren(_))
    }

    /// Takes one operation, `None` at the end mark.
    fn decode(reader: &mut Reader<'a>) -> Result<Option<Self>, DecodeError> {
        let (code, done) = decode_header(reader)?;
        if done {
            return Ok(None);
        }
        let unknown = DecodeError::Unknown(code, "operation of a multi");
        let op = Op::from_code(code).ok_or(unknown)?;
        Ok(Some(match op {
            Op::Create | Op::Create2 | Op::CreateContainer | Op::CreateTtl => {
                MultiOp::Create(Create::decode(op, reader)?)
            }
            Op::Delete => MultiOp::Delete(PathVersion::decode(reader)?),
            Op::SetData => MultiOp::SetData(SetData::decode(reader)?),
            Op::Check => MultiOp::Check(PathVersion::decode(reader)?),
            Op::GetData => MultiOp::GetData(Watchable::decode(reader)?),
            Op::GetChildren => MultiOp::GetChildren(Watchable::decode(reader)?),
            _ => return Err(unknown),
        }))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_header(out, self.op().code(), NO_ERROR_YET);
        match self {
            MultiOp::Create(body) => body.encode(out),
            MultiOp::Delete(body) | MultiOp::Check(body) => body.encode(out),
            MultiOp::SetData(body) => body.encode(out),
            MultiOp::GetData(body) | MultiOp::GetChildren(body) => body.encode(out),
        }
    }
}

/// The operations of a multi, validated when they were decoded, read again when they are walked.
#[derive(Debug, Clone, Copy)]
pub struct MultiOps<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> MultiOps<'a> {
    pub(crate) fn decode_writes(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Self::decode(reader, |op| !op.is_read())
    }

    pub(crate) fn decode_reads(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Self::decode(reader, MultiOp::is_read)
    }

    fn decode(reader: &mut Reader<'a>, belongs: impl Fn(&MultiOp<'a>) -> bool) -> Result<Self, DecodeError> {
        let start = reader.rest();
        let mut count = 0;
        let mut taken = 0;
        while let Some(op) = MultiOp::decode(reader)? {
            if !belongs(&op) {
                return Err(DecodeError::Unknown(op.op().code(), "operation of this kind of multi"));
            }
            count += 1;
            taken = start.len() - reader.rest().len();
        }
        Ok(MultiOps { count, bytes: &start[..taken] })
    }

    /// Returns the number of operations.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns true if there is no operation.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Walks the operations in wire order.
    pub fn iter(&self) -> impl Iterator<Item = MultiOp<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map(move |_| {
            let op = MultiOp::decode(&mut reader).expect("the multi was validated when it was decoded");
            op.expect("the end mark is behind the counted operations")
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_ops(out, self.iter());
    }
}

/// Appends operations and the end mark: the body of a multi or multiRead.
pub fn put_ops<'a>(out: &mut Vec<u8>, ops: impl Iterator<Item = MultiOp<'a>>) {
    for op in ops {
        op.encode(out);
    }
    put_end(out);
}

/// The result of one operation of a multi or multiRead.
#[derive(Debug, Clone)]
pub enum MultiResult<'a> {
    /// create: the path, which for a sequential znode the server completed.
    Create(std::borrow::Cow<'a, str>),
    /// create2, createContainer, createTTL: the path and the stat.
    CreateStat(std::borrow::Cow<'a, str>, Stat),
    /// delete.
    Delete,
    /// setData.
    SetData(Stat),
    /// check.
    Check,
    /// getData.
    GetData(Option<&'a [u8]>, Stat),
    /// getChildren.
    GetChildren(TextBody<'a>),
    /// The code of an error; 0 for an operation of a failed multi that would have succeeded.
    Error(i32),
}

impl<'a> MultiResult<'a> {
    /// What stands for an operation behind the one that failed a multi.
    pub const NOT_TRIED: MultiResult<'static> = MultiResult::Error(ErrorCode::RuntimeInconsistency as i32);
    /// What stands for an operation before the one that failed a multi.
    pub const ROLLED_BACK: MultiResult<'static> = MultiResult::Error(0);

    /// Takes one result, `None` at the end mark.
    fn decode(reader: &mut Reader<'a>) -> Result<Option<Self>, DecodeError> {
        let (code, done) = decode_header(reader)?;
        if done {
            return Ok(None);
        }
        if code == ERROR_TYPE {
            return Ok(Some(MultiResult::Error(reader.i32()?)));
        }
        let unknown = DecodeError::Unknown(code, "result of a multi");
        Ok(Some(match Op::from_code(code).ok_or(unknown)? {
            Op::Create => MultiResult::Create(reader.text()?.into()),
            Op::Create2 => MultiResult::CreateStat(reader.text()?.into(), Stat::decode(reader)?),
            Op::Delete => MultiResult::Delete,
            Op::SetData => MultiResult::SetData(Stat::decode(reader)?),
            Op::Check => MultiResult::Check,
            Op::GetData => MultiResult::GetData(reader.buffer()?, Stat::decode(reader)?),
            Op::GetChildren => MultiResult::GetChildren(TextBody::Framed(TextList::decode(reader)?)),
            _ => return Err(unknown),
        }))
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            MultiResult::Create(path) => {
                put_header(out, Op::Create.code(), 0);
                put_text(out, path);
            }
            MultiResult::CreateStat(path, stat) => {
                put_header(out, Op::Create2.code(), 0);
                put_text(out, path);
                stat.encode(out);
            }
            MultiResult::Delete => put_header(out, Op::Delete.code(), 0),
            MultiResult::SetData(stat) => {
                put_header(out, Op::SetData.code(), 0);
                stat.encode(out);
            }
            MultiResult::Check => put_header(out, Op::Check.code(), 0),
            MultiResult::GetData(data, stat) => {
                put_header(out, Op::GetData.code(), 0);
                put_buffer(out, *data);
                stat.encode(out);
            }
            MultiResult::GetChildren(children) => {
                put_header(out, Op::GetChildren.code(), 0);
                children.encode(out);
            }
            MultiResult::Error(code) => {
                put_header(out, ERROR_TYPE, *code);
                put_i32(out, *code);
            }
        }
    }
}

/// The results of a multi, encoded one by one as they arise.
///
/// A multi has up to tens of thousands of them, and they go nowhere but into a reply: kept as values they would be
/// megabytes that are written and read once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MultiResults {
    bytes: Vec<u8>,
}

impl MultiResults {
    /// Starts without results, with room for so many of the usual size.
    pub fn with_capacity(count: usize) -> MultiResults {
        MultiResults { bytes: Vec::with_capacity(count * RESULT_BYTES_USUAL) }
    }

    /// Adds the result of the next operation.
    #[inline]
    pub fn push(&mut self, result: &MultiResult<'_>) {
        result.encode(&mut self.bytes);
    }

    /// Reads the results.
    pub fn to_vec(&self) -> Vec<MultiResult<'_>> {
        let mut reader = Reader::new(&self.bytes);
        let mut results = Vec::new();
        while !reader.rest().is_empty() {
            let result = MultiResult::decode(&mut reader).expect("only whole results are added");
            results.extend(result);
        }
        results
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes.len() + HEADER_BYTES);
        out.extend_from_slice(&self.bytes);
        put_end(out);
    }
}

/// A header and a path of a few components.
const RESULT_BYTES_USUAL: usize = 32;

pub(crate) fn encode_results(results: &[MultiResult<'_>], out: &mut Vec<u8>) {
    for result in results {
        result.encode(out);
    }
    put_end(out);
}

pub(crate) fn decode_results<'a>(reader: &mut Reader<'a>) -> Result<Vec<MultiResult<'a>>, DecodeError> {
    let mut results = Vec::new();
    while let Some(result) = MultiResult::decode(reader)? {
        results.push(result);
    }
    Ok(results)
}

/// Bytes of what is in front of an operation or a result.
const HEADER_BYTES: usize = 9;

/// Takes a header, of which the error means nothing.
#[inline]
fn decode_header(reader: &mut Reader<'_>) -> Result<(i32, bool), DecodeError> {
    let [a, b, c, d, done, ..] = reader.array::<HEADER_BYTES>()?;
    Ok((i32::from_be_bytes([a, b, c, d]), done != 0))
}

#[inline]
fn put_header(out: &mut Vec<u8>, code: i32, err: i32) {
    put_mark(out, code, false, err);
}

fn put_end(out: &mut Vec<u8>) {
    put_mark(out, END_TYPE, true, NO_ERROR_YET);
}

#[inline]
fn put_mark(out: &mut Vec<u8>, code: i32, done: bool, err: i32) {
    let mut mark = [0; HEADER_BYTES];
    mark[..4].copy_from_slice(&code.to_be_bytes());
    mark[4] = u8::from(done);
    mark[5..].copy_from_slice(&err.to_be_bytes());
    out.extend_from_slice(&mark);
}
