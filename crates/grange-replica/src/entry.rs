//! What stands in an entry of the log: a batch of requests.
//!
//! Shape: a version byte; the time `i64` and the policy `u8`, both stamped by the leader; the member that collected the
//! requests, its run, and the number of the batch, each `u64`; and items to the end. An item is a tag byte and
//! - identities: the identities of a connection, which later requests of the entry refer to by their place;
//! - request: session `i64`, place of its identities `u16`, operation `i32`, and the body as the client sent it, as a
//!   buffer;
//! - return: session `i64`, timeout `i32`: a client has come back to its session on a connection to this member;
//! - end: session `i64`, term `i64`: the leader of that term goes on with closing a session. In any other term it means
//!   nothing: another leader may have heard of the session since;
//! - end of a reconfig: term `i64`, and a `bool` that says whether it has come about: the leader of that term knows that
//!   nothing is left to do for it, or that it cannot be done.
//!
//! A body is decoded when the entry is applied, by every member alike, so one that cannot be decoded fails alike too.

use std::sync::Arc;

use grange_proto::wire::{DecodeError, Reader, put_bool, put_buffer, put_i32, put_i64};
use grange_proto::{Op, SessionId};
use grange_tree::{Identities, Policy};
use hashbrown::HashMap;

const VERSION: u8 = 2;
const ITEM_IDENTITIES: u8 = 0;
const ITEM_REQUEST: u8 = 1;
const ITEM_RETURN: u8 = 2;
const ITEM_END: u8 = 3;
const ITEM_WISH_END: u8 = 4;
const POLICY_ENFORCE_QUOTA: u8 = 1;
const POLICY_SKIP_ACL: u8 = 2;
const POLICY_EXTENDED_TYPES: u8 = 4;
const POLICY_RECONFIG: u8 = 8;

/// Names a batch: which run of which member collected it, and its number in that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchId {
    /// The member that collected it.
    pub(crate) member: u64,
    /// Larger than that of each earlier run of this member.
    pub(crate) run: u64,
    /// Counts up from 0.
    pub(crate) number: u64,
}

/// The requests of an entry.
#[derive(Clone)]
pub(crate) struct Requests<'a> {
    pub(crate) time_ms: i64,
    pub(crate) policy: Policy,
    pub(crate) batch: BatchId,
    items: Reader<'a>,
}

/// One item of the requests.
pub(crate) enum Item<'a> {
    Identities(Identities),
    Request(RequestItem<'a>),
    Return { session: SessionId, timeout_ms: i32 },
    End { session: SessionId, term: u64 },
    WishEnd { term: u64, is_fulfilled: bool },
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestItem<'a> {
    pub(crate) session: SessionId,
    pub(crate) identities: usize,
    pub(crate) op: Op,
    pub(crate) body: &'a [u8],
}

impl<'a> Requests<'a> {
    /// Decodes the head of an entry.
    pub(crate) fn decode(data: &'a [u8]) -> Result<Requests<'a>, DecodeError> {
        let mut reader = Reader::new(data);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Unknown(i32::from(version), "version of an entry"));
        }
        let time_ms = reader.i64()?;
        let policy = policy_from_bits(reader.u8()?);
        let mut number = || reader.i64().map(i64::cast_unsigned);
        let batch = BatchId { member: number()?, run: number()?, number: number()? };
        Ok(Requests { time_ms, policy, batch, items: reader })
    }

    /// Checks what another member wants in the log: what is there must be readable by all.
    pub(crate) fn check(data: &[u8]) -> Result<BatchId, DecodeError> {
        let mut requests = Requests::decode(data)?;
        let batch = requests.batch;
        let mut identities_count = 0;
        while let Some(item) = requests.next()? {
            match item {
                Item::Identities(_) => identities_count += 1,
                Item::Request(request) if request.identities >= identities_count => {
                    return Err(DecodeError::Unknown(0, "place of identities"));
                }
                Item::Request(_) | Item::Return { .. } | Item::End { .. } | Item::WishEnd { .. } => {}
            }
        }
        Ok(batch)
    }

    /// Walks the sessions whose clients have sent something of what was checked before.
    pub(crate) fn sessions(data: &[u8]) -> impl Iterator<Item = SessionId> {
        let mut requests = Requests::decode(data).ok();
        let items = std::iter::from_fn(move || requests.as_mut()?.next().ok()?);
        items.filter_map(|item| match item {
            Item::Request(RequestItem { session, .. }) | Item::Return { session, .. } => Some(session),
            Item::Identities(_) | Item::End { .. } | Item::WishEnd { .. } => None,
        })
    }

    /// Takes the next item, `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Item<'a>>, DecodeError> {
        if self.items.rest().is_empty() {
            return Ok(None);
        }
        match self.items.u8()? {
            ITEM_REQUEST => {
                let session = SessionId(self.items.i64()?);
                let identities = usize::from(u16::from_be_bytes([self.items.u8()?, self.items.u8()?]));
                let code = self.items.i32()?;
                let op = Op::from_code(code).ok_or(DecodeError::Unknown(code, "operation"))?;
                let body = self.items.buffer()?.ok_or(DecodeError::Null)?;
                Ok(Some(Item::Request(RequestItem { session, identities, op, body })))
            }
            ITEM_IDENTITIES => Ok(Some(Item::Identities(Identities::decode(&mut self.items)?))),
            ITEM_RETURN => {
                let session = SessionId(self.items.i64()?);
                Ok(Some(Item::Return { session, timeout_ms: self.items.i32()? }))
            }
            ITEM_WISH_END => {
                let term = self.items.i64()?.cast_unsigned();
                Ok(Some(Item::WishEnd { term, is_fulfilled: self.items.bool()? }))
            }
            ITEM_END => {
                let session = SessionId(self.items.i64()?);
                Ok(Some(Item::End { session, term: self.items.i64()?.cast_unsigned() }))
            }
            tag => Err(DecodeError::Unknown(i32::from(tag), "item of an entry")),
        }
    }
}

