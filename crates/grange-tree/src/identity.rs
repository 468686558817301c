//! Who a connection is.

use grange_proto::Id;
use grange_proto::wire::{DecodeError, Reader, put_length, put_text};

/// The least bytes that an identity takes on the wire: two lengths.
const ID_BYTES_MIN: usize = 8;

/// The identities of a connection: its address, and one for each auth packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Identities {
    ids: Vec<Id>,
    is_super: bool,
}

impl Identities {
    /// Makes a connection that is nobody yet.
    pub fn new() -> Identities {
        Identities::default()
    }

    /// Adds an identity, unless the connection has it already.
    pub fn add(&mut self, id: Id) {
        if !self.ids.contains(&id) {
            self.is_super |= id.scheme == "super";
            self.ids.push(id);
        }
    }

    /// Walks the identities in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Id> {
        self.ids.iter()
    }

    /// Returns true if no ACL applies to the connection.
    pub fn is_super(&self) -> bool {
        self.is_super
    }

    /// Appends the list: a count, then scheme and id of each.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_length(out, self.ids.len());
        for id in &self.ids {
            put_text(out, &id.scheme);
            put_text(out, &id.id);
        }
    }

    /// Takes a list that [`Identities::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Identities, DecodeError> {
        let mut identities = Identities::new();
        for _ in 0..reader.count(ID_BYTES_MIN)? {
            identities.add(Id::new(reader.text()?, reader.text()?));
        }
        Ok(identities)
    }
}

/// What the leader decided for all requests of a batch, from its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether hard quotas are enforced (`enforceQuota`).
    pub enforce_quota: bool,
    /// Whether ACLs are ignored (`skipACL`).
    pub skip_acl: bool,
    /// Whether znodes with a time to live may be created (`extendedTypesEnabled`).
    pub extended_types: bool,
    /// Whether clients may ask for another membership (`reconfigEnabled`).
    pub reconfig: bool,
}

/// Who asks, and how strictly to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) identities: &'a Identities,
    pub(crate) policy: Policy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_the_wire() {
        let mut identities = Identities::new();
        identities.add(Id::new("ip", "127.0.0.1"));
        identities.add(Id::new("super", ""));
        identities.add(Id::new("ip", "127.0.0.1"));
        let mut bytes = Vec::new();
        identities.encode(&mut bytes);
        let decoded = Identities::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(decoded, identities);
        assert_eq!((decoded.iter().count(), decoded.is_super()), (2, true));
    }
}
