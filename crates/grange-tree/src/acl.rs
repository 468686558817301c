//! The rules of access control: which lists are valid, and whom they let in.
//!
//! Source: `PrepRequestProcessor.fixupACL`, `ZooKeeperServer.checkACL` and the providers `digest` and `ip`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use grange_proto::acl::put_acls;
use grange_proto::{Acl, AclList, ErrorCode, Id, Perms};
use triomphe::Arc;
use xxhash_rust::xxh3::xxh3_64;

use crate::identity::{Asker, Identities};

/// A stored access control list, shared by all znodes that have it.
///
/// The list that lets everyone do everything is never stored: it is the `None` of `Option<&AclRef>`.
#[derive(Debug, Clone)]
pub struct AclRef(Arc<Stored>);

#[derive(Debug)]
struct Stored {
    entries: Vec<Acl>,
    hash: u64,
}

impl PartialEq for AclRef {
    fn eq(&self, other: &AclRef) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.entries == other.0.entries)
    }
}
impl Eq for AclRef {}

impl AclRef {
    /// Wraps a list, `None` if it is the open one.
    pub(crate) fn new(entries: Vec<Acl>) -> Option<AclRef> {
        if is_open(&entries) {
            return None;
        }
        let mut bytes = Vec::new();
        put_acls(&mut bytes, &entries);
        Some(AclRef(Arc::new(Stored { entries, hash: xxh3_64(&bytes) })))
    }

    /// Returns the entries.
    pub fn entries(&self) -> &[Acl] {
        &self.0.entries
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0.hash
    }
}

fn is_open(entries: &[Acl]) -> bool {
    matches!(entries, [only] if only.perms == Perms::ALL && is_anyone(&only.id.scheme, &only.id.id))
}

fn is_anyone(scheme: &str, id: &str) -> bool {
    scheme == "world" && id == "anyone"
}

/// The one entry of the list that lets everyone read.
pub(crate) fn everyone_may_read() -> Acl {
    Acl { perms: Perms::READ, id: Id::new("world", "anyone") }
}

/// Tells whether a list grants one of `perms`; a list without entries grants all.
#[inline]
pub(crate) fn allows(acl: Option<&AclRef>, perms: Perms, asker: Asker<'_>) -> bool {
    match acl {
        None => true,
        Some(acl) => asker.policy.skip_acl || asker.identities.is_super() || grants(acl, perms, asker.identities),
    }
}

fn grants(acl: &AclRef, perms: Perms, identities: &Identities) -> bool {
    let entries = acl.entries();
    entries.is_empty()
        || entries.iter().filter(|entry| entry.perms.intersects(perms)).any(|entry| {
            is_anyone(&entry.id.scheme, &entry.id.id) || identities.iter().any(|id| matches(id, &entry.id))
        })
}

/// As [`allows`], as the error that a refusal is.
#[inline]
pub(crate) fn check(acl: Option<&AclRef>, perms: Perms, asker: Asker<'_>) -> Result<(), ErrorCode> {
    if allows(acl, perms, asker) { Ok(()) } else { Err(ErrorCode::NoAuth) }
}

/// Tells whether the identity `id` of a connection is meant by the `wanted` one of an entry.
fn matches(id: &Id, wanted: &Id) -> bool {
    if id.scheme != wanted.scheme {
        return false;
    }
    match wanted.scheme.as_str() {
        "ip" => AddressRange::parse(&wanted.id).is_some_and(|range| range.contains(&id.id)),
        "sasl" => id.id == "super" || id.id == wanted.id,
        "digest" | "x509" => id.id == wanted.id,
        _ => false,
    }
}

/// Returns the list that a create or a setACL stores: duplicates dropped, `auth` replaced by the connection's own
/// identities; `None` for the open list.
///
/// Errors: `InvalidAcl` if nothing is left or an entry is not valid.
pub(crate) fn resolve(list: &AclList<'_>, identities: &Identities) -> Result<Option<AclRef>, ErrorCode> {
    if list.is_open() {
        return Ok(None);
    }
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for entry in list.iter() {
        // Nearly every list has one entry: no set for that.
        if list.len() > 1 && !seen.insert((entry.perms, entry.scheme, entry.id)) {
            continue;
        }
        match entry.scheme {
            "world" if entry.id == "anyone" => entries.push(entry.to_owned()),
            "auth" => {
                let before = entries.len();
                let own = identities.iter().filter(|id| is_authenticated(&id.scheme));
                entries.extend(own.map(|id| Acl { perms: entry.perms, id: id.clone() }));
                if entries.len() == before {
                    return Err(ErrorCode::InvalidAcl);
                }
            }
            "digest" if is_digest(entry.id) => entries.push(entry.to_owned()),
            "ip" if AddressRange::parse(entry.id).is_some() => entries.push(entry.to_owned()),
            _ => return Err(ErrorCode::InvalidAcl),
        }
    }
    if entries.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    Ok(AclRef::new(entries))
}