/// Collects requests into the data of an entry.
pub(crate) struct EntryBuilder {
    data: Vec<u8>,
    requests: usize,
    places: HashMap<Arc<Identities>, u16, foldhash::fast::FixedState>,
    /// The place asked for last: requests of one connection come in runs.
    last: Option<(Arc<Identities>, u16)>,
}

impl EntryBuilder {
    /// Bytes in front of the first item.
    const HEAD_BYTES: usize = 1 + STAMP_BYTES + 3 * 8;

    pub(crate) fn new() -> EntryBuilder {
        EntryBuilder { data: vec![0; Self::HEAD_BYTES], requests: 0, places: HashMap::default(), last: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.requests
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Adds a request.
    #[inline]
    pub(crate) fn push(&mut self, session: SessionId, identities: &Arc<Identities>, op: Op, body: &[u8]) {
        let place = self.place(identities);
        self.data.push(ITEM_REQUEST);
        put_i64(&mut self.data, session.0);
        self.data.extend_from_slice(&place.to_be_bytes());
        put_i32(&mut self.data, op.code());
        put_buffer(&mut self.data, Some(body));
        self.requests += 1;
    }

    /// Adds that a client has come back to its session.
    pub(crate) fn push_return(&mut self, session: SessionId, timeout_ms: i32) {
        self.data.push(ITEM_RETURN);
        put_i64(&mut self.data, session.0);
        put_i32(&mut self.data, timeout_ms);
        self.requests += 1;
    }

    /// Adds that the leader of `term` closes a session.
    pub(crate) fn push_end(&mut self, session: SessionId, term: u64) {
        self.data.push(ITEM_END);
        put_i64(&mut self.data, session.0);
        put_i64(&mut self.data, term.cast_signed());
        self.requests += 1;
    }

    /// Adds that the leader of `term` knows how a reconfig ends.
    pub(crate) fn push_wish_end(&mut self, term: u64, is_fulfilled: bool) {
        self.data.push(ITEM_WISH_END);
        put_i64(&mut self.data, term.cast_signed());
        put_bool(&mut self.data, is_fulfilled);
        self.requests += 1;
    }

    fn place(&mut self, identities: &Arc<Identities>) -> u16 {
        if let Some((last, place)) = &self.last
            && Arc::ptr_eq(last, identities)
        {
            return *place;
        }
        let place = match self.places.get(identities) {
            Some(&place) => place,
            None => {
                let place = u16::try_from(self.places.len()).expect("an entry holds fewer requests than places");
                self.data.push(ITEM_IDENTITIES);
                identities.encode(&mut self.data);
                self.places.insert(Arc::clone(identities), place);
                place
            }
        };
        self.last = Some((Arc::clone(identities), place));
        place
    }

    /// Completes the entry but for the stamp, and starts the next.
    pub(crate) fn take(&mut self, batch: BatchId) -> Vec<u8> {
        let next = Vec::with_capacity(self.data.len().min(1 << 20));
        let mut data = std::mem::replace(&mut self.data, next);
        self.data.resize(Self::HEAD_BYTES, 0);
        self.requests = 0;
        self.places.clear();
        self.last = None;
        let mut head = vec![VERSION];
        head.extend_from_slice(&[0; STAMP_BYTES]);
        for number in [batch.member, batch.run, batch.number] {
            head.extend_from_slice(&number.to_be_bytes());
        }
        data[..Self::HEAD_BYTES].copy_from_slice(&head);
        data
    }
}

/// Bytes of time and policy.
const STAMP_BYTES: usize = 8 + 1;

/// Puts the leader's time and policy into an entry.
pub(crate) fn stamp(data: &mut [u8], time_ms: i64, policy: Policy) {
    data[1..9].copy_from_slice(&time_ms.to_be_bytes());
    data[9] = policy_bits(policy);
}

fn policy_bits(policy: Policy) -> u8 {
    let mut bits = 0;
    for (set, bit) in [
        (policy.enforce_quota, POLICY_ENFORCE_QUOTA),
        (policy.skip_acl, POLICY_SKIP_ACL),
        (policy.extended_types, POLICY_EXTENDED_TYPES),
        (policy.reconfig, POLICY_RECONFIG),
    ] {
        bits |= if set { bit } else { 0 };
    }
    bits
}

fn policy_from_bits(bits: u8) -> Policy {
    Policy {
        enforce_quota: bits & POLICY_ENFORCE_QUOTA != 0,
        skip_acl: bits & POLICY_SKIP_ACL != 0,
        extended_types: bits & POLICY_EXTENDED_TYPES != 0,
        reconfig: bits & POLICY_RECONFIG != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grange_proto::Id;

    #[test]
    fn requests_come_back_as_they_went_in() {
        let mut local = Identities::new();
        local.add(Id::new("ip", "127.0.0.1"));
        let (local, nobody) = (Arc::new(local), Arc::new(Identities::new()));
        let mut builder = EntryBuilder::new();
        builder.push(SessionId(7), &local, Op::Delete, b"abc");
        builder.push(SessionId(8), &nobody, Op::SetData, b"");
        builder.push(SessionId(9), &local, Op::CloseSession, b"x");
        let policy = Policy { enforce_quota: true, skip_acl: false, extended_types: true, reconfig: true };
        builder.push_return(SessionId(10), 4000);
        builder.push_end(SessionId(11), u64::MAX);
        builder.push_wish_end(12, true);
        let batch = BatchId { member: 1, run: u64::MAX, number: 3 };
        let mut data = builder.take(batch);
        stamp(&mut data, 42, policy);
        assert_eq!(Requests::check(&data), Ok(batch));
        let mut requests = Requests::decode(&data).unwrap();
        assert_eq!((requests.time_ms, requests.policy, requests.batch), (42, policy, batch));
        let mut seen = Vec::new();
        let mut table = Vec::new();
        while let Some(item) = requests.next().unwrap() {
            match item {
                Item::Identities(identities) => table.push(identities),
                Item::Request(r) => seen.push((r.session.0, r.op, r.body, table[r.identities] == *local)),
                Item::Return { session, timeout_ms } => assert_eq!((session.0, timeout_ms), (10, 4000)),
                Item::WishEnd { term, is_fulfilled } => assert_eq!((term, is_fulfilled), (12, true)),
                Item::End { session, term } => assert_eq!((session.0, term), (11, u64::MAX)),
            }
        }
        let expected: [(i64, Op, &[u8], bool); 3] =
            [(7, Op::Delete, b"abc", true), (8, Op::SetData, b"", false), (9, Op::CloseSession, b"x", true)];
        assert_eq!(seen, expected);
        assert!(builder.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert!(Requests::decode(&[1; 100]).is_err());
        assert!(Requests::decode(&[]).is_err());
        let mut builder = EntryBuilder::new();
        builder.push(SessionId(7), &Arc::new(Identities::new()), Op::Delete, b"abc");
        let data = builder.take(BatchId { member: 1, run: 1, number: 0 });
        for length in 0..data.len() {
            // A head alone is an entry without requests.
            assert_eq!(
                Requests::check(&data[..length]).is_ok(),
                length == EntryBuilder::HEAD_BYTES || cuts_item(length, &data)
            );
        }
    }

    /// Behind the identities, the entry is whole too.
    fn cuts_item(length: usize, data: &[u8]) -> bool {
        let mut requests = Requests::decode(data).unwrap();
        matches!(requests.next(), Ok(Some(Item::Identities(_)))) && data.len() - requests.items.rest().len() == length
    }
}
