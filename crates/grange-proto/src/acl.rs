//! Access control lists.

use crate::wire::{DecodeError, Reader, put_i32, put_length, put_text};

/// A set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Perms(pub i32);

impl Perms {
    /// Read the data and list the children.
    pub const READ: Perms = Perms(1);
    /// Set the data.
    pub const WRITE: Perms = Perms(2);
    /// Create a child.
    pub const CREATE: Perms = Perms(4);
    /// Delete a child.
    pub const DELETE: Perms = Perms(8);
    /// Set the ACL.
    pub const ADMIN: Perms = Perms(16);
    /// All five.
    pub const ALL: Perms = Perms(31);

    /// Returns true if the two sets share a permission.
    pub fn intersects(self, other: Perms) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the union of the two sets.
    #[must_use]
    pub fn union(self, other: Perms) -> Perms {
        Perms(self.0 | other.0)
    }
}

/// An identity: what an ACL entry names, and what a connection has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// `world`, `auth`, `digest`, `ip`, `x509`, `sasl` or `super`.
    pub scheme: String,
    /// Who, in the form of the scheme.
    pub id: String,
}

impl Id {
    /// Builds an identity.
    pub fn new(scheme: impl Into<String>, id: impl Into<String>) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }
}

/// One entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acl {
    /// What is allowed.
    pub perms: Perms,
    /// To whom.
    pub id: Id,
}

impl Acl {
    /// Returns the list that lets everyone do everything.
    pub fn open() -> Vec<Acl> {
        vec![Acl { perms: Perms::ALL, id: Id::new("world", "anyone") }]
    }
}

/// One entry of a list that is still in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AclRef<'a> {
    /// What is allowed.
    pub perms: Perms,
    /// The scheme of the identity.
    pub scheme: &'a str,
    /// The identity.
    pub id: &'a str,
}

impl AclRef<'_> {
    /// Copies the entry out of its frame.
    pub fn to_owned(self) -> Acl {
        Acl { perms: self.perms, id: Id::new(self.scheme, self.id) }
    }
}

const ACL_BYTES_MIN: usize = 12;

/// The list that lets everyone do everything, which is nearly every list there is: told by one comparison.
const OPEN_LIST: &[u8] = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";
/// What of it is the count.
const COUNT_BYTES: usize = 4;

/// A list of entries that is still in its frame: validated when it was decoded, read again when it is walked.
#[derive(Debug, Clone, Copy)]
pub struct AclList<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> AclList<'a> {
    /// Takes a vector of entries; a null vector is an empty list.
    #[inline]
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if reader.rest().starts_with(OPEN_LIST) {
            let list = reader.bytes(OPEN_LIST.len())?;
            return Ok(AclList { count: 1, bytes: &list[COUNT_BYTES..] });
        }
        let count = reader.count(ACL_BYTES_MIN)?;
        let start = reader.rest();
        for _ in 0..count {
            decode_entry(reader)?;
        }
        let taken = start.len() - reader.rest().len();
        Ok(AclList { count, bytes: &start[..taken] })
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns true if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns true for the list of [`Acl::open`].
    #[inline]
    pub fn is_open(&self) -> bool {
        self.bytes == &OPEN_LIST[COUNT_BYTES..]
    }

    /// Returns the entries' bytes: equal bytes are equal lists.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Walks the entries in wire order.
    pub fn iter(&self) -> impl Iterator<Item = AclRef<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map(move |_| decode_entry(&mut reader).expect("the list was validated when it was decoded"))
    }

    /// Appends the list as it came.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_length(out, self.count);
        out.extend_from_slice(self.bytes);
    }
}

#[inline]
fn decode_entry<'a>(reader: &mut Reader<'a>) -> Result<AclRef<'a>, DecodeError> {
    // kazoo writes an empty id, which `auth` has, as a null.
    let (perms, scheme) = (Perms(reader.i32()?), reader.text()?);
    Ok(AclRef { perms, scheme, id: reader.optional_text()?.unwrap_or_default() })
}

/// Appends a vector of entries.
pub fn put_acls(out: &mut Vec<u8>, acls: &[Acl]) {
    put_length(out, acls.len());
    for acl in acls {
        put_i32(out, acl.perms.0);
        put_text(out, &acl.id.scheme);
        put_text(out, &acl.id.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_buffer;

    fn list(scheme: Option<&[u8]>, id: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 31];
        put_buffer(&mut bytes, scheme);
        put_buffer(&mut bytes, id);
        bytes
    }

    #[test]
    fn the_open_list_is_known_by_its_bytes() {
        let mut bytes = Vec::new();
        put_acls(&mut bytes, &Acl::open());
        assert_eq!(bytes, OPEN_LIST);
        bytes.extend_from_slice(b"rest");
        let mut reader = Reader::new(&bytes);
        let decoded = AclList::decode(&mut reader).unwrap();
        assert_eq!((decoded.len(), decoded.is_open(), reader.rest()), (1, true, &b"rest"[..]));
        assert!(decoded.iter().map(AclRef::to_owned).eq(Acl::open()));
        let [other, truncated] = [list(Some(b"world"), Some(b"anyone ")), OPEN_LIST[..20].to_vec()];
        assert!(!AclList::decode(&mut Reader::new(&other)).unwrap().is_open());
        assert!(AclList::decode(&mut Reader::new(&truncated)).is_err());
    }

    /// As kazoo writes `CREATOR_ALL_ACL`.
    #[test]
    fn a_null_id_is_the_empty_one() {
        let bytes = list(Some(b"auth"), None);
        let entries: Vec<AclRef<'_>> = AclList::decode(&mut Reader::new(&bytes)).unwrap().iter().collect();
        assert_eq!(entries, [AclRef { perms: Perms::ALL, scheme: "auth", id: "" }]);
        assert_eq!(AclList::decode(&mut Reader::new(&list(None, None))).unwrap_err(), DecodeError::Null);
    }
}
