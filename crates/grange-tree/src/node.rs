//! What is kept of a znode: 64 bytes, one allocation for name and data, and a record of its own for what few have.

use grange_proto::{Lifetime, Stat, Zxid};
use triomphe::{Arc, ThinArc};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::acl_table::AclRecord;
use crate::slab::{Key, Slot};

/// The top bit of `name_bytes_and_null`: names are shorter than a frame, which is shorter than 2^31.
const NULL_DATA: u32 = 1 << 31;

/// A znode.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The name, then the data; shared with frozen copies of the node.
    name_and_data: ThinArc<(), u8>,
    pub(crate) czxid: Zxid,
    pub(crate) mzxid: Zxid,
    pub(crate) ctime_ms: i64,
    pub(crate) mtime_ms: i64,
    pub(crate) parent: Option<Key<Node>>,
    /// The sibling that was created before this one, and the one after it.
    pub(crate) next: Option<Key<Node>>,
    pub(crate) prev: Option<Key<Node>>,
    pub(crate) extra: Option<Key<Extra>>,
    pub(crate) version: i32,
    name_bytes_and_null: u32,
}

const _: () = assert!(size_of::<Slot<Node>>() == 64, "a znode takes one cache line's worth of memory");

/// What only some znodes have: children, an ACL, a lifetime, a past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extra {
    /// The list, `None` if it is the open one.
    pub(crate) acl: Option<Key<AclRecord>>,
    pub(crate) aversion: i32,
    pub(crate) lifetime: Lifetime,
    /// The child that was created last; the others hang on it.
    pub(crate) first_child: Option<Key<Node>>,
    pub(crate) child_count: u32,
    /// Children, their children, and so on; kept because counting 10^6 znodes would keep everybody waiting.
    pub(crate) descendant_count: u32,
    /// How often a child was created: the stored cversion.
    pub(crate) cversion: i32,
    pub(crate) pzxid: Zxid,
    /// The session's ephemeral that was created before this one, and the one after it.
    pub(crate) ephemeral_next: Option<Key<Node>>,
    pub(crate) ephemeral_prev: Option<Key<Node>>,
}

impl Extra {
    /// Returns what a znode is taken to have that has no record.
    pub(crate) fn implied(czxid: Zxid) -> Extra {
        Extra {
            acl: None,
            aversion: 0,
            lifetime: Lifetime::Persistent,
            first_child: None,
            child_count: 0,
            descendant_count: 0,
            cversion: 0,
            pzxid: czxid,
            ephemeral_next: None,
            ephemeral_prev: None,
        }
    }

    /// Returns the number of children as the protocol has it.
    pub(crate) fn num_children(&self) -> i32 {
        i32::try_from(self.child_count).unwrap_or(i32::MAX)
    }
}

/// The data of a znode on its way in, with the buffer that joins it to the name.
pub(crate) type Scratch = Vec<u8>;

/// The largest buffer that is kept for the next znode.
const SCRATCH_BYTES_MAX: usize = 1 << 16;

fn join(name: &[u8], data: Option<&[u8]>, scratch: &mut Scratch) -> (ThinArc<(), u8>, u32) {
    scratch.clear();
    scratch.extend_from_slice(name);
    scratch.extend_from_slice(data.unwrap_or_default());
    let joined = ThinArc::from_header_and_slice((), scratch);
    scratch.shrink_to(SCRATCH_BYTES_MAX);
    let name_bytes = u32::try_from(name.len()).ok().filter(|bytes| *bytes < NULL_DATA);
    let null = if data.is_none() { NULL_DATA } else { 0 };
    (joined, name_bytes.expect("a name is shorter than a frame") | null)
}

impl Node {
    /// Makes a znode that was created by `zxid` at `time_ms` and hangs nowhere yet.
    pub(crate) fn new(name: &[u8], data: Option<&[u8]>, zxid: Zxid, time_ms: i64, scratch: &mut Scratch) -> Node {
        let (name_and_data, name_bytes_and_null) = join(name, data, scratch);
        Node {
            name_and_data,
            name_bytes_and_null,
            czxid: zxid,
            mzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            parent: None,
            next: None,
            prev: None,
            extra: None,
            version: 0,
        }
    }

    #[inline]
    fn name_bytes(&self) -> usize {
        (self.name_bytes_and_null & !NULL_DATA) as usize
    }

    /// Returns the last component of the path, empty for the root.
    #[inline]
    pub(crate) fn name(&self) -> &[u8] {
        &self.name_and_data.slice[..self.name_bytes()]
    }

