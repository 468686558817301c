//! Stores each access control list once, however many znodes have it.

use crate::acl::AclRef;
use crate::hash_index::HashIndex;
use crate::slab::{Frozen, Key, Slab};

/// A list and how many znodes have it.
#[derive(Debug, Clone)]
pub(crate) struct AclRecord {
    pub(crate) acl: AclRef,
    pub(crate) use_count: usize,
}

/// All lists in use.
pub(crate) struct AclTable {
    records: Slab<AclRecord>,
    index: HashIndex<AclRecord>,
}

impl AclTable {
    pub(crate) fn new() -> AclTable {
        AclTable { records: Slab::new(), index: HashIndex::new(1) }
    }

    /// Takes over the records of a snapshot; lists that nobody has counted yet have a `use_count` of 0.
    pub(crate) fn from_records(records: Slab<AclRecord>) -> AclTable {
        let mut index = HashIndex::new(1);
        for (key, record) in records.iter() {
            index.insert(record.acl.hash(), key);
        }
        AclTable { records, index }
    }

    /// Returns the key of a list that one more znode has.
    pub(crate) fn acquire(&mut self, acl: AclRef) -> Key<AclRecord> {
        let hash = acl.hash();
        match self.index.find(hash, |key| self.records[key].acl == acl) {
            Some(key) => {
                self.records.change(key).use_count += 1;
                key
            }
            None => {
                let key = self.records.insert(AclRecord { acl, use_count: 1 });
                self.index.insert(hash, key);
                key
            }
        }
    }

    /// Notes that one znode less has the list.
    pub(crate) fn release(&mut self, key: Key<AclRecord>) {
        let record = self.records.change(key);
        record.use_count -= 1;
        if record.use_count == 0 {
            let hash = record.acl.hash();
            self.records.remove(key);
            self.index.remove(hash, key);
        }
    }

    /// Counts a znode of a snapshot; false if there is no such list.
    pub(crate) fn count(&mut self, key: Key<AclRecord>) -> bool {
        let exists = self.records.get(key).is_some();
        if exists {
            self.records.change(key).use_count += 1;
        }
        exists
    }

    /// Returns true if a list has no znode.
    pub(crate) fn has_unused(&self) -> bool {
        self.records.iter().any(|(_, record)| record.use_count == 0)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<AclRecord>) -> &AclRef {
        &self.records[key].acl
    }

    pub(crate) fn freeze(&self) -> Frozen<AclRecord> {
        self.records.freeze()
    }

    pub(crate) fn begin(&mut self) {
        self.records.begin();
        self.index.begin();
    }

    pub(crate) fn commit(&mut self) {
        self.records.commit();
        self.index.commit();
    }

    pub(crate) fn rollback(&mut self) {
        self.records.rollback();
        self.index.rollback();
    }
}