/// Tells whether `auth` stands for identities of this scheme too: an address proves nothing.
fn is_authenticated(scheme: &str) -> bool {
    matches!(scheme, "digest" | "sasl" | "x509")
}

/// Two parts around a colon, counted as Java's `split` does: it drops empty parts at the end.
fn is_digest(id: &str) -> bool {
    let id = id.trim_end_matches(':');
    id.split(':').count() == 2
}

/// The id of an `ip` entry: an address, and how many of its leading bits count.
#[derive(Debug, PartialEq, Eq)]
struct AddressRange {
    address: Address,
    bits: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address {
    V4(u32),
    V6(u128),
}

impl Address {
    fn parse(text: &str) -> Option<Address> {
        if text.contains(':') {
            return text.parse::<Ipv6Addr>().ok().map(|address| Address::V6(address.to_bits()));
        }
        // Looser than the standard library where Java is: `+1` and `007` are numbers.
        let mut parts = text.split('.');
        let mut address = 0;
        for _ in 0..4 {
            address = address << 8 | u32::from(u8::try_from(parts.next()?.parse::<i32>().ok()?).ok()?);
        }
        parts.next().is_none().then_some(Address::V4(address))
    }

    fn width(self) -> u32 {
        match self {
            Address::V4(_) => u32::BITS,
            Address::V6(_) => u128::BITS,
        }
    }
}

impl AddressRange {
    fn parse(text: &str) -> Option<AddressRange> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(u32::try_from(bits.parse::<i32>().ok()?).ok()?)),
        };
        let address = Address::parse(address)?;
        let bits = bits.unwrap_or(address.width());
        (bits <= address.width()).then_some(AddressRange { address, bits })
    }

    fn contains(&self, remote: &str) -> bool {
        match (self.address, Address::parse(remote)) {
            (Address::V4(own), Some(Address::V4(remote))) => {
                (own ^ remote).checked_shr(u32::BITS - self.bits).unwrap_or(0) == 0
            }
            (Address::V6(own), Some(Address::V6(remote))) => {
                (own ^ remote).checked_shr(u128::BITS - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Returns the list as a connection may see it that lacks ADMIN: what follows the user of a digest is hidden.
pub(crate) fn mask(entries: &[Acl]) -> Vec<Acl> {
    let hide = |entry: &Acl| match entry.id.id.split_once(':') {
        Some((user, _)) if entry.id.scheme == "digest" => {
            Acl { perms: entry.perms, id: Id::new("digest", format!("{user}:x")) }
        }
        _ => entry.clone(),
    };
    entries.iter().map(hide).collect()
}

/// Returns the entries of a stored list, or of the open one.
pub(crate) fn entries(acl: Option<&AclRef>) -> Cow<'_, [Acl]> {
    match acl {
        Some(acl) => Cow::Borrowed(acl.entries()),
        None => Cow::Owned(Acl::open()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// server.md §1.7, checked against Apache 3.8.0.
    #[test]
    fn ids_are_valid_as_their_providers_say() {
        for good in ["u:h", ":h", "u:h:", "u:h::"] {
            assert!(is_digest(good), "{good:?}");
        }
        for bad in ["", ":", "u", "u:", "a:b:c"] {
            assert!(!is_digest(bad), "{bad:?}");
        }
        for good in ["1.2.3.4", "1.2.3.4/0", "1.2.3.4/32", "+1.02.3.4", "::1", "2001:db8::/32"] {
            assert!(AddressRange::parse(good).is_some(), "{good:?}");
        }
        for bad in
            ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.-1", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "::1/129"]
        {
            assert!(AddressRange::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_range_compares_its_leading_bits() {
        let contains = |range: &str, address| AddressRange::parse(range).unwrap().contains(address);
        assert!(contains("10.1.0.0/16", "10.1.255.7"));
        assert!(!contains("10.1.0.0/16", "10.2.0.0"));
        assert!(contains("10.1.2.3", "10.1.2.3"));
        assert!(!contains("10.1.2.3", "10.1.2.2"));
        assert!(contains("0.0.0.0/0", "255.255.255.255"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::"));
    }
}
