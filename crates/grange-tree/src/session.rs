//! Sessions: what is replicated of them. Who is connected where, and when a session expires, the replica knows.

use grange_proto::SessionId;
use xxhash_rust::xxh3::xxh3_64;

use crate::hash_index::HashIndex;
use crate::node::Node;
use crate::slab::{Frozen, Key, Slab};

const INDEX_SHARDS: usize = 16;

/// An open session.
#[derive(Debug, Clone)]
pub struct Session {
    pub(crate) id: SessionId,
    pub(crate) timeout_ms: i32,
    /// The member that serves its client: only what comes by way of it counts.
    pub(crate) member: u64,
    pub(crate) is_closing: bool,
    /// The ephemeral znode that was created last; the others hang on it.
    pub(crate) first_ephemeral: Option<Key<Node>>,
    pub(crate) ephemeral_count: usize,
}

impl Session {
    /// Returns the session's number.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the negotiated timeout in milliseconds.
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms
    }

    /// Returns the member that serves the session's client, as [`crate::WriteContext::member`] names it.
    pub fn member(&self) -> u64 {
        self.member
    }

    /// Returns the number of ephemeral znodes the session owns.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemeral_count
    }

    /// Returns true if the session is being closed: it may not write any more, and its ephemerals go step by step.
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// The session's share of the digest.
    pub(crate) fn digest(&self) -> u64 {
        let mut bytes = [0; 21];
        bytes[..8].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.timeout_ms.to_le_bytes());
        bytes[12] = u8::from(self.is_closing);
        bytes[13..].copy_from_slice(&self.member.to_le_bytes());
        xxh3_64(&bytes)
    }
}

/// All open sessions.
pub(crate) struct Sessions {
    records: Slab<Session>,
    index: HashIndex<Session>,
}

fn hash(id: SessionId) -> u64 {
    xxh3_64(&id.0.to_le_bytes())
}

impl Sessions {
    pub(crate) fn new() -> Sessions {
        Sessions { records: Slab::new(), index: HashIndex::new(INDEX_SHARDS) }
    }

    /// Takes over the sessions of a snapshot; `None` if two have one number.
    pub(crate) fn from_records(records: Slab<Session>) -> Option<Sessions> {
        let mut sessions = Sessions { index: HashIndex::new(INDEX_SHARDS), records };
        sessions.index.reserve(sessions.records.len());
        for (key, session) in sessions.records.iter() {
            if sessions.key(session.id).is_some() {
                return None;
            }
            sessions.index.insert(hash(session.id), key);
        }
        Some(sessions)
    }

    #[inline]
    pub(crate) fn key(&self, id: SessionId) -> Option<Key<Session>> {
        self.index.find(hash(id), |key| self.records[key].id == id)
    }

    #[inline]
    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.key(id).map(|key| &self.records[key])
    }

    /// Adds a session whose number is not taken.
    pub(crate) fn open(&mut self, session: Session) {
        let id = session.id;
        let key = self.records.insert(session);
        self.index.insert(hash(id), key);
    }

    /// Removes a session.
    pub(crate) fn close(&mut self, key: Key<Session>) {
        let session = self.records.remove(key);
        self.index.remove(hash(session.id), key);
    }

    pub(crate) fn change(&mut self, key: Key<Session>) -> &mut Session {
        self.records.change(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Walks the sessions in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.records.iter().map(|(_, session)| session)
    }

    pub(crate) fn freeze(&self) -> Frozen<Session> {
        self.records.freeze()
    }

    // A multi opens and closes no session, so that the index needs no journal.

    pub(crate) fn begin(&mut self) {
        self.records.begin();
    }

    pub(crate) fn commit(&mut self) {
        self.records.commit();
    }

    pub(crate) fn rollback(&mut self) {
        self.records.rollback();
    }
}