    /// Returns the last component of the path as text.
    pub(crate) fn name_text(&self) -> &str {
        std::str::from_utf8(self.name()).expect("a name was cut out of a text")
    }

    /// Returns the data; `None` is the null that clients can tell from no bytes.
    #[inline]
    pub(crate) fn data(&self) -> Option<&[u8]> {
        (self.name_bytes_and_null & NULL_DATA == 0).then(|| &self.name_and_data.slice[self.name_bytes()..])
    }

    /// Returns the number of bytes of data, 0 for null.
    #[inline]
    pub(crate) fn data_bytes(&self) -> usize {
        self.name_and_data.slice.len() - self.name_bytes()
    }

    /// Replaces the data and nothing else. Data of the same length is overwritten where it is, unless it is shared.
    pub(crate) fn set_data(&mut self, data: Option<&[u8]>, scratch: &mut Scratch) {
        let name_bytes = self.name_bytes();
        if let (Some(new), Some(_)) = (data, self.data())
            && new.len() == self.data_bytes()
            && self.name_and_data.with_arc_mut(|arc| {
                let unshared = Arc::get_mut(arc);
                unshared.map(|both| both.slice_mut()[name_bytes..].copy_from_slice(new)).is_some()
            })
        {
            return;
        }
        let (name_and_data, name_bytes_and_null) = join(self.name(), data, scratch);
        self.name_and_data = name_and_data;
        self.name_bytes_and_null = name_bytes_and_null;
    }

    /// Returns the metadata as clients see it.
    pub(crate) fn stat(&self, extra: Option<&Extra>) -> Stat {
        let mut stat = Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            data_length: i32::try_from(self.data_bytes()).unwrap_or(i32::MAX),
            pzxid: self.czxid,
            ..Stat::default()
        };
        if let Some(extra) = extra {
            stat.aversion = extra.aversion;
            stat.ephemeral_owner = extra.lifetime.visible_owner();
            stat.num_children = extra.num_children();
            stat.cversion = extra.cversion.wrapping_mul(2).wrapping_sub(stat.num_children);
            stat.pzxid = extra.pzxid;
        }
        stat
    }

    /// The znode's share of the digest, without what its children make of it.
    ///
    /// `path_hash` stands for the path; `acl_hash` is 0 for the open list.
    pub(crate) fn digest(&self, path_hash: u64, extra: Option<&Extra>, acl_hash: u64) -> u64 {
        let data_hash = self.data().map_or(0, |data| xxh3_64_with_seed(data, 1));
        let (aversion, lifetime) = extra.map_or((0, Lifetime::Persistent), |extra| (extra.aversion, extra.lifetime));
        let (kind, owner) = lifetime_parts(lifetime);
        let mut fields = Fields::default();
        fields.put(path_hash.to_le_bytes());
        fields.put(data_hash.to_le_bytes());
        fields.put(acl_hash.to_le_bytes());
        fields.put(owner.to_le_bytes());
        for number in [self.czxid.0, self.mzxid.0, self.ctime_ms, self.mtime_ms] {
            fields.put(number.to_le_bytes());
        }
        fields.put(self.version.to_le_bytes());
        fields.put(aversion.to_le_bytes());
        fields.put([kind]);
        xxh3_64(&fields.bytes)
    }
}

impl Extra {
    /// The share of the digest that children make; 0 as long as there never was one.
    pub(crate) fn children_digest(&self, path_hash: u64, czxid: Zxid) -> u64 {
        if self.child_count == 0 && self.cversion == 0 && self.pzxid == czxid {
            return 0;
        }
        let mut fields = Fields::default();
        fields.put(path_hash.to_le_bytes());
        fields.put(self.pzxid.0.to_le_bytes());
        fields.put(self.child_count.to_le_bytes());
        fields.put(self.cversion.to_le_bytes());
        xxh3_64(&fields.bytes)
    }
}

/// Splits a lifetime into a small number that names its kind and the session or time that goes with it.
pub(crate) fn lifetime_parts(lifetime: Lifetime) -> (u8, i64) {
    match lifetime {
        Lifetime::Persistent => (0, 0),
        Lifetime::Ephemeral(session) => (1, session.0),
        Lifetime::Container => (2, 0),
        Lifetime::Ttl(ttl_ms) => (3, ttl_ms),
    }
}

/// Room for the fields that go into a share of the digest.
struct Fields {
    bytes: [u8; 80],
    used: usize,
}

impl Default for Fields {
    fn default() -> Fields {
        Fields { bytes: [0; 80], used: 0 }
    }
}

impl Fields {
    #[inline]
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.bytes[self.used..self.used + N].copy_from_slice(&field);
        self.used += N;
    }
}
