//! What stands in an entry of the log: a batch of requests, or the founding of the ensemble.
//!
//! Shape: a version byte and a kind byte; then, for requests, the time `i64`, the policy `u8`, the member run that
//! collected them `u64`, the number of its batch `u64`, and items to the end. An item is a tag byte and
//! - identities: the identities of a connection, which later requests of the entry refer to by their place;
//! - request: session `i64`, place of its identities `u16`, operation `i32`, and the body as the client sent it, as a
//!   buffer.
//!
//! A body is decoded when the entry is applied, by every member alike, so one that cannot be decoded fails alike too.

use std::sync::Arc;

use grange_proto::wire::{DecodeError, Reader, put_buffer, put_i32, put_i64};
use grange_proto::{Op, SessionId};
use grange_tree::{Identities, Policy};
use hashbrown::HashMap;

use crate::config::Genesis;

const VERSION: u8 = 1;
const KIND_REQUESTS: u8 = 0;
const KIND_GENESIS: u8 = 1;
const ITEM_IDENTITIES: u8 = 0;
const ITEM_REQUEST: u8 = 1;
const POLICY_ENFORCE_QUOTA: u8 = 1;
const POLICY_SKIP_ACL: u8 = 2;
const POLICY_EXTENDED_TYPES: u8 = 4;
const POLICY_RECONFIG: u8 = 8;

/// Names a batch: which run of which member collected it, and its number in that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchId {
    /// Drawn at random when a member starts.
    pub(crate) run: u64,
    /// Counts up.
    pub(crate) number: u64,
}

/// An entry, decoded as far as its head.
pub(crate) enum EntryContent<'a> {
    Requests(Requests<'a>),
    Genesis(Genesis),
}

/// The requests of an entry.
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
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestItem<'a> {
    pub(crate) session: SessionId,
    pub(crate) identities: usize,
    pub(crate) op: Op,
    pub(crate) body: &'a [u8],
}

impl<'a> EntryContent<'a> {
    pub(crate) fn decode(data: &'a [u8]) -> Result<EntryContent<'a>, DecodeError> {
        let mut reader = Reader::new(data);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Unknown(i32::from(version), "version of an entry"));
        }
        match reader.u8()? {
            KIND_REQUESTS => Ok(EntryContent::Requests(Requests {
                time_ms: reader.i64()?,
                policy: policy_from_bits(reader.u8()?),
                batch: BatchId { run: unsigned(reader.i64()?), number: unsigned(reader.i64()?) },
                items: reader,
            })),
            KIND_GENESIS => Ok(EntryContent::Genesis(decode_genesis(&mut reader)?)),
            kind => Err(DecodeError::Unknown(i32::from(kind), "kind of an entry")),
        }
    }
}

impl<'a> Requests<'a> {
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
    const HEAD_BYTES: usize = 2 + 8 + 1 + 8 + 8;

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

    /// Completes the entry and starts the next.
    pub(crate) fn take(&mut self, time_ms: i64, policy: Policy, batch: BatchId) -> Vec<u8> {
        let next = Vec::with_capacity(self.data.len().min(1 << 20));
        let mut data = std::mem::replace(&mut self.data, next);
        self.data.resize(Self::HEAD_BYTES, 0);
        self.requests = 0;
        self.places.clear();
        self.last = None;
        let mut head = vec![VERSION, KIND_REQUESTS];
        put_i64(&mut head, time_ms);
        head.push(policy_bits(policy));
        head.extend_from_slice(&batch.run.to_be_bytes());
        head.extend_from_slice(&batch.number.to_be_bytes());
        data[..Self::HEAD_BYTES].copy_from_slice(&head);
        data
    }
}

/// Returns the data of the entry that founds an ensemble.
pub(crate) fn encode_genesis_entry(genesis: &Genesis) -> Vec<u8> {
    let mut data = vec![VERSION, KIND_GENESIS];
    encode_genesis(genesis, &mut data);
    data
}

/// Appends what makes an ensemble itself.
pub(crate) fn encode_genesis(genesis: &Genesis, out: &mut Vec<u8>) {
    out.extend_from_slice(&genesis.cluster_id);
    out.extend_from_slice(&genesis.session_key);
}

/// Takes what makes an ensemble itself.
pub(crate) fn decode_genesis(reader: &mut Reader<'_>) -> Result<Genesis, DecodeError> {
    let cluster_id = reader.bytes(16)?.try_into().expect("as many bytes as asked for");
    let session_key = reader.bytes(32)?.try_into().expect("as many bytes as asked for");
    Ok(Genesis { cluster_id, session_key })
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

fn unsigned(value: i64) -> u64 {
    value.cast_unsigned()
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
        let batch = BatchId { run: u64::MAX, number: 3 };
        let data = builder.take(42, policy, batch);
        let EntryContent::Requests(mut requests) = EntryContent::decode(&data).unwrap() else {
            panic!("the entry holds requests")
        };
        assert_eq!((requests.time_ms, requests.policy, requests.batch), (42, policy, batch));
        let mut seen = Vec::new();
        let mut table = Vec::new();
        while let Some(item) = requests.next().unwrap() {
            match item {
                Item::Identities(identities) => table.push(identities),
                Item::Request(r) => seen.push((r.session.0, r.op, r.body, table[r.identities] == *local)),
            }
        }
        let expected: [(i64, Op, &[u8], bool); 3] =
            [(7, Op::Delete, b"abc", true), (8, Op::SetData, b"", false), (9, Op::CloseSession, b"x", true)];
        assert_eq!(seen, expected);
        assert!(builder.is_empty());
    }

    #[test]
    fn an_entry_of_another_version_is_refused() {
        assert!(EntryContent::decode(&[2, 0]).is_err());
        assert!(EntryContent::decode(&[]).is_err());
    }
}
